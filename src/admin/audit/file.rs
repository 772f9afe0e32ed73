//! The file of the audit log: a thread of its own writes it, so that nobody waits for the disk.

use super::Entry;
use crate::spec::AuditFile;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

/// Lines that wait to be written. What comes beyond them is lost, and counted.
const WAITING: usize = 4096;

/// Bytes that are written at once.
const BATCH: usize = 256 << 10;

/// What is read of a file that was written before.
const TAIL: u64 = 1 << 20;

/// For whom the file is.
const MODE: u32 = 0o600;

enum Message {
    Line(String),
    /// Told when everything before is written.
    Flush(SyncSender<()>),
}

pub(super) struct Writer {
    messages: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl Writer {
    /// # Errors
    /// When the file cannot be opened, or there is no thread.
    pub(super) fn open(settings: &AuditFile) -> io::Result<Self> {
        let (messages, received) = mpsc::sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let mut log =
            Log { settings: settings.clone(), open: None, lost: lost.clone(), fails: false };
        log.reopen()?;
        thread::Builder::new().name("audit".to_owned()).spawn(move || log.run(&received))?;
        Ok(Self { messages, lost })
    }

    pub(super) fn write(&self, line: String) {
        if self.messages.try_send(Message::Line(line)).is_err()
            && self.lost.fetch_add(1, Ordering::Relaxed) == 0
        {
            tracing::error!("the audit log is written too slowly; entries are lost in its file");
        }
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn flush(&self, patience: Duration) {
        let (done, is_done) = mpsc::sync_channel(1);
        if self.messages.try_send(Message::Flush(done)).is_ok() {
            // Late or never: who waits has something else to do.
            let _ = is_done.recv_timeout(patience);
        }
    }
}

struct Log {
    settings: AuditFile,
    open: Option<Open>,
    lost: Arc<AtomicU64>,
    /// It is known already that nothing can be written.
    fails: bool,
}

struct Open {
    file: File,
    /// Which file it is, whatever its name is by now.
    identity: (u64, u64),
    size: u64,
}

impl Log {
    /// Until nobody can write any more.
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(first) = messages.recv() {
            let (mut text, mut lines, mut waiting) = (String::new(), 0, Vec::new());
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Line(line) => {
                        text.push_str(&line);
                        lines += 1;
                    }
                    Message::Flush(done) => waiting.push(done),
                }
                next = if text.len() < BATCH { messages.try_recv().ok() } else { None };
            }
            if lines > 0 {
                self.write(&text, lines);
            }
            for done in waiting {
                // Who has left needs no answer.
                let _ = done.try_send(());
            }
        }
    }

    fn write(&mut self, text: &str, lines: u64) {
        match self.try_write(text.as_bytes()) {
            Ok(()) if self.fails => {
                self.fails = false;
                tracing::info!("the audit log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.open = None;
                self.lost.fetch_add(lines, Ordering::Relaxed);
                if !self.fails {
                    self.fails = true;
                    let path = self.settings.path.display();
                    tracing::error!(%error, %path, "the audit log cannot be written; entries are lost in its file");
                }
            }
        }
    }

    fn try_write(&mut self, text: &[u8]) -> io::Result<()> {
        self.reopen()?;
        if self.open.as_ref().is_some_and(|open| open.is_full(text, &self.settings)) {
            rotate(&self.settings)?;
            self.reopen()?;
        }
        let open = self.open.as_mut().ok_or(io::ErrorKind::NotFound)?;
        if let Err(error) = open.file.write_all(text) {
            // No half of a line stays.
            let _ = open.file.set_len(open.size);
            return Err(error);
        }
        open.size += text.len() as u64;
        open.file.sync_data()
    }

    /// Opens the file unless it is the one that is open: somebody else may have moved it away.
    fn reopen(&mut self) -> io::Result<()> {
        let found = fs::metadata(&self.settings.path).ok().map(|it| (it.dev(), it.ino()));
        if self.open.as_ref().is_none_or(|open| Some(open.identity) != found) {
            self.open = Some(Open::at(&self.settings.path)?);
        }
        Ok(())
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        regular(path)?;
        let options = OpenOptions::new().read(true).append(true).create(true).mode(MODE).to_owned();
        let mut file = options.open(path)?;
        let about = file.metadata()?;
        let mut size = about.len();
        if size > 0 {
            // Whoever wrote before may have been killed within a line.
            let mut last = [0];
            file.seek(SeekFrom::Start(size - 1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        Ok(Self { file, identity: (about.dev(), about.ino()), size })
    }

    fn is_full(&self, text: &[u8], settings: &AuditFile) -> bool {
        self.size > 0 && self.size.saturating_add(text.len() as u64) > settings.max_bytes
    }
}

/// Opening a pipe could wait for ever.
fn regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(io::Error::other("it is not a regular file")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `audit.log` becomes `audit.log.1`, that `audit.log.2` and so on; the oldest goes.
fn rotate(settings: &AuditFile) -> io::Result<()> {
    if settings.keep == 0 {
        return fs::remove_file(&settings.path);
    }
    for number in (1..settings.keep).rev() {
        let moved = fs::rename(old(&settings.path, number), old(&settings.path, number + 1));
        moved.or_else(
            |error| {
                if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
            },
        )?;
    }
    fs::rename(&settings.path, old(&settings.path, 1))
}

fn old(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The last entries that were written before, the oldest first. A line that cannot be read is none.
///
/// # Errors
/// When there is a file that cannot be read.
pub(super) fn tail(settings: &AuditFile) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for path in [old(&settings.path, 1), settings.path.clone()] {
        regular(&path)?;
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        entries.extend(
            bytes
                .split(|byte| *byte == b'\n')
                .filter_map(|line| serde_json::from_slice::<Entry>(line).ok()),
        );
    }
    // Two processes may have written beside each other.
    entries.sort_by_key(|entry| entry.id);
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::{super::Event, *};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tempfile::TempDir;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn settings(folder: &TempDir, max_bytes: u64, keep: u32) -> AuditFile {
        AuditFile { path: folder.path().join("audit.log"), max_bytes, keep }
    }

    fn write(writer: &Writer, text: &str) {
        writer.write(format!("{text}\n"));
        writer.flush(PATIENCE);
    }

    fn read(folder: &TempDir, name: &str) -> String {
        fs::read_to_string(folder.path().join(name)).unwrap_or_default()
    }

    #[test]
    fn lines_are_added_and_the_file_is_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder, 1000, 1);
        let writer = Writer::open(&settings).unwrap();
        let mode = fs::metadata(&settings.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        write(&writer, "one");
        drop(writer);
        fs::write(&settings.path, "one\nhalf").unwrap();
        write(&Writer::open(&settings).unwrap(), "two");
        assert_eq!(read(&folder, "audit.log"), "one\nhalf\ntwo\n");
    }

    #[test]
    fn a_full_file_makes_room_and_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::open(&settings(&folder, 10, 2)).unwrap();
        for line in ["11111", "22222", "33333", "44444", "a line that is longer than a whole file"]
        {
            write(&writer, line);
        }
        assert_eq!(read(&folder, "audit.log"), "a line that is longer than a whole file\n");
        assert_eq!(read(&folder, "audit.log.1"), "44444\n");
        assert_eq!(read(&folder, "audit.log.2"), "33333\n");
        assert!(!folder.path().join("audit.log.3").exists());
        assert_eq!(writer.lost(), 0);
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::open(&settings(&folder, 10, 0)).unwrap();
        ["11111", "22222"].iter().for_each(|line| write(&writer, line));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(read(&folder, "audit.log"), "22222\n");
    }

    #[test]
    fn a_file_that_somebody_moved_away_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::open(&settings(&folder, 1000, 1)).unwrap();
        write(&writer, "one");
        fs::rename(folder.path().join("audit.log"), folder.path().join("theirs")).unwrap();
        write(&writer, "two");
        assert_eq!(
            (read(&folder, "theirs"), read(&folder, "audit.log")),
            ("one\n".into(), "two\n".into())
        );
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_a_better_time_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let within = folder.path().join("within");
        fs::create_dir(&within).unwrap();
        let settings = AuditFile { path: within.join("audit.log"), max_bytes: 1000, keep: 1 };
        let writer = Writer::open(&settings).unwrap();
        fs::remove_dir_all(&within).unwrap();
        write(&writer, "one");
        write(&writer, "two");
        assert_eq!(writer.lost(), 2);
        fs::create_dir(&within).unwrap();
        write(&writer, "three");
        assert_eq!((writer.lost(), read(&folder, "within/audit.log")), (2, "three\n".into()));
    }

    #[test]
    fn only_a_regular_file_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let settings = AuditFile { path: folder.path().join("device"), max_bytes: 1000, keep: 1 };
        symlink("/dev/null", &settings.path).unwrap();
        assert!(Writer::open(&settings).is_err());
        assert!(tail(&settings).is_err());
    }

    #[test]
    fn the_end_of_what_was_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder, 1000, 1);
        assert!(tail(&settings).unwrap().is_empty(), "nothing was written");
        let line =
            |id| serde_json::to_string(&Entry { id, ..Entry::new(Event::ChangeMade) }).unwrap();
        fs::write(old(&settings.path, 1), format!("{}\n", line(1))).unwrap();
        let text = format!("{}\nnonsense\n{{\"id\":1}}\n{}\n{{\"id\": 4, \"ev", line(2), line(3));
        fs::write(&settings.path, text).unwrap();
        let ids: Vec<u64> = tail(&settings).unwrap().iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [1, 2, 3]);
    }
}
