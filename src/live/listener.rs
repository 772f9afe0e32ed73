use super::{Counter, PerCore};
use crate::spec::{Engine, Listener};
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
}
