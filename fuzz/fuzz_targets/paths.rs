//! Paths of secrets against the guardrails' lists: see `../paths.rs`.
#![no_main]

#[path = "../paths.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|text: &str| {
    property::check(&property::Asked::parse(text));
});
