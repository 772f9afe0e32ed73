//! What one worker thread owns. Nothing here is shared: other cores have their own.

use super::{
    booking::CoreTrial,
    flight::Flights,
    http1::{Desk, READ},
    http2::Heads,
    mirror::Copies,
    note::Notes,
    retry::{Again, Budget},
    sampling::Sampling,
    upstream::Upstream,
};
use crate::{
    live::{Ejected, Live, LiveBackend, Reason, Trial, hexadecimal_id},
    routing::{BalanceState, Policy, Sequence},
    spec::{Ejection, Name},
};
use http::HeaderValue;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::Arc,
};
use tokio::sync::watch;

pub(super) struct Core {
    pub(super) index: usize,
    pub(super) live: Arc<Live>,
    pub(super) flights: Rc<Flights>,
    /// Client connections that are open.
    pub(super) connections: Cell<usize>,
    /// By the backends' slots.
    upstreams: RefCell<Vec<Option<Rc<Upstream>>>>,
    /// Those that are for one client connection each.
    private: RefCell<Vec<Weak<Upstream>>>,
    /// By the services' slots.
    services: RefCell<Vec<ServiceState>>,
    /// Requests that are written down.
    pub(super) notes: Notes,
    pub(super) dice: RefCell<SmallRng>,
    pub(super) desk: Desk,
    pub(super) stalls: Stalls,
    /// Of requests by HTTP/2.
    pub(super) heads: Heads,
    pub(super) copies: Copies,
}

/// Responses of a core that wait for their clients to take what there is.
pub(super) struct Stalls {
    count: Cell<usize>,
    piece: Cell<usize>,
}

impl Stalls {
    /// They share this much. With more of them less is read ahead for each,
    const SHARED: usize = 1 << 20;

    /// but never less than this.
    const SMALLEST: usize = 4 << 10;

    /// What is to be read at once of a response; at most [`READ`].
    pub(super) fn piece(&self) -> usize {
        self.piece.get()
    }

    fn set(&self, count: usize) {
        self.count.set(count);
        let share = Self::SHARED / count.max(1);
        self.piece.set(share.clamp(Self::SMALLEST, READ));
    }
}

impl Default for Stalls {
    fn default() -> Self {
        Self { count: Cell::new(0), piece: Cell::new(READ) }
    }
}

/// One of them, until this is dropped.
pub(super) struct Stall(Rc<Core>);

impl Stall {
    pub(super) fn begin(core: &Rc<Core>) -> Self {
        core.stalls.set(core.stalls.count.get() + 1);
        Self(core.clone())
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        let stalls = &self.0.stalls;
        stalls.set(stalls.count.get().saturating_sub(1));
    }
}

/// What a core remembers of a service between two requests.
#[derive(Default)]
pub(super) struct ServiceState {
    /// Whose state this is: slots are used again.
    name: Option<Name>,
    pub(super) sequence: Sequence,
    /// By the pool's place in the service.
    pub(super) balance: Vec<BalanceState>,
    pub(super) budget: Budget,
    pub(super) sampling: Sampling,
    /// By their numbers.
    policies: Vec<CorePolicy>,
    trial: Option<CoreTrial>,
}

/// A route's policy. Counting its holders in one place for all cores would cost them more than copying it.
pub(super) type CorePolicy = Rc<Arc<Policy>>;

impl ServiceState {
    /// This core's hold on the policy that is in force, of this number among those of the service.
    pub(super) fn policy(&mut self, current: &Arc<Policy>, number: usize) -> CorePolicy {
        match self.policies.get(number) {
            Some(known) if Arc::ptr_eq(known, current) => known.clone(),
            _ => self.take_over(current, number),
        }
    }

    /// This core's hold on what the service's requests are counted by.
    pub(super) fn trial(&mut self, current: &Arc<Trial>) -> CoreTrial {
        match &self.trial {
            Some(known) if Arc::ptr_eq(known, current) => known.clone(),
            _ => self.trial.insert(Rc::new(current.clone())).clone(),
        }
    }

    #[cold]
    fn take_over(&mut self, current: &Arc<Policy>, number: usize) -> CorePolicy {
        let policy = Rc::new(current.clone());
        match self.policies.get_mut(number) {
            Some(place) => *place = policy.clone(),
            // Those of lower numbers that were not asked for yet are replaced when they are.
            None => self.policies.resize(number + 1, policy.clone()),
        }
        policy
    }
}

impl Core {
    pub(super) fn new(index: usize, live: Arc<Live>) -> Rc<Self> {
        Rc::new(Self {
            index,
            live,
            flights: Rc::default(),
            connections: Cell::new(0),
            upstreams: RefCell::default(),
            private: RefCell::default(),
            services: RefCell::default(),
            notes: Notes::default(),
            desk: Desk::default(),
            stalls: Stalls::default(),
            heads: Heads::default(),
            copies: Copies::default(),
            dice: RefCell::new(SmallRng::from_rng(&mut rand::rng())),
        })
    }

    pub(super) fn now_millis(&self) -> u64 {
        self.live.clock.now_millis()
    }

    /// This core's connections to a backend.
    pub(super) fn upstream(&self, backend: &Arc<LiveBackend>) -> Rc<Upstream> {
        let slot = backend.slot.index();
        let mut upstreams = self.upstreams.borrow_mut();
        if slot >= upstreams.len() {
            upstreams.resize_with(slot + 1, || None);
        }
        match &upstreams[slot] {
            Some(known) if Arc::ptr_eq(&known.backend, backend) => known.clone(),
            _ => {
                let upstream = Upstream::new(backend.clone());
                upstreams[slot] = Some(upstream.clone());
                upstream
            }
        }
    }

    /// Looks after an upstream that is for one client connection.
    pub(super) fn watch(&self, upstream: &Rc<Upstream>) {
        self.private.borrow_mut().push(Rc::downgrade(upstream));
    }

    /// This core's state of the service in `slot`.
    pub(super) fn service<R>(
        &self,
        slot: usize,
        name: &Name,
        pools: usize,
        f: impl FnOnce(&mut ServiceState) -> R,
    ) -> R {
        let mut services = self.services.borrow_mut();
        if slot >= services.len() {
            services.resize_with(slot + 1, ServiceState::default);
        }
        let state = &mut services[slot];
        if state.name.as_ref().is_none_or(|known| !Arc::ptr_eq(known, name) && known != name) {
            *state = ServiceState { name: Some(name.clone()), ..ServiceState::default() };
        }
        if state.balance.len() < pools {
            state.balance.resize_with(pools, BalanceState::default);
        }
        f(state)
    }

    /// Takes one out of the budget of the service in `slot`, if there is one left.
    pub(super) fn spend(&self, slot: usize, again: Again, percent: u32) -> bool {
        let now = self.now_millis();
        let mut services = self.services.borrow_mut();
        services.get_mut(slot).is_some_and(|state| state.budget.take(again, percent, now))
    }

    /// Another rescue would be within the budget of the service in `slot`.
    pub(super) fn can_rescue(&self, slot: usize, percent: u32) -> bool {
        let now = self.now_millis();
        let services = self.services.borrow();
        services.get(slot).is_some_and(|state| state.budget.has(Again::Rescue, percent, now))
    }

    /// A connection to a backend could not be opened, which had shown so many `signs` of life before; after
    /// `consecutive` in a row it is left out.
    pub(super) fn connect_failed(&self, backend: &LiveBackend, signs: u64, consecutive: u32) {
        let errors = backend.connect_failed(self.index, signs);
        if errors >= u64::from(consecutive) && backend.health.eject(Ejected::Unreachable) {
            backend.pool.record_ejection();
            tracing::warn!(
                service = %backend.pool.service, pool = %backend.pool.name,
                backend = %backend.address, errors,
                "backend ejected: it cannot be connected to"
            );
            self.live.ejected.notify_one();
        }
    }

    /// An attempt has failed by the backend's fault; after some in a row the control plane judges it.
    pub(super) fn attempt_failed(&self, backend: &LiveBackend, ejection: &Ejection) {
        let row = backend.attempt_failed(self.index);
        // Once more after as many again, should it have been let off.
        if row.is_multiple_of(u64::from(ejection.consecutive)) {
            backend.health.suspect();
            self.live.ejected.notify_one();
        }
    }

    /// The backend has given a valid answer; from a gateway that found nobody it is none.
    pub(super) fn answered(&self, backend: &LiveBackend, status: u16, ejection: &Ejection) {
        match status {
            502..=504 => self.attempt_failed(backend, ejection),
            500.. => backend.answered_with_error(self.index),
            _ => backend.attempt_succeeded(self.index),
        }
    }

    /// Closes connections that idled for too long or whose backend has left, and forgets backends that
    /// nobody knows any more.
    pub(super) fn tidy(&self) {
        let now = self.live.clock.now();
        self.flights.tidy();
        let mut services = self.services.borrow_mut();
        services.iter_mut().for_each(|state| state.sampling.tidy(now.millis()));
        drop(services);
        self.private.borrow_mut().retain(|upstream| {
            let upstream = upstream.upgrade();
            upstream.inspect(|upstream| upstream.tidy(now)).is_some()
        });
        for place in self.upstreams.borrow_mut().iter_mut() {
            if let Some(upstream) = place {
                upstream.tidy(now);
                if upstream.backend.is_closing() && Rc::strong_count(upstream) == 1 {
                    *place = None;
                }
            }
        }
    }

    /// Brings what this core holds in line with what was published.
    pub(super) fn follow(&self) {
        self.tidy();
        self.flights.sweep(self.now_millis());
    }

    /// Takes part in a census.
    pub(super) fn count_tickets(&self, rounds: &mut watch::Receiver<u64>) {
        let round = *rounds.borrow_and_update();
        self.live.census.answer(round, self.flights.tickets());
    }

    pub(super) fn is_idle(&self) -> bool {
        self.connections.get() == 0 && self.flights.len() == 0
    }

    /// The process ends: whatever is still in flight is cancelled.
    pub(super) fn cut_all(&self) {
        self.flights.cut_all(Reason::Draining);
    }

    /// 128 random bits.
    pub(super) fn nonce(&self) -> u128 {
        let mut dice = self.dice.borrow_mut();
        u128::from(dice.next_u64()) << 64 | u128::from(dice.next_u64())
    }

    /// 128 random bits, as 32 hexadecimal digits.
    pub(super) fn random_hex(&self) -> [u8; 32] {
        hexadecimal_id(self.nonce())
    }

    /// The same as a field's value.
    pub(super) fn random_id(&self) -> HeaderValue {
        let id = HeaderValue::from_bytes(&self.random_hex());
        id.unwrap_or_else(|_| HeaderValue::from_static("0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_responses_wait_the_less_is_read_of_each() {
        let stalls = Stalls::default();
        let pieces = [0, 1, 16, 32, 256, 1000].map(|count| {
            stalls.set(count);
            stalls.piece() >> 10
        });
        assert_eq!(pieces, [64, 64, 64, 32, 4, 4]);
    }
}
