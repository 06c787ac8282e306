//! Standard input, output and error.

use super::Job;

/// The commands and attributes of one of them.
struct Stream {
    file: &'static str,
    other: &'static str,
    file_attribute: &'static str,
    transfer: &'static str,
    transfer_attribute: &'static str,
    stream: &'static str,
    stream_attribute: &'static str,
}

const STREAMS: [Stream; 3] = [
    Stream {
        file: "input",
        other: "stdin",
        file_attribute: "In",
        transfer: "transfer_input",
        transfer_attribute: "TransferIn",
        stream: "stream_input",
        stream_attribute: "StreamIn",
    },
    Stream {
        file: "output",
        other: "stdout",
        file_attribute: "Out",
        transfer: "transfer_output",
        transfer_attribute: "TransferOut",
        stream: "stream_output",
        stream_attribute: "StreamOut",
    },
    Stream {
        file: "error",
        other: "stderr",
        file_attribute: "Err",
        transfer: "transfer_error",
        transfer_attribute: "TransferErr",
        stream: "stream_error",
        stream_attribute: "StreamErr",
    },
];

/// The file that is no file.
const NULL: &str = "/dev/null";

impl Job<'_, '_> {
    pub(super) fn standard_files(&mut self) {
        for stream in &STREAMS {
            self.stream(stream);
        }
    }

    fn stream(&mut self, stream: &Stream) {
        let inherited = self.ad.bool(stream.transfer_attribute).unwrap_or(true);
        let wanted = self.flag(stream.transfer, Some(stream.transfer_attribute), inherited);
        let mut transfer = wanted;
        let streamed = self.ad.bool(stream.stream_attribute).unwrap_or(false);
        let mut streamed = self.flag(stream.stream, Some(stream.stream_attribute), streamed);
        let name = self.present(stream.file, stream.other);
        let file = self.get(name);
        if file.is_some() || !self.has(stream.file_attribute) {
            let file = file.unwrap_or_else(|| NULL.to_owned());
            if file == NULL {
                transfer = false;
                streamed = false;
            } else if stream.file == "input" && transfer {
                self.check_input(name, &file);
            }
            self.set(stream.file_attribute, file.as_str());
        }
        if transfer {
            self.set(stream.stream_attribute, streamed);
            if wanted != inherited {
                self.set(stream.transfer_attribute, wanted);
            }
        } else {
            self.set(stream.transfer_attribute, false);
        }
    }
}
