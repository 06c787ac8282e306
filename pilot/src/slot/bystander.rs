//! In place of the slots' task, for a pilot that takes no jobs but has something to say.

use classad::ClassAd;

use super::clock::unix_now;
use super::command::Command;
use super::startd::StartdCommands;
use crate::advertise::board::SlotUpdate;

/// Shows `ad` as that of the first slot, and refuses everything, until it is dropped.
pub async fn stand_by(commands: StartdCommands, name: String, ad: ClassAd) {
    let mut commands = commands.0;
    while let Some(command) = commands.recv().await {
        // Whoever asks anything else is refused by the end of the channel for the answer.
        if let Command::Updates(slots, reply) = command {
            let updates = slots
                .into_iter()
                .filter(|&slot| slot == 0)
                .map(|slot| {
                    let mut public = ad.clone();
                    public.insert("MyCurrentTime", unix_now());
                    SlotUpdate {
                        slot,
                        name: name.clone(),
                        public,
                        claim: None,
                    }
                })
                .collect();
            // A link that is gone needs no answer.
            let _ = reply.send(updates);
        }
    }
}
