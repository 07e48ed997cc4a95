//! The ground.
