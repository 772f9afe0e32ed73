//! A process that is to take over: how it is started, what it says, how it is ended.

use rustix::process::{Pid, Signal, geteuid, kill_process};
use std::{
    collections::VecDeque,
    ffi::OsString,
    fmt, fs,
    io::{self, BufRead, BufReader, Write},
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

/// Set to the number of the process from which it takes over, for the one that does.
pub(super) const PREDECESSOR: &str = "CROSSFADE_TAKES_OVER_FROM";

/// What a service manager said to the old process and nobody else.
const NOT_FOR_IT: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// Lines of a failed process that are told.
const REMEMBERED: usize = 20;

/// The longest line that is told.
const LONGEST_LINE: usize = 1000;

/// How long what it has said last is waited for, once it has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(2);

/// Why a binary is not started.
#[derive(Debug)]
pub struct Unusable {
    path: PathBuf,
    why: &'static str,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be started: {}", self.path.display(), self.why)
    }
}

/// Whoever can ask for an upgrade shall not be able to start what somebody else has put there.
///
/// # Errors
/// When the file is not one that this process's user, or root, has put there to be run.
pub(super) fn check(path: &Path) -> Result<(), Unusable> {
    let unusable = |why| Err(Unusable { path: path.to_owned(), why });
    if !path.is_absolute() {
        return unusable("name it by its absolute path");
    }
    let Ok(found) = fs::metadata(path) else {
        return unusable("there is no such file that crossfade could see");
    };
    if !found.is_file() || found.mode() & 0o111 == 0 {
        return unusable("it is no executable file");
    }
    if found.uid() != 0 && found.uid() != geteuid().as_raw() {
        return unusable("it belongs neither to root nor to the user that crossfade runs as");
    }
    if found.mode() & 0o002 != 0 {
        return unusable("everybody may write to it; take that permission away (chmod o-w)");
    }
    Ok(())
}

/// Ended when dropped, unless it is let go.
pub(super) struct Launched {
    child: Option<Child>,
    /// It may have something in flight.
    trusted: bool,
    said: Arc<Mutex<VecDeque<String>>>,
    silent: Option<oneshot::Receiver<()>>,
}

impl Launched {
    /// With the channel as its standard input. What it says on standard error is said here too, as long as it does not
    /// say it itself.
    pub(super) fn start(
        binary: &Path,
        arguments: &[OsString],
        channel: UnixStream,
    ) -> io::Result<Self> {
        let mut command = Command::new(binary);
        command
            .args(arguments)
            .env(PREDECESSOR, std::process::id().to_string())
            .stdin(OwnedFd::from(channel))
            .stderr(Stdio::piped());
        for name in NOT_FOR_IT {
            command.env_remove(name);
        }
        let mut child = command.spawn()?;
        let said = Arc::default();
        let silent = child.stderr.take().map(|stderr| listen_to(stderr, Arc::clone(&said)));
        Ok(Self { child: Some(child), trusted: false, said, silent })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Ends it; how it has ended if it did so by itself, and the last lines that it said. `closes`: it has closed the
    /// channel, and is about to end.
    pub(super) async fn end(mut self, closes: bool) -> (Option<ExitStatus>, Vec<String>) {
        if let Some(child) = self.child.as_mut().filter(|_| closes) {
            let ends = async {
                while matches!(child.try_wait(), Ok(None)) {
                    sleep(LOOK).await;
                }
            };
            // One that does not is ended like any other.
            let _ = timeout(LAST_WORDS, ends).await;
        }
        let status = self.child.as_mut().and_then(end);
        if let Some(silent) = self.silent.take() {
            // A process of its own may hold the pipe open: then that was all.
            let _ = timeout(LAST_WORDS, silent).await;
        }
        let said = std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner));
        (status, said.into())
    }

    /// It may be serving from now on: it is asked to end then.
    pub(super) fn is_trusted(&mut self) {
        self.trusted = true;
    }

    /// It goes on when this is gone.
    pub(super) fn let_go(mut self) -> Option<Child> {
        self.child.take()
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        match self.child.take() {
            Some(child) if self.trusted => {
                if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                    // An error means that it has ended.
                    let _ = kill_process(pid, Signal::TERM);
                }
            }
            Some(mut child) => drop(end(&mut child)),
            None => {}
        }
    }
}

/// Its status if it has ended by itself. It has nothing in flight: there is no reason to be gentle.
fn end(child: &mut Child) -> Option<ExitStatus> {
    let status = child.try_wait().ok().flatten();
    if status.is_none() {
        // An error means that it has ended just now.
        let _ = child.kill();
        let _ = child.wait();
    }
    status
}

/// Passes on what a process says, line by line, and keeps the last of it.
fn listen_to(stderr: ChildStderr, said: Arc<Mutex<VecDeque<String>>>) -> oneshot::Receiver<()> {
    let (silent, is_silent) = oneshot::channel();
    let listen = move || {
        let mut lines = BufReader::new(stderr);
        let mut line = Vec::new();
        while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
            // Nobody else could be told.
            let _ = io::stderr().lock().write_all(&line);
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end().chars().take(LONGEST_LINE).collect();
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.len() == REMEMBERED {
                said.pop_front();
            }
            said.push_back(text);
            line.clear();
        }
        let _ = silent.send(());
    };
    // Without a thread the pipe is closed, and what is said is lost.
    let _ = thread::Builder::new().name("upgrade-log".to_owned()).spawn(listen);
    is_silent
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_what_is_there_to_be_run_is_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("crossfade");
        let why = |path: &Path| check(path).err().map(|error| error.why.to_owned());
        let says = |path: &Path, part: &str| why(path).is_some_and(|why| why.contains(part));
        assert!(says(Path::new("crossfade"), "absolute"));
        assert!(says(&path, "no such file"));
        assert!(says(directory.path(), "no executable"));
        fs::write(&path, "").unwrap();
        let allow = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        allow(0o644);
        assert!(says(&path, "no executable"));
        allow(0o757);
        assert!(says(&path, "everybody may write"));
        allow(0o755);
        assert_eq!(why(&path), None);
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
            assert!(says(&path, "belongs neither"));
        }
    }

    #[tokio::test]
    async fn the_last_lines_of_a_process_that_fails_are_known() {
        let (_here, there) = UnixStream::pair().unwrap();
        let script = "i=0; while [ $i -lt 30 ]; do echo line $i >&2; i=$((i+1)); done; \
            printf 'the end' >&2; exit 3";
        let arguments = ["-c".into(), script.into()];
        let mut launched = Launched::start(Path::new("/bin/sh"), &arguments, there).unwrap();
        let silent = launched.silent.take().unwrap();
        silent.await.unwrap();
        let (status, said) = launched.end(true).await;
        assert_eq!(status.unwrap().code(), Some(3));
        assert_eq!((said.len(), &*said[0], &*said[19]), (20, "line 11", "the end"));
    }

    #[test]
    fn who_is_not_let_go_ends() {
        let (_here, there) = UnixStream::pair().unwrap();
        let launched = Launched::start(Path::new("/bin/sleep"), &["1000".into()], there).unwrap();
        let id = launched.id();
        assert!(Path::new(&format!("/proc/{id}")).exists());
        drop(launched);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }
}
