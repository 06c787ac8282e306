//! Entry point for the fuzzer: a shadow that says anything.

use cedar::{Coding, MessageReader};

use super::SandboxPath;
use super::receive::{Received, Receiver};
use super::send::Sender;

/// Splits the input into messages (two length bytes before each) and feeds both sides of the dialogue with them.
pub fn fuzz_transfer_receive(data: &[u8]) {
    let mut receiver = Receiver::new(Coding::Encrypted);
    let mut sender = Sender::new(Coding::Encrypted);
    let _ = sender.file(b"name");
    let (mut receiver_lives, mut sender_lives) = (true, true);
    for message in Messages(data) {
        if receiver_lives {
            receiver_lives = match receiver.handle(message) {
                Ok(Received::File(header)) => check_name(&header.name),
                Ok(
                    Received::Directory { name, .. }
                    | Received::Delegation { name }
                    | Received::Url { name },
                ) => check_name(&name),
                Ok(_) => true,
                Err(_) => false,
            };
        }
        sender_lives = sender_lives && sender.handle(message).is_ok();
    }
}

/// What is accepted as a name names something beneath the sandbox.
fn check_name(name: &[u8]) -> bool {
    if let Ok(path) = SandboxPath::from_bytes(name) {
        assert!(path.as_path().is_relative());
        assert!(
            !path
                .as_path()
                .components()
                .any(|part| part.as_os_str() == "..")
        );
    }
    true
}

struct Messages<'d>(&'d [u8]);

impl<'d> Iterator for Messages<'d> {
    type Item = &'d [u8];

    fn next(&mut self) -> Option<&'d [u8]> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (message, rest) = rest.split_at(length);
        self.0 = rest;
        // The coding is what an encrypted connection uses; a reader must never run past the end.
        debug_assert!(MessageReader::new(Coding::Encrypted, message).left() == length);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::fuzz_transfer_receive;
    use crate::transfer::testing::recorded;

    #[test]
    fn the_corpus_passes() {
        crate::job::fuzzing::tests::for_each_seed("transfer_receive", fuzz_transfer_receive);
    }

    /// The seeds are the recorded conversations; run this by hand to make them again.
    #[test]
    fn recorded_conversations_pass() {
        for name in [
            "exec-mini-ft-input-full",
            "exec-mini-x509-delegation",
            "exec-ft-output-full",
        ] {
            let mut data = Vec::new();
            for message in recorded(name)
                .iter()
                .filter(|message| message.from == "shadow")
            {
                let body = &message.body[..message.body.len().min(4096)];
                data.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
                data.extend_from_slice(body);
            }
            fuzz_transfer_receive(&data);
        }
    }
}
