//! Who used how much, and who is next.

/// Usage and priorities of the submitters.
#[derive(Debug, Clone, Default)]
pub struct Accountant {}
