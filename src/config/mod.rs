//! The operator's own configuration: `defaults < files < VTO_* environment <
//! command line` become one validated [`Config`], or the list of all that is
//! wrong with layer, file and key. Nothing else in the operator reads an
//! environment variable or a configuration file.

pub mod address;
pub mod duration;
mod sections;
mod values;

pub use sections::{Backoff, Config, ConnectionDefaults, PolicyRules, Rollout, Sync, Telemetry};
pub use values::{
    AuthMethod, BindAddress, LogFormat, LogLevel, NamePattern, PathPrefix, WorkloadKind,
    canonical_path,
};
