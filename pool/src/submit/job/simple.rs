//! Commands that become an attribute as they are.

use super::Job;

/// How a value becomes an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    /// A ClassAd expression.
    Expression,
    /// A string.
    Text,
    /// A string; quotes around it are taken off.
    Unquoted,
    /// A string: words, with commas between them.
    List,
    /// A path below the job's directory.
    Path,
    /// As `Path`, without quotes around it.
    UnquotedPath,
    /// True or false.
    Boolean,
    /// An integer.
    Integer,
    /// An integer of at least 0.
    Unsigned,
}

use As::{Boolean, Expression, Integer, List, Path, Text, Unquoted, UnquotedPath, Unsigned};

/// Command, attribute (which is a name of the command too) and kind
/// (`htcondor:src/condor_utils/submit_utils.cpp`, `prunable_keywords`, as 23.9.6 has them).
const COMMANDS: &[(&str, &str, As)] = &[
    ("next_job_start_delay", "NextJobStartDelay", Expression),
    ("keep_claim_idle", "KeepClaimIdle", Expression),
    ("job_ad_information_attrs", "JobAdInformationAttrs", Text),
    ("ulog_execute_attrs", "UserLogExecuteEventAttrs", Text),
    ("transfer_plugins", "TransferPlugins", Text),
    ("want_io_proxy", "WantIOProxy", Boolean),
    ("starter_debug", "JobStarterDebug", Unquoted),
    ("starter_log", "JobStarterLog", UnquotedPath),
    ("job_machine_attrs", "JobMachineAttrs", Text),
    (
        "job_machine_attrs_history_length",
        "JobMachineAttrsHistoryLength",
        Integer,
    ),
    ("notify_user", "NotifyUser", Text),
    ("email_attributes", "EmailAttributes", List),
    ("remote_initialdir", "RemoteIwd", Text),
    ("output_destination", "OutputDestination", Text),
    ("want_graceful_removal", "WantGracefulRemoval", Expression),
    ("job_max_vacate_time", "JobMaxVacateTime", Expression),
    (
        "encrypt_execute_directory",
        "EncryptExecuteDirectory",
        Boolean,
    ),
    ("encrypt_input_files", "EncryptInputFiles", Text),
    ("encrypt_output_files", "EncryptOutputFiles", Text),
    ("dont_encrypt_input_files", "DontEncryptInputFiles", Text),
    ("dont_encrypt_output_files", "DontEncryptOutputFiles", Text),
    ("load_profile", "LoadProfile", Boolean),
    ("file_remaps", "FileRemaps", Expression),
    ("buffer_files", "BufferFiles", Expression),
    ("buffer_size", "BufferSize", Expression),
    ("buffer_block_size", "BufferBlockSize", Expression),
    ("fetch_files", "FetchFiles", Text),
    ("compress_files", "CompressFiles", Text),
    ("append_files", "AppendFiles", Text),
    ("local_files", "LocalFiles", Text),
    ("log", "UserLog", Path),
    ("dagman_log", "DAGManNodesLog", Path),
    ("noop_job", "IsNoopJob", Expression),
    ("noop_job_exit_signal", "NoopJobExitSignal", Expression),
    ("noop_job_exit_code", "NoopJobExitCode", Expression),
    ("dag_node_name", "DAGNodeName", Text),
    ("match_list_length", "LastMatchListLength", Integer),
    ("dagman_job_id", "DAGManJobId", Unsigned),
    ("submit_event_notes", "SubmitEventNotes", Text),
    ("submit_event_user_notes", "SubmitEventUserNotes", Text),
    ("stack_size", "StackSize", Expression),
    ("jar_files", "JarFiles", Text),
    ("cron_minute", "CronMinute", Text),
    ("cron_hour", "CronHour", Text),
    ("cron_day_of_month", "CronDayOfMonth", Text),
    ("cron_month", "CronMonth", Text),
    ("cron_day_of_week", "CronDayOfWeek", Text),
    ("description", "JobDescription", Text),
    ("batch_name", "JobBatchName", Unquoted),
    ("batch_id", "JobBatchId", Unquoted),
    (
        "max_job_retirement_time",
        "MaxJobRetirementTime",
        Expression,
    ),
    ("job_lease_duration", "JobLeaseDuration", Expression),
    ("core_size", "CoreSize", Integer),
    ("priority", "JobPrio", Integer),
    ("prio", "JobPrio", Integer),
    ("run_as_owner", "RunAsOwner", Boolean),
    ("max_transfer_input_mb", "MaxTransferInputMB", Expression),
    ("max_transfer_output_mb", "MaxTransferOutputMB", Expression),
    ("manifest", "ManifestDesired", Boolean),
    ("manifest_dir", "ManifestDir", Text),
    ("checkpoint_exit_code", "SuccessCheckpointExitCode", Integer),
    ("checkpoint_destination", "CheckpointDestination", Text),
    (
        "erase_output_and_error_on_restart",
        "EraseOutputAndErrorOnRestart",
        Boolean,
    ),
    ("transfer_checkpoint_files", "TransferCheckpoint", Text),
    ("preserve_relative_paths", "PreserveRelativePaths", Boolean),
    ("skip_if_dataflow", "SkipIfDataflow", Boolean),
    ("allowed_job_duration", "AllowedJobDuration", Expression),
    (
        "allowed_execute_duration",
        "AllowedExecuteDuration",
        Expression,
    ),
];

impl Job<'_, '_> {
    pub(super) fn simple_commands(&mut self) {
        for &(command, attribute, kind) in COMMANDS {
            let name = self.present(command, attribute);
            if command == "prio" && self.macros().raw("priority").is_some() {
                continue;
            }
            if let Some(text) = self.get(name) {
                self.simple(name, attribute, kind, &text);
            }
        }
    }

    fn simple(&mut self, name: &str, attribute: &str, kind: As, text: &str) {
        match kind {
            Expression => self.set_expression(attribute, text, name),
            Text => self.set(attribute, text),
            Unquoted => self.set(attribute, unquoted(text)),
            List => {
                let list = crate::submit::queue_args::words(text).join(",");
                self.set(attribute, list.as_str());
            }
            Path | UnquotedPath => {
                let text = if kind == Path { text } else { unquoted(text) };
                let path = self.full_path(text);
                self.set(attribute, path.as_str());
            }
            Boolean => match self.macros().boolean(text) {
                Some(value) => self.set(attribute, value),
                None => self.fail(name, format!("{name} = {text}: expected true or false")),
            },
            Integer | Unsigned => match self.macros().integer(text) {
                Some(number) if kind == Integer || number >= 0 => self.set(attribute, number),
                Some(_) => self.fail(name, format!("{name} = {text}: expected at least 0")),
                None => self.fail(name, format!("{name} = {text}: expected an integer")),
            },
        }
    }
}

/// The text without blanks around it, and without double quotes around that.
pub(super) fn unquoted(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(text)
}
