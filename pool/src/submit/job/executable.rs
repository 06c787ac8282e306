//! Universe and program.

use super::Job;
use crate::submit::path::absolute;

/// Universes by name (`htcondor:src/condor_utils/condor_universe.cpp`).
const UNIVERSES: &[(&str, i64)] = &[
    ("standard", 1),
    ("vanilla", 5),
    ("scheduler", 7),
    ("mpi", 8),
    ("grid", 9),
    ("java", 10),
    ("parallel", 11),
    ("local", 12),
    ("vm", 13),
    ("docker", 5),
    ("container", 5),
];

/// Universe `vanilla`.
const VANILLA: i64 = 5;

/// Commands whose meaning this pool cannot give, and why.
const REFUSED: &[(&str, &str)] = &[
    (
        "max_materialize",
        "jobs are made when they are submitted, not later; leave it out",
    ),
    (
        "max_idle",
        "jobs are made when they are submitted, not later; leave it out",
    ),
    (
        "materialize_max_idle",
        "jobs are made when they are submitted, not later; leave it out",
    ),
    (
        "container_image",
        "jobs in containers are not supported by this pool",
    ),
    (
        "docker_image",
        "jobs in containers are not supported by this pool",
    ),
    (
        "grid_resource",
        "the grid universe is not supported by this pool",
    ),
    (
        "use_oauth_services",
        "this pool keeps no OAuth credentials for jobs",
    ),
    (
        "tool_daemon_cmd",
        "a tool beside the job is not supported by this pool",
    ),
    ("jobset", "job sets are not supported by this pool"),
    (
        "shell",
        "expected executable = /bin/sh with arguments; the command shell is newer than 23.9",
    ),
];

impl Job<'_, '_> {
    pub(super) fn universe(&mut self) {
        let name = self.present("universe", "JobUniverse");
        let text = match self.get(name) {
            Some(text) => Some(text),
            None => self.context().knob("DEFAULT_UNIVERSE").map(str::to_owned),
        };
        let number = match text.as_deref() {
            None => VANILLA,
            Some(text) => {
                let known = UNIVERSES
                    .iter()
                    .find(|(word, number)| {
                        word.eq_ignore_ascii_case(text) || number.to_string() == text
                    })
                    .map(|(word, number)| (*word, *number));
                match known {
                    Some(("vanilla", number)) => number,
                    Some((word, _)) => {
                        self.fail(
                            name,
                            format!(
                                "universe = {word} is not supported by this pool: expected vanilla"
                            ),
                        );
                        VANILLA
                    }
                    None => {
                        self.fail(
                            name,
                            format!(
                                "universe = {text}: there is no such universe: expected vanilla"
                            ),
                        );
                        VANILLA
                    }
                }
            }
        };
        self.set("JobUniverse", number);
    }

    /// Commands that would be misunderstood if they were ignored.
    pub(super) fn refuse(&mut self) {
        for (name, why) in REFUSED {
            if self.get(name).is_some() {
                self.fail(name, format!("{name}: {why}"));
            }
        }
        for (name, attribute) in [
            ("cron_minute", "CronMinute"),
            ("cron_hour", "CronHour"),
            ("cron_day_of_month", "CronDayOfMonth"),
            ("cron_month", "CronMonth"),
            ("cron_day_of_week", "CronDayOfWeek"),
        ] {
            let name = self.present(name, attribute);
            if self.get(name).is_some() {
                self.fail(
                    name,
                    format!("{name}: jobs that run again and again are not supported by this pool"),
                );
            }
        }
        let noop = self.present("noop_job", "IsNoopJob");
        if self
            .get(noop)
            .is_some_and(|text| self.macros().boolean(&text) != Some(false))
        {
            self.fail(
                noop,
                "noop_job: jobs that end without having run are not supported by this pool",
            );
        }
        let xml = self.present("log_xml", "UserLogUseXML");
        if self.flag(xml, None, false) {
            self.fail(
                xml,
                "log_xml = true is not supported: event logs are written as text; leave it out",
            );
        }
    }

    pub(super) fn executable(&mut self) {
        let name = self.present("executable", "Cmd");
        let Some(program) = self.get(name) else {
            if !self.has("Cmd") {
                self.fail(
                    name,
                    "no executable: expected executable = PROGRAM before queue",
                );
            }
            return;
        };
        let transfer = self.either("transfer_executable", "TransferExecutable");
        let transfer = !transfer.is_some_and(|text| text.starts_with(['f', 'F']));
        if !transfer {
            self.set("TransferExecutable", false);
            self.set("Cmd", program.as_str());
            return;
        }
        // Relative to where the submitter is, not to initialdir.
        let path = absolute(&self.context().cwd, &program);
        if self.context().check_files && !self.skip_file_checks && !program.contains("$$") {
            self.check_executable(name, &program, &path);
        }
        self.set("Cmd", path.as_str());
    }

    fn check_executable(&mut self, name: &'static str, program: &str, path: &str) {
        let files = self.reader.files;
        let wrong = match files.stat(path) {
            Err(error) => format!("there is no such file ({error})"),
            Ok(stat) if stat.is_dir => "it is a directory".to_owned(),
            Ok(stat) if !stat.readable => "you may not read it".to_owned(),
            Ok(stat) if stat.size == 0 => "the file is empty".to_owned(),
            Ok(_)
                if self.number.proc == 0
                    && is_dos_script(files.head(path, 256).ok().as_deref()) =>
            {
                "it is a script whose lines end as on Windows (CR LF); run dos2unix on it"
                    .to_owned()
            }
            Ok(_) => return,
        };
        self.fail(
            name,
            format!("executable = {program}: expected a program at {path}, but {wrong}"),
        );
    }
}

/// A script whose first line ends with CR LF: the kernel would look for an interpreter with a CR in its name.
fn is_dos_script(start: Option<&[u8]>) -> bool {
    let Some(start) = start else {
        return false;
    };
    start.starts_with(b"#!")
        && start
            .iter()
            .position(|&byte| byte == b'\n')
            .and_then(|end| end.checked_sub(1))
            .and_then(|before| start.get(before))
            == Some(&b'\r')
}
