//! As the first process of a container we are the parent of every process that has lost its own, and when we end all
//! of them do. So the proxy runs in a child, which another one can take over from.

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group, wait, waitpgid},
};
use std::{
    io,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// What is passed on to the proxy.
const PASSED_ON: [(SignalKind, Signal); 6] = [
    (SignalKind::terminate(), Signal::TERM),
    (SignalKind::interrupt(), Signal::INT),
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::quit(), Signal::QUIT),
    (SignalKind::user_defined1(), Signal::USR1),
    (SignalKind::user_defined2(), Signal::USR2),
];

/// Whether this process is the first of its namespace.
pub fn is_first() -> bool {
    std::process::id() == 1
}

/// Starts the same command once more, as a child; passes signals on to it and to whoever takes over from it, and
/// looks after every process that is left behind. Returns how the last of the family has ended, once all have. On
/// the current runtime.
///
/// # Errors
/// When it cannot be started.
pub async fn look_after() -> io::Result<ExitCode> {
    // Before there is a child that could end.
    let mut ended = signal(SignalKind::child())?;
    let mut signals = signals()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1));
    // A family of its own, by which it is known from what else runs in the container.
    let child = command.process_group(0).spawn()?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let group = group.ok_or_else(|| io::Error::other("the child has no number"))?;
    let mut family = Family { group, last: 0 };
    loop {
        tokio::select! {
            Some(signal) = signals.recv() => {
                // An error means that all have ended, which is seen below.
                let _ = kill_process_group(group, signal);
            }
            _ = ended.recv() => {}
        }
        if family.reap() {
            return Ok(ExitCode::from(family.last));
        }
    }
}

fn signals() -> io::Result<mpsc::Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(PASSED_ON.len());
    for (kind, number) in PASSED_ON {
        let (mut signals, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() && sender.send(number).await.is_ok() {}
        });
    }
    Ok(receiver)
}

/// A process and those that have taken over from it.
struct Family {
    group: Pid,
    /// How the one that has ended last did so.
    last: u8,
}

impl Family {
    /// Takes note of whoever has ended, of the family or not. True when none of the family is left.
    fn reap(&mut self) -> bool {
        let mut other = None;
        loop {
            match waitpgid(self.group, WaitOptions::NOHANG) {
                Ok(Some((_, status))) => self.last = code(status),
                Ok(None) => match wait(WaitOptions::NOHANG) {
                    Ok(Some((_, status))) => {
                        other = Some(code(status));
                        continue;
                    }
                    _ => return false,
                },
                Err(Errno::INTR) => continue,
                Err(_) => {
                    // If the last one has ended between the two questions, it was taken for one of the others.
                    self.last = other.unwrap_or(self.last);
                    return true;
                }
            }
            other = None;
        }
    }
}

/// As a shell tells it.
fn code(status: WaitStatus) -> u8 {
    let signal = status.terminating_signal().map(|signal| 128 + signal);
    u8::try_from(status.exit_status().or(signal).unwrap_or(1)).unwrap_or(1)
}
