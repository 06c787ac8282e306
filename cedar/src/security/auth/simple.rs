//! CLAIMTOBE and ANONYMOUS: no proof at all (protocol 01 sections 5.6, 5.7).

use super::{ClientMethod, ClientTurn, MethodFailure, ServerMethod, ServerTurn, Turn, internal};
use crate::error::HandshakeError;
use crate::security::{AuthMethod, PeerIdentity};
use crate::wire::{Coding, MessageReader, MessageWriter};

/// User of a peer that is nobody in particular (`htcondor:src/condor_io/condor_auth_anonymous.cpp`).
const ANONYMOUS_USER: &str = "CONDOR_ANONYMOUS_USER";

/// Domain of claimed names that are not mapped.
const CLAIMED_DOMAIN: &str = "claimtobe";

const CLAIM_MESSAGE: &str = "the CLAIMTOBE message";

/// Client of CLAIMTOBE, waiting for the verdict.
#[derive(Debug)]
pub(crate) struct ClientClaim;

impl ClientClaim {
    pub(crate) fn start(user: &str) -> Result<ClientTurn, HandshakeError> {
        let mut message = MessageWriter::new(Coding::Plain);
        message.int(1).str(user);
        let body = message.finish().map_err(internal)?;
        Ok(Turn::Wait(ClientMethod::ClaimToBe(Self), vec![body]))
    }

    pub(crate) fn message(self, body: &[u8]) -> Result<ClientTurn, HandshakeError> {
        verdict(body, CLAIM_MESSAGE)
    }
}

/// Client of ANONYMOUS, waiting for the verdict.
#[derive(Debug)]
pub(crate) struct ClientAnonymous;

impl ClientAnonymous {
    pub(crate) fn start() -> ClientTurn {
        Turn::Wait(ClientMethod::Anonymous(Self), Vec::new())
    }

    pub(crate) fn message(self, body: &[u8]) -> Result<ClientTurn, HandshakeError> {
        verdict(body, "the ANONYMOUS message")
    }
}

fn verdict(body: &[u8], name: &'static str) -> Result<ClientTurn, HandshakeError> {
    let mut reader = MessageReader::new(Coding::Plain, body);
    let result = reader.int().map_err(HandshakeError::wire(name))?;
    reader.expect_end().map_err(HandshakeError::wire(name))?;
    Ok(match result {
        1 => Turn::Done((), Vec::new()),
        _ => Turn::Failed(MethodFailure::Peer, Vec::new()),
    })
}

/// Server of CLAIMTOBE, waiting for the name.
#[derive(Debug)]
pub(crate) struct ServerClaim;

impl ServerClaim {
    pub(crate) fn start() -> ServerTurn {
        Turn::Wait(ServerMethod::ClaimToBe(Self), Vec::new())
    }

    pub(crate) fn message(self, body: &[u8]) -> Result<ServerTurn, HandshakeError> {
        let bad = HandshakeError::wire(CLAIM_MESSAGE);
        let mut reader = MessageReader::new(Coding::Plain, body);
        let has_name = reader.int().map_err(&bad)?;
        let name = match has_name {
            1 => reader.str().map_err(&bad)?,
            _ => String::new(),
        };
        reader.expect_end().map_err(&bad)?;
        let usable = !name.is_empty()
            && name.len() < 1024
            && !name.chars().any(|c| c.is_control() || c.is_whitespace());
        if !usable {
            return Ok(Turn::Failed(
                MethodFailure::BadProof("no name was claimed"),
                vec![0i64.to_be_bytes().to_vec()],
            ));
        }
        // Whatever domain the peer names, a claimed name must not look like a proven one.
        let user = name.split('@').next().unwrap_or_default();
        let identity =
            PeerIdentity::proven(format!("{user}@{CLAIMED_DOMAIN}"), AuthMethod::ClaimToBe)
                .with_name(&name);
        Ok(Turn::Done(identity, vec![1i64.to_be_bytes().to_vec()]))
    }
}

/// Server of ANONYMOUS: says yes and is done.
pub(crate) fn serve_anonymous() -> ServerTurn {
    let identity = PeerIdentity::proven(ANONYMOUS_USER.to_owned(), AuthMethod::Anonymous)
        .with_name(ANONYMOUS_USER);
    Turn::Done(identity, vec![1i64.to_be_bytes().to_vec()])
}
