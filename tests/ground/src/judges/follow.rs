//! Reads a growing log of JSON lines bit by bit, each line once.
//!
//! A half last line is left for the next look. A log that was rotated, cut or is missing is an error: counts over a part
//! of the requests would be worse than none.

use std::fmt::Debug;
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

/// What a kind of log holds: how its lines become entries, one a request, and how they are filtered.
pub trait Ledger: Default {
    /// One request.
    type Entry: Clone + Debug;
    /// Conditions on requests.
    type Filter;

    /// Takes one line (without its end).
    ///
    /// # Errors
    /// When the line isn't of this kind of log.
    fn take(&mut self, line: &[u8]) -> Result<()>;

    /// All entries in the order of their first line.
    fn entries(&self) -> &[Self::Entry];

    /// Whether an entry meets all conditions of a filter but its mark.
    fn meets(filter: &Self::Filter, entry: &Self::Entry) -> bool;

    /// The mark from which on a filter looks.
    fn since(filter: &Self::Filter) -> Mark;
}

/// A log, followed as it grows. Share it: each line is read once.
pub struct Log<L> {
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

impl<L: Ledger> Log<L> {
    /// Follows the log at `path`, which need not exist before the first look.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            read: Mutex::default(),
        }
    }

    /// The log's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The present end of the log; a filter's `since` looks at what comes later.
    ///
    /// # Errors
    /// As for [`Log::requests`].
    pub fn mark(&self) -> Result<Mark> {
        Ok(Mark(self.catch_up()?.ledger.entries().len()))
    }

    /// All matching requests in the order of their first line.
    ///
    /// # Errors
    /// When the log is missing, was rotated, or holds a line that isn't of its kind.
    pub fn requests(&self, filter: &L::Filter) -> Result<Vec<L::Entry>> {
        let read = self.catch_up()?;
        let entries = read.ledger.entries().iter().skip(L::since(filter).0);
        Ok(entries
            .filter(|entry| L::meets(filter, entry))
            .cloned()
            .collect())
    }

    /// How many match.
    ///
    /// # Errors
    /// As for [`Log::requests`].
    pub fn count(&self, filter: &L::Filter) -> Result<usize> {
        Ok(self.requests(filter)?.len())
    }

    /// Waits until at least `n` match, and returns them.
    ///
    /// # Errors
    /// After `deadline`, with the count and the last of them; else as for [`Log::requests`].
    pub async fn wait_for(
        &self,
        filter: &L::Filter,
        n: usize,
        deadline: Duration,
    ) -> Result<Vec<L::Entry>> {
        let start = Instant::now();
        loop {
            let found = self.requests(filter)?;
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

    /// Waits until no match has been added for `quiet`, and returns all of them.
    ///
    /// # Errors
    /// When they still grow at `deadline`; else as for [`Log::requests`].
    pub async fn settle(
        &self,
        filter: &L::Filter,
        quiet: Duration,
        deadline: Duration,
    ) -> Result<Vec<L::Entry>> {
        let start = Instant::now();
        let mut seen = self.requests(filter)?;
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
            let now = self.requests(filter)?;
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
            let text = line.trim_ascii();
            if !text.is_empty() {
                self.ledger
                    .take(text)
                    .with_context(|| format!("line {} can't be read", self.lines + 1))?;
            }
            // Only now: a bad line stays an error at every later look.
            self.offset += length as u64;
            self.lines += 1;
        }
    }
}
