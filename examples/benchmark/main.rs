//! Benchmarks: what the shipped operator (profile `dist`) weighs and costs, on the same real ground as the tests.
//!
//! ```text
//! cargo run --example benchmark -- weight   # the binary's size, and the memory of an idle operator
//! ```
//!
//! Prints each figure beside its limit, and exits 1 when one is over. `docs/benchmarks.md` holds what was measured.

mod table;
mod weight;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

/// What the shipped operator weighs and costs, on a real control plane and a real Vault.
#[derive(Debug, Parser)]
#[command(name = "benchmark")]
enum Arguments {
    /// The size of the binary, and the memory of an idle operator
    Weight,
}

fn main() -> ExitCode {
    ground::supervisor::dispatch();
    let Arguments::Weight = Arguments::parse();
    let outcome = tokio::runtime::Runtime::new()
        .context("no threads to run on")
        .and_then(|runtime| runtime.block_on(weight::measure()))
        .and_then(|table| table.print());
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
