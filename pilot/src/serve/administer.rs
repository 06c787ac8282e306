//! Commands of administrators: a pilot is told to end (`condor_drain`, and what a master sends its startd).

use cedar::command;
use cedar::net::Stream;
use cedar::wire::MessageReader;
use classad::ClassAd;

use super::commands::ServeError;
use crate::blame::Exit;
use crate::slot::{Order, StartdHandle};

/// `HowFast` from which jobs do not get their retirement time (`htcondor:src/condor_includes/condor_commands.h`,
/// `DRAIN_QUICK`, `DRAIN_FAST`).
const QUICK: i64 = 10;

/// `ResumeOnCompletion` that lets the startd end (`DRAIN_EXIT_ON_COMPLETION` at the same place).
const EXIT: i64 = 2;

/// `DC_OFF_GRACEFUL` and `DC_OFF_FAST`.
pub(super) async fn off(startd: &StartdHandle, number: i32, who: &str) {
    end(
        startd,
        number == command::DC_OFF_FAST,
        format!("{who} turns it off"),
    )
    .await;
}

/// `DRAIN_JOBS`: an ad that says how, an ad that says whether.
pub(super) async fn drain(
    startd: &StartdHandle,
    who: &str,
    mut reader: MessageReader<'_>,
    mut stream: Stream,
) -> Result<(), ServeError> {
    let asked = reader.ad()?;
    let wish = read(&asked);
    let mut reply = stream.message();
    reply.ad(&answer(&wish));
    stream.send(reply).await?;
    if let Ok(Drain { at_once, reason }) = wish {
        let why = match reason {
            Some(reason) => format!("{who} drains it: {reason}"),
            None => format!("{who} drains it"),
        };
        end(startd, at_once, why).await;
    }
    Ok(())
}

async fn end(startd: &StartdHandle, at_once: bool, why: String) {
    startd
        .order(if at_once {
            Order::RetireFast { why }
        } else {
            Order::Retire {
                exit: Exit::Retired,
                why,
            }
        })
        .await;
}

#[derive(Debug, PartialEq, Eq)]
struct Drain {
    at_once: bool,
    reason: Option<String>,
}

/// Why a pilot is not drained; the text goes to the tool.
const STAYS: &str =
    "a drained pilot ends, it does not wait for better times; say -exit-on-completion";

fn read(asked: &ClassAd) -> Result<Drain, &'static str> {
    if asked.int("ResumeOnCompletion") != Some(EXIT) {
        return Err(STAYS);
    }
    let reason = asked
        .string("DrainReason")
        .or_else(|| asked.string("Reason"));
    Ok(Drain {
        at_once: asked.int("HowFast").unwrap_or(0) >= QUICK,
        reason: reason.filter(|reason| !reason.is_empty()),
    })
}

fn answer(wish: &Result<Drain, &'static str>) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("Result", wish.is_ok());
    match wish {
        Ok(_) => {
            ad.insert("RequestID", std::process::id().to_string());
        }
        Err(why) => {
            ad.insert("ErrorCode", 1);
            ad.insert("ErrorString", *why);
        }
    }
    ad
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<Drain, &'static str> {
        read(&ClassAd::parse_old(text).unwrap())
    }

    #[test]
    fn only_what_ends_the_pilot_is_done() {
        let gentle = asked("HowFast = 0\nResumeOnCompletion = 2\nDrainReason = \"broken fan\"");
        let reason = Some("broken fan".to_owned());
        assert_eq!(
            gentle,
            Ok(Drain {
                at_once: false,
                reason
            })
        );
        let fast = asked("HowFast = 20\nResumeOnCompletion = 2");
        assert!(fast.is_ok_and(|drain| drain.at_once && drain.reason.is_none()));
        for other in [
            "HowFast = 0",
            "ResumeOnCompletion = 1",
            "ResumeOnCompletion = 3",
            "",
        ] {
            assert_eq!(asked(other), Err(STAYS), "{other}");
        }
    }
}
