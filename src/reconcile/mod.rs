//! The pipeline, once for all kinds:
//!
//! ```text
//! queue -> resolve -> permit -> observe -> decide -> fetch -> render -> write -> report
//!          (view)     (policy)  (view)     (pure)    (vault)  (pure)    (cluster, fenced)
//!                                             ^__________ decide again ________|
//! ```
//!
//! `decide` and `restart` are pure; everything else is one async function over
//! two ports and a clock. What matters is always computed from the cluster's
//! state; memory only saves requests.

pub mod adopt;
pub mod another;
mod breaker;
mod certificate_report;
mod claims;
mod consumers;
mod decide;
mod discovery;
mod drift;
mod due;
mod engine;
mod fields;
mod finalizers;
mod fits;
mod former;
mod gone_source;
mod grants;
mod index;
pub mod kept;
mod lacking;
mod lease_report;
pub mod ledger;
mod lifetime;
mod logins;
mod meaning;
mod minting;
pub mod observe;
mod observer;
mod outbox;
mod overrides;
mod ownership;
mod pace;
mod pacing;
mod parents;
mod parting;
pub mod ports;
mod pruned;
mod queue;
mod references;
mod renewal;
mod repeats;
mod replace;
mod report;
mod report_plain;
mod report_secret;
mod resolve;
mod restart;
mod retry;
mod rotation;
mod secret;
mod selection;
mod series;
mod sight;
mod slots;
pub mod sources;
mod state;
pub mod stores;
mod strays;
mod target_report;
mod term;
mod time;
pub mod view;
mod wake;
mod wanted;
mod workload;
mod workloads;
mod world;
mod write;

pub use engine::{Engine, Next, Parts};
pub use fields::{digest_of_managed, owns_data};
pub use queue::{Lane, Queue, Urgency, WorkKey};
pub use resolve::{Scope, asked, connection};
pub use selection::discovers;
pub use slots::Slots;
#[doc(hidden)] // For fuzz/paths.rs: what a spec asks for.
pub use sources::static_kv::request as static_read;
pub use state::{PREFIX, RESTARTED_AT, is_of_template};
pub use term::Succession;
pub use time::fraction;

/// The operator as a whole, among field managers and in events.
pub const CONTROLLER: &str = "vault-tenant-operator";
