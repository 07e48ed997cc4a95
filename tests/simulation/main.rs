//! The operator's pipeline on models of the API server, Vault and time: the same
//! engine, sessions and observers as in the real process, under a seeded
//! scheduler with virtual time. Checked are the invariants of the architecture
//! that concern secrets, leases and certificates; a failure prints its seed.
//!
//! `VTO_SIM_SEED=n` replays one seed with its whole trace, `VTO_SIM_RUNS=n` tries
//! that many, from `VTO_SIM_FIRST=n` on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api_server;
mod bites;
mod calm;
mod certificate_people;
mod certificate_random;
mod certificate_scripted;
mod certificates;
mod conformance;
mod consumers;
mod defects;
mod exhaustive;
mod isolation;
mod judge;
mod lease_defects;
mod lease_judge;
mod lease_numbers;
mod lease_people;
mod lease_random;
mod lease_scripted;
mod lease_verdict;
mod leases;
mod line;
mod living;
mod load;
mod managed;
mod moves;
mod objects;
mod operator;
mod paced;
mod paces;
mod ports;
mod random;
mod rng;
mod runs;
#[path = "../conformance/mod.rs"]
mod script;
mod scripted;
mod stricter;
mod targets;
mod tenant;
mod urgent;
mod vault;
mod vault_port;
mod verdict;
mod watches;
mod world;
