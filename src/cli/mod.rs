//! The operator's few commands: `run`, `config show`, `config check`, `crds`.
//! Parses, calls, and turns the outcome into text and an exit code; decides
//! nothing. Exit codes: 0 done, 1 refused or failed, 2 wrong usage.

mod flags;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::api::{DEFINITIONS, KUSTOMIZATION};
use crate::config::{self, Finding, Loaded, refused};
use crate::operator;
use flags::Flags;

/// Syncs secrets from HashiCorp Vault into the Kubernetes Secrets of one tenant.
#[derive(Debug, Parser)]
#[command(
    name = "vault-tenant-operator",
    version,
    after_help = "Every key of the configuration can be set in a file, by a VTO_* variable, and some by a flag.\n`config show` prints them all with their variables."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator until SIGTERM
    Run {
        #[command(flatten)]
        flags: Box<Flags>,
    },
    /// Look at the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the custom resource definitions as YAML
    Crds {
        /// Write one file for each kind into this directory instead
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the effective configuration, each value with its source
    Show {
        #[command(flatten)]
        flags: Box<Flags>,
    },
    /// Check a configuration file by itself, without environment and flags
    Check {
        /// The file
        file: String,
    },
}

/// Parses the arguments (the first is the program's name) and does what they
/// say. Not to be called from within an async runtime.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // One already installed is as good: there is only this one in the tree.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come as errors too, with their own exit code.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match cli.command {
        Command::Run { flags } => load(&flags).and_then(|loaded| operator::run(loaded.config)),
        Command::Config { command } => match command {
            ConfigCommand::Show { flags } => load(&flags)
                .and_then(|loaded| loaded.show())
                .and_then(|text| print(&text)),
            ConfigCommand::Check { file } => check(&file).and_then(|text| print(&text)),
        },
        Command::Crds { out } => crds(out),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration of this process.
fn load(flags: &Flags) -> Result<Loaded, String> {
    let environment = variables()?;
    config::load(&flags.config, environment, &flags.overrides()).map_err(|all| refused(&all))
}

/// The environment. What is no text is left out, unless it would be ours: a
/// guardrail must not be lost to a typing error.
fn variables() -> Result<Vec<(String, String)>, String> {
    let mut all = Vec::new();
    for (name, value) in std::env::vars_os() {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => all.push((name, value)),
            (Ok(name), Err(_)) if name.starts_with("VTO_") => {
                return Err(refused(&[Finding {
                    place: format!("environment variable {name}"),
                    key: None,
                    why: "is no text: give it in UTF-8".to_owned(),
                }]));
            }
            _ => {}
        }
    }
    Ok(all)
}

fn check(file: &str) -> Result<String, String> {
    config::load(&[file.to_owned()], [], &[])
        .map(|_| format!("{file} is a valid configuration\n"))
        .map_err(|all| refused(&all))
}

fn crds(out: Option<PathBuf>) -> Result<(), String> {
    let Some(folder) = out else {
        return print(&DEFINITIONS.map(|(_, content)| content).join("---\n"));
    };
    for (name, content) in DEFINITIONS.into_iter().chain([KUSTOMIZATION]) {
        let path = folder.join(name);
        std::fs::write(&path, content)
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    Ok(())
}

/// Writes to standard output. A reader that has gone (`| head`) is no failure.
///
/// # Errors
/// A sentence for what else goes wrong, such as a full disk.
pub fn print(text: &str) -> Result<(), String> {
    still_read(text).map(drop)
}

/// As [`print()`], for who writes more than once: whether somebody still reads.
///
/// # Errors
/// As [`print()`].
pub fn still_read(text: &str) -> Result<bool, String> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("standard output cannot be written: {error}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::config::Config;

    fn overrides(arguments: &[&str]) -> Vec<config::Override> {
        let all = ["vault-tenant-operator", "run"].iter().chain(arguments);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Run { flags } => flags.overrides(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_commands_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_may_be_repeated_or_separated_by_commas() {
        for arguments in [
            vec!["--allowed-auth-methods=aws,gcp,token"],
            vec![
                "--allowed-auth-methods",
                "aws,gcp",
                "--allowed-auth-methods",
                "token",
            ],
        ] {
            let loaded = config::load(&[], [], &overrides(&arguments)).unwrap();
            assert_eq!(
                loaded.config.policy.allowed_auth_methods,
                [
                    config::AuthMethod::Aws,
                    config::AuthMethod::Gcp,
                    config::AuthMethod::Token
                ]
            );
        }
    }

    #[test]
    fn every_flag_sets_a_key() {
        let run = Cli::command().find_subcommand("run").unwrap().clone();
        for argument in run.get_arguments() {
            let flag = argument.get_long().unwrap();
            if matches!(flag, "config" | "help" | "version") {
                continue;
            }
            let value = match flag {
                "watch-namespaces" => "team",
                "secret-access" => "named",
                "leader-elect" => "false",
                "allowed-auth-methods" => "token",
                "max-concurrent-reconciles" => "3",
                "backoff-initial-interval" | "backoff-max-interval" => "7s",
                "metrics-bind-address" | "health-probe-bind-address" => ":9",
                "log-format" => "text",
                "log-level" => "trace",
                other => panic!("--{other} has no value in this test"),
            };
            let flag = format!("--{flag}");
            let loaded = config::load(&[], [], &overrides(&[&flag, value])).unwrap();
            assert_ne!(loaded.config, Config::default(), "{flag} sets nothing");
            assert!(
                loaded
                    .show()
                    .unwrap()
                    .contains(&format!("command line {flag} "))
            );
        }
    }

    #[test]
    fn a_refusal_lists_all_reasons() {
        let given = overrides(&["--log-level=loud", "--log-format", "xml"]);
        let text = refused(&config::load(&[], [], &given).unwrap_err());
        assert!(
            text.starts_with("the configuration is refused for 2 reasons:\n  "),
            "{text}"
        );
        assert!(text.contains("\n  command line --log-level: "), "{text}");
        assert!(text.contains("known are json, text"), "{text}");
    }
}
