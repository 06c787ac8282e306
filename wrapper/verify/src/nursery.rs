//! A process for each credential, from one that is warm.
//!
//! Starting a C library and OpenSSL takes longer than a verification, so it is done once, here. This
//! process never sees a credential: the broker sends it nothing but sockets, and for each it
//! forks a child, whose descriptor 0 that socket becomes. The child confines itself, waits there
//! for the one packet with the credential beside it, answers there once and ends. So a credential
//! that takes a child over finds no other credential, and nobody's answer but its own to forge.
//! Where a single credential is expected, this process itself has the life of such a child.

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use launch_protocol::verdict::{NEW_VERIFIER, ONLY_VERIFIER, VerifyRequest};

use crate::confine::Confinement;
use crate::judge::Files;
use crate::options::Options;
use crate::{Failure, input, judge, now, sys};

/// Seconds from the arrival of a credential to the verdict; then the process is killed (rule S20
/// of the identity switch requirements).
const DEADLINE_SECONDS: u32 = 10;

/// Milliseconds without a credential after which a child has time to write to the pages that it will. Whoever
/// starts the program for a single credential has it verified by then, and does not wait for that.
const PATIENCE: i32 = 20;

/// Serves until the broker closes its end.
///
/// # Errors
/// A packet that is neither [`NEW_VERIFIER`] nor [`ONLY_VERIFIER`] with one descriptor.
pub(crate) fn serve(broker: &OwnedFd, options: &Options) -> Result<ExitCode, Failure> {
    // A panic message could carry foreign bytes into the log.
    std::panic::set_hook(Box::new(|_| {}));
    let confinement = Confinement::for_broker()?;
    sys::be_private()?;
    sys::forget_children()?;
    loop {
        let Some((packet, socket)) = input::receive(broker)? else {
            return Ok(ExitCode::SUCCESS);
        };
        let life = || {
            let outcome = sys::become_standard_input(socket)
                .map_err(Failure::from)
                .and_then(|socket| answer(&socket, &confinement, options));
            u8::from(outcome.is_err()) * 2
        };
        match packet.as_slice() {
            // Without a child the socket closes, which tells the broker.
            NEW_VERIFIER => drop(sys::child(life)),
            ONLY_VERIFIER => sys::live(life),
            _ => return Err(Failure::HandOver),
        }
    }
}

/// The life of a child.
fn answer(socket: &OwnedFd, confinement: &Confinement, options: &Options) -> Result<(), Failure> {
    confinement.apply()?;
    if !sys::has_news(socket, PATIENCE) {
        // While nobody waits: a page is copied when the child first writes to it.
        let _ = credential::warm_up();
    }
    let Some((packet, credential)) = input::receive(socket)? else {
        return Ok(()); // not needed after all
    };
    let request = VerifyRequest::decode(&packet).map_err(|_| Failure::HandOver)?;
    sys::kill_me_after(DEADLINE_SECONDS)?;
    // What the broker is told decides about accounts: what is trusted must be root's own.
    let credential = input::read_all(credential)?;
    let verdict = judge::judge(&credential, options, Files::OfRoot, request, now());
    let packet = verdict.encode().map_err(|_| Failure::Encode)?;
    sys::send(socket, &packet)?;
    Ok(())
}
