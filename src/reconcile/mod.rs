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

mod decide;
mod engine;
mod fields;
mod finalizers;
pub mod kept;
pub mod observe;
pub mod ports;
mod queue;
mod references;
mod report;
mod report_static;
mod resolve;
mod restart;
mod slots;
mod sources;
mod state;
mod static_secret;
mod stores;
mod term;
mod time;
pub mod view;
mod wake;
mod workload;
mod write;

pub use engine::{Engine, Next, Parts};
pub use fields::digest_of_managed;
pub use queue::{Queue, Urgency, WorkKey};
pub use state::PREFIX;
pub use term::Succession;
