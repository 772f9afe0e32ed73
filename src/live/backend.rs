use super::{Counter, Health, HealthState, LivePool, PerCore, Slot, connections::Connections};
use crate::spec::{BackendAddress, PoolProtocol, ProxyVersion};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
};

/// One address of a pool while anything of it is left: a place in the table, a request in flight, an
/// idle connection.
#[derive(Debug)]
pub struct LiveBackend {
    pub address: BackendAddress,
    pub pool: Arc<LivePool>,
    pub health: Health,
    pub protocol: PoolProtocol,
    /// Where each core keeps its connections to it.
    pub slot: Slot,
    /// The version of the PROXY header that connections begin with; 0: none.
    announces: AtomicU8,
    tls: Mutex<Option<Arc<BackendTls>>>,
    /// Goes up when `tls` changes.
    tls_epoch: AtomicU32,
    /// Why idle connections are closed and none is kept: [`CLOSING`], [`WANTED`].
    keeps_none: AtomicU8,
    pub(super) connections: Connections,
    leaves_from: AtomicU64,
    leaves_until: AtomicU64,
    /// The drain's deadline has passed: what is still in flight is cancelled.
    cut: AtomicBool,
    cells: PerCore<Cell>,
}

/// So often is looked for a moment in which nothing ends.
const LOOKS: usize = 1000;

/// It has left.
const CLOSING: u8 = 1;
/// There may be no more connections, and somebody waits for one.
const WANTED: u8 = 2;

/// How connections to a backend are made that speak TLS.
#[derive(Debug)]
pub struct BackendTls {
    pub config: Arc<ClientConfig>,
    /// What the backend must prove.
    pub name: ServerName<'static>,
}

#[derive(Debug, Default)]
pub(super) struct Cell {
    kinds: [Counter; 3],
    open: Counter,
    started: Counter,
    finished: Counter,
    told: Counter,
    cut: Counter,
    connected: Counter,
    connect_errors: Counter,
    /// Good answers, and how many there were when the failures began to come in a row.
    answers: Counter,
    answers_before: Counter,
    /// Failures of any kind in a row, and all of them.
    failures: Counter,
    failed: Counter,
    /// Of the good answers, those that were an error of the backend nevertheless.
    errors: Counter,
    /// When the backend had become available that the rows are of, in the process's milliseconds.
    rows_since: Counter,
}

/// What a request in flight is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No response head yet.
    Request,
    /// Head sent, the body still flows.
    Stream,
    /// After 101 or CONNECT.
    Tunnel,
}

/// How a ticket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Finished,
    /// Cancelled at a drain's deadline.
    Cut,
}

/// Requests in flight by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    pub request: u64,
    pub stream: u64,
    pub tunnel: u64,
}

impl InFlight {
    pub fn total(&self) -> u64 {
        self.request + self.stream + self.tunnel
    }
}

impl std::ops::AddAssign for InFlight {
    fn add_assign(&mut self, other: Self) {
        self.request += other.request;
        self.stream += other.stream;
        self.tunnel += other.tunnel;
    }
}

/// Requests by what became of them, each counted where that happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub started: u64,
    pub finished: u64,
    /// Asked to end by themselves because their backend drains: tunnels are.
    pub told: u64,
    /// Cancelled at a drain's deadline.
    pub cut: u64,
}

impl Tally {
    pub(super) fn of(cells: &PerCore<Cell>) -> Self {
        let sum = |counter: fn(&Cell) -> &Counter| cells.iter().map(|c| counter(c).get()).sum();
        Self {
            started: sum(|cell| &cell.started),
            finished: sum(|cell| &cell.finished),
            told: sum(|cell| &cell.told),
            cut: sum(|cell| &cell.cut),
        }
    }
}

impl Tally {
    /// What was counted after `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            started: self.started.wrapping_sub(earlier.started),
            finished: self.finished.wrapping_sub(earlier.finished),
            told: self.told.wrapping_sub(earlier.told),
            cut: self.cut.wrapping_sub(earlier.cut),
        }
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.started += other.started;
        self.finished += other.finished;
        self.told += other.told;
        self.cut += other.cut;
    }
}

impl LiveBackend {
    pub fn new(
        cores: usize,
        address: BackendAddress,
        pool: Arc<LivePool>,
        protocol: PoolProtocol,
        (state, since_millis): (HealthState, u64),
        slot: Slot,
    ) -> Arc<Self> {
        let backend = Arc::new(Self {
            address,
            pool,
            health: Health::new(state, since_millis),
            protocol,
            slot,
            announces: AtomicU8::new(0),
            tls: Mutex::default(),
            tls_epoch: AtomicU32::new(0),
            keeps_none: AtomicU8::new(0),
            connections: Connections::default(),
            leaves_from: AtomicU64::new(0),
            leaves_until: AtomicU64::new(0),
            cut: AtomicBool::new(false),
            cells: PerCore::new(cores),
        });
        backend.pool.adopt(&backend, &backend.cells);
        backend
    }

    /// A request begins on `core`, which is the caller's.
    pub fn begin(&self, core: usize) {
        let cell = self.cells.of(core);
        cell.open.add(1);
        cell.kinds[Kind::Request as usize].add(1);
        cell.started.add(1);
    }

    /// It turns from one kind into another, on the core where it began.
    pub fn turn(&self, core: usize, from: Kind, to: Kind) {
        let cell = self.cells.of(core);
        cell.kinds[to as usize].add(1);
        cell.kinds[from as usize].sub_release(1);
    }

    /// It ends, on the core where it began.
    pub fn end(&self, core: usize, kind: Kind, outcome: Outcome) {
        let cell = self.cells.of(core);
        match outcome {
            Outcome::Finished => cell.finished.add(1),
            Outcome::Cut => cell.cut.add(1),
        }
        cell.kinds[kind as usize].sub_release(1);
        cell.open.sub_release(1);
    }

    /// A request on `core` was asked to end by itself.
    pub fn tell(&self, core: usize) {
        self.cells.of(core).told.add(1);
    }

    /// What became of its requests.
    pub fn tally(&self) -> Tally {
        Tally::of(&self.cells)
    }

    /// Requests in flight, over all cores. Once no reader of an older snapshot is left and the backend
    /// is not in the current one, 0 is final: a request begins and ends on one core.
    pub fn open(&self) -> u64 {
        self.cells.iter().map(|cell| cell.open.get_acquire()).sum()
    }

    /// In flight by kind; a request that turns from one kind into another meanwhile may be seen as both.
    pub fn in_flight(&self) -> InFlight {
        let sum = |kind: Kind| self.cells.iter().map(|c| c.kinds[kind as usize].get()).sum();
        InFlight {
            request: sum(Kind::Request),
            stream: sum(Kind::Stream),
            tunnel: sum(Kind::Tunnel),
        }
    }

    /// What is in flight, with what was counted at that very moment; none begins meanwhile. A core that is busy
    /// with it all the time makes the two differ.
    pub fn stock(&self) -> (InFlight, Tally) {
        let look = || (self.tally(), self.in_flight(), self.tally());
        let is_one = |(before, open, after): &(Tally, InFlight, Tally)| {
            before == after && open.total() == before.started - before.finished - before.cut
        };
        let (_, open, tally) = (0..LOOKS).map(|_| look()).find(is_one).unwrap_or_else(look);
        (open, tally)
    }

    pub fn started(&self) -> u64 {
        self.tally().started
    }

    pub fn finished(&self) -> u64 {
        self.tally().finished
    }

    /// Requests cancelled at a drain's deadline.
    pub fn cut_count(&self) -> u64 {
        self.tally().cut
    }

    /// How often it has shown `core` that it is there: by an answer, or by taking a connection.
    pub fn signs(&self, core: usize) -> u64 {
        let cell = self.cells.of(core);
        cell.answers.get().wrapping_add(cell.connected.get())
    }

    /// It could not be connected to: so many errors in a row, as `core` sees them, since the backend last became
    /// available. None if it has shown itself meanwhile, beyond the `signs` of before: it is there, but overrun.
    pub fn connect_failed(&self, core: usize, signs: u64) -> u64 {
        let cell = self.row(core);
        if self.signs(core) != signs {
            cell.connect_errors.set(0);
            return 0;
        }
        cell.connect_errors.add(1);
        cell.connect_errors.get()
    }

    /// An attempt has failed by the backend's fault: so many in a row have, as `core` sees them, since the backend
    /// last became available.
    pub fn attempt_failed(&self, core: usize) -> u64 {
        let cell = self.row(core);
        if cell.answers_before.get() != cell.answers.get() {
            cell.answers_before.set(cell.answers.get());
            cell.failures.set(0);
        }
        cell.failed.add(1);
        cell.failures.add(1);
        cell.failures.get()
    }

    /// An answer was cut short by the backend's fault.
    pub fn answer_cut(&self, core: usize) {
        self.cells.of(core).failed.add(1);
    }

    /// It gave a good answer.
    pub fn attempt_succeeded(&self, core: usize) {
        self.cells.of(core).answers.add(1);
    }

    /// It gave an answer, which said that it has failed.
    pub fn answered_with_error(&self, core: usize) {
        self.cells.of(core).errors.add(1);
        self.attempt_succeeded(core);
    }

    /// How many attempts there were, and how many of them came to an error of the backend; over all cores.
    pub fn attempts(&self) -> (u64, u64) {
        // In this order: no reader finds more errors than attempts.
        let errors: u64 = self.cells.iter().map(|cell| cell.errors.get()).sum();
        let failed = self.failed();
        let answers: u64 = self.cells.iter().map(|cell| cell.answers.get()).sum();
        (answers + failed, errors + failed)
    }

    /// Attempts that failed by its fault, over all cores.
    pub fn failed(&self) -> u64 {
        self.cells.iter().map(|cell| cell.failed.get()).sum()
    }

    /// What was before the backend last became available is forgotten.
    fn row(&self, core: usize) -> &Cell {
        let cell = self.cells.of(core);
        let since = self.health.since_millis();
        if cell.rows_since.get() != since {
            cell.rows_since.set(since);
            cell.connect_errors.set(0);
            cell.failures.set(0);
        }
        cell
    }

    pub fn connect_succeeded(&self, core: usize) {
        let cell = self.cells.of(core);
        cell.connected.add(1);
        cell.connect_errors.set(0);
    }

    /// The PROXY header that connections begin with.
    pub fn announces(&self) -> Option<ProxyVersion> {
        match self.announces.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(ProxyVersion::V1),
            _ => Some(ProxyVersion::V2),
        }
    }

    /// For the control plane: connections begin so from now on.
    pub fn set_announces(&self, version: Option<ProxyVersion>) {
        let number = match version {
            None => 0,
            Some(ProxyVersion::V1) => 1,
            Some(ProxyVersion::V2) => 2,
        };
        self.announces.store(number, Ordering::Relaxed);
    }

    /// How new connections are made, with the epoch that they belong to; `None`: in the clear.
    pub fn tls(&self) -> (Option<Arc<BackendTls>>, u32) {
        let tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        (tls.clone(), self.tls_epoch.load(Ordering::Relaxed))
    }

    /// Connections of other epochs are not to be used any more.
    pub fn tls_epoch(&self) -> u32 {
        self.tls_epoch.load(Ordering::Relaxed)
    }

    /// For the control plane: connections are made this way from now on.
    pub fn set_tls(&self, tls: Option<Arc<BackendTls>>) {
        let mut current = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        let same = match (&*current, &tls) {
            (None, None) => true,
            (Some(one), Some(other)) => {
                Arc::ptr_eq(&one.config, &other.config) && one.name == other.name
            }
            _ => false,
        };
        if !same {
            *current = tls;
            self.tls_epoch.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn is_closing(&self) -> bool {
        self.keeps_none.load(Ordering::Acquire) & CLOSING != 0
    }

    /// No idle connection is to be kept.
    pub fn keeps_none(&self) -> bool {
        self.keeps_none.load(Ordering::Acquire) != 0
    }

    pub(super) fn set_wanted(&self, wanted: bool) {
        match wanted {
            true => self.keeps_none.fetch_or(WANTED, Ordering::AcqRel),
            false => self.keeps_none.fetch_and(!WANTED, Ordering::AcqRel),
        };
    }

    /// It drains from now on: idle connections are closed, and tunnels end one after the other. `from` and
    /// `until` are the milliseconds of the process's clock in between which that is.
    pub fn leave(&self, from: u64, until: u64) {
        self.leaves_from.store(from, Ordering::Relaxed);
        self.leaves_until.store(until, Ordering::Relaxed);
        self.keeps_none.fetch_or(CLOSING, Ordering::AcqRel);
    }

    /// Idle connections are kept again (an undrain).
    pub fn stay(&self) {
        self.keeps_none.fetch_and(!CLOSING, Ordering::AcqRel);
    }

    /// From when until when it drains, if it does.
    pub fn leaves(&self) -> Option<(u64, u64)> {
        let time = |at: &AtomicU64| at.load(Ordering::Relaxed);
        self.is_closing().then(|| (time(&self.leaves_from), time(&self.leaves_until)))
    }

    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Cancel what is in flight, for good.
    pub fn set_cut(&self) {
        self.cut.store(true, Ordering::Release);
    }
}

impl Drop for LiveBackend {
    fn drop(&mut self) {
        self.pool.part_with(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::{Ejected, Slots};

    #[test]
    fn failures_before_it_was_readmitted_do_not_count() {
        let pool = LivePool::new(1, "shop".into(), "blue".into(), "v1".into());
        let address = "127.0.0.1:1".parse().unwrap();
        let slot = Slots::default().take();
        let backend =
            LiveBackend::new(1, address, pool, PoolProtocol::H1, (HealthState::Healthy, 5), slot);
        let connect_failed = || backend.connect_failed(0, backend.signs(0));
        assert_eq!([connect_failed(), connect_failed()], [1, 2]);
        assert_eq!([backend.attempt_failed(0), backend.attempt_failed(0)], [1, 2]);
        assert!(backend.health.eject(Ejected::Unreachable));
        backend.health.readmit(Ejected::Unreachable, 7);
        assert_eq!([connect_failed(), backend.attempt_failed(0)], [1, 1]);
        backend.connect_succeeded(0);
        backend.attempt_succeeded(0);
        assert_eq!([connect_failed(), backend.attempt_failed(0)], [1, 1]);
        assert_eq!(backend.failed(), 4);
    }

    #[test]
    fn who_answers_others_meanwhile_can_be_reached() {
        let pool = LivePool::new(1, "shop".into(), "blue".into(), "v1".into());
        let address = "127.0.0.1:1".parse().unwrap();
        let slot = Slots::default().take();
        let backend =
            LiveBackend::new(1, address, pool, PoolProtocol::H1, (HealthState::Healthy, 5), slot);
        for show in [LiveBackend::attempt_succeeded, LiveBackend::connect_succeeded] {
            backend.connect_succeeded(0);
            let before = backend.signs(0);
            assert_eq!(backend.connect_failed(0, before), 1);
            show(&backend, 0);
            assert_eq!([before; 3].map(|before| backend.connect_failed(0, before)), [0; 3]);
            let since = backend.signs(0);
            assert_eq!([since; 2].map(|since| backend.connect_failed(0, since)), [1, 2]);
        }
    }

    #[test]
    fn a_backend_is_available_when_nothing_speaks_against_it() {
        let health = Health::new(HealthState::Healthy, 0);
        assert!(health.eject(Ejected::Failing) && !health.eject(Ejected::Failing));
        assert!(health.eject(Ejected::Unreachable));
        health.readmit(Ejected::Unreachable, 1);
        assert!(!health.is_available() && health.is_ejected_for(Ejected::Failing));
        health.readmit(Ejected::Failing, 2);
        assert!(health.is_available() && !health.is_ejected());
    }
}
