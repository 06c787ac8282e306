//! The submit side of one running job: what HTCondor does in a process of its own, `condor_shadow`, for each job.

pub mod answer;
pub mod exit;
pub mod file_call;
pub mod machine;
pub mod syscall;
pub mod update;
