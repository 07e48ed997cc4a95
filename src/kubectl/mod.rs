//! The command for people, a plugin of kubectl: `kubectl vto`. Nothing of it is reached from
//! the operator's program, which stays small and can do none of this.
//!
//! Exit codes, as diff(1) has them: 0 done, and all is well; 1 something differs,
//! or isn't ready; 2 wrong usage, or it could not be told.

mod cluster;
mod granted;
mod manifests;
mod rbac;
mod role;
mod status;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Works with vault-tenant-operator: how its secrets stand, and what it may do and needs.
#[derive(Debug, Parser)]
#[command(name = "kubectl-vto", bin_name = "kubectl vto", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the least Role for an operator, or check one against it
    Rbac(Box<rbac::Rbac>),
    /// Show how the secrets of a namespace stand
    Status(Box<status::Status>),
}

/// How a command ended.
enum Outcome {
    /// Nothing is left to do.
    Done,
    /// What was compared is not the same.
    Differs,
    /// Something is not ready, or nobody knows whether it is.
    NotReady,
}

/// Does what the arguments say, the first of which is the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // One already installed is as good: there is only this one in the tree.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = match Cli::parse_from(arguments).command {
        Command::Rbac(command) => rbac::run(&command),
        Command::Status(command) => status::run(&command),
    };
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Differs | Outcome::NotReady) => ExitCode::from(1),
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_commands_fit_together() {
        super::Cli::command().debug_assert();
    }
}
