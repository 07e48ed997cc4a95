//! The ground.
pub mod faults;
pub mod judges;
