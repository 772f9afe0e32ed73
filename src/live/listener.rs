use super::{Certificates, Counter, PerCore};
use crate::spec::{Engine, Listener};
use rustls::ServerConfig;
use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
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

/// The sockets of a listener, one a core, and who is connected through them.
pub struct Bound {
    /// With the port that the system chose for port 0.
    pub address: SocketAddr,
    sockets: Mutex<Vec<Option<TcpListener>>>,
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
    pub fn new(address: SocketAddr, sockets: Vec<TcpListener>) -> Arc<Self> {
        let cells = PerCore::new(sockets.len());
        let sockets = Mutex::new(sockets.into_iter().map(Some).collect());
        Arc::new(Self { address, sockets, cells })
    }

    /// The socket of `core`; each can be taken once.
    pub fn take(&self, core: usize) -> Option<TcpListener> {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.get_mut(core)?.take()
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
