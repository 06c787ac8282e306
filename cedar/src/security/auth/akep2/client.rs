use super::super::{ClientMethod, ClientTurn, MethodFailure, Turn, internal};
use super::{
    CHALLENGE, ERROR, OK, OLD_POOL_USER, POOL_USER, RENAMED, client_proof, derive_ka, password_ka,
    put_bytes, put_name, server_proof, take_bytes, take_name,
};
use crate::Version;
use crate::crypto::{self, CryptoError};
use crate::entropy::{Entropy, Purpose};
use crate::error::HandshakeError;
use crate::secret::SecretBytes;
use crate::security::token::Token;
use crate::security::{AuthMethod, PoolPassword};
use crate::wire::{Coding, MessageReader, MessageWriter, WireError};

const MESSAGE_2: &str = "AKEP2 message 2";

/// Client, waiting for message 2.
#[derive(Debug)]
pub(crate) struct ClientAkep2 {
    method: AuthMethod,
    ka: SecretBytes,
    name: String,
    challenge: Vec<u8>,
}

impl ClientAkep2 {
    /// Shows a token.
    pub(crate) fn token(
        token: &Token,
        entropy: &mut dyn Entropy,
    ) -> Result<ClientTurn, HandshakeError> {
        let ka = derive_ka(token.signature().expose(), token.signed_part())?;
        let name = token.claims().subject.clone();
        Self::start(
            AuthMethod::Token,
            ka,
            name,
            Some(token.signed_part()),
            entropy,
        )
    }

    /// Shows that we know the pool password, under the name that the server's version expects.
    pub(crate) fn password(
        password: &PoolPassword,
        server: Option<Version>,
        domain: &str,
        entropy: &mut dyn Entropy,
    ) -> Result<ClientTurn, HandshakeError> {
        let name = match server {
            Some(version) if version >= RENAMED => POOL_USER.to_owned(),
            _ => format!("{OLD_POOL_USER}{domain}"),
        };
        let ka = password_ka(password)?;
        Self::start(AuthMethod::Password, ka, name, None, entropy)
    }

    pub(crate) fn method(&self) -> AuthMethod {
        self.method
    }

    fn start(
        method: AuthMethod,
        ka: SecretBytes,
        name: String,
        signed_part: Option<&str>,
        entropy: &mut dyn Entropy,
    ) -> Result<ClientTurn, HandshakeError> {
        let mut challenge = vec![0u8; CHALLENGE];
        entropy
            .fill(Purpose::Challenge, &mut challenge)
            .map_err(CryptoError::from)?;
        let mut message = MessageWriter::new(Coding::Plain);
        put_name(message.int(OK), &name);
        if let Some(signed_part) = signed_part {
            message.str(signed_part);
        }
        put_bytes(&mut message, &challenge);
        let body = message.finish().map_err(internal)?;
        let machine = Self {
            method,
            ka,
            name,
            challenge,
        };
        Ok(Turn::Wait(ClientMethod::Akep2(machine), vec![body]))
    }

    pub(crate) fn message(self, body: &[u8]) -> Result<ClientTurn, HandshakeError> {
        let answer = ServerAnswer::parse(body).map_err(HandshakeError::wire(MESSAGE_2))?;
        match self.check(&answer)? {
            Ok(proof) => {
                let mut message = MessageWriter::new(Coding::Plain);
                put_name(message.int(OK), &self.name);
                put_bytes(&mut message, answer.rb);
                put_bytes(&mut message, &proof);
                let body = message.finish().map_err(internal)?;
                Ok(Turn::Done((), vec![body]))
            }
            Err(why) => {
                let mut message = MessageWriter::new(Coding::Plain);
                put_name(message.int(ERROR), "");
                message.int(0).int(0);
                let body = message.finish().map_err(internal)?;
                Ok(Turn::Failed(why, vec![body]))
            }
        }
    }

    fn check(
        &self,
        answer: &ServerAnswer<'_>,
    ) -> Result<Result<Vec<u8>, MethodFailure>, HandshakeError> {
        if answer.status != OK {
            return Ok(Err(MethodFailure::Peer));
        }
        if answer.a != self.name.as_bytes() || answer.ra != self.challenge {
            return Ok(Err(MethodFailure::BadProof("it answers another challenge")));
        }
        if answer.rb.len() != CHALLENGE {
            return Ok(Err(MethodFailure::BadProof("its challenge is too short")));
        }
        let expected = server_proof(&self.ka, answer.a, answer.b, answer.ra, answer.rb)?;
        if !crypto::constant_time_eq(&expected, answer.proof) {
            return Ok(Err(MethodFailure::BadProof(match self.method {
                AuthMethod::Password => "the server has another pool password",
                _ => "the server does not know the token's signing key",
            })));
        }
        Ok(Ok(client_proof(&self.ka, self.name.as_bytes(), answer.rb)?))
    }
}

/// Message 2 as received.
struct ServerAnswer<'a> {
    status: i64,
    a: &'a [u8],
    b: &'a [u8],
    ra: &'a [u8],
    rb: &'a [u8],
    proof: &'a [u8],
}

impl<'a> ServerAnswer<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = MessageReader::new(Coding::Plain, body);
        let answer = Self {
            status: reader.int()?,
            a: take_name(&mut reader)?,
            b: take_name(&mut reader)?,
            ra: take_bytes(&mut reader)?,
            rb: take_bytes(&mut reader)?,
            proof: take_bytes(&mut reader)?,
        };
        reader.expect_end()?;
        Ok(answer)
    }
}
