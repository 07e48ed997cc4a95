//! A terminal for a program that shows more on one than elsewhere: what it writes
//! there can be read.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// What a program has written to its terminal so far.
pub struct Terminal {
    text: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Makes a terminal of so many rows, to which the command's standard output and standard error go once it is started.
    ///
    /// # Errors
    /// The system gives no terminal.
    pub fn of(command: &mut Command, rows: u16) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let size = Winsize {
            ws_row: rows,
            ws_col: 200,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size)?;
        let name = ptsname(&master, Vec::new())?;
        let slave = File::options()
            .read(true)
            .write(true)
            .open(OsStr::from_bytes(name.as_bytes()))?;
        command
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(Stdio::from(slave));
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let into = Arc::clone(&text);
        std::thread::spawn(move || {
            let mut master = File::from(master);
            let mut part = [0; 4096];
            // It ends with an error once nobody has the other side any more.
            while let Ok(read @ 1..) = master.read(&mut part) {
                let mut text = into.lock().unwrap_or_else(PoisonError::into_inner);
                text.extend_from_slice(&part[..read]);
            }
        });
        Ok(Self { text })
    }

    /// All that was written so far.
    #[must_use]
    pub fn text(&self) -> String {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).into_owned()
    }
}
