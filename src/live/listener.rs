use super::{Certificates, Counter, PerCore};
use crate::spec::{Engine, Listener};
use rustls::ServerConfig;
use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

/// A listener of the current snapshot: its settings, and the sockets that outlive a change of them.
#[derive(Clone)]
pub struct LiveListener {
    pub spec: Listener,
    /// Of new HTTP/1 connections.
    pub engine: Engine,
    pub bound: Arc<Bound>,
    /// Exactly if its spec has it.
    pub tls: Option<Arc<LiveTls>>,
    /// The port of the first listener that speaks TLS.
    pub https_port: Option<u16>,
    /// Requests may be answered before they are decided: by a redirect to HTTPS, or with a proof for who issues
    /// certificates.
    pub steps_in: bool,
}

/// How a listener speaks TLS, made of its spec.
pub struct LiveTls {
    pub config: Arc<ServerConfig>,
    /// Those that the config chooses from.
    pub certificates: Arc<Certificates>,
}

/// The sockets of a listener, at least one a core, and who is connected through them.
pub struct Bound {
    /// With the port that the system chose for port 0.
    pub address: SocketAddr,
    /// Those that each core still has to take. Who accepts holds them from then on: a socket is closed with its
    /// last holder.
    untaken: Mutex<Vec<Vec<Arc<TcpListener>>>>,
    all: Box<[Weak<TcpListener>]>,
    /// Another process accepts from them too.
    shared: AtomicBool,
    cells: PerCore<Cell>,
}

#[derive(Default)]
struct Cell {
    h1: Counter,
    h2: Counter,
    /// Handshakes that succeeded: whole ones, and sessions resumed.
    shaken: [Counter; 2],
    failed: [Counter; HandshakeFailure::ALL.len()],
}

/// Why a TLS handshake with a client failed, in the words of the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// It took too long.
    Timeout,
    /// The client left.
    Closed,
    /// It spoke something else, such as HTTP in the clear.
    NotTls,
    /// No version, cipher or protocol that both know.
    Incompatible,
    /// It did not show a certificate.
    NoCertificate,
    /// It showed one that is not good.
    BadCertificate,
    /// It did not like the certificate that it was shown.
    Refused,
    /// It broke the protocol.
    Malformed,
    /// There is no certificate to show: the first one is still being ordered.
    Unissued,
}

impl HandshakeFailure {
    pub const ALL: [Self; 9] = [
        Self::Timeout,
        Self::Closed,
        Self::NotTls,
        Self::Incompatible,
        Self::NoCertificate,
        Self::BadCertificate,
        Self::Refused,
        Self::Malformed,
        Self::Unissued,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::NotTls => "not_tls",
            Self::Incompatible => "incompatible",
            Self::NoCertificate => "no_certificate",
            Self::BadCertificate => "bad_certificate",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Unissued => "unissued",
        }
    }
}

impl Bound {
    /// Spreads `sockets` over `cores`. Several cores may hold the same, and a core several.
    pub fn new(address: SocketAddr, sockets: Vec<Arc<TcpListener>>, cores: usize) -> Arc<Self> {
        let all = sockets.iter().map(Arc::downgrade).collect();
        let mut untaken = vec![Vec::new(); cores.max(1)];
        for (index, socket) in sockets.into_iter().enumerate() {
            let core = index % untaken.len();
            untaken[core].push(socket);
        }
        let cells = PerCore::new(cores);
        let (untaken, shared) = (Mutex::new(untaken), AtomicBool::new(false));
        Arc::new(Self { address, untaken, all, shared, cells })
    }

    /// The sockets of `core`; there are some once.
    pub fn take(&self, core: usize) -> Vec<Arc<TcpListener>> {
        let mut untaken = self.untaken.lock().unwrap_or_else(PoisonError::into_inner);
        untaken.get_mut(core).map(std::mem::take).unwrap_or_default()
    }

    /// Each socket that is open, once.
    pub fn sockets(&self) -> Vec<Arc<TcpListener>> {
        let mut open: Vec<Arc<TcpListener>> = Vec::new();
        for socket in self.all.iter().filter_map(Weak::upgrade) {
            if !open.iter().any(|known| Arc::ptr_eq(known, &socket)) {
                open.push(socket);
            }
        }
        open
    }

    /// Another process accepts from the same sockets from now on: what waits in their queues is not lost when they
    /// are closed here.
    pub fn share(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    pub fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    /// A connection was opened on `core`, which is the caller's.
    pub fn opened(&self, core: usize, h2: bool) {
        self.counter(core, h2).add(1);
    }

    pub fn closed(&self, core: usize, h2: bool) {
        self.counter(core, h2).sub_release(1);
    }

    fn counter(&self, core: usize, h2: bool) -> &Counter {
        let cell = self.cells.of(core);
        if h2 { &cell.h2 } else { &cell.h1 }
    }

    /// Open connections over all cores: HTTP/1 (and not yet known), HTTP/2.
    pub fn connections(&self) -> (u64, u64) {
        let sum = |f: fn(&Cell) -> &Counter| self.cells.iter().map(|c| f(c).get()).sum();
        (sum(|c| &c.h1), sum(|c| &c.h2))
    }

    /// A TLS handshake was made on `core`, which is the caller's.
    pub fn handshake_done(&self, core: usize, resumed: bool) {
        self.cells.of(core).shaken[usize::from(resumed)].add(1);
    }

    /// One failed there.
    pub fn handshake_failed(&self, core: usize, why: HandshakeFailure) {
        self.cells.of(core).failed[why as usize].add(1);
    }

    /// Handshakes over all cores: whole ones, and sessions resumed.
    pub fn handshakes(&self) -> (u64, u64) {
        let sum = |resumed: usize| self.cells.iter().map(|cell| cell.shaken[resumed].get()).sum();
        (sum(0), sum(1))
    }

    /// Those that failed, by [`HandshakeFailure`].
    pub fn failed_handshakes(&self) -> [u64; HandshakeFailure::ALL.len()] {
        HandshakeFailure::ALL
            .map(|why| self.cells.iter().map(|cell| cell.failed[why as usize].get()).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(count: usize) -> Vec<Arc<TcpListener>> {
        (0..count).map(|_| Arc::new(TcpListener::bind("127.0.0.1:0").unwrap())).collect()
    }

    #[test]
    fn every_socket_has_a_core_that_accepts_from_it() {
        let address = "127.0.0.1:1".parse().unwrap();
        for (count, cores) in [(1, 1), (2, 2), (5, 2), (2, 3), (3, 1)] {
            let bound = Bound::new(address, sockets(count), cores);
            assert_eq!(bound.sockets().len(), count);
            let taken: usize = (0..cores).map(|core| bound.take(core).len()).sum();
            assert_eq!(taken, count, "{count} sockets, {cores} cores");
            assert!((0..cores).all(|core| bound.take(core).is_empty()), "once");
            assert!(bound.sockets().is_empty(), "closed with who held them");
        }
    }

    #[test]
    fn one_that_several_cores_hold_is_counted_once() {
        let one = sockets(1).pop().unwrap();
        let bound = Bound::new("127.0.0.1:1".parse().unwrap(), vec![one.clone(), one], 2);
        let held = bound.take(1);
        assert_eq!((held.len(), bound.take(0).len(), bound.sockets().len()), (1, 1, 1));
    }
}
