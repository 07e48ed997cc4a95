//! Logs and metrics.

mod lives;
mod logs;
mod metrics;
mod world;

pub use lives::{Life, Lives};
pub use logs::init as init_logs;
pub use metrics::Metrics;
pub use world::{Counts, World};
