//! Searches for a planted secret in all that a process wrote and in its memory.
//!
//! It looks for the value as it is and as it would appear encoded: base64 (at each of the three alignments within a longer
//! text, both alphabets), hex, JSON-escaped and percent-encoded. Compressed or encrypted text hides it: search only what
//! is stored plainly. A place that can't be read is an error, never "nothing found".

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem::Finder;

/// Shorter values would be found by chance.
const SHORTEST: usize = 12;
/// How much is read at a time.
const PIECE: usize = 1024 * 1024;
/// What can't be read at its beginning is passed over by this much.
const PAGE: u64 = 4096;

/// Where a canary was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file, at this offset.
    File(PathBuf, u64),
    /// In a text that the caller gave this label, at this offset.
    Text(String, u64),
    /// In a process's memory: the mapping (its name, or its range where it has none) and the address.
    Memory(String, u64),
}

/// One sighting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// In which form: `raw`, `base64`, `hex` and so on.
    pub form: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(path, offset) => {
                write!(f, "{} in {} at byte {offset}", self.form, path.display())
            }
            Place::Text(label, offset) => write!(f, "{} in {label} at byte {offset}", self.form),
            Place::Memory(mapping, address) => {
                write!(f, "{} in memory, {mapping} at {address:#x}", self.form)
            }
        }
    }
}

struct Form {
    name: String,
    finder: Finder<'static>,
}

/// A secret value that must not be found.
pub struct Canary {
    value: String,
    forms: Vec<Form>,
}

impl Canary {
    /// For this value. Give it some characters that encodings change (`"`, `/`, `+`, a space), and take care that nothing
    /// else contains it.
    ///
    /// # Errors
    /// When it has fewer than 12 bytes.
    pub fn new(value: impl Into<String>) -> Result<Self> {
        let value = value.into();
        ensure!(
            value.len() >= SHORTEST,
            "a canary needs at least {SHORTEST} bytes, else it is found by chance"
        );
        let forms = forms(&value).into_iter();
        let forms = forms
            .map(|(bytes, name)| Form {
                name,
                finder: Finder::new(&bytes).into_owned(),
            })
            .collect();
        Ok(Self { value, forms })
    }

    /// The value, to plant it.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Searches a text: events, a status, metrics. `label` says in findings what it is.
    pub fn in_text(&self, label: &str, text: impl AsRef<[u8]>) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.in_piece(
            text.as_ref(),
            0,
            |offset| Place::Text(label.to_owned(), offset),
            &mut findings,
        );
        findings
    }

    /// Searches a file, or every file below a folder. Links are not followed.
    ///
    /// # Errors
    /// When something there can't be read.
    pub fn in_files(&self, path: &Path) -> Result<Vec<Finding>> {
        let metadata = fs::symlink_metadata(path)
            .with_context(|| format!("{} can't be searched", path.display()))?;
        let mut findings = Vec::new();
        if metadata.is_dir() {
            let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
            entries.sort_by_key(fs::DirEntry::path);
            for entry in entries {
                findings.extend(self.in_files(&entry.path())?);
            }
        } else if metadata.is_file() {
            self.in_file(path, &mut findings)
                .with_context(|| format!("{} can't be searched", path.display()))?;
        }
        Ok(findings)
    }

    /// Searches all that a process can read in its own memory, its environment and stack included. Stop the process
    /// (SIGSTOP) for a picture of one moment: what moves during the search can be missed.
    ///
    /// # Errors
    /// When there is no such process, its memory may not be read (it must be of the same user and, under Yama, a
    /// descendant of the caller), or nothing of it could be read.
    pub fn in_process(&self, pid: u32) -> Result<Vec<Finding>> {
        let cannot = || {
            format!("the memory of process {pid} can't be searched; is it still there, and ours?")
        };
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).with_context(cannot)?;
        let memory = File::open(format!("/proc/{pid}/mem")).with_context(cannot)?;
        let mut findings = Vec::new();
        let mut searched = 0;
        for mapping in maps.lines().filter_map(Mapping::readable) {
            searched += self.in_mapping(&memory, &mapping, &mut findings);
        }
        if searched == 0 {
            bail!("nothing of the memory of process {pid} could be read; has it ended?");
        }
        Ok(findings)
    }

    fn in_file(&self, path: &Path, findings: &mut Vec<Finding>) -> Result<()> {
        let mut file = File::open(path)?;
        let mut window = Window::new(self, 0);
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            if file.by_ref().take(PIECE as u64).read_to_end(&mut piece)? == 0 {
                return Ok(());
            }
            window.search(
                &piece,
                |offset| Place::File(path.to_owned(), offset),
                findings,
            );
        }
    }

    /// Searches one mapping and returns how many bytes of it could be read. Pages that can't (guards, devices, a mapping
    /// that has just gone) are passed over: the process can't have a secret there.
    fn in_mapping(&self, memory: &File, mapping: &Mapping, findings: &mut Vec<Finding>) -> u64 {
        let mut piece = vec![0; PIECE];
        let mut window = Window::new(self, mapping.start);
        let mut searched = 0;
        let mut address = mapping.start;
        while address < mapping.end {
            let room = PIECE.min(usize::try_from(mapping.end - address).unwrap_or(PIECE));
            match memory.read_at(&mut piece[..room], address) {
                Ok(read) if read > 0 => {
                    window.search(
                        &piece[..read],
                        |at| Place::Memory(mapping.name.to_owned(), at),
                        findings,
                    );
                    searched += read as u64;
                    address += read as u64;
                }
                _ => {
                    address += PAGE - address % PAGE;
                    window = Window::new(self, address);
                }
            }
        }
        searched
    }

    fn in_piece(
        &self,
        bytes: &[u8],
        base: u64,
        place: impl Fn(u64) -> Place,
        findings: &mut Vec<Finding>,
    ) {
        for form in &self.forms {
            for offset in form.finder.find_iter(bytes) {
                let finding = Finding {
                    place: place(base + offset as u64),
                    form: form.name.clone(),
                };
                // Windows overlap.
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
    }
}

/// Search over a stream of pieces: the end of each is looked at again with the next, for what lies across the border.
struct Window<'a> {
    canary: &'a Canary,
    overlap: usize,
    /// The address of the first byte of `kept`.
    base: u64,
    kept: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(canary: &'a Canary, base: u64) -> Self {
        let longest = canary
            .forms
            .iter()
            .map(|form| form.finder.needle().len())
            .max()
            .unwrap_or_default();
        Self {
            canary,
            overlap: longest.saturating_sub(1),
            base,
            kept: Vec::new(),
        }
    }

    fn search(&mut self, piece: &[u8], place: impl Fn(u64) -> Place, findings: &mut Vec<Finding>) {
        self.kept.extend_from_slice(piece);
        self.canary.in_piece(&self.kept, self.base, place, findings);
        let done = self.kept.len().saturating_sub(self.overlap);
        self.kept.drain(..done);
        self.base += done as u64;
    }
}

/// A line of `/proc/PID/maps`, see proc(5).
struct Mapping<'a> {
    start: u64,
    end: u64,
    name: &'a str,
}

impl<'a> Mapping<'a> {
    /// None for what the process itself can't read, and for the kernel's own pages.
    fn readable(line: &'a str) -> Option<Self> {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        // Rights, offset, device and inode come before the name.
        let name = rest
            .splitn(5, ' ')
            .nth(4)
            .map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()).trim());
        let name = name.filter(|name| !name.is_empty()).unwrap_or(range);
        let kernel = name.starts_with("[vvar") || name == "[vsyscall]";
        let mapping = Self {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            name,
        };
        (rest.starts_with('r') && !kernel).then_some(mapping)
    }
}

/// All encodings of a value that differ, with their names.
fn forms(value: &str) -> BTreeMap<Vec<u8>, String> {
    let bytes = value.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let json = serde_json::Value::from(value).to_string();
    let mut named = vec![
        ("raw".to_owned(), value.to_owned()),
        ("json".to_owned(), json[1..json.len() - 1].to_owned()),
        (
            "json, solidus escaped".to_owned(),
            json[1..json.len() - 1].replace('/', "\\/"),
        ),
        ("hex".to_owned(), hex.clone()),
        ("hex, upper case".to_owned(), hex.to_uppercase()),
        ("percent-encoded".to_owned(), percent(bytes, "%20", false)),
        (
            "percent-encoded, lower case".to_owned(),
            percent(bytes, "%20", true),
        ),
        ("form-encoded".to_owned(), percent(bytes, "+", false)),
    ];
    for lead in 0..3 {
        named.push((
            format!("base64, offset {lead}"),
            base64_core(&STANDARD_NO_PAD, bytes, lead),
        ));
        named.push((
            format!("base64url, offset {lead}"),
            base64_core(&URL_SAFE_NO_PAD, bytes, lead),
        ));
    }
    let mut forms = BTreeMap::new();
    for (name, text) in named {
        forms.entry(text.into_bytes()).or_insert(name);
    }
    forms
}

/// The characters of base64 that depend on the value alone when it begins `lead` bytes (mod 3) into a longer text.
fn base64_core(engine: &impl Engine, bytes: &[u8], lead: usize) -> String {
    let text = engine.encode([&vec![0; lead][..], bytes].concat());
    // Each character holds 6 bits; the first that lies whole within the value, and the last.
    let first = (lead * 8).div_ceil(6);
    let end = (lead + bytes.len()) * 8 / 6;
    text[first..end].to_owned()
}

fn percent(bytes: &[u8], space: &str, lower: bool) -> String {
    let one = |&byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        b' ' => space.to_owned(),
        _ if lower => format!("%{byte:02x}"),
        _ => format!("%{byte:02X}"),
    };
    bytes.iter().map(one).collect()
}

#[cfg(test)]
#[path = "canary_tests.rs"]
mod tests;
