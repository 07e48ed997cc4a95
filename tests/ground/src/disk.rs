//! A full disk can stop any step; this says so in one sentence, whichever step it was.
//!
//! It looks at what failed and at the logs of what was started, and changes nothing.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::Error;

/// What to do about it; [`crate::go_build`] says the same.
pub(crate) const FULL: &str = "The disk is full: free about 6 GB in Go's caches (go env GOCACHE GOMODCACHE) and in the \
                               target folder, then run again";

/// What systems and programs write then, in small letters.
pub(crate) const SIGNS: [&str; 2] = ["no space left on device", "disk quota exceeded"];

/// How many lines at the end of a log are looked at.
const LAST_LINES: usize = 40;

/// Puts the sentence before an error whose cause is a full disk.
pub(crate) fn name_if_full(error: Error) -> Error {
    let by_kind = error.chain().any(|cause| {
        let cause = cause.downcast_ref::<std::io::Error>();
        cause.is_some_and(|cause| {
            [ErrorKind::StorageFull, ErrorKind::QuotaExceeded].contains(&cause.kind())
        })
    });
    let text = format!("{error:#}");
    if (by_kind || tells(&text)) && !text.contains(FULL) {
        error.context(FULL)
    } else {
        error
    }
}

/// The same, also when only a log in this folder tells it.
pub(crate) fn name_if_full_in(error: Error, logs: &Path) -> Error {
    let error = name_if_full(error);
    if !format!("{error:#}").contains(FULL) && a_log_tells(logs) {
        return error.context(FULL);
    }
    error
}

fn tells(text: &str) -> bool {
    let text = text.to_lowercase();
    SIGNS.iter().any(|sign| text.contains(sign))
}

fn a_log_tells(folder: &Path) -> bool {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut logs = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.any(|log| {
        let text = std::fs::read(log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().rev().take(LAST_LINES).any(tells)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use anyhow::{Context, anyhow};

    use super::*;

    fn starts_with_the_sentence(error: &Error) -> bool {
        format!("{error:#}").starts_with(FULL)
    }

    #[test]
    fn a_full_disk_is_named_by_kind_and_by_text_once() {
        let failed = Err::<(), _>(std::io::Error::from(ErrorKind::StorageFull));
        let by_kind = name_if_full(failed.context("can't make /a").unwrap_err());
        assert!(starts_with_the_sentence(&by_kind), "{by_kind:#}");
        assert!(format!("{by_kind:#}").contains("can't make /a"));
        let by_text = anyhow!("etcd ended.\nwrite /wal: No space left on device");
        let by_text = name_if_full(name_if_full(by_text));
        assert!(starts_with_the_sentence(&by_text), "{by_text:#}");
        assert_eq!(format!("{by_text:#}").matches(FULL).count(), 1);
        let other = name_if_full(anyhow!("permission denied"));
        assert_eq!(format!("{other:#}"), "permission denied");
    }

    #[test]
    fn a_log_alone_tells_it() {
        let folder = tempfile::tempdir().unwrap();
        let failed = || anyhow!("the API server does not answer");
        let log = folder.path().join("etcd.log");
        std::fs::write(&log, "panic: write: no space left on device\n").unwrap();
        let named = name_if_full_in(failed(), folder.path());
        assert!(starts_with_the_sentence(&named), "{named:#}");
        let (old, new) = ("no space left on device\n", "all is well\n".repeat(100));
        std::fs::write(&log, format!("{old}{new}")).unwrap();
        let other = name_if_full_in(failed(), folder.path());
        assert!(!starts_with_the_sentence(&other), "an old line: {other:#}");
    }
}
