//! `sailplane-job`: the agent in the sandbox that becomes the payload, and errands in its account.

/// The C library's gives every few pages back to the kernel and has them given again, which takes longer than what is
/// done with them.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> std::process::ExitCode {
    sailplane_job::run(std::env::args_os())
}
