//! FS: the client proves its uid by creating a directory where the server says (protocol 01
//! section 5.5). The file system is touched by the shell only.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use super::{
    ClientMethod, ClientTurn, DirectoryFacts, DirectoryReport, DirectoryTask, MethodFailure,
    ServerMethod, ServerTurn, Turn, internal,
};
use crate::entropy::{Entropy, Purpose};
use crate::error::HandshakeError;
use crate::security::{AuthMethod, PeerIdentity};
use crate::wire::{Coding, MessageReader, MessageWriter};

const PATH_MESSAGE: &str = "the FS path message";
const RESULT_MESSAGE: &str = "the FS result message";

/// Client side.
#[derive(Debug)]
pub(crate) enum ClientFs {
    /// Waits for the path.
    Path {
        /// The server's `ip:port` as we dialled it, for names that are bound to it (24.0.22).
        server: String,
    },
    /// Waits for the shell to create the directory.
    Making {
        path: PathBuf,
        appended: Option<String>,
    },
    /// Waits for the server's verdict.
    Verdict { path: Option<PathBuf> },
    /// Waits for the shell to remove the directory.
    Removing { accepted: bool },
}

impl ClientFs {
    pub(crate) fn start(server: String) -> ClientTurn {
        Turn::Wait(ClientMethod::Fs(Self::Path { server }), Vec::new())
    }

    pub(crate) fn message(self, body: &[u8]) -> Result<ClientTurn, HandshakeError> {
        let mut reader = MessageReader::new(Coding::Plain, body);
        match self {
            Self::Path { server } => {
                let bad = HandshakeError::wire(PATH_MESSAGE);
                let mut path = reader.str().map_err(&bad)?;
                reader.expect_end().map_err(&bad)?;
                // A name that ends in '_' is to be completed with the server's address.
                let appended = path.ends_with('_').then(|| server.clone());
                if let Some(appended) = &appended {
                    path.push_str(appended);
                }
                let path = PathBuf::from(path);
                if !is_acceptable(&path) || !is_meant_for(&path, &server) {
                    // The server waits for a result and answers it; stay in step.
                    return Self::report(-1, None, None);
                }
                let task = DirectoryTask::Make(path.clone());
                let machine = ClientMethod::Fs(Self::Making { path, appended });
                Ok(Turn::Directory(machine, task))
            }
            Self::Verdict { path } => {
                let bad = HandshakeError::wire(RESULT_MESSAGE);
                let accepted = reader.int().map_err(&bad)? == 0;
                reader.expect_end().map_err(&bad)?;
                match path {
                    Some(path) => Ok(Turn::Directory(
                        ClientMethod::Fs(Self::Removing { accepted }),
                        DirectoryTask::Remove(path),
                    )),
                    None => Ok(Turn::Failed(MethodFailure::BadPath, Vec::new())),
                }
            }
            Self::Making { .. } | Self::Removing { .. } => {
                Err(HandshakeError::Unexpected("the FS directory is made"))
            }
        }
    }

    fn report(
        result: i64,
        path: Option<PathBuf>,
        appended: Option<&str>,
    ) -> Result<ClientTurn, HandshakeError> {
        let mut message = MessageWriter::new(Coding::Plain);
        message.int(result);
        if let Some(appended) = appended {
            message.str(appended);
        }
        let body = message.finish().map_err(internal)?;
        Ok(Turn::Wait(
            ClientMethod::Fs(Self::Verdict { path }),
            vec![body],
        ))
    }

    pub(crate) fn directory(self, report: &DirectoryReport) -> ClientTurn {
        match self {
            Self::Making { path, appended } => {
                let made = matches!(report, DirectoryReport::Done);
                let result = if made { 0 } else { -1 };
                Self::report(result, made.then_some(path), appended.as_deref())
                    .unwrap_or(Turn::Failed(MethodFailure::BadPath, Vec::new()))
            }
            Self::Removing { accepted: true } => Turn::Done((), Vec::new()),
            _ => Turn::Failed(MethodFailure::Peer, Vec::new()),
        }
    }
}

/// The server may not make us create a directory at a place that a relative name or `..` hides.
fn is_acceptable(path: &Path) -> bool {
    path.is_absolute()
        && path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("FS_"))
}

/// A name that carries a server's address must carry that of the server we dialled: else it is the
/// name of another server, to which this one would pass our proof as its own.
fn is_meant_for(path: &Path, server: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match bound_address(&name) {
        Some(bound) => server.parse() == Ok(bound),
        None => true,
    }
}

/// The address in a name like `FS_127.0.0.1_9618_XXXXXXXXX`.
fn bound_address(name: &str) -> Option<SocketAddr> {
    let (rest, _random) = name.strip_prefix("FS_")?.rsplit_once('_')?;
    let (ip, port) = rest.rsplit_once('_')?;
    Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
}

/// Server side.
#[derive(Debug)]
pub(crate) enum ServerFs {
    /// Waits for the client's result.
    Result { path: PathBuf, domain: String },
    /// Waits for the shell to look at the directory.
    Inspecting { domain: String },
}

impl ServerFs {
    /// Invents a name in `directory`, bound to our address if that is known: clients from 24.0.22 on
    /// make no directory for a server of another address. `domain` completes the user name.
    pub(crate) fn start(
        directory: &Path,
        local: Option<SocketAddr>,
        domain: &str,
        entropy: &mut dyn Entropy,
    ) -> Result<ServerTurn, HandshakeError> {
        let mut random = [0u8; 16];
        entropy
            .fill(Purpose::Name, &mut random)
            .map_err(crate::crypto::CryptoError::from)?;
        let random = u128::from_be_bytes(random);
        let name = match local {
            Some(local) => format!("FS_{}_{}_{random:032x}", local.ip(), local.port()),
            None => format!("FS_{random:032x}"),
        };
        let path = directory.join(name);
        let mut message = MessageWriter::new(Coding::Plain);
        message.str(&path.to_string_lossy());
        let body = message.finish().map_err(internal)?;
        let machine = Self::Result {
            path,
            domain: domain.to_owned(),
        };
        Ok(Turn::Wait(ServerMethod::Fs(machine), vec![body]))
    }

    pub(crate) fn message(self, body: &[u8]) -> Result<ServerTurn, HandshakeError> {
        let Self::Result { path, domain } = self else {
            return Err(HandshakeError::Unexpected("the FS directory is inspected"));
        };
        let bad = HandshakeError::wire(RESULT_MESSAGE);
        let mut reader = MessageReader::new(Coding::Plain, body);
        let made = reader.int().map_err(&bad)? == 0;
        let appended = match reader.at_end() {
            true => String::new(),
            false => reader.str().map_err(&bad)?,
        };
        reader.expect_end().map_err(&bad)?;
        // Our names are complete; a client that appends something plays another game.
        if !made || !appended.is_empty() {
            return Ok(refuse("was not created by the client"));
        }
        Ok(Turn::Directory(
            ServerMethod::Fs(Self::Inspecting { domain }),
            DirectoryTask::Inspect(path),
        ))
    }

    pub(crate) fn directory(self, report: &DirectoryReport) -> Result<ServerTurn, HandshakeError> {
        let Self::Inspecting { domain } = self else {
            return Err(HandshakeError::Over);
        };
        Ok(match report {
            DirectoryReport::Found(DirectoryFacts {
                is_directory: true,
                links: 1 | 2,
                mode: 0o700,
                owner: Some(owner),
            }) => {
                let user = format!("{owner}@{domain}");
                let identity = PeerIdentity::proven(user, AuthMethod::Fs).with_name(owner);
                Turn::Done(identity, vec![0i64.to_be_bytes().to_vec()])
            }
            DirectoryReport::Found(_) => refuse("is not a private directory of a known user"),
            _ => refuse("cannot be seen by the server"),
        })
    }
}

fn refuse(why: &'static str) -> ServerTurn {
    Turn::Failed(
        MethodFailure::Directory(why),
        vec![(-1i64).to_be_bytes().to_vec()],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_for_another_server_is_not_made_here() {
        let path = |name: &str| Path::new("/tmp").join(name);
        let server = "127.0.0.1:9618";
        assert!(is_meant_for(&path("FS_127.0.0.1_9618_aBcDeFgHi"), server));
        assert!(!is_meant_for(&path("FS_127.0.0.1_9619_aBcDeFgHi"), server));
        assert!(!is_meant_for(&path("FS_192.0.2.1_9618_aBcDeFgHi"), server));
        assert!(is_meant_for(&path("FS_::1_9618_aBcDeFgHi"), "[::1]:9618"));
        // Servers before 24.0.22 bind their names to nothing.
        assert!(is_meant_for(&path("FS_aBcDeFgHi"), server));
        assert!(is_meant_for(&path("FS_aBcDeFgHi_127.0.0.1:9618"), server));
    }

    #[test]
    fn our_names_carry_our_address() {
        let local = "127.0.0.1:9618".parse().ok();
        let turn = ServerFs::start(
            Path::new("/tmp"),
            local,
            "d",
            &mut crate::entropy::SystemEntropy,
        );
        let Ok(Turn::Wait(ServerMethod::Fs(ServerFs::Result { path, .. }), _)) = turn else {
            panic!("another turn");
        };
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(bound_address(name), local);
    }
}
