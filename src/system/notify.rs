//! The protocol of sd_notify(3): a datagram of lines for each thing that there is to say.

use rustix::time::{ClockId, clock_gettime};
use std::{
    cell::Cell,
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// Tells the service manager how it stands, if there is one that wants to know.
#[derive(Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    /// Without a sign of life for so long we are taken for dead.
    watchdog: Option<Duration>,
    /// Another process speaks instead.
    silent: Cell<bool>,
}

impl Notifier {
    /// To whom NOTIFY_SOCKET says. `takes_over`: it was another process that the service manager has started, which
    /// speaks for the service until [`Notifier::ready_instead`].
    ///
    /// # Errors
    /// When there is no such socket.
    pub fn from_environment(takes_over: bool) -> io::Result<Self> {
        let Some(address) = env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())
        else {
            return Ok(Self::default());
        };
        let text = |name| env::var(name).ok();
        let own = std::process::id().to_string();
        let is_for_us = takes_over || text("WATCHDOG_PID").is_none_or(|pid| pid == own);
        let watchdog = text("WATCHDOG_USEC").filter(|_| is_for_us).and_then(|it| it.parse().ok());
        let watchdog = watchdog.filter(|micros| *micros > 0).map(Duration::from_micros);
        Ok(Self { socket: Some(connect(&address)?), watchdog, silent: Cell::new(takes_over) })
    }

    /// How often [`Notifier::alive`] is to be said; `None`: nobody listens for it.
    pub fn pace(&self) -> Option<Duration> {
        self.watchdog.map(|longest| longest / 3)
    }

    /// The start may take so long from now on.
    pub fn starts_within(&self, longest: Duration) {
        self.say(&format!("EXTEND_TIMEOUT_USEC={}", longest.as_micros()));
    }

    pub fn ready(&self) {
        self.say("READY=1\nSTATUS=ready");
    }

    /// The same, of a process that has taken over: it is the main one from now on.
    pub fn ready_instead(&self) {
        self.silent.set(false);
        self.say(&format!("MAINPID={}\nREADY=1\nSTATUS=ready", std::process::id()));
    }

    /// Followed by [`Notifier::ready`].
    pub fn reloads(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reads its configuration"));
    }

    /// It ends, which may take so long.
    pub fn stops_within(&self, longest: Duration) {
        self.say(&format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={}\nSTATUS=drains: what is in flight is finished",
            longest.as_micros()
        ));
    }

    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// From now on another process speaks for the service.
    pub fn fall_silent(&self) {
        self.silent.set(true);
    }

    fn say(&self, lines: &str) {
        let Some(socket) = self.socket.as_ref().filter(|_| !self.silent.get()) else { return };
        if let Err(error) = socket.send(lines.as_bytes()) {
            tracing::warn!(%error, "the service manager cannot be told: {lines}");
        }
    }
}

/// A path, or behind an `@` a name of the abstract namespace (unix(7)).
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let bytes = address.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A service manager that does not listen must not stop us.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(listening: &UnixDatagram) -> String {
        let mut buffer = [0; 1000];
        let length = listening.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn what_is_said_arrives_at_either_kind_of_address() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("crossfade-test-{}", std::process::id());
        let named = SocketAddr::from_abstract_name(&name).unwrap();
        for (listening, address) in [
            (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap()),
            (UnixDatagram::bind_addr(&named).unwrap(), &*format!("@{name}")),
        ] {
            let socket = Some(connect(address.as_ref()).unwrap());
            let notifier =
                Notifier { socket, watchdog: Some(Duration::from_secs(3)), ..Notifier::default() };
            assert_eq!(notifier.pace(), Some(Duration::from_secs(1)));
            notifier.ready_instead();
            let own = std::process::id();
            assert_eq!(said(&listening), format!("MAINPID={own}\nREADY=1\nSTATUS=ready"));
            notifier.stops_within(Duration::from_millis(1));
            assert!(said(&listening).starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=1000\n"));
            notifier.reloads();
            let micros = said(&listening);
            let micros = micros.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
            assert!(micros.unwrap().parse::<u64>().unwrap() > 0);
        }
        assert!(connect(OsStr::new("/none/notify")).is_err());
        Notifier::default().ready();
    }
}
