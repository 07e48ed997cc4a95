//! `kubectl vto`, as a program that kubectl finds.

use std::process::ExitCode;

fn main() -> ExitCode {
    vault_tenant_operator::kubectl::main(std::env::args_os())
}
