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
mod claims;
mod decide;
mod engine;
mod fields;
mod finalizers;
mod fits;
pub mod kept;
pub mod observe;
mod ownership;
mod parting;
pub mod ports;
mod queue;
mod references;
mod replace;
mod report;
mod report_plain;
mod report_static;
mod resolve;
mod restart;
mod slots;
mod sources;
mod state;
mod static_secret;
mod stores;
mod strays;
mod term;
mod time;
pub mod view;
mod wake;
mod workload;
mod write;

pub use engine::{Engine, Next, Parts};
pub use fields::{digest_of_managed, owns_data};
pub use queue::{Queue, Urgency, WorkKey};
#[doc(hidden)] // For fuzz/paths.rs: what a spec asks for.
pub use sources::static_kv::request as static_read;
pub use state::PREFIX;
pub use term::Succession;
