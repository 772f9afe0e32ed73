//! Which service, pool and backend a request goes to. Synchronous, in one closure that borrows the
//! snapshot: nothing can hold it across an await, and who has decided has its ticket.

use super::{
    booking::Booking,
    connection::ClientConnection,
    core::{Core, CorePolicy, ServiceState},
    failure::{Redirected, fault_of},
    fields::{Known, Lines, connection_options},
    flight::Ticket,
    head::{self, Facts, Head},
    queue::{Queue, Turn, Waiting},
    retry::Again,
    upstream::Upstream,
    withheld::Withheld,
    witness::Witness,
};
use crate::{
    live::{
        Assigned, ChosenBy, Full, LiveBackend, LivePool, LiveService, Moment, Permit, PoolEntry,
        Reason, Snapshot,
    },
    routing::{
        Candidates, CompiledRoute, Destination, FULL, Fields, Host, Key, Policy, PoolSet,
        PoolTable, RequestView, RoutingTable, Sample, ServiceTable, StickyTable, choose,
        folded_path, slow_start,
    },
    spec::{Balance, Redirect, StickyKey, UnhealthyPool},
};
use http::HeaderValue;
use rand::{Rng, RngExt};
use std::{net::IpAddr, rc::Rc, sync::Arc, time::Duration};

/// Where a request goes. The ticket says that it is in flight there.
pub(super) struct Assignment {
    pub(super) ticket: Ticket,
    pub(super) policy: CorePolicy,
    /// Of the service, for this core's budgets.
    pub(super) service_slot: usize,
    /// What fails here may be sent to the pool that rescues.
    pub(super) rescuable: bool,
    pub(super) chosen_by: ChosenBy,
    /// The sticky cookie that the client is given.
    pub(super) issued: Option<Box<Issued>>,
    /// What the backend must not see.
    pub(super) withheld: Option<Box<Withheld>>,
}

/// A sticky key that the proxy has made up.
#[derive(Clone)]
pub(super) struct Issued {
    key: Key,
    pub(super) cookie: HeaderValue,
}

/// Why a request goes to no backend.
pub(super) enum Refusal {
    Failed {
        reason: Reason,
        /// Which would have had to answer it.
        pool: Option<Arc<LivePool>>,
    },
    /// It may come to be decided again.
    Waits(Waiting),
    /// Its route sends clients elsewhere.
    Redirected(Redirected),
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::Failed { reason, pool: None }
    }
}

/// What is known when it is decided.
pub(super) struct Query<'a, L> {
    pub(super) connection: &'a ClientConnection,
    pub(super) head: &'a Head<'a, L>,
    pub(super) facts: &'a Facts,
    pub(super) host: Option<Host<'a>>,
    /// The user's address.
    client: IpAddr,
    pub(super) now: Moment,
    /// What an earlier decision about the same request came to.
    pub(super) earlier: Option<Earlier<'a>>,
}

pub(super) struct Earlier<'a> {
    /// The backend that was tried last: its pool is kept, if it still takes requests.
    pub(super) last: &'a Rc<Upstream>,
    /// Slots of the backends that were tried.
    pub(super) tried: &'a [usize],
    pub(super) issued: Option<Box<Issued>>,
    /// It goes to who rescues.
    pub(super) rescue: bool,
}

impl<'a, L: Lines> Query<'a, L> {
    /// For the first decision about a request, whose head was judged.
    #[inline]
    pub(super) fn new(
        connection: &'a ClientConnection,
        head: &'a Head<'a, L>,
        facts: &'a Facts,
        host: Option<Host<'a>>,
        now: Moment,
    ) -> Self {
        let client = connection.client.address(head.lines, &connection.listener.spec);
        Self { connection, head, facts, host, client, now, earlier: None }
    }
}

/// # Errors
/// A redirect, that it waits, `BadRequest`, `NoRoute`, or of the pool that the request was for `NoBackend`,
/// `Overloaded` or `QueueFull`.
pub(super) fn decide<L: Lines>(query: &Query<'_, L>, turn: Turn) -> Result<Assignment, Refusal> {
    query.connection.core.live.published.read(|snapshot| decide_on(snapshot, query, turn))
}

fn decide_on<L: Lines>(
    snapshot: &Snapshot,
    query: &Query<'_, L>,
    turn: Turn,
) -> Result<Assignment, Refusal> {
    let (core, head) = (&query.connection.core, query.head);
    if query.facts.names_fields && names_what_is_read(head.lines, snapshot) {
        return Err(Reason::BadRequest.into());
    }
    let host = query.host.clone();
    let view = RequestView::new(head.method, host, head.path, head.query, head.lines, query.client);
    let found = snapshot.table.find(&view);
    if leads_elsewhere(snapshot, found, &view, query) {
        return Err(Reason::BadRequest.into());
    }
    let route = found.ok_or(Reason::NoRoute)?;
    let (number, policy, policy_number, nth) = match &route.destination {
        Destination::Service { service, policy, number, nth } => (*service, policy, *number, *nth),
        Destination::Elsewhere(redirect) => return Err(redirected(redirect, &view)),
    };
    if policy.rewrite.as_ref().is_some_and(|rewrite| rewrite.is_unsafe(view.path)) {
        return Err(Reason::BadRequest.into());
    }
    let service = &snapshot.table.services[number];
    let live = &snapshot.services[number];
    let choice = Choice { service, live, core, now: query.now.millis(), route: nth };
    let pools = service.pools.len();
    let (chosen, policy, permit) = core.service(live.slot.index(), &live.name, pools, |state| {
        if matches!(turn, Turn::First) {
            state.budget.request(choice.now);
            if state.sampling.is_due() {
                choice.remember(&view, &snapshot.table, state);
            }
        }
        let permit = choice.enter(turn, &view, query, state)?;
        let chosen = choice.make(&view, query, policy, state)?;
        Ok::<_, Refusal>((chosen, state.policy(policy, policy_number), permit))
    })?;
    let upstream = match chosen.backend.announces() {
        None => core.upstream(chosen.backend),
        Some(version) => query.connection.upstream(chosen.backend, version),
    };
    let ticket = core.flights.begin(core.index, upstream, permit, chosen.witness);
    let service_slot = live.slot.index();
    let rescuable = policy.rescue.is_some_and(|rescue| rescue.to != chosen.pool);
    let withheld = choice.withheld(&view, query.earlier.is_none());
    let Chosen { chosen_by, issued, .. } = chosen;
    Ok(Assignment { ticket, policy, service_slot, rescuable, chosen_by, issued, withheld })
}

fn redirected(redirect: &Redirect, view: &RequestView<'_, impl Fields>) -> Refusal {
    let host = view.host().and_then(|host| std::str::from_utf8(host).ok());
    match redirect.url.of(host, view.path, view.query) {
        Some(location) => {
            Refusal::Redirected(Redirected { code: redirect.code.status(), location })
        }
        None => Reason::BadRequest.into(),
    }
}

/// Who answers for what failed.
enum Rescuer {
    /// That pool of the service.
    Pool(usize),
    /// Nobody rescues any more, as after an abort: those that have the traffic of the failed pool by now.
    Heirs,
}

impl Rescuer {
    /// By the table in force, which need not be the one by which the request came to `failed`.
    #[cold]
    fn of(service: &ServiceTable, live: &LiveService, failed: &Arc<LivePool>) -> Option<Self> {
        if let Some(rescue) = service.policy.rescue {
            return Some(Self::Pool(rescue.to));
        }
        let mut pools = service.pools.iter().zip(&live.pools);
        let keeps_it =
            pools.any(|(table, entry)| has_traffic(table) && Arc::ptr_eq(&entry.pool, failed));
        (!keeps_it).then_some(Self::Heirs)
    }
}

/// Draws land on it.
fn has_traffic(pool: &PoolTable) -> bool {
    !pool.drained && pool.weight.get() > 0
}

/// Another pool can take what failed here.
pub(super) fn has_rescuer(core: &Core, assignment: &Assignment) -> bool {
    let failed = &assignment.ticket.flight.upstream.backend.pool;
    core.live.published.read(|snapshot| {
        let mut services = snapshot.table.services.iter().zip(&snapshot.services);
        let same = |live: &LiveService| live.slot.index() == assignment.service_slot;
        let Some((service, live)) = services.find(|(_, live)| same(live)) else { return false };
        let has_room = |backend: &Arc<LiveBackend>| !is_full(&service.policy, backend);
        let can_take = |pool: usize| {
            let (table, entry) = (&service.pools[pool], &live.pools[pool]);
            !table.drained && entry.is_available(table) && entry.backends.iter().any(has_room)
        };
        match Rescuer::of(service, live, failed) {
            Some(Rescuer::Pool(pool)) => can_take(pool),
            Some(Rescuer::Heirs) => {
                let heirs =
                    || (0..service.pools.len()).filter(|&pool| has_traffic(&service.pools[pool]));
                // Nobody knows yet on which one the draw will land.
                let can_all = heirs().next().is_some() && heirs().all(can_take);
                can_all && assignment.chosen_by != ChosenBy::Pin
            }
            None => false,
        }
    })
}

/// The pool in this place of the service in `slot`, and a backend of it for a copy of a request, if one can take it.
pub(super) fn mirror_backend(
    core: &Core,
    slot: usize,
    pool: usize,
) -> Option<(Arc<LivePool>, Option<Arc<LiveBackend>>)> {
    core.live.published.read(|snapshot| {
        let mut services = snapshot.table.services.iter().zip(&snapshot.services);
        let (service, live) = services.find(|(_, live)| live.slot.index() == slot)?;
        let entry = live.pools.get(pool)?;
        let choice = Choice { service, live, core, now: core.now_millis(), route: 0 };
        let backend = core.service(slot, &live.name, live.pools.len(), |state| {
            let key = core.dice.borrow_mut().next_u64();
            choice.backend(pool, &[], key, state).cloned()
        });
        Some((entry.pool.clone(), backend))
    })
}

/// A backend that reads the path more laxly would take it for one that has another route or pin: the raw path
/// is matched and sent, so one of the two would be got round.
fn leads_elsewhere<L: Lines>(
    snapshot: &Snapshot,
    found: Option<&CompiledRoute>,
    view: &RequestView<'_, L>,
    query: &Query<'_, L>,
) -> bool {
    let Some(path) = folded_path(view.path) else { return false };
    if head::is_tricky(&path) {
        return true;
    }
    let head = query.head;
    let host = query.host.clone();
    let lax = RequestView::new(head.method, host, &path, head.query, head.lines, query.client);
    match (found, snapshot.table.find(&lax)) {
        (None, None) => false,
        (Some(raw), Some(lax_route)) if std::ptr::eq(raw, lax_route) => {
            let service = raw.service().map(|number| &snapshot.table.services[number]);
            service.is_some_and(|service| service.pin(view) != service.pin(&lax))
        }
        _ => true,
    }
}

/// `Connection` names a field that some route, pin or sticky key reads: it would stay behind, and the
/// request would be another one than the one that was matched.
fn names_what_is_read(lines: &impl Lines, snapshot: &Snapshot) -> bool {
    lines
        .lines()
        .filter(|(known, ..)| *known == Known::Connection)
        .flat_map(|(.., value)| connection_options(value))
        .filter_map(|option| std::str::from_utf8(option).ok())
        .any(|option| snapshot.table.header_names.contains(&*option.to_ascii_lowercase()))
}

struct Choice<'a> {
    service: &'a ServiceTable,
    live: &'a LiveService,
    core: &'a Core,
    /// Milliseconds of the process's clock.
    now: u64,
    /// The number of its route among those of the service; no copy has one.
    route: usize,
}

struct Chosen<'a> {
    /// An index into the service's pools.
    pool: usize,
    backend: &'a Arc<LiveBackend>,
    /// The sticky key that was made up for it.
    issued: Option<Box<Issued>>,
    chosen_by: ChosenBy,
    /// If it counts in a comparison of versions.
    witness: Option<Box<Witness>>,
}

impl<'a> Choice<'a> {
    /// A place among the requests in flight, where there is a limit, once the service is not held any more.
    fn enter<L: Lines>(
        &self,
        turn: Turn,
        view: &RequestView<'_, L>,
        query: &Query<'_, L>,
        state: &mut ServiceState,
    ) -> Result<Option<Permit>, Refusal> {
        if self.live.hold.is_some() || matches!(turn, Turn::Late(Reason::Held)) {
            self.wait_for_release(&turn, view, query, state)?;
        }
        match self.service.policy.limits.in_flight {
            None => Ok(None),
            Some(limit) => self.enter_below(limit, turn, view, query, state),
        }
    }

    /// For who asks what a change would do to the requests of the last hour.
    #[cold]
    fn remember(
        &self,
        view: &RequestView<'_, impl Fields>,
        table: &RoutingTable,
        state: &mut ServiceState,
    ) {
        let mut dice = self.core.dice.borrow_mut();
        let stands_for = state.sampling.next(self.now, &mut *dice);
        if let Some(sample) = Sample::of(view, table, self.service) {
            self.live.recent.offer(sample, stands_for, self.now, 1.0 - dice.random::<f64>());
        }
    }

    /// # Errors
    /// For who has to wait, or has waited in vain. An attempt of what was let in before is no new request: it goes on.
    #[cold]
    fn wait_for_release<L: Lines>(
        &self,
        turn: &Turn,
        view: &RequestView<'_, L>,
        query: &Query<'_, L>,
        state: &mut ServiceState,
    ) -> Result<(), Refusal> {
        match (turn, &self.live.hold) {
            (Turn::Late(reason), _) => Err(self.turned_away(*reason, view, query, state)),
            (Turn::Again(_), _) | (_, None) => Ok(()),
            (_, Some(hold)) => Err(Refusal::Waits(Waiting::Hold(hold.clone()))),
        }
    }

    /// In the name of the pool that the request was for.
    fn turned_away<L: Lines>(
        &self,
        reason: Reason,
        view: &RequestView<'_, L>,
        query: &Query<'_, L>,
        state: &mut ServiceState,
    ) -> Refusal {
        let (key, _) = self.key(view, query);
        let pinned = self.service.pin(view);
        match pinned.map_or_else(|| self.drawn(None, key, state), Ok) {
            Ok(pool) => {
                let pool = Some(self.live.pools[pool].pool.clone());
                Refusal::Failed { reason, pool }
            }
            Err(refusal) => refusal,
        }
    }

    #[inline(never)]
    fn enter_below<L: Lines>(
        &self,
        limit: u32,
        turn: Turn,
        view: &RequestView<'_, L>,
        query: &Query<'_, L>,
        state: &mut ServiceState,
    ) -> Result<Option<Permit>, Refusal> {
        let limits = &self.service.policy.limits;
        let gate = &self.live.gate;
        let late = match turn {
            Turn::Granted(permit) | Turn::Again(Some(permit)) if permit.is_of(gate) => {
                return Ok(Some(permit));
            }
            Turn::First | Turn::Granted(_) | Turn::Released => None,
            Turn::Again(_) => Some(Reason::Overloaded),
            Turn::Late(reason) => Some(reason),
        };
        let full = match gate.try_enter(limit.into()) {
            Ok(permit) => return Ok(Some(permit)),
            Err(full) => full,
        };
        let reason = late.unwrap_or(Reason::Overloaded);
        if late.is_none() && full == Full::Here && limits.queue > 0 {
            let queue = Queue {
                gate: gate.clone(),
                limit: limit.into(),
                places: limits.queue as usize,
                timeout: limits.queue_timeout,
            };
            return Err(Refusal::Waits(Waiting::Queue(queue)));
        }
        Err(self.turned_away(reason, view, query, state))
    }

    fn make<L: Lines>(
        &self,
        view: &RequestView<'_, L>,
        query: &Query<'_, L>,
        policy: &Policy,
        state: &mut ServiceState,
    ) -> Result<Chosen<'a>, Refusal> {
        let (key, issued) = self.key(view, query);
        let tried = query.earlier.as_ref().map_or(&[][..], |earlier| earlier.tried);
        let (mut is_drawn, mut chosen_by) = (false, ChosenBy::Pin);
        let pool = match &query.earlier {
            Some(Earlier { rescue: true, last, .. }) => {
                match Rescuer::of(self.service, self.live, &last.backend.pool) {
                    Some(Rescuer::Pool(pool)) => pool,
                    Some(Rescuer::Heirs) if self.service.pin(view).is_none() => {
                        self.drawn(None, key, state)?
                    }
                    _ => return Err(Reason::NoBackend.into()),
                }
            }
            earlier => match self.service.pin(view) {
                Some(pinned) => pinned,
                None => {
                    is_drawn = earlier.is_none();
                    chosen_by = if key.is_some() { ChosenBy::Sticky } else { ChosenBy::Draw };
                    self.drawn(earlier.as_ref(), key, state)?
                }
            },
        };
        let witness = match &self.live.trial {
            Some(trial) if is_drawn => {
                let key = key.map(Key::hash);
                let assigned = Assigned { pool, route: self.route, key };
                let trial = state.trial(trial);
                let core = self.core.index;
                Some(Booking::new(trial, core, assigned, query.now, &policy.timeouts).into())
            }
            _ => None,
        };
        let balance_key = match self.service.policy.balance {
            Balance::Hash => key.unwrap_or_else(|| Key::of_address(query.client)).hash(),
            // Nobody asks for it.
            _ => 0,
        };
        if let Some(backend) = self.backend(pool, tried, balance_key, state) {
            return Ok(Chosen { pool, backend, issued, chosen_by, witness });
        }
        self.make_do(pool, balance_key, issued, query.earlier.is_none(), witness, state)
    }

    /// What becomes of a request for which `pool` has no backend.
    #[inline(never)]
    fn make_do(
        &self,
        pool: usize,
        balance_key: u64,
        issued: Option<Box<Issued>>,
        first: bool,
        witness: Option<Box<Witness>>,
        state: &mut ServiceState,
    ) -> Result<Chosen<'a>, Refusal> {
        let table = &self.service.pools[pool];
        // Somebody could, but for the limit.
        let is_full = !table.drained && self.live.pools[pool].is_available(table);
        let reason = match (table.drained, is_full) {
            (true, _) => Reason::Draining,
            (_, true) => Reason::Overloaded,
            _ => Reason::NoBackend,
        };
        if let Some(witness) = witness {
            witness.refused(reason);
        }
        if first
            && !is_full
            && let Some((rescuer, backend)) = self.rescue(pool, balance_key, state)
        {
            let (pool, chosen_by) = (rescuer, ChosenBy::Rescue);
            return Ok(Chosen { pool, backend, issued, chosen_by, witness: None });
        }
        let pool = Some(self.live.pools[pool].pool.clone());
        Err(Refusal::Failed { reason, pool })
    }

    /// A backend of the pool that rescues what finds none in `pool`, and the place of that pool.
    fn rescue(
        &self,
        pool: usize,
        key: u64,
        state: &mut ServiceState,
    ) -> Option<(usize, &'a Arc<LiveBackend>)> {
        let rescue = self.service.policy.rescue?;
        if rescue.to == pool || !rescue.on.failure {
            return None;
        }
        let backend = self.backend(rescue.to, &[], key, state)?;
        if !state.budget.take(Again::Rescue, rescue.budget_percent, self.now) {
            return None;
        }
        let (stats, core) = (&self.live.pools[pool].pool.stats, self.core.index);
        stats.record_failure(core, fault_of(Reason::NoBackend), Reason::NoBackend);
        stats.record_rescue(core);
        Some((rescue.to, backend))
    }

    /// What the backend must not see because pins are denied to the client; counted if it is the `first`
    /// decision about the request.
    fn withheld(&self, view: &RequestView<'_, impl Fields>, first: bool) -> Option<Box<Withheld>> {
        let mut withheld: Option<Box<Withheld>> = None;
        for pin in self.service.denied(view) {
            withheld.get_or_insert_default().add(pin);
            if first {
                let stats = &self.live.pools[pin.pool].pool.stats;
                stats.record_pin_denied(self.core.index);
            }
        }
        withheld
    }

    fn key<L: Lines>(
        &self,
        view: &RequestView<'_, L>,
        query: &Query<'_, L>,
    ) -> (Option<Key>, Option<Box<Issued>>) {
        let Some(sticky) = &self.service.sticky else { return (None, None) };
        if let Some(key) = sticky.key(view) {
            return (Some(key), None);
        }
        let earlier = query.earlier.as_ref().and_then(|earlier| earlier.issued.clone());
        let issued = earlier.or_else(|| issue(sticky, query));
        (issued.as_ref().map(|issued| issued.key), issued)
    }

    /// The pool of a request that no pin holds for: that of the earlier try, else one that is drawn.
    fn drawn(
        &self,
        earlier: Option<&Earlier<'_>>,
        key: Option<Key>,
        state: &mut ServiceState,
    ) -> Result<usize, Refusal> {
        let drawable = self.drawable();
        let kept = earlier.and_then(|earlier| {
            let same = |entry: &PoolEntry| Arc::ptr_eq(&entry.pool, &earlier.last.backend.pool);
            self.live.pools.iter().position(same)
        });
        if let Some(kept) = kept
            && drawable.contains(kept)
            && self.service.pools[kept].weight.get() > 0
        {
            return Ok(kept);
        }
        self.draw(key, drawable, state)
            // Nobody can take it: tell whose share it is.
            .or_else(|| self.draw(key, self.service.undrained(), state))
            .or_else(|| self.draw(key, PoolSet::ALL, state))
            .ok_or_else(|| Reason::NoBackend.into())
    }

    /// The pools that draws may land on.
    fn drawable(&self) -> PoolSet {
        let undrained = self.service.undrained();
        match self.service.policy.unhealthy_pool {
            UnhealthyPool::Fail => undrained,
            UnhealthyPool::Redistribute => {
                let pools = self.service.pools.iter().zip(&self.live.pools);
                let available = pools.map(|(table, live)| live.is_available(table));
                PoolSet::of(available).and(undrained)
            }
        }
    }

    fn draw(&self, key: Option<Key>, among: PoolSet, state: &mut ServiceState) -> Option<usize> {
        match (&self.service.sticky, key) {
            (Some(sticky), Some(key)) => sticky.draw(key, among),
            _ => {
                let mut dice = self.core.dice.borrow_mut();
                state.sequence.draw(&self.service.split, among, &mut *dice)
            }
        }
    }

    /// A backend of `pool` that was not `tried`; when all were, one that was.
    fn backend(
        &self,
        pool: usize,
        tried: &[usize],
        key: u64,
        state: &mut ServiceState,
    ) -> Option<&'a Arc<LiveBackend>> {
        let table = &self.service.pools[pool];
        if table.drained {
            return None;
        }
        let backends = &self.live.pools[pool].backends;
        let was_tried = |index: &usize| tried.contains(&backends[*index].slot.index());
        let exclude: Vec<usize> = match tried {
            [] => Vec::new(),
            _ => (0..backends.len()).filter(was_tried).collect(),
        };
        let mut choose_among = |exclude: &[usize]| {
            let candidates = Candidates {
                pool: table,
                readiness: |index: usize| self.readiness(&backends[index], table.slow_start),
                load: |index: usize| backends[index].open(),
                exclude,
            };
            let mut dice = self.core.dice.borrow_mut();
            let balance = self.service.policy.balance;
            choose(balance, &candidates, &mut state.balance[pool], &mut *dice, key)
        };
        let mut chosen = choose_among(&exclude);
        if chosen.is_none() && !exclude.is_empty() {
            chosen = choose_among(&[]);
        }
        chosen.map(|index| &backends[index])
    }

    fn readiness(&self, backend: &LiveBackend, window: Duration) -> u32 {
        if !backend.health.is_available() || is_full(&self.service.policy, backend) {
            0
        } else if window.is_zero() {
            FULL
        } else {
            let since = self.now.saturating_sub(backend.health.since_millis());
            slow_start(Duration::from_millis(since), window)
        }
    }
}

/// As many requests are in flight on it as may be.
fn is_full(policy: &Policy, backend: &LiveBackend) -> bool {
    policy.limits.backend_in_flight.is_some_and(|limit| backend.open() >= limit.into())
}

/// A cookie for a client that has none, if the service gives them.
fn issue<L: Lines>(sticky: &StickyTable, query: &Query<'_, L>) -> Option<Box<Issued>> {
    let StickyKey::Cookie(name) = &sticky.key else { return None };
    if !sticky.issue {
        return None;
    }
    let ClientConnection { core, client, .. } = query.connection;
    let id = core.random_id();
    let id = id.to_str().ok()?;
    let mut cookie = format!("{name}={id}; Path=/; HttpOnly; SameSite=Lax");
    if let Some(max_age) = sticky.max_age {
        cookie.push_str(&format!("; Max-Age={}", max_age.as_secs()));
    }
    // A browser drops a Secure cookie that came over http, and the user would change versions.
    if client.is_secure(query.head.lines) {
        cookie.push_str("; Secure");
    }
    let cookie = HeaderValue::from_str(&cookie).ok()?;
    Some(Box::new(Issued { key: Key::of(id.as_bytes()), cookie }))
}
