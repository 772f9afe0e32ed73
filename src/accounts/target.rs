//! Where the lines of the access log go.

use crate::spec::LogTarget;
use rustix::{
    fd::{AsFd, BorrowedFd},
    io::{Errno, write},
    stdio,
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

/// For whom a file is that is made.
const MODE: u32 = 0o640;

/// How often it is looked whether the file is still the one of its name.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is said that nothing can be written.
const COMPLAINT: Duration = Duration::from_secs(60);

/// How long who does not take more is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Target {
    to: LogTarget,
    open: Option<Open>,
    /// The last line was cut short.
    is_torn: bool,
    complained: Option<Instant>,
    lost: u64,
}

struct Open {
    file: File,
    /// Which file it is, whatever its name is by now.
    identity: (u64, u64),
    looked: Instant,
}

impl Target {
    pub(super) fn new(to: &LogTarget) -> Self {
        Self { to: to.clone(), open: None, is_torn: false, complained: None, lost: 0 }
    }

    /// A file is opened anew with the next line.
    pub(super) fn reopen(&mut self) {
        self.open = None;
    }

    /// Writes whole lines, `all` of them; says how many were written, and how many could not be.
    pub(super) fn write(&mut self, text: &[u8], all: u64) -> (u64, u64) {
        let mut written = 0;
        if let Err(error) = self.try_write(text, &mut written) {
            self.is_torn = written > 0 && text.get(written - 1) != Some(&b'\n');
            self.open = None;
            let done = text[..written].iter().filter(|byte| **byte == b'\n').count() as u64;
            self.complain(&error, all - done);
            return (done, all - done);
        }
        if self.lost > 0 {
            tracing::info!(lost = self.lost, "the access log is written again");
            (self.lost, self.complained) = (0, None);
        }
        (all, 0)
    }

    fn complain(&mut self, error: &io::Error, lost: u64) {
        self.lost += lost;
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAINT) {
            self.complained = Some(Instant::now());
            let to = match &self.to {
                LogTarget::Stdout => "stdout".into(),
                LogTarget::Stderr => "stderr".into(),
                LogTarget::File(path) => path.display().to_string(),
            };
            tracing::error!(%error, to, lost = self.lost, "the access log cannot be written");
        }
    }

    fn try_write(&mut self, text: &[u8], written: &mut usize) -> io::Result<()> {
        let path = match &self.to {
            LogTarget::Stdout => return write_all(stdio::stdout(), text, written),
            LogTarget::Stderr => return write_all(stdio::stderr(), text, written),
            LogTarget::File(path) => path,
        };
        if self.open.as_mut().is_none_or(|open| open.has_left(path)) {
            self.open = Some(Open::at(path)?);
        }
        let Some(open) = &self.open else { return Err(io::ErrorKind::NotFound.into()) };
        if self.is_torn {
            write_all(open.file.as_fd(), b"\n", &mut 0)?;
            self.is_torn = false;
        }
        write_all(open.file.as_fd(), text, written)
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { file, identity, looked: Instant::now() })
    }

    /// Another file has its name, or none: who has moved it away may have told another process than this one.
    fn has_left(&mut self, path: &Path) -> bool {
        if self.looked.elapsed() < LOOK {
            return false;
        }
        self.looked = Instant::now();
        fs::metadata(path).map(|it| (it.dev(), it.ino())).ok() != Some(self.identity)
    }
}

fn write_all(to: BorrowedFd<'_>, text: &[u8], written: &mut usize) -> io::Result<()> {
    let mut waits_since = None;
    while *written < text.len() {
        match write(to, &text[*written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                *written += n;
                waits_since = None;
            }
            Err(Errno::INTR) => {}
            // Somebody shares it who does not wait.
            Err(Errno::AGAIN)
                if waits_since.get_or_insert_with(Instant::now).elapsed() < PATIENCE =>
            {
                sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_costs_lines_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/access.log");
        let mut target = Target::new(&LogTarget::File(path.clone().into()));
        assert_eq!(target.write(b"a\nb\n", 2), (0, 2));
        fs::create_dir(folder.path().join("deep")).unwrap();
        assert_eq!(target.write(b"c\n", 1), (1, 0));
        assert_eq!(fs::read_to_string(&path).unwrap(), "c\n");
        // The device that is always full.
        let mut full = Target::new(&LogTarget::File(Path::new("/dev/full").into()));
        assert_eq!(full.write(b"a\n", 1), (0, 1));
    }

    #[test]
    fn it_is_opened_anew_on_request() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("old.log"));
        let mut target = Target::new(&LogTarget::File(path.clone().into()));
        target.write(b"a\n", 1);
        fs::rename(&path, &moved).unwrap();
        target.write(b"b\n", 1);
        target.reopen();
        target.write(b"c\n", 1);
        assert_eq!(fs::read_to_string(&moved).unwrap(), "a\nb\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "c\n");
        // Nobody has said so, but it is seen.
        fs::rename(&path, &moved).unwrap();
        target.open.as_mut().unwrap().looked -= LOOK;
        target.write(b"d\n", 1);
        assert_eq!(fs::read_to_string(&path).unwrap(), "d\n");
    }

    #[test]
    fn a_line_that_was_cut_short_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        fs::write(&path, "half").unwrap();
        let mut target = Target::new(&LogTarget::File(path.clone().into()));
        target.is_torn = true;
        assert_eq!(target.write(b"a\n", 1), (1, 0));
        assert_eq!(fs::read_to_string(&path).unwrap(), "half\na\n");
    }
}
