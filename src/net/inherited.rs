//! Listening sockets that were open before this process: those of the process before it, or of the service manager.

use super::join;
use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

/// Sockets to be taken over instead of being bound. What is not taken is closed with it.
#[derive(Default)]
pub struct Inherited(Vec<Group>);

/// The sockets of one listener.
struct Group {
    /// As a configuration names it: port 0 stays that.
    configured: SocketAddr,
    bound: SocketAddr,
    sockets: Vec<Arc<TcpListener>>,
}

impl Inherited {
    /// Adds the sockets of a listener; there must be one at least.
    pub fn add(&mut self, configured: SocketAddr, bound: SocketAddr, sockets: Vec<TcpListener>) {
        let sockets = sockets.into_iter().map(Arc::new).collect();
        self.0.push(Group { configured, bound, sockets });
    }

    /// The sockets of a listener with this address, with the address bound; each group once. All of them are to be
    /// accepted from, since each has its own queue.
    pub fn take(&mut self, configured: SocketAddr) -> Option<(SocketAddr, Vec<Arc<TcpListener>>)> {
        let index = self.0.iter().position(|group| group.configured == configured)?;
        let Group { bound, sockets, .. } = self.0.remove(index);
        Some((bound, sockets))
    }

    /// Where those listen that nobody has taken.
    pub fn left(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|group| group.bound)
    }
}

/// One socket at least for each of `cores`: further ones join those that are there, and where the system does not let
/// them, several cores share one. No connection comes to those that join before somebody is there to accept it: if
/// this process does not take over after all, it would be lost.
pub(super) fn at_least_one_each(
    bound: SocketAddr,
    mut sockets: Vec<Arc<TcpListener>>,
    cores: usize,
) -> Vec<Arc<TcpListener>> {
    let own = sockets.len();
    while sockets.len() < cores {
        let next = match join(bound, &sockets[0]) {
            Ok(socket) => Arc::new(socket),
            Err(_) => sockets[sockets.len() % own].clone(),
        };
        sockets.push(next);
    }
    sockets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listen;

    fn distinct(sockets: &[Arc<TcpListener>]) -> usize {
        let first = |at: &usize| !sockets[..*at].iter().any(|it| Arc::ptr_eq(it, &sockets[*at]));
        (0..sockets.len()).filter(first).count()
    }

    #[test]
    fn each_group_is_taken_once_by_the_address_that_is_configured() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut inherited = Inherited::default();
        let ports: Vec<SocketAddr> = (0..2)
            .map(|_| {
                let (bound, mut sockets) = listen(any, 1).unwrap();
                let socket = sockets.pop().unwrap().try_clone().unwrap();
                inherited.add(any, bound, vec![socket]);
                bound
            })
            .collect();
        assert!(inherited.take(ports[0]).is_none(), "it is known by its configured address");
        let taken: Vec<_> = (0..2).map(|_| inherited.take(any).unwrap().0).collect();
        assert_eq!(taken, ports);
        assert!(inherited.take(any).is_none());
    }

    #[test]
    fn cores_without_a_socket_join_or_share() {
        let (bound, sockets) = listen("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let joined = at_least_one_each(bound, sockets, 5);
        assert_eq!((joined.len(), distinct(&joined)), (5, 5));
        assert!(joined.iter().all(|it| it.local_addr().unwrap() == bound));

        // As a service manager binds it.
        let alone = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let shared = at_least_one_each(alone.local_addr().unwrap(), vec![alone], 3);
        assert_eq!((shared.len(), distinct(&shared)), (3, 1));
    }
}
