//! Reads a growing log of JSON lines bit by bit, each line once.
//!
//! A half last line is left for the next look. A log that was rotated, cut or is missing is an error: counts over a part
//! of the requests would be worse than none.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The pause between two looks while waiting.
const PAUSE: Duration = Duration::from_millis(20);

/// A place in the order of a log's requests, taken with `mark()`; what comes later is "since" it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub(super) usize);

/// What a log's lines are gathered into, one entry a request.
pub(super) trait Ledger: Default {
    type Entry: Clone + std::fmt::Debug;

    /// Takes one line (without its end).
    fn take(&mut self, line: &[u8]) -> Result<()>;

    /// All entries in the order of their first line.
    fn entries(&self) -> &[Self::Entry];
}

/// A log and what was read of it so far.
pub(super) struct Followed<L> {
    path: PathBuf,
    read: Mutex<Read<L>>,
}

#[derive(Default)]
struct Read<L> {
    offset: u64,
    lines: usize,
    inode: Option<u64>,
    ledger: L,
}

impl<L: Ledger> Followed<L> {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            read: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what is new and returns the place behind it.
    pub(super) fn mark(&self) -> Result<Mark> {
        Ok(Mark(self.catch_up()?.ledger.entries().len()))
    }

    /// Reads what is new and returns all entries since a mark that are wanted.
    pub(super) fn find(
        &self,
        since: Mark,
        wanted: impl Fn(&L::Entry) -> bool,
    ) -> Result<Vec<L::Entry>> {
        let read = self.catch_up()?;
        Ok(read
            .ledger
            .entries()
            .iter()
            .skip(since.0)
            .filter(|entry| wanted(entry))
            .cloned()
            .collect())
    }

    /// Waits until at least `n` wanted entries are there.
    pub(super) async fn wait(
        &self,
        since: Mark,
        n: usize,
        deadline: Duration,
        wanted: impl Fn(&L::Entry) -> bool,
    ) -> Result<Vec<L::Entry>> {
        let start = Instant::now();
        loop {
            let found = self.find(since, &wanted)?;
            if found.len() >= n {
                return Ok(found);
            }
            if start.elapsed() >= deadline {
                bail!(
                    "{} shows {} of the {n} requests waited for after {deadline:?}; the last of them: {:?}",
                    self.path.display(),
                    found.len(),
                    found.last()
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until no wanted entry has been added for `quiet`, and returns them all.
    pub(super) async fn settle(
        &self,
        since: Mark,
        quiet: Duration,
        deadline: Duration,
        wanted: impl Fn(&L::Entry) -> bool,
    ) -> Result<Vec<L::Entry>> {
        let start = Instant::now();
        let mut seen = self.find(since, &wanted)?;
        let mut grew = Instant::now();
        while grew.elapsed() < quiet {
            if start.elapsed() >= deadline {
                bail!(
                    "{} didn't come to rest within {deadline:?}: {} requests and still growing; the last: {:?}",
                    self.path.display(),
                    seen.len(),
                    seen.last()
                );
            }
            tokio::time::sleep(PAUSE).await;
            let now = self.find(since, &wanted)?;
            if now.len() != seen.len() {
                grew = Instant::now();
            }
            seen = now;
        }
        Ok(seen)
    }

    fn catch_up(&self) -> Result<MutexGuard<'_, Read<L>>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.catch_up(&self.path)
            .with_context(|| format!("the log {}", self.path.display()))?;
        Ok(read)
    }
}

impl<L: Ledger> Read<L> {
    fn catch_up(&mut self, path: &Path) -> Result<()> {
        let file =
            File::open(path).context("can't be opened; is the server that writes it started?")?;
        let metadata = file.metadata()?;
        let same =
            self.inode.is_none_or(|inode| inode == metadata.ino()) && metadata.len() >= self.offset;
        ensure!(
            same,
            "was rotated or cut, so requests are missing; let its server write one file without a size limit"
        );
        self.inode = Some(metadata.ino());

        let mut lines = BufReader::new(file);
        lines.seek(SeekFrom::Start(self.offset))?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = lines.read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                return Ok(());
            }
            self.offset += length as u64;
            self.lines += 1;
            let text = line.trim_ascii();
            if !text.is_empty() {
                self.ledger
                    .take(text)
                    .with_context(|| format!("line {} can't be read", self.lines))?;
            }
        }
    }
}
