//! Sockets that the service manager has opened before it started us (sd_listen_fds(3)). They stay open there, so
//! that nobody is refused while we are restarted.

use crate::{
    net::{self, Inherited},
    spec::AdminAddress,
};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::SockRef;
use std::{
    env, fmt, io,
    net::SocketAddr,
    os::fd::{OwnedFd, RawFd},
    path::PathBuf,
};

/// The first that is passed on.
const FIRST: RawFd = 3;

/// More than that is no list of sockets.
const MOST: RawFd = 1024;

/// Sockets by where they listen. What they are for is what the configuration says of their addresses.
#[derive(Default)]
pub struct Activated(Vec<(Place, OwnedFd)>);

#[derive(Debug, PartialEq)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Activated {
    /// Those that LISTEN_FDS tells of, if that is meant for this process.
    ///
    /// # Errors
    /// When one of them is not there.
    pub fn from_environment() -> io::Result<Self> {
        let number = |name| env::var(name).ok().and_then(|text| text.parse().ok());
        let is_for_us = number("LISTEN_PID") == Some(getpid().as_raw_pid());
        match number("LISTEN_FDS") {
            Some(count @ 1..=MOST) if is_for_us => Self::passed_on(count),
            _ => Ok(Self::default()),
        }
    }

    fn passed_on(count: RawFd) -> io::Result<Self> {
        // A duplicate of each: nobody owns these numbers, and only a pidfd can be asked for them without that.
        let this = pidfd_open(getpid(), PidfdFlags::empty())?;
        let socket = |fd| {
            let socket = pidfd_getfd(&this, fd, PidfdGetfdFlags::empty())?;
            Ok(place(&socket)?.map(|place| (place, socket)))
        };
        let sockets = (FIRST..FIRST + count).filter_map(|fd| socket(fd).transpose());
        sockets.collect::<io::Result<_>>().map(Self)
    }

    /// The socket for the admin API, if there is one.
    pub fn take_admin(&mut self, address: &AdminAddress) -> Option<OwnedFd> {
        let place = match address {
            AdminAddress::Tcp(address) => Place::Tcp(*address),
            AdminAddress::Unix(path) => Place::Unix(path.clone()),
        };
        let index = self.0.iter().position(|(known, _)| *known == place)?;
        Some(self.0.remove(index).1)
    }

    /// The others, for the listeners.
    ///
    /// # Errors
    /// When one cannot be listened on.
    pub fn into_inherited(self) -> io::Result<Inherited> {
        let mut groups: Vec<(SocketAddr, Vec<_>)> = Vec::new();
        for (place, socket) in self.0 {
            let Place::Tcp(address) = place else {
                tracing::warn!(%place, "a socket was handed over that nothing in the configuration is for");
                continue;
            };
            let socket = net::adopt(socket)?;
            match groups.iter_mut().find(|(known, _)| *known == address) {
                Some((_, group)) => group.push(socket),
                None => groups.push((address, vec![socket])),
            }
        }
        let mut inherited = Inherited::default();
        for (address, sockets) in groups {
            inherited.add(address, address, sockets);
        }
        Ok(inherited)
    }
}

/// `None` for what is neither of TCP nor has a path.
fn place(socket: &OwnedFd) -> io::Result<Option<Place>> {
    let address = SockRef::from(socket).local_addr()?;
    let unix = || address.as_pathname().map(|path| Place::Unix(path.to_owned()));
    Ok(address.as_socket().map(Place::Tcp).or_else(unix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        net::TcpListener,
        os::{fd::AsRawFd, unix::net::UnixListener},
    };

    #[test]
    fn sockets_are_told_apart_by_where_they_listen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let sockets = [OwnedFd::from(UnixListener::bind(&path).unwrap()), tcp.into()];
        let sockets = sockets.map(|socket| (place(&socket).unwrap().unwrap(), socket));
        let mut activated = Activated(sockets.into());
        assert!(activated.take_admin(&AdminAddress::Unix("/none".into())).is_none());
        assert!(activated.take_admin(&AdminAddress::Unix(path)).is_some());
        let mut inherited = activated.into_inherited().unwrap();
        assert_eq!(inherited.take(address).unwrap().1.len(), 1);
    }

    #[test]
    fn a_descriptor_is_had_by_its_number() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        let again = pidfd_getfd(&this, listener.as_raw_fd(), PidfdGetfdFlags::empty()).unwrap();
        assert_eq!(place(&again).unwrap(), Some(Place::Tcp(listener.local_addr().unwrap())));
        assert!(pidfd_getfd(&this, 9999, PidfdGetfdFlags::empty()).is_err());
    }
}
