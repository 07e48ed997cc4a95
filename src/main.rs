//! The operator's process: its allocator, and the commands of the library.

use std::process::ExitCode;

/// Memory that held a secret is zeroed when it is freed, whoever held it.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    vault_tenant_operator::cli::main(std::env::args_os())
}
