//! What `condor_userprio` asks and says.

use cedar::MessageWriter;
use cedar::net::{Error, Incoming};
use cedar::security::Level;
use cedar::security::server::CommandRule;
use classad::{ClassAd, assignment_old};
use thiserror::Error;

use super::Negotiator;

/// Numbers of the commands (`htcondor:src/condor_includes/condor_commands.h`).
const GET_PRIORITY: i32 = 451;
const GET_PRIORITY_ROLLUP: i32 = 514;
const SET_PRIORITYFACTOR: i32 = 459;

#[derive(Debug, Error)]
enum Trouble {
    #[error(transparent)]
    Connection(#[from] Error),
    #[error("its message cannot be read: {0}")]
    Wire(#[from] cedar::WireError),
}

impl Negotiator {
    /// The commands served here, and the level each needs.
    pub fn commands() -> Vec<(i32, CommandRule)> {
        vec![
            (GET_PRIORITY, CommandRule::new(Level::Read)),
            (GET_PRIORITY_ROLLUP, CommandRule::new(Level::Read)),
            (SET_PRIORITYFACTOR, CommandRule::new(Level::Administrator)),
        ]
    }

    /// Serves one command.
    pub async fn serve(&self, incoming: Incoming) {
        let peer = incoming.stream.peer_addr();
        let user = incoming.peer.user.clone();
        if let Err(trouble) = self.answer(incoming).await {
            tracing::warn!(%peer, user, "a question to the negotiator ends: {trouble}");
        }
    }

    async fn answer(&self, mut incoming: Incoming) -> Result<(), Trouble> {
        let stream = &mut incoming.stream;
        let mut reply = stream.message();
        if incoming.command == SET_PRIORITYFACTOR {
            let message = stream.recv().await?;
            let mut reader = message.reader();
            let (submitter, factor) = (reader.str()?, reader.double()?);
            let mut ad = ClassAd::new();
            if factor.is_finite() && factor >= 1.0 {
                tracing::info!(
                    user = incoming.peer.user,
                    submitter,
                    factor,
                    "priority factor set"
                );
                self.set_factor(&submitter, factor);
                ad.insert("ErrorCode", 0);
            } else {
                ad.insert("ErrorCode", 1);
                ad.insert("ErrorString", "a priority factor is a number not below 1");
            }
            reply.ad(&ad);
        } else {
            // The question has no payload: an empty message is never sent.
            untyped(&mut reply, &self.report());
        }
        Ok(stream.send(reply).await?)
    }

    /// All accounts in one ad, numbered as `condor_userprio` wants them
    /// (`htcondor:src/condor_negotiator.V6/Accountant.cpp`, ReportState).
    fn report(&self) -> ClassAd {
        let mut report = ClassAd::new();
        let mut number = 0_i64;
        for ad in self.ads() {
            if ad.string("MyType").as_deref() == Some("Negotiator") {
                continue;
            }
            number += 1;
            for (name, expr) in ad.iter() {
                report.insert(format!("{name}{number}"), expr.clone());
            }
        }
        report.insert("NumSubmittors", number);
        report.insert("LastUpdate", self.ads_time());
        report
    }
}

/// An ad without the two empty strings at its end, as this protocol has it.
fn untyped(out: &mut MessageWriter, ad: &ClassAd) {
    out.int(i64::try_from(ad.len()).unwrap_or(0));
    for (name, expr) in ad.iter() {
        out.str(&assignment_old(name, expr));
    }
}
