//! `sailplane-broker`: decides for the identity-switch helper, without any privilege.

/// The C library's gives every few pages back to the kernel and has them given again, which takes longer than what is
/// done with them.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> std::process::ExitCode {
    sailplane_broker::run(std::env::args_os())
}
