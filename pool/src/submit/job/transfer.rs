//! Which files go with the job, and come back.

use super::simple::unquoted;
use super::units;
use super::{Job, ShouldTransfer};
use crate::submit::path::is_url;

/// When output comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Never,
    OnExit,
    OnExitOrEvict,
    OnSuccess,
}

impl ShouldTransfer {
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "YES" | "TRUE" | "ALWAYS" => Some(Self::Yes),
            "NO" | "FALSE" | "NEVER" => Some(Self::No),
            "IF_NEEDED" | "AUTO" | "AUTOMATIC" => Some(Self::IfNeeded),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Yes => "YES",
            Self::No => "NO",
            Self::IfNeeded => "IF_NEEDED",
        }
    }
}

impl When {
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "NEVER" => Some(Self::Never),
            "ON_EXIT" => Some(Self::OnExit),
            "ON_EXIT_OR_EVICT" => Some(Self::OnExitOrEvict),
            "ON_SUCCESS" => Some(Self::OnSuccess),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Never => "NEVER",
            Self::OnExit => "ON_EXIT",
            Self::OnExitOrEvict => "ON_EXIT_OR_EVICT",
            Self::OnSuccess => "ON_SUCCESS",
        }
    }
}

impl Job<'_, '_> {
    /// Sizes of the executable and, unless the user says otherwise, of the job.
    pub(super) fn sizes(&mut self) {
        if self.number.proc == 0 {
            let program = self.ad.string("Cmd").unwrap_or_default();
            self.executable_kb = self.size_kb(&program);
            self.set("ExecutableSize", self.executable_kb);
        } else {
            self.executable_kb = self.ad.int("ExecutableSize").unwrap_or(0);
        }
        let name = self.present("image_size", "ImageSize");
        if let Some(text) = self.get(name) {
            match units::parse(&text, 1 << 10) {
                Some(size) if size.amount >= 1 => self.set("ImageSize", size.amount),
                _ => self.fail(
                    name,
                    format!("{name} = {text}: expected a size such as 10M"),
                ),
            }
        } else if !self.has("ImageSize") {
            self.set("ImageSize", self.executable_kb);
        }
    }

    /// Size of a file below the job's directory in KiB, rounded up; 0 if it is a URL or is not there.
    fn size_kb(&self, name: &str) -> i64 {
        if is_url(name) {
            return 0;
        }
        let size = self
            .reader
            .files
            .stat(&self.full_path(name))
            .map_or(0, |stat| stat.size);
        i64::try_from(size.div_ceil(1024)).unwrap_or(i64::MAX)
    }

    /// An input file must be there, unless nobody can know.
    pub(super) fn check_input(&mut self, command: &str, file: &str) {
        if !self.context().check_files
            || self.skip_file_checks
            || is_url(file)
            || file.contains("$$(")
        {
            return;
        }
        let path = self.full_path(file);
        let wrong = match self.reader.files.stat(&path) {
            Err(error) => format!("{path} cannot be found ({error})"),
            Ok(stat) if stat.is_dir && command.ends_with("in") | command.ends_with("put") => {
                format!("{path} is a directory")
            }
            Ok(stat) if !stat.readable => format!("you may not read {path}"),
            Ok(_) => return,
        };
        self.fail(
            command,
            format!("{command}: expected the file {file}, but {wrong}"),
        );
    }

    pub(super) fn transfer(&mut self) {
        let input_name = self.present("transfer_input_files", "TransferInputFiles");
        let input = self.get(input_name).map(|text| file_list(&text));
        let output_name = self.present("transfer_output_files", "TransferOutputFiles");
        let output = self.get(output_name).map(|text| file_list(&text));
        let input = input.filter(|files| !files.is_empty());
        let mut input_kb = 0_i64;
        for file in input.iter().flatten() {
            self.check_input(input_name, file);
            input_kb = input_kb.saturating_add(self.size_kb(file));
        }
        if self.ad.bool("TransferIn").unwrap_or(true)
            && let Some(file) = self.ad.string("In")
        {
            input_kb = input_kb.saturating_add(self.size_kb(&file));
        }
        let Some(when) = self.when_and_whether(input.is_some(), output.is_some()) else {
            return;
        };
        self.set("ShouldTransferFiles", self.should_transfer.word());
        if self.should_transfer != ShouldTransfer::No {
            self.set("WhenToTransferOutput", when.word());
        }
        if self.should_transfer != ShouldTransfer::Yes
            && !self.has("FileSystemDomain")
            && let Some(domain) = self.context().knob("FILESYSTEM_DOMAIN")
        {
            self.set("FileSystemDomain", domain);
        }
        self.disk_usage(input_kb);
        if self.should_transfer != ShouldTransfer::No {
            if let Some(files) = input {
                self.set("TransferInput", files.join(",").as_str());
            }
            if let Some(files) = output {
                self.set("TransferOutput", files.join(",").as_str());
            }
        }
        self.remaps();
    }

    /// `should_transfer_files` and `when_to_transfer_output`, which depend on each other.
    fn when_and_whether(&mut self, has_input: bool, has_output: bool) -> Option<When> {
        let should_name = self.present("ShouldTransferFiles", "should_transfer_files");
        let when_name = self.present("WhenToTransferOutput", "when_to_transfer_output");
        let mut should_is_default = false;
        let should = match self
            .get(should_name)
            .or_else(|| self.ad.string("ShouldTransferFiles"))
        {
            Some(text) => match ShouldTransfer::parse(&text) {
                Some(should) => should,
                None => {
                    self.fail(
                        should_name,
                        format!("should_transfer_files = {text}: expected YES, NO or IF_NEEDED"),
                    );
                    return None;
                }
            },
            None => {
                should_is_default = true;
                self.context()
                    .knob("SUBMIT_DEFAULT_SHOULD_TRANSFER_FILES")
                    .and_then(ShouldTransfer::parse)
                    .unwrap_or(ShouldTransfer::IfNeeded)
            }
        };
        self.should_transfer = should;
        if should == ShouldTransfer::No && (has_input || has_output) {
            let what = if has_input {
                "transfer_input_files"
            } else {
                "transfer_output_files"
            };
            self.fail(
                what,
                format!(
                    "{what} names files, but should_transfer_files is NO: expected YES or IF_NEEDED"
                ),
            );
            return None;
        }
        let when_text = self
            .get(when_name)
            .or_else(|| self.ad.string("WhenToTransferOutput"));
        let when_is_default = when_text.is_none();
        let mut when = match when_text {
            None => When::OnExit,
            Some(text) => match When::parse(&text) {
                Some(when) => when,
                None => {
                    self.fail(
                        when_name,
                        format!("when_to_transfer_output = {text}: expected ON_EXIT, ON_EXIT_OR_EVICT or ON_SUCCESS"),
                    );
                    return None;
                }
            },
        };
        if !should_is_default && when_is_default && should == ShouldTransfer::No {
            when = When::Never;
        }
        if (should == ShouldTransfer::No) != (when == When::Never) {
            self.fail(
                when_name,
                format!(
                    "when_to_transfer_output = {} contradicts should_transfer_files = {}",
                    when.word(),
                    should.word()
                ),
            );
            return None;
        }
        if when == When::OnExitOrEvict && should == ShouldTransfer::IfNeeded {
            if !should_is_default {
                self.fail(
                    when_name,
                    "when_to_transfer_output = ON_EXIT_OR_EVICT does not go with should_transfer_files = IF_NEEDED: expected YES",
                );
                return None;
            }
            self.should_transfer = ShouldTransfer::Yes;
        }
        if self.should_transfer == ShouldTransfer::No
            && self.flag("transfer_executable", Some("TransferExecutable"), false)
        {
            self.fail(
                "transfer_executable",
                "transfer_executable = true, but should_transfer_files is NO: expected YES or IF_NEEDED",
            );
            return None;
        }
        Some(when)
    }

    fn disk_usage(&mut self, input_kb: i64) {
        let name = self.present("disk_usage", "DiskUsage");
        if let Some(text) = self.get(name) {
            match units::parse(&text, 1 << 10) {
                Some(size) if size.amount >= 1 => self.set("DiskUsage", size.amount),
                _ => self.fail(
                    name,
                    format!("{name} = {text}: expected a size such as 10M"),
                ),
            }
            return;
        }
        let total = self.executable_kb.saturating_add(input_kb);
        self.set("TransferInputSizeMB", total / 1024);
        self.set("DiskUsage", total);
    }

    fn remaps(&mut self) {
        let name = self.present("transfer_output_remaps", "TransferOutputRemaps");
        let Some(text) = self.get(name) else {
            return;
        };
        if !(text.trim().starts_with('"') && text.trim().ends_with('"') && text.trim().len() > 1) {
            self.fail(
                name,
                format!("{name} = {text}: expected \"NAME = PATH; ...\" in double quotes"),
            );
            return;
        }
        self.set("TransferOutputRemaps", unquoted(&text));
    }
}

/// The names between commas.
fn file_list(text: &str) -> Vec<String> {
    unquoted(text)
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}
