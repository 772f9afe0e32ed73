//! What is in flight on one core. A ticket is counted on its backend from the decision until the last
//! byte; deadlines and the cut of a drain are looked after by one sweep a core, so that a request pays
//! for no timer of its own.

use super::{
    booking::Waits,
    note::{Note, NotedAttempt},
    upstream::Upstream,
    witness::Witness,
};
use crate::live::{Clock, Kind, Moment, Outcome, Permit, Reason, Tickets, add_tickets, millis};
use slab::Slab;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::sync::Notify;

/// All tickets of a core.
#[derive(Default)]
pub(super) struct Flights {
    open: RefCell<Slab<Rc<Flight>>>,
    /// Memory for the next ones.
    spare: RefCell<Vec<Rc<Flight>>>,
    /// The process ends: from when until when, in milliseconds.
    ending: Cell<Option<(u64, u64)>>,
    /// Tunnels that were given a moment to end so far.
    farewells: Cell<u32>,
    /// Woken when the first ticket is taken, so that an idle core need not sweep.
    busy: Notify,
}

const MOST_SPARE: usize = 16;

/// A request in flight, shared by the parts that carry it.
pub(super) struct Flight {
    pub(super) upstream: Rc<Upstream>,
    core: usize,
    kind: Cell<Kind>,
    /// Milliseconds of the process's clock, and what has happened when it passes.
    deadline: Cell<(u64, Reason)>,
    /// The same for the whole request.
    limit: Cell<u64>,
    verdict: Cell<Option<Reason>>,
    /// When a tunnel is to end because its backend drains; 0: nobody knows yet.
    farewell: Cell<u64>,
    /// That moment has come.
    leaves: Cell<bool>,
    /// A sweep has met it.
    slow: Cell<bool>,
    ended: Cell<bool>,
    /// As long as there is something to tell.
    witness: Cell<Option<Box<Witness>>>,
    /// Where it is written down, if anywhere.
    noted: Cell<Option<NotedAttempt>>,
    waker: RefCell<Option<Waker>>,
    /// What a verdict does at once, whether or not anybody polls; the flight has ended then.
    abandon: Cell<Option<Box<dyn FnOnce()>>>,
}

/// Proof that a request is in flight on a backend. Dropping it ends it.
pub(super) struct Ticket {
    pub(super) flight: Rc<Flight>,
    flights: Rc<Flights>,
    key: usize,
    /// Of a service with a limit.
    permit: Cell<Option<Permit>>,
}

impl Flights {
    pub(super) fn begin(
        self: &Rc<Self>,
        core: usize,
        upstream: Rc<Upstream>,
        permit: Option<Permit>,
        witness: Option<Box<Witness>>,
    ) -> Ticket {
        upstream.backend.begin(core);
        let flight = self.make(Flight {
            upstream,
            core,
            kind: Cell::new(Kind::Request),
            deadline: Cell::new((u64::MAX, Reason::ResponseTimeout)),
            limit: Cell::new(u64::MAX),
            verdict: Cell::new(None),
            farewell: Cell::new(0),
            leaves: Cell::new(false),
            slow: Cell::new(false),
            ended: Cell::new(false),
            witness: Cell::new(witness),
            noted: Cell::new(None),
            waker: RefCell::new(None),
            abandon: Cell::new(None),
        });
        let mut open = self.open.borrow_mut();
        let key = open.insert(flight.clone());
        if open.len() == 1 {
            self.busy.notify_one();
        }
        Ticket { flight, flights: self.clone(), key, permit: Cell::new(permit) }
    }

    fn make(&self, flight: Flight) -> Rc<Flight> {
        let Some(mut spare) = self.spare.borrow_mut().pop() else { return Rc::new(flight) };
        match Rc::get_mut(&mut spare) {
            Some(place) => *place = flight,
            None => spare = Rc::new(flight),
        }
        spare
    }

    /// What is kept for the next requests still names the backends of the last ones.
    pub(super) fn tidy(&self) {
        self.spare.borrow_mut().clear();
    }

    pub(super) fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// Returns when there is something to sweep.
    pub(super) async fn busy(&self) {
        while self.open.borrow().is_empty() {
            self.busy.notified().await;
        }
    }

    /// Gives its verdict to everything that is late or whose backend was cut.
    pub(super) fn sweep(&self, now_millis: u64) {
        let mut judged = Vec::new();
        for (_, flight) in self.open.borrow().iter() {
            flight.look(now_millis);
            if flight.verdict.get().is_none()
                && let Some(reason) = flight.judge(now_millis)
            {
                judged.push((flight.clone(), reason));
                continue;
            }
            let is_told = flight.kind.get() == Kind::Tunnel && self.sees_off(flight, now_millis);
            if !flight.slow.replace(true) || is_told {
                flight.wake();
            }
        }
        for (flight, reason) in judged {
            flight.fail(reason);
        }
    }

    /// The process ends in this time, and its tunnels one after the other.
    pub(super) fn end(&self, from: u64, until: u64) {
        self.ending.set(Some((from, until)));
    }

    /// Whether it is time for a tunnel to end, which is said once. Those of a backend that drains do so spread
    /// over the first three quarters of its time, so that their clients do not all come back at once.
    fn sees_off(&self, flight: &Flight, now: u64) -> bool {
        let Some((from, until)) = flight.upstream.backend.leaves().or(self.ending.get()) else {
            flight.farewell.set(0);
            return false;
        };
        if flight.farewell.get() == 0 {
            let nth = self.farewells.get().wrapping_add(1);
            self.farewells.set(nth);
            // The golden ratio's multiples fall evenly, however many there will be.
            let part = u128::from(nth.wrapping_mul(0x9e37_79b9));
            let span = u128::from(until.saturating_sub(from)) * 3 / 4;
            flight.farewell.set(from.saturating_add(((span * part) >> 32) as u64).max(1));
        }
        let is_time = now >= flight.farewell.get() && !flight.leaves.replace(true);
        if is_time {
            flight.upstream.backend.tell(flight.core);
        }
        is_time
    }

    /// All tickets whose requests have not ended, one by one.
    pub(super) fn tickets(&self) -> Tickets {
        let mut tickets = Tickets::new();
        for (_, flight) in self.open.borrow().iter().filter(|(_, flight)| !flight.ended.get()) {
            add_tickets(&mut tickets, &flight.upstream.backend.pool, 1);
        }
        tickets
    }

    /// Ends everything with the same verdict.
    pub(super) fn cut_all(&self, reason: Reason) {
        let open: Vec<_> = self.open.borrow().iter().map(|(_, flight)| flight.clone()).collect();
        for flight in open {
            flight.fail(reason);
        }
    }
}

impl Flight {
    fn judge(&self, now: u64) -> Option<Reason> {
        let (deadline, reason) = self.deadline.get();
        if self.upstream.backend.is_cut() {
            Some(Reason::Draining)
        } else if now >= self.limit.get() {
            Some(Reason::RequestDeadline)
        } else if now >= deadline {
            Some(reason)
        } else {
            None
        }
    }

    /// After `timeout` from now on it has failed for `reason`; replaces the earlier deadline.
    pub(super) fn arm(&self, clock: Clock, timeout: Duration, reason: Reason) {
        self.deadline.set((clock.now_millis().saturating_add(millis(timeout)), reason));
    }

    /// The same, with the moment itself.
    pub(super) fn arm_until(&self, deadline: u64, reason: Reason) {
        self.deadline.set((deadline, reason));
    }

    /// The deadline of the whole request.
    pub(super) fn limit(&self, deadline: u64) {
        self.limit.set(deadline);
    }

    /// What a verdict is to do at once: a client that does not read keeps its body from being polled, and
    /// the backend must be free all the same.
    pub(super) fn on_verdict(&self, abandon: impl FnOnce() + 'static) {
        self.abandon.set(Some(Box::new(abandon)));
    }

    /// The first verdict stands.
    pub(super) fn fail(&self, reason: Reason) {
        if self.verdict.get().is_some() || self.ended.get() {
            return;
        }
        self.verdict.set(Some(reason));
        if let Some(abandon) = self.abandon.take() {
            abandon();
            self.end();
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The answer was cut short by the backend's fault.
    pub(super) fn note_cut(&self) {
        self.upstream.backend.answer_cut(self.core);
        self.overdue();
    }

    /// Tells its witness, if there is one.
    #[inline]
    fn tell(&self, what: impl FnOnce(&mut Witness)) {
        if let Some(mut witness) = self.witness.take() {
            what(&mut witness);
            if !witness.is_done() {
                self.witness.set(Some(witness));
            }
        }
    }

    /// It is written down from now on.
    pub(super) fn attend(&self, attempt: NotedAttempt) {
        self.noted.set(Some(attempt));
    }

    /// Adds to what is written down of it, if it is.
    #[inline]
    fn note_down(&self, what: impl FnOnce(&NotedAttempt)) {
        if let Some(noted) = self.noted.take() {
            what(&noted);
            self.noted.set(Some(noted));
        }
    }

    /// Where it is written down, if anywhere.
    pub(super) fn note(&self) -> Option<Note> {
        let mut note = None;
        self.note_down(|noted| note = Some(noted.note().clone()));
        note
    }

    /// A connection was opened for it, in so many nanoseconds.
    pub(super) fn connected(&self, taken: u64) {
        self.note_down(|noted| noted.connected(taken));
    }

    /// The rest of an answer has not come, whoever has set the time for it.
    pub(super) fn overdue(&self) {
        self.tell(Witness::cut);
    }

    /// The head of a final response has come, `now`, that was asked for when it was `sent`.
    #[inline]
    pub(super) fn answered(
        &self,
        now: Moment,
        sent: Moment,
        status: u16,
        is_call: impl FnOnce() -> bool,
    ) {
        self.note_down(|noted| noted.answered(now, sent, status));
        self.tell(|witness| witness.answered(now, sent, status, is_call));
    }

    /// Its attempt has failed.
    pub(super) fn failed(&self, clock: Clock, reason: Reason) {
        let now = clock.now();
        self.note_down(|noted| noted.failed(now, reason));
        self.tell(|witness| {
            let awaits_head = matches!(self.waits(), Waits::ForHead(_));
            witness.failed(now, reason, awaits_head);
        });
    }

    /// A call of gRPC has said how it ended.
    pub(super) fn call_ended(&self, failed: bool) {
        self.tell(|witness| witness.call_ended(failed));
    }

    /// It is over, and whatever it counts as is known.
    #[inline]
    fn settle(&self) {
        if let Some(mut witness) = self.witness.take() {
            witness.settle();
        }
        drop(self.noted.take());
    }

    fn look(&self, now_millis: u64) {
        self.tell(|witness| witness.look(now_millis, &self.waits()));
    }

    fn waits(&self) -> Waits {
        match (self.kind.get(), self.deadline.get()) {
            (Kind::Request, (until, Reason::ResponseTimeout)) => Waits::ForHead(until),
            _ => Waits::ForOthers,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind.get()
    }

    /// It takes long enough to be worth looking after who waits for it; who is polled is told when that
    /// begins.
    pub(super) fn is_slow(&self) -> bool {
        self.slow.get()
    }

    /// Its tunnel is to end, because the backend drains.
    pub(super) fn is_to_leave(&self) -> bool {
        self.leaves.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    pub(super) fn verdict(&self) -> Option<Reason> {
        self.verdict.get()
    }

    pub(super) fn poll_verdict(&self, cx: &mut Context<'_>) -> Poll<Reason> {
        if let Some(reason) = self.verdict.get() {
            return Poll::Ready(reason);
        }
        self.register(cx);
        Poll::Pending
    }

    /// The task that a verdict wakes.
    pub(super) fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    fn end(&self) {
        if self.ended.replace(true) {
            return;
        }
        let outcome = match self.verdict.get() {
            Some(Reason::Draining) => Outcome::Cut,
            _ => Outcome::Finished,
        };
        self.upstream.backend.end(self.core, self.kind.get(), outcome);
    }
}

impl Ticket {
    /// The backend has done its part, though the ticket is still held.
    pub(super) fn finish(&self) {
        self.flight.end();
        drop(self.permit.take());
    }

    /// For another attempt of the same request.
    pub(super) fn take_permit(&self) -> Option<Permit> {
        self.permit.take()
    }

    pub(super) fn turn(&self, to: Kind) {
        let flight = &self.flight;
        let from = flight.kind.replace(to);
        if from != to && !flight.ended.get() {
            flight.upstream.backend.turn(flight.core, from, to);
        }
        if to == Kind::Tunnel {
            flight.tell(Witness::settle);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.flight.end();
        self.flight.settle();
        drop(self.flight.abandon.take());
        self.flights.open.borrow_mut().remove(self.key);
        let mut spare = self.flights.spare.borrow_mut();
        if spare.len() < MOST_SPARE {
            spare.push(self.flight.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        live::{HealthState, LiveBackend, LivePool, Slots},
        spec::PoolProtocol,
    };

    #[test]
    fn tunnels_of_a_backend_that_drains_end_one_after_the_other() {
        let pool = LivePool::new(1, "shop".into(), "blue".into(), "v1".into());
        let address = "127.0.0.1:1".parse().unwrap();
        let slot = Slots::default().take();
        let health = (HealthState::Healthy, 0);
        let backend = LiveBackend::new(1, address, pool, PoolProtocol::H1, health, slot);
        let upstream = Upstream::new(backend.clone());
        let flights = Rc::new(Flights::default());
        let tickets: Vec<Ticket> = (0..100)
            .map(|_| {
                let ticket = flights.begin(0, upstream.clone(), None, None);
                ticket.turn(Kind::Tunnel);
                ticket
            })
            .collect();
        let told = |now| {
            flights.sweep(now);
            tickets.iter().filter(|ticket| ticket.flight.is_to_leave()).count()
        };
        assert_eq!(told(1_500), 0, "it does not drain");
        backend.leave(2_000, 3_000);
        for tenth in 1..=10 {
            let told = told(2_000 + 75 * tenth) as i64;
            assert!((told - 10 * tenth as i64).abs() <= 2, "{told} after {tenth} tenths");
        }
        backend.stay();
        flights.sweep(4_000);
        assert!(tickets.iter().all(|ticket| ticket.flight.verdict().is_none()));
    }
}
