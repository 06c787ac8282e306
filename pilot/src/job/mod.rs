//! One activation: from the shadow's first word to `job_exit`.
