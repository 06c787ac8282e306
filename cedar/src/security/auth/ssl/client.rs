use openssl::ssl::{Ssl, SslStream};

use super::super::{ClientMethod, ClientTurn, MethodFailure, Turn};
use super::{
    ERROR, HOLDING, OK, Records, Said, Tls, Wires, peer_gave_up, read_readiness, readiness,
};
use crate::error::HandshakeError;
use crate::security::SslClient;

const READY: &str = "the server's readiness for SSL";
const RECORDS: &str = "an SSL message of the server";

/// Client.
#[derive(Debug)]
pub(crate) enum ClientSsl {
    /// Waits to hear whether the server is ready. What TLS could not be prepared for is said then.
    Ready(Result<Box<Tls>, String>),
    /// The TLS handshake, in turns that we begin.
    Handshake(Tls),
    /// The server's key through TLS, in turns that the server begins.
    Key(Tls),
}

impl ClientSsl {
    /// Prepares TLS with a server whose certificate must be for `host`.
    pub(crate) fn start(client: &SslClient, host: &str) -> ClientTurn {
        let prepared = prepare(client, host).map(Box::new);
        let machine = Self::Ready(prepared.map_err(|error| error.to_string()));
        Turn::Wait(ClientMethod::Ssl(Box::new(machine)), Vec::new())
    }

    pub(crate) fn message(self, body: &[u8]) -> Result<ClientTurn, HandshakeError> {
        match self {
            Self::Ready(prepared) => {
                let server = read_readiness(body, READY)?;
                match prepared {
                    Ok(_) if server != OK => {
                        Ok(Turn::Failed(MethodFailure::Peer, vec![readiness(OK)]))
                    }
                    Ok(mut tls) => {
                        let said = tls.advance(SslStream::connect)?;
                        let mut turn = after_handshake(*tls, said, false)?;
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
            Self::Handshake(mut tls) => {
                let records = Records::parse(body).map_err(HandshakeError::wire(RECORDS))?;
                if records.is_end() {
                    return Ok(Turn::Failed(peer_gave_up(), Vec::new()));
                }
                tls.feed(records.data);
                let peer_is_done = records.status == HOLDING;
                if peer_is_done && tls.sent == HOLDING {
                    return Ok(wait_for_key(tls, Vec::new()));
                }
                let said = tls.advance(SslStream::connect)?;
                after_handshake(tls, said, peer_is_done)
            }
            Self::Key(mut tls) => {
                let records = Records::parse(body).map_err(HandshakeError::wire(RECORDS))?;
                if records.is_end() {
                    return Ok(Turn::Failed(peer_gave_up(), Vec::new()));
                }
                tls.feed(records.data);
                let peer_is_done = records.status == HOLDING;
                let said = tls.advance(read_key)?;
                Ok(match said.failure {
                    Some(why) => Turn::Failed(why, vec![said.message]),
                    None if peer_is_done && tls.sent == HOLDING => {
                        Turn::Done((), vec![said.message])
                    }
                    None => {
                        let machine = ClientMethod::Ssl(Box::new(Self::Key(tls)));
                        Turn::Wait(machine, vec![said.message])
                    }
                })
            }
        }
    }
}

fn prepare(client: &SslClient, host: &str) -> Result<Tls, openssl::error::ErrorStack> {
    let mut ssl = Ssl::new(client.context())?;
    ssl.set_hostname(host)?;
    // The library compares the name with the certificate as part of its verification.
    ssl.param_mut().set_host(host)?;
    Tls::new(ssl)
}

fn after_handshake(tls: Tls, said: Said, peer_is_done: bool) -> Result<ClientTurn, HandshakeError> {
    let messages = vec![said.message];
    Ok(match said.failure {
        Some(why) => Turn::Failed(why, messages),
        None if peer_is_done && tls.sent == HOLDING => wait_for_key(tls, messages),
        None => {
            let machine = ClientMethod::Ssl(Box::new(ClientSsl::Handshake(tls)));
            Turn::Wait(machine, messages)
        }
    })
}

fn wait_for_key(mut tls: Tls, messages: Vec<Vec<u8>>) -> ClientTurn {
    tls.next_phase();
    Turn::Wait(ClientMethod::Ssl(Box::new(ClientSsl::Key(tls))), messages)
}

/// Reads the key; a part of it is enough to know that the server has sent it.
fn read_key(stream: &mut SslStream<Wires>) -> Result<(), openssl::ssl::Error> {
    let mut key = [0u8; super::KEY_LEN];
    stream.ssl_read(&mut key).map(drop)
}
