use openssl::ssl::{Ssl, SslStream};
use zeroize::Zeroize;

use super::super::{MethodFailure, ServerMethod, ServerTurn, Turn};
use super::{
    ERROR, HOLDING, KEY_LEN, OK, Records, Tls, name, peer_gave_up, read_readiness, readiness,
};
use crate::crypto::CryptoError;
use crate::entropy::{Entropy, Purpose};
use crate::error::HandshakeError;
use crate::security::{AuthMethod, PeerIdentity, SslServer};

const READY: &str = "the client's readiness for SSL";
const RECORDS: &str = "an SSL message of the client";

/// User of a client without a certificate: known to nobody, but its connection is protected.
const NAMELESS: &str = "unauthenticated";

/// User of a client whose certificate the map file does not know.
const NAMED: &str = "ssl";

/// Domain of both.
const UNMAPPED: &str = "unmapped";

/// Server.
#[derive(Debug)]
pub(crate) enum ServerSsl {
    /// Waits to hear whether the client is ready.
    Ready(Result<Tls, String>),
    /// The TLS handshake, in turns that the client begins.
    Handshake(Tls),
    /// The key through TLS, in turns that we begin.
    Key(Tls),
}

impl ServerSsl {
    /// Tells the client whether we are ready.
    pub(crate) fn start(server: &SslServer) -> ServerTurn {
        let prepared = server
            .with_context(|context| Ssl::new(context))
            .and_then(Tls::new);
        let status = if prepared.is_ok() { OK } else { ERROR };
        let machine = Self::Ready(prepared.map_err(|error| error.to_string()));
        let machine = ServerMethod::Ssl(Box::new(machine));
        Turn::Wait(machine, vec![readiness(status)])
    }

    pub(crate) fn message(
        self,
        body: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<ServerTurn, HandshakeError> {
        match self {
            Self::Ready(prepared) => {
                let client = read_readiness(body, READY)?;
                Ok(match prepared {
                    Ok(tls) if client == OK => Self::Handshake(tls).wait(Vec::new()),
                    Ok(_) => {
                        let why =
                            "it is not ready for SSL (no authorities, or an unusable certificate)";
                        Turn::Failed(MethodFailure::ClientGaveUp(why), Vec::new())
                    }
                    Err(why) => Turn::Failed(MethodFailure::Tls(why), Vec::new()),
                })
            }
            Self::Handshake(mut tls) => {
                let records = Records::parse(body).map_err(HandshakeError::wire(RECORDS))?;
                if records.is_end() {
                    return Ok(Turn::Failed(peer_gave_up(), Vec::new()));
                }
                tls.feed(records.data);
                let peer_is_done = records.status == HOLDING;
                if peer_is_done && tls.sent == HOLDING {
                    return send_key(tls, Vec::new(), entropy);
                }
                let said = tls.advance(SslStream::accept)?;
                match said.failure {
                    Some(why) => Ok(Turn::Failed(why, vec![said.message])),
                    None if peer_is_done && tls.sent == HOLDING => {
                        send_key(tls, vec![said.message], entropy)
                    }
                    None => Ok(Self::Handshake(tls).wait(vec![said.message])),
                }
            }
            Self::Key(mut tls) => {
                let records = Records::parse(body).map_err(HandshakeError::wire(RECORDS))?;
                if records.is_end() {
                    return Ok(Turn::Failed(peer_gave_up(), Vec::new()));
                }
                if records.status == HOLDING {
                    return Ok(match identity(&tls) {
                        Ok(identity) => Turn::Done(identity, Vec::new()),
                        // The client takes the method for a success: nothing but closing tells it.
                        Err(why) => {
                            return Err(HandshakeError::Authentication(vec![
                                super::super::Attempt {
                                    method: AuthMethod::Ssl,
                                    why,
                                },
                            ]));
                        }
                    });
                }
                tls.feed(records.data);
                // Everything was written before; this only answers in turn.
                let said = tls.advance(|_| Ok(()))?;
                Ok(match said.failure {
                    Some(why) => Turn::Failed(why, vec![said.message]),
                    None => Self::Key(tls).wait(vec![said.message]),
                })
            }
        }
    }

    fn wait(self, messages: Vec<Vec<u8>>) -> ServerTurn {
        Turn::Wait(ServerMethod::Ssl(Box::new(self)), messages)
    }
}

/// Begins the key phase, unless the client's certificate has a fault that TLS did not see.
fn send_key(
    mut tls: Tls,
    mut messages: Vec<Vec<u8>>,
    entropy: &mut dyn Entropy,
) -> Result<ServerTurn, HandshakeError> {
    if let Err(why) = identity(&tls) {
        messages.push(super::message(super::QUITTING, &[])?);
        return Ok(Turn::Failed(why, messages));
    }
    tls.next_phase();
    let mut key = [0u8; KEY_LEN];
    entropy
        .fill(Purpose::TransportedKey, &mut key)
        .map_err(CryptoError::from)?;
    let said = tls.advance(|stream| stream.ssl_write(&key).map(drop));
    key.zeroize();
    let said = said?;
    messages.push(said.message);
    Ok(match said.failure {
        Some(why) => Turn::Failed(why, messages),
        None => ServerSsl::Key(tls).wait(messages),
    })
}

/// Who the client is before the map file is asked.
fn identity(tls: &Tls) -> Result<PeerIdentity, MethodFailure> {
    let (user, name) = match name::of_peer(tls.stream.ssl())? {
        Some(name) => (NAMED, name),
        None => (NAMELESS, NAMELESS.to_owned()),
    };
    let identity = PeerIdentity::proven(format!("{user}@{UNMAPPED}"), AuthMethod::Ssl);
    Ok(identity.with_name(&name))
}
