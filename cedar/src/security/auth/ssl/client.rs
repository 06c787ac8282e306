use openssl::ssl::SslStream;
use zeroize::Zeroizing;

use super::super::{ClientMethod, ClientTurn, MethodFailure, Turn};
use super::{
    ERROR, HOLDING, OK, Records, Said, Tls, Wires, peer_gave_up, read_readiness, readiness,
};
use crate::error::HandshakeError;
use crate::security::{AuthMethod, SciToken, SslClient};

const READY: &str = "the server's readiness for SSL";
const RECORDS: &str = "an SSL message of the server";

/// Client of SSL, and of SCITOKENS, which shows a token through TLS when the server has proven itself.
#[derive(Debug)]
pub(crate) struct ClientSsl {
    state: State,
    /// The token to be shown; `None`: the method is SSL.
    token: Option<SciToken>,
}

#[derive(Debug)]
enum State {
    /// Waits to hear whether the server is ready. What TLS could not be prepared for is said then.
    Ready(Result<Box<Tls>, String>),
    /// The TLS handshake, in turns that we begin.
    Handshake(Tls),
    /// The server's key through TLS, in turns that the server begins.
    Key(Tls),
    /// Our token through TLS, in turns that we begin.
    Token(Tls),
}

impl ClientSsl {
    /// Prepares TLS with a server whose certificate must be for `host`; `token` makes it SCITOKENS.
    pub(crate) fn start(client: &SslClient, host: &str, token: Option<SciToken>) -> ClientTurn {
        let prepared = prepare(client, host).map(Box::new);
        let state = State::Ready(prepared.map_err(|error| error.to_string()));
        Turn::Wait(
            ClientMethod::Ssl(Box::new(Self { state, token })),
            Vec::new(),
        )
    }

    /// As [`Self::start`] for SSL, with TLS that is prepared already.
    #[cfg(test)]
    pub(super) fn over(tls: Box<Tls>) -> ClientTurn {
        wait(State::Ready(Ok(tls)), None, Vec::new())
    }

    pub(crate) fn method(&self) -> AuthMethod {
        match self.token {
            Some(_) => AuthMethod::SciTokens,
            None => AuthMethod::Ssl,
        }
    }

    pub(crate) fn message(self, body: &[u8]) -> Result<ClientTurn, HandshakeError> {
        let Self { state, token } = self;
        match state {
            State::Ready(prepared) => {
                let server = read_readiness(body, READY)?;
                match prepared {
                    Ok(_) if server != OK => {
                        Ok(Turn::Failed(MethodFailure::Peer, vec![readiness(OK)]))
                    }
                    Ok(mut tls) => {
                        let said = tls.advance(SslStream::connect)?;
                        let mut turn = after_handshake(*tls, token, said, false)?;
                        if let Turn::Wait(_, messages) | Turn::Failed(_, messages) = &mut turn {
                            messages.insert(0, readiness(OK));
                        }
                        Ok(turn)
                    }
                    Err(why) => Ok(Turn::Failed(
                        MethodFailure::Tls(why),
                        vec![readiness(ERROR)],
                    )),
                }
            }
            State::Handshake(mut tls) => {
                let records = Records::parse(body).map_err(HandshakeError::wire(RECORDS))?;
                if records.is_end() {
                    return Ok(Turn::Failed(peer_gave_up(), Vec::new()));
                }
                tls.feed(records.data);
                let peer_is_done = records.status == HOLDING;
                if peer_is_done && tls.sent == HOLDING {
                    return Ok(wait_for_key(tls, token, Vec::new()));
                }
                let said = tls.advance(SslStream::connect)?;
                after_handshake(tls, token, said, peer_is_done)
            }
            State::Key(mut tls) => {
                let records = Records::parse(body).map_err(HandshakeError::wire(RECORDS))?;
                if records.is_end() {
                    return Ok(Turn::Failed(peer_gave_up(), Vec::new()));
                }
                tls.feed(records.data);
                let peer_is_done = records.status == HOLDING;
                let said = tls.advance(read_key)?;
                match (said.failure, token) {
                    (Some(why), _) => Ok(Turn::Failed(why, vec![said.message])),
                    (None, None) if peer_is_done && tls.sent == HOLDING => {
                        Ok(Turn::Done((), vec![said.message]))
                    }
                    (None, Some(token)) if peer_is_done && tls.sent == HOLDING => {
                        show(tls, token, said.message)
                    }
                    (None, token) => Ok(wait(State::Key(tls), token, vec![said.message])),
                }
            }
            State::Token(mut tls) => {
                let records = Records::parse(body).map_err(HandshakeError::wire(RECORDS))?;
                if records.is_end() {
                    return Ok(Turn::Failed(MethodFailure::SciTokenRefused, Vec::new()));
                }
                tls.feed(records.data);
                if records.status == HOLDING && tls.sent == HOLDING {
                    return Ok(Turn::Done((), Vec::new()));
                }
                // Everything was written before; this only answers in turn.
                let said = tls.advance(|_| Ok(()))?;
                Ok(match said.failure {
                    Some(why) => Turn::Failed(why, vec![said.message]),
                    None => wait(State::Token(tls), token, vec![said.message]),
                })
            }
        }
    }
}

fn wait(state: State, token: Option<SciToken>, messages: Vec<Vec<u8>>) -> ClientTurn {
    let machine = ClientSsl { state, token };
    Turn::Wait(ClientMethod::Ssl(Box::new(machine)), messages)
}

/// Sends the token: its length in four bytes, then its text.
fn show(mut tls: Tls, token: SciToken, key: Vec<u8>) -> Result<ClientTurn, HandshakeError> {
    tls.next_phase();
    let text = token.expose().as_bytes();
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let mut framed = Zeroizing::new(Vec::with_capacity(4 + text.len()));
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(text);
    let said = tls.advance(|stream| stream.ssl_write(&framed).map(drop))?;
    let messages = vec![key, said.message];
    Ok(match said.failure {
        Some(why) => Turn::Failed(why, messages),
        None => wait(State::Token(tls), Some(token), messages),
    })
}

fn prepare(client: &SslClient, host: &str) -> Result<Tls, openssl::error::ErrorStack> {
    Tls::new(client.connection(host)?)
}

fn after_handshake(
    tls: Tls,
    token: Option<SciToken>,
    said: Said,
    peer_is_done: bool,
) -> Result<ClientTurn, HandshakeError> {
    let messages = vec![said.message];
    Ok(match said.failure {
        Some(why) => Turn::Failed(why, messages),
        None if peer_is_done && tls.sent == HOLDING => wait_for_key(tls, token, messages),
        None => wait(State::Handshake(tls), token, messages),
    })
}

fn wait_for_key(mut tls: Tls, token: Option<SciToken>, messages: Vec<Vec<u8>>) -> ClientTurn {
    tls.next_phase();
    wait(State::Key(tls), token, messages)
}

/// Reads the key; a part of it is enough to know that the server has sent it.
fn read_key(stream: &mut SslStream<Wires>) -> Result<(), openssl::ssl::Error> {
    let mut key = [0u8; super::KEY_LEN];
    stream.ssl_read(&mut key).map(drop)
}
