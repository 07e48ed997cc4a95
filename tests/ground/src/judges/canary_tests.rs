#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Child, Command};

use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::*;

/// Bytes that each encoding changes.
const VALUE: &str = "c4n\"ry/ ?>~\u{fc}+xyz";

fn canary() -> Canary {
    Canary::new(VALUE).unwrap()
}

fn forms_in(text: &str) -> Vec<String> {
    canary()
        .in_text("text", text)
        .into_iter()
        .map(|finding| finding.form)
        .collect()
}

#[test]
fn finds_each_form() {
    assert_eq!(forms_in(&format!("password={VALUE};")), ["raw"]);
    assert_eq!(
        forms_in(&serde_json::json!({ "password": VALUE }).to_string()),
        ["json"]
    );
    assert_eq!(
        forms_in(r#"{"password":"c4n\"ry\/ ?>~ü+xyz"}"#),
        ["json, solidus escaped"]
    );
    assert_eq!(
        forms_in("c4n%22ry%2F%20%3F%3E~%C3%BC%2Bxyz"),
        ["percent-encoded"]
    );
    assert_eq!(
        forms_in("c4n%22ry%2f%20%3f%3e~%c3%bc%2bxyz"),
        ["percent-encoded, lower case"]
    );
    assert_eq!(
        forms_in("c4n%22ry%2F+%3F%3E~%C3%BC%2Bxyz"),
        ["form-encoded"]
    );
    let hex: String = VALUE.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(forms_in(&hex), ["hex"]);
    assert_eq!(forms_in(&hex.to_uppercase()), ["hex, upper case"]);
}

#[test]
fn finds_base64_at_every_alignment_and_whatever_stands_around() {
    for before in ["", "a", "bc", "def", "ghij"] {
        for after in ["", "k", "lm", "nop"] {
            let text = format!("{before}{VALUE}{after}");
            for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text)] {
                let found = forms_in(&format!("data: {encoded}\n"));
                assert!(!found.is_empty(), "{text:?} as {encoded}");
                assert!(
                    found.iter().all(|form| form.starts_with("base64")),
                    "{found:?}"
                );
            }
        }
    }
}

#[test]
fn finds_nothing_in_clean_text_and_refuses_short_values() {
    assert_eq!(
        forms_in("c4n\"ry, but not the whole; YzRuInJ5"),
        Vec::<String>::new()
    );
    assert!(
        Canary::new("hunter2")
            .err()
            .unwrap()
            .to_string()
            .contains("at least 12 bytes")
    );
}

#[test]
fn searches_folders_across_pieces_and_names_file_and_offset() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    fs::create_dir(&logs).unwrap();
    fs::write(logs.join("clean.log"), vec![b'x'; PIECE + 10]).unwrap();
    assert_eq!(canary().in_files(folder.path()).unwrap(), []);

    // Across the border of two pieces, and once more at the very end.
    let offset = PIECE - 5;
    let mut text = vec![b'x'; offset];
    text.extend_from_slice(VALUE.as_bytes());
    text.extend(vec![b'x'; PIECE]);
    text.extend_from_slice(VALUE.as_bytes());
    let end = (text.len() - VALUE.len()) as u64;
    let path = logs.join("operator.log");
    fs::write(&path, text).unwrap();
    let found = canary().in_files(folder.path()).unwrap();
    let places: Vec<_> = found.iter().map(|finding| finding.place.clone()).collect();
    assert_eq!(
        places,
        [
            Place::File(path.clone(), offset as u64),
            Place::File(path, end)
        ]
    );
    assert!(
        found[0].to_string().contains("raw in ")
            && found[0].to_string().contains("operator.log at byte")
    );
    canary().in_files(&logs.join("missing")).unwrap_err();
}

/// A process that ends with the test.
struct Sleeper(Child);

impl Sleeper {
    fn with(variable: &str) -> Self {
        let child = Command::new("sleep")
            .arg("60")
            .env("PLANTED", variable)
            .spawn()
            .unwrap();
        // The kernel lays the environment out in exec; before that the child is a copy of this process.
        let exec = format!("/proc/{}/comm", child.id());
        let start = std::time::Instant::now();
        while fs::read_to_string(&exec).unwrap() != "sleep\n" {
            assert!(start.elapsed().as_secs() < 10, "the child doesn't start");
        }
        Self(child)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn finds_a_value_in_the_memory_of_another_process() {
    let planted = Sleeper::with(VALUE);
    let found = canary().in_process(planted.0.id()).unwrap();
    let in_stack = |finding: &Finding| matches!(&finding.place, Place::Memory(mapping, _) if mapping == "[stack]");
    assert!(
        found
            .iter()
            .any(|finding| finding.form == "raw" && in_stack(finding)),
        "{found:?}"
    );
    let clean = Sleeper::with("nothing");
    assert_eq!(canary().in_process(clean.0.id()).unwrap(), []);
}

#[test]
fn finds_a_value_in_the_heap_of_this_process() {
    let canary = canary();
    let block = std::hint::black_box([vec![b'x'; 3 * PIECE], VALUE.as_bytes().to_vec()].concat());
    let address = block.as_ptr() as u64 + 3 * PIECE as u64;
    let found = canary.in_process(std::process::id()).unwrap();
    assert!(
        found
            .iter()
            .any(|finding| matches!(finding.place, Place::Memory(_, at) if at == address))
    );
    drop(block);
}

#[test]
fn memory_that_cannot_be_read_is_an_error() {
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    canary().in_process(gone.id()).unwrap_err();
}

#[test]
fn reads_lines_of_the_memory_map() {
    let named = Mapping::readable(
        "7ffd1000-7ffd3000 rw-p 00000000 00:00 0                          [stack]",
    )
    .unwrap();
    assert_eq!(
        (named.start, named.end, named.name),
        (0x7ffd_1000, 0x7ffd_3000, "[stack]")
    );
    let file = Mapping::readable(
        "7f00-7f10 r-xp 00001000 08:01 1234567                    /usr/lib/a b.so",
    )
    .unwrap();
    assert_eq!(file.name, "/usr/lib/a b.so");
    assert_eq!(
        Mapping::readable("7f00-7f10 rw-p 00000000 00:00 0 ")
            .unwrap()
            .name,
        "7f00-7f10"
    );
    assert!(Mapping::readable("7f00-7f10 ---p 00000000 00:00 0 ").is_none());
    assert!(Mapping::readable("7f00-7f10 r--p 00000000 00:00 0    [vvar]").is_none());
}
