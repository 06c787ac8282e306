//! How much a configuration may ask for.

/// Limits on what one configuration may cost. HTCondor has none but the depth of includes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file or of a command's output.
    pub file_bytes: usize,
    /// Bytes of everything read together.
    pub total_bytes: usize,
    /// Files, commands and directories opened.
    pub files: usize,
    /// Knobs in the table.
    pub knobs: usize,
    /// Bytes of one value, as written or expanded.
    pub value_bytes: usize,
    /// Macro references replaced in one value.
    pub expansions: usize,
    /// Bytes moved while one value is expanded.
    pub expansion_work: usize,
    /// Bytes moved while the whole configuration is read.
    pub total_work: usize,
    /// Mistakes reported; reading stops at this number.
    pub errors: usize,
}

/// Depth of includes and templates: `htcondor:src/condor_includes/condor_config.h`, `CONFIG_MAX_NESTING_DEPTH`.
pub(crate) const NESTING: usize = 20;

/// Depth of `if`: HTCondor keeps the state in the bits of one 64-bit word (`htcondor:src/condor_utils/config.cpp`).
pub(crate) const IF_DEPTH: usize = 63;

/// Depth to which macro functions may call for the expansion of their arguments.
pub(crate) const CALL_DEPTH: usize = 16;

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 1 << 20,
            total_bytes: 8 << 20,
            files: 1000,
            knobs: 20_000,
            value_bytes: 256 << 10,
            expansions: 10_000,
            expansion_work: 32 << 20,
            total_work: 256 << 20,
            errors: 100,
        }
    }
}
