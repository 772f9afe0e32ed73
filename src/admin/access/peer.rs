//! The other side of a connection.

use super::ClientCertificate;
use crate::spec::Name;
use std::{
    fmt,
    fs::File,
    io::Read,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use tokio::{net::unix::UCred, task::spawn_blocking};

/// Where somebody asks from.
#[derive(Clone, Debug)]
pub(in crate::admin) enum Peer {
    Tcp {
        /// The address that was connected to.
        local: SocketAddr,
        remote: SocketAddr,
        /// The one that was shown when the connection began.
        certificate: Option<Arc<ClientCertificate>>,
    },
    /// No web page can connect to a unix socket.
    Unix(Arc<UnixPeer>),
}

/// Whose process connected to a unix socket.
#[derive(Debug)]
pub(in crate::admin) struct UnixPeer {
    pub(in crate::admin) uid: u32,
    pub(in crate::admin) pid: Option<i32>,
    /// By name, or `uid:1000` when there is none.
    pub(in crate::admin) user: Name,
    /// Names and numbers.
    pub(in crate::admin) groups: Vec<Box<str>>,
    /// Root, or the user that crossfade runs as: nothing here could keep them out.
    pub(in crate::admin) is_master: bool,
}

/// Whose mistakes and connections are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::admin) enum Source {
    Address(IpAddr),
    User(u32),
}

impl Source {
    /// One host of IPv6 has a whole network of addresses to ask from (RFC 6177).
    pub(in crate::admin) fn of(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl Peer {
    pub(in crate::admin) fn source(&self) -> Source {
        match self {
            Self::Unix(peer) => Source::User(peer.uid),
            Self::Tcp { remote, .. } => Source::of(remote.ip()),
        }
    }
}

/// For the audit log.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { remote, .. } => remote.fmt(f),
            Self::Unix(peer) => match peer.pid {
                Some(pid) => write!(f, "unix:uid={},pid={pid}", peer.uid),
                None => write!(f, "unix:uid={}", peer.uid),
            },
        }
    }
}

impl UnixPeer {
    /// What the system said when the peer connected. Names are read from the files alone: a directory service
    /// could keep everybody waiting.
    pub(in crate::admin) async fn of(credentials: UCred) -> Self {
        let read = || spawn_blocking(|| (read("/etc/passwd"), read("/etc/group")));
        let (users, groups) = read().await.unwrap_or_default();
        let own = rustix::process::geteuid().as_raw();
        let uid = credentials.uid();
        Self {
            pid: credentials.pid(),
            is_master: uid == 0 || uid == own,
            ..Self::named(uid, credentials.gid(), &users, &groups)
        }
    }

    fn named(uid: u32, gid: u32, users: &str, groups: &str) -> Self {
        let number = uid.to_string();
        let user = users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == number).then_some(name)
        });
        let number = gid.to_string();
        let mut among = vec![number.clone().into_boxed_str()];
        for line in groups.lines() {
            let mut fields = line.split(':');
            let (Some(name), Some(id)) = (fields.next(), fields.nth(1)) else { continue };
            let mut members = fields.next().unwrap_or_default().split(',');
            if id == number || user.is_some_and(|user| members.any(|member| member.trim() == user))
            {
                among.extend([name.into(), id.into()]);
            }
        }
        Self {
            uid,
            pid: None,
            user: user.map_or_else(|| format!("uid:{uid}").into(), Name::from),
            groups: among,
            is_master: false,
        }
    }

    pub(super) fn is_called(&self, user: &str) -> bool {
        *self.user == *user || user.parse() == Ok(self.uid)
    }

    pub(super) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|of| **of == *group)
    }
}

/// What is there of a file of names; nothing if there is none.
fn read(path: &str) -> String {
    const MOST: u64 = 4 << 20;
    let mut bytes = Vec::new();
    // What cannot be read has no names.
    let _ = File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_files() {
        let users = "root:x:0:0:root:/root:/bin/sh\n# a comment\n\nshort\ndeploy:x:1000:100::/:/bin/sh\n\
                     eve:x:1001:101\n";
        let groups =
            "users:x:100:\nops:x:200:eve, deploy\nshort\nnone:x:300\ntricky:x:1000:deployer\n";
        let deploy = UnixPeer::named(1000, 100, users, groups);
        assert_eq!(&*deploy.user, "deploy");
        assert!(deploy.is_called("deploy") && deploy.is_called("1000") && !deploy.is_called("100"));
        for group in ["100", "users", "200", "ops"] {
            assert!(deploy.is_in(group), "{group}");
        }
        assert!(!deploy.is_in("none") && !deploy.is_in("tricky") && !deploy.is_in("1000"));
        let nobody = UnixPeer::named(4242, 101, users, groups);
        assert_eq!(&*nobody.user, "uid:4242");
        assert!(nobody.is_called("4242") && nobody.is_in("101") && !nobody.is_in(""));
    }

    #[test]
    fn sources_are_hosts() {
        let source = |remote: &str| {
            let local = "127.0.0.1:1".parse().unwrap();
            Peer::Tcp { local, remote: remote.parse().unwrap(), certificate: None }.source()
        };
        assert_eq!(source("10.0.0.1:1"), source("[::ffff:10.0.0.1]:2"));
        assert_ne!(source("10.0.0.1:1"), source("10.0.0.2:1"));
        assert_eq!(source("[2001:db8::1]:1"), source("[2001:db8::ffff:1:2:3]:1"));
        assert_ne!(source("[2001:db8::1]:1"), source("[2001:db8:0:1::1]:1"));
    }
}
