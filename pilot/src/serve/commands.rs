//! One connection's commands: read, passed on, answered (protocol pages 02, sections 2.4 to 2.7 and 2.11, and 03, section 8).

use std::net::SocketAddr;
use std::time::Duration;

use cedar::claim::{ClaimId, ClaimIdError};
use cedar::command;
use cedar::net::{Error, Incoming, Stream};
use cedar::security::SUBMIT_SIDE;
use cedar::wire::{MessageReader, WireError};
use classad::{ClassAd, half_match};

use super::ca::{self, Ask, Failure};
use super::{administer, renewal};
use crate::job::Reconnect;
use crate::slot::claims::Proof;
use crate::slot::clock::unix_now;
use crate::slot::event::Deactivation;
use crate::slot::{Accepted, Activate, Locate, Request, StartdHandle};

/// Longest wait for the payload of a command.
const PAYLOAD: Duration = Duration::from_secs(20);

/// Longest wait for a further command on the same connection.
const FURTHER: Duration = Duration::from_secs(5);

/// Largest command; job ads are a few tens of KiB.
const MESSAGE_LIMIT: usize = 4 << 20;

/// Reply codes of REQUEST_CLAIM (02, section 2.4).
const NOT_OK: i64 = 0;
const OK: i64 = 1;
const SLOT_AD: i64 = 7;

/// A renewed proxy as a file (03, section 9). Its delegation is [`command::DELEGATE_GSI_CRED_STARTER`].
pub(crate) const UPDATE_GSI_CRED: i32 = 487;

/// Why a connection was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    /// The connection failed.
    #[error(transparent)]
    Net(#[from] Error),
    /// The message is not what the command wants.
    #[error("the message does not have the form of its command")]
    Form(#[from] WireError),
    /// The claim id is none.
    #[error("a claim id is malformed")]
    Claim(#[from] ClaimIdError),
    /// A command that wants the session of a claim came without one.
    #[error("only the session of a claim is good for this")]
    NoSession,
    /// A renewed proxy is not one.
    #[error("a renewed proxy cannot be taken over")]
    Renewal(#[from] credential::DelegationError),
    /// Nothing we serve.
    #[error("command {0} is not served here")]
    Unknown(i32),
}

enum After {
    Keep(Box<Stream>),
    Close,
}

/// Serves a connection to its end.
pub(super) async fn serve(startd: &StartdHandle, incoming: Incoming) -> Result<(), ServeError> {
    // Only the session of a claim has this name without a method that has proven it.
    let has_claim = incoming.peer.method.is_none() && incoming.peer.user == SUBMIT_SIDE;
    match incoming.session_id.clone().filter(|_| has_claim) {
        Some(session) => of_claim(startd, session, incoming).await,
        None => match incoming.serve_builtin().await? {
            Some(incoming) => of_name(startd, incoming).await,
            None => Ok(()),
        },
    }
}

/// Serves the one command of a peer that is known by its name. Claims are not for those.
async fn of_name(startd: &StartdHandle, incoming: Incoming) -> Result<(), ServeError> {
    let Incoming {
        command,
        mut stream,
        peer,
        ..
    } = incoming;
    stream.set_read_timeout(Some(PAYLOAD));
    stream.set_max_message(MESSAGE_LIMIT);
    tracing::debug!(peer = %stream.peer_addr(), command = %command::Named(command), user = peer.user, "command");
    let message = stream.recv().await?;
    let reader = message.reader();
    match command {
        command::DC_OFF_GRACEFUL | command::DC_OFF_FAST => {
            administer::off(startd, command, &peer.user).await;
            Ok(())
        }
        command::DRAIN_JOBS => administer::drain(startd, &peer.user, reader, stream).await,
        command::QUERY_STARTD_ADS => answer(startd.ads().await, reader, &mut stream).await,
        _ => Err(ServeError::NoSession),
    }
}

/// Serves the commands of one who has a claim.
async fn of_claim(
    startd: &StartdHandle,
    session: String,
    incoming: Incoming,
) -> Result<(), ServeError> {
    let Incoming {
        command,
        mut stream,
        ..
    } = incoming;
    let peer = stream.peer_addr();
    stream.set_read_timeout(Some(PAYLOAD));
    stream.set_max_message(MESSAGE_LIMIT);
    if command == command::DELEGATE_GSI_CRED_STARTER {
        // The one command in which we speak first.
        return renewal::delegated(startd, &session, stream).await;
    }
    let mut message = stream.recv().await?;
    let mut bare = false;
    let mut number = command;
    loop {
        let after = {
            let mut reader = message.reader();
            if bare {
                number = reader.int32()?;
            }
            let call = Call {
                startd,
                session: &session,
                peer,
            };
            call.dispatch(number, reader, stream).await?
        };
        let After::Keep(kept) = after else {
            return Ok(());
        };
        stream = *kept;
        stream.set_read_timeout(Some(FURTHER));
        message = match stream.recv().await {
            Ok(message) => message,
            // The peer is done; most close without a word.
            Err(_) => return Ok(()),
        };
        bare = true;
    }
}

struct Call<'a> {
    startd: &'a StartdHandle,
    session: &'a str,
    peer: SocketAddr,
}

impl Call<'_> {
    async fn dispatch(
        &self,
        number: i32,
        reader: MessageReader<'_>,
        stream: Stream,
    ) -> Result<After, ServeError> {
        tracing::debug!(peer = %self.peer, command = %command::Named(number), session = self.session, "command");
        match number {
            command::REQUEST_CLAIM => self.request(reader, stream).await,
            command::ACTIVATE_CLAIM => self.activate(reader, stream).await,
            command::DEACTIVATE_CLAIM => {
                self.deactivate(reader, stream, Deactivation::Gently).await
            }
            command::DEACTIVATE_CLAIM_FORCIBLY | command::DEACTIVATE_CLAIM_JOB_DONE => {
                self.deactivate(reader, stream, Deactivation::Forcibly)
                    .await
            }
            command::SUSPEND_CLAIM => self.suspend(reader, stream, true).await,
            command::CONTINUE_CLAIM => self.suspend(reader, stream, false).await,
            command::RELEASE_CLAIM => self.release(reader, stream).await,
            command::ALIVE => {
                let proof = self.proof(&mut { reader })?;
                self.startd.alive(proof).await;
                Ok(After::Keep(Box::new(stream)))
            }
            command::CA_CMD => self.classad_command(reader, stream).await,
            command::QUERY_STARTD_ADS => self.query(reader, stream).await,
            UPDATE_GSI_CRED => {
                let stream = renewal::copied(self.startd, self.session, reader, stream).await?;
                Ok(stream.map_or(After::Close, |stream| After::Keep(Box::new(stream))))
            }
            command::DC_NOP | command::DC_NOP_READ..=command::DC_NOP_ADVERTISE_MASTER => {
                Ok(After::Keep(Box::new(stream)))
            }
            other => Err(ServeError::Unknown(other)),
        }
    }

    fn proof(&self, reader: &mut MessageReader<'_>) -> Result<Proof, ServeError> {
        let claim = ClaimId::parse(&reader.str()?)?;
        Ok(Proof {
            session: self.session.to_owned(),
            claim,
        })
    }

    async fn request(
        &self,
        mut reader: MessageReader<'_>,
        mut stream: Stream,
    ) -> Result<After, ServeError> {
        let proof = self.proof(&mut reader)?;
        let ad = reader.ad()?;
        let schedd = reader.str()?;
        let alive_interval = reader.int()?;
        // Left out by schedds that have none and do not know our version.
        let extra_claims = if reader.at_end() { 0 } else { reader.int()? };
        let request = Request {
            proof,
            ad,
            schedd,
            alive_interval,
            extra_claims,
            from: self.peer,
        };
        let accepted = self.startd.request(request).await;
        let mut reply = stream.message();
        let claim = match accepted {
            None => {
                reply.int(NOT_OK);
                None
            }
            Some(Accepted { claim, id, ad }) => {
                if let Some(ad) = ad {
                    reply.int(SLOT_AD).str(id.as_str()).ad_without_private(&ad);
                }
                reply.int(OK);
                Some(claim)
            }
        };
        if let Err(error) = stream.send(reply).await {
            if let Some(claim) = claim {
                self.startd.undelivered(claim).await;
            }
            return Err(error.into());
        }
        Ok(After::Keep(Box::new(stream)))
    }

    async fn activate(
        &self,
        mut reader: MessageReader<'_>,
        stream: Stream,
    ) -> Result<After, ServeError> {
        let proof = self.proof(&mut reader)?;
        // The number of the starter to use; there is but one.
        let _starter = reader.int()?;
        let ad = reader.ad()?;
        self.startd.activate(Activate { proof, ad, stream }).await;
        Ok(After::Close)
    }

    async fn deactivate(
        &self,
        mut reader: MessageReader<'_>,
        mut stream: Stream,
        how: Deactivation,
    ) -> Result<After, ServeError> {
        let proof = self.proof(&mut reader)?;
        // A claim nobody knows: closed without an answer, as the startd does.
        let Some(grant) = self.startd.deactivate(proof, how).await else {
            return Ok(After::Close);
        };
        let mut answer = ClassAd::new();
        answer.insert("Start", grant.start);
        let mut reply = stream.message();
        reply.ad(&answer);
        // The answer goes first, the kill after it; and the kill also when nobody hears the answer.
        let sent = stream.send(reply).await;
        self.startd.deactivated(grant).await;
        sent?;
        Ok(After::Keep(Box::new(stream)))
    }

    /// No answer is waited for.
    async fn suspend(
        &self,
        mut reader: MessageReader<'_>,
        stream: Stream,
        suspended: bool,
    ) -> Result<After, ServeError> {
        let proof = self.proof(&mut reader)?;
        self.startd.suspend(proof, suspended).await;
        Ok(After::Keep(Box::new(stream)))
    }

    async fn release(
        &self,
        mut reader: MessageReader<'_>,
        mut stream: Stream,
    ) -> Result<After, ServeError> {
        let proof = self.proof(&mut reader)?;
        if !self.startd.release(proof).await {
            let mut reply = stream.message();
            reply.int(NOT_OK);
            stream.send(reply).await?;
        }
        Ok(After::Keep(Box::new(stream)))
    }

    /// A shadow that has lost its job looks for it, or comes back to it.
    async fn classad_command(
        &self,
        mut reader: MessageReader<'_>,
        mut stream: Stream,
    ) -> Result<After, ServeError> {
        const GONE: &str = "the job is not here any more, or does not outlive its shadow";
        let (answer, handed_over) = match ca::read(reader.ad()?) {
            Ok(Ask::Locate {
                claim,
                global_job_id,
                schedd,
            }) => {
                let proof = Proof {
                    session: self.session.to_owned(),
                    claim,
                };
                let locate = Locate {
                    proof,
                    global_job_id,
                    schedd,
                };
                match self.startd.locate(locate).await {
                    Some(berth) => (ca::located(&berth), None),
                    None => (ca::failed(Failure::NotThere, GONE), None),
                }
            }
            Ok(Ask::Reconnect(ad)) => match self.startd.berth(self.session.to_owned()).await {
                Some(berth) => (
                    ca::reconnected(&berth, unix_now()),
                    Some((berth.reconnects, *ad)),
                ),
                None => (ca::failed(Failure::NotThere, GONE), None),
            },
            Err(error) => (ca::failed(Failure::Invalid, &error.to_string()), None),
        };
        let mut reply = stream.message();
        reply.ad(&answer);
        stream.send(reply).await?;
        match handed_over {
            Some((reconnects, ad)) => {
                // A job that ended this moment takes nobody back: the shadow sees the connection close and looks again.
                let _ = reconnects.send(Reconnect { stream, ad }).await;
                Ok(After::Close)
            }
            None => Ok(After::Keep(Box::new(stream))),
        }
    }

    async fn query(
        &self,
        reader: MessageReader<'_>,
        mut stream: Stream,
    ) -> Result<After, ServeError> {
        let ads = self.startd.ads_of_session(self.session.to_owned()).await;
        answer(ads, reader, &mut stream).await?;
        Ok(After::Keep(Box::new(stream)))
    }
}

/// Answers a query with those of the ads that it is about.
async fn answer(
    ads: Vec<ClassAd>,
    mut reader: MessageReader<'_>,
    stream: &mut Stream,
) -> Result<(), ServeError> {
    let query = reader.ad()?;
    let projection = query.string("Projection").unwrap_or_default();
    let wanted: Vec<&str> = projection
        .split([' ', ',', '\n', '\t'])
        .filter(|name| !name.is_empty())
        .collect();
    let now = unix_now();
    let mut reply = stream.message();
    for ad in ads {
        if half_match(&query, &ad, now) {
            reply.int(1).ad_without_private(&project(&ad, &wanted));
        }
    }
    reply.int(0);
    stream.send(reply).await?;
    Ok(())
}

fn project(ad: &ClassAd, wanted: &[&str]) -> ClassAd {
    if wanted.is_empty() {
        return ad.clone();
    }
    let mut small = ClassAd::new();
    for name in wanted {
        if let Some(expr) = ad.get(name) {
            small.insert(*name, expr.clone());
        }
    }
    small
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projection_leaves_the_named_attributes() {
        let ad = ClassAd::parse_old("Name = \"slot1@a\"\nMachine = \"a\"\nCpus = 1").unwrap();
        let small = project(&ad, &["machine", "Nothing"]);
        assert_eq!(small.len(), 1);
        assert_eq!(small.string("Machine").as_deref(), Some("a"));
        assert_eq!(project(&ad, &[]), ad);
    }
}
