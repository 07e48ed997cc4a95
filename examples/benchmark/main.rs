//! Benchmarks: what the shipped operator (profile `dist`) weighs and costs, on the same real ground as the tests.
//!
//! ```text
//! cargo run --example benchmark -- all           # every figure that the product promises: about ten minutes
//! cargo run --example benchmark -- all --small   # the same in small: whether the benchmark itself still works
//! cargo run --example benchmark -- --help        # one by one, and with other numbers
//! ```
//!
//! Prints each figure beside its goal, and exits 1 when one is over a limit. `docs/benchmarks.md` says what each figure
//! is, and what was measured.

mod bench;
mod cold;
mod floor;
mod instances;
mod latency;
mod load;
mod outage;
mod scrape;
mod site;
mod steady;
mod table;
mod weight;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use bench::Bench;
use table::Table;

/// What the shipped operator weighs and costs, on a real control plane and a real Vault.
#[derive(Debug, Parser)]
#[command(name = "benchmark")]
enum Arguments {
    /// The size of the binary, and the memory of an operator that is idle, or holds leases
    Weight {
        /// How many VaultDynamicSecrets with a lease
        #[arg(long, default_value_t = 1_000)]
        leases: usize,
    },
    /// A first sync beside the floor: time, requests, processor time, memory
    Cold {
        /// How many VaultStaticSecrets
        #[arg(long, default_value_t = 1_000)]
        resources: usize,
        /// How often, the floor and the operator in turns
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// A look at the metrics: time, length, memory, with series of each resource and without, and with targets whose restarts wait
    Scrape {
        /// How many VaultStaticSecrets
        #[arg(long, default_value_t = 1_000)]
        resources: usize,
        /// How often, with series of each resource and without in turns
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Requests of a restart while all is well, and of refreshes without change
    Steady {
        /// How many VaultStaticSecrets
        #[arg(long, default_value_t = 1_000)]
        resources: usize,
    },
    /// From a new resource to its Secret
    Latency {
        /// How many new resources
        #[arg(long, default_value_t = 300)]
        tries: usize,
    },
    /// The memory of many operators, each with a tenant of its own
    Instances {
        /// How many operators
        #[arg(long, default_value_t = 100)]
        count: usize,
    },
    /// Vault or the API server away for a while
    Outage {
        /// Who is
        #[arg(long, value_enum, default_value_t = Away::Vault)]
        of: Away,
        /// How many VaultStaticSecrets are due meanwhile
        #[arg(long, default_value_t = 200)]
        resources: usize,
        /// How long, in seconds
        #[arg(long, default_value_t = 120)]
        seconds: u64,
    },
    /// All of them
    All {
        /// Few of everything: shows that the benchmark works, and nothing else
        #[arg(long)]
        small: bool,
    },
}

/// Who can be away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Away {
    /// Vault
    Vault,
    /// The API server
    ApiServer,
}

impl Arguments {
    async fn measure(&self, bench: &Bench, table: &mut Table) -> Result<()> {
        eprintln!("== {self:?}");
        match *self {
            Self::Weight { leases } => weight::measure(bench, table, leases).await,
            Self::Cold { resources, rounds } => {
                cold::measure(bench, table, resources, rounds).await
            }
            Self::Steady { resources } => {
                steady::restart(bench, table, resources).await?;
                steady::refresh(bench, table, resources.min(100)).await
            }
            Self::Scrape { resources, rounds } => {
                scrape::measure(bench, table, resources, rounds).await
            }
            Self::Latency { tries } => latency::measure(bench, table, tries).await,
            Self::Instances { count } => instances::measure(bench, table, count).await,
            Self::Outage {
                of,
                resources,
                seconds,
            } => {
                let away = Duration::from_secs(seconds);
                match of {
                    Away::Vault => outage::of_vault(bench, table, resources, away).await,
                    Away::ApiServer => outage::of_api_server(bench, table, resources, away).await,
                }
            }
            Self::All { small: false } => {
                for one in Self::all(false) {
                    Box::pin(one.measure(bench, table)).await?;
                }
                Ok(())
            }
            // All at a time, since no figure is of interest then.
            Self::All { small: true } => {
                let all = Self::all(true);
                let tables = all.iter().map(async |one| {
                    let mut table = Table::default();
                    Box::pin(one.measure(bench, &mut table)).await?;
                    anyhow::Ok(table)
                });
                let tables = futures::future::try_join_all(tables).await?;
                tables.into_iter().for_each(|one| table.append(one));
                Ok(())
            }
        }
    }

    fn all(small: bool) -> Vec<Self> {
        let size = |full: usize, small_one: usize| if small { small_one } else { full };
        let mut all = vec![
            Self::Weight {
                leases: size(1_000, 20),
            },
            Self::Cold {
                resources: size(1_000, 20),
                rounds: size(3, 1),
            },
            Self::Steady {
                resources: size(1_000, 20),
            },
            Self::Scrape {
                resources: size(1_000, 20),
                rounds: size(5, 1),
            },
            Self::Latency {
                tries: size(300, 10),
            },
            Self::Instances {
                count: size(100, 2),
            },
        ];
        all.extend([Away::Vault, Away::ApiServer].map(|of| Self::Outage {
            of,
            resources: size(200, 20),
            seconds: if small { 8 } else { 120 },
        }));
        if !small {
            // Last: the ground is slower with all that is in it then.
            all.push(Self::Cold {
                resources: 10_000,
                rounds: 1,
            });
        }
        all
    }
}

async fn run(arguments: &Arguments) -> Result<bool> {
    let bench = Bench::start().await?;
    let mut table = Table::default();
    let measured = arguments.measure(&bench, &mut table).await;
    let holds = table.print()?;
    if measured.is_err() {
        bench.ground.keep();
    }
    bench.ground.stop().await?;
    measured.map(|()| holds)
}

fn main() -> ExitCode {
    ground::supervisor::dispatch();
    let arguments = Arguments::parse();
    let outcome = tokio::runtime::Runtime::new()
        .context("no threads to run on")
        .and_then(|runtime| runtime.block_on(run(&arguments)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
