//! Logs and metrics.

mod accept;
mod labels;
mod lanes;
mod lives;
mod logs;
mod metrics;
mod process;
mod series;
mod world;

pub use lanes::Lanes;
pub use lives::{Life, Lives};
pub use logs::init as init_logs;
pub use metrics::Metrics;
pub use series::Series;
pub use world::{Counts, World};
