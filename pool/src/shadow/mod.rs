//! The submit side of one running job: what HTCondor does in a process of its own, `condor_shadow`, for each job.

pub mod answer;
pub mod driver;
pub mod exit;
pub mod file_call;
#[doc(hidden)]
pub mod fuzzing;
pub mod job_ad;
pub mod machine;
pub mod open_files;
pub mod proxy;
mod reconnect;
pub mod syscall;
pub mod update;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod vectors;
