//! How to ask each secrets engine, and what its answer means: one file per
//! engine, nothing else knows them.

pub mod static_kv;
