//! `sailplane-glexec`: the unprivileged half of `glexec`.

/// The C library's gives every few pages back to the kernel and has them given again, which takes longer than what is
/// done with them.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> std::process::ExitCode {
    sailplane_glexec::run(std::env::args_os())
}
