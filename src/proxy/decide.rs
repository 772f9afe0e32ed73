//! Which service, pool and backend a request goes to. Synchronous, in one closure that borrows the
//! snapshot: nothing can hold it across an await, and who has decided has its ticket.

use super::{
    connection::ClientConnection,
    core::{Core, CorePolicy, ServiceState},
    failure::Redirected,
    fields::{Known, Lines, connection_options},
    flight::Ticket,
    head::{self, Facts, Head},
    upstream::Upstream,
    withheld::Withheld,
};
use crate::{
    live::{LiveBackend, LivePool, LiveService, PoolEntry, Reason, Snapshot},
    routing::{
        Candidates, CompiledRoute, Destination, FULL, Fields, Host, Key, PoolSet, PoolTable,
        RequestView, ServiceTable, StickyTable, choose, folded_path, slow_start,
    },
    spec::{Balance, Redirect, StickyKey, UnhealthyPool},
};
use http::HeaderValue;
use std::{net::IpAddr, rc::Rc, sync::Arc, time::Duration};

/// Where a request goes. The ticket says that it is in flight there.
pub(super) struct Assignment {
    pub(super) ticket: Ticket,
    pub(super) policy: CorePolicy,
    /// Of the service, for this core's budgets.
    pub(super) service_slot: usize,
    /// The sticky cookie that the client is given.
    pub(super) issued: Option<Issued>,
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
    pub(super) client: IpAddr,
    /// The user speaks https.
    pub(super) secure: bool,
    /// Milliseconds of the process's clock.
    pub(super) now: u64,
    /// What an earlier decision about the same request came to.
    pub(super) earlier: Option<Earlier<'a>>,
}

pub(super) struct Earlier<'a> {
    /// The backend that was tried last: its pool is kept, if it still takes requests.
    pub(super) last: &'a Rc<Upstream>,
    /// Slots of the backends that were tried.
    pub(super) tried: &'a [usize],
    pub(super) issued: Option<Issued>,
}

/// # Errors
/// A redirect, `BadRequest`, `NoRoute`, or `NoBackend` of the pool that the request was for.
pub(super) fn decide<L: Lines>(
    core: &Rc<Core>,
    query: &Query<'_, L>,
) -> Result<Assignment, Refusal> {
    core.live.published.read(|snapshot| decide_on(snapshot, core, query))
}

fn decide_on<L: Lines>(
    snapshot: &Snapshot,
    core: &Rc<Core>,
    query: &Query<'_, L>,
) -> Result<Assignment, Refusal> {
    let head = query.head;
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
    let (number, policy, policy_number) = match &route.destination {
        Destination::Service { service, policy, number } => (*service, policy, *number),
        Destination::Elsewhere(redirect) => return Err(redirected(redirect, &view)),
    };
    if policy.rewrite.as_ref().is_some_and(|rewrite| rewrite.is_unsafe(view.path)) {
        return Err(Reason::BadRequest.into());
    }
    let service = &snapshot.table.services[number];
    let live = &snapshot.services[number];
    let choice = Choice { service, live, core, now: query.now };
    let pools = service.pools.len();
    let (backend, issued, policy) =
        core.service(live.slot.index(), &live.name, pools, |state| {
            if query.earlier.is_none() {
                state.budget.request(choice.now);
            }
            let (backend, issued) = choice.make(&view, query, state)?;
            Ok::<_, Refusal>((backend, issued, state.policy(policy, policy_number)))
        })?;
    let upstream = match backend.announces() {
        None => core.upstream(backend),
        Some(version) => query.connection.upstream(backend, version),
    };
    let ticket = core.flights.begin(core.index, upstream);
    let service_slot = live.slot.index();
    let withheld = choice.withheld(&view, query.earlier.is_none());
    Ok(Assignment { ticket, policy, service_slot, issued, withheld })
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
    now: u64,
}

impl<'a> Choice<'a> {
    /// The backend of the request, and the sticky key that was made up for it.
    fn make<L: Lines>(
        &self,
        view: &RequestView<'_, L>,
        query: &Query<'_, L>,
        state: &mut ServiceState,
    ) -> Result<(&'a Arc<LiveBackend>, Option<Issued>), Refusal> {
        let (key, issued) = self.key(view, query);
        let tried = query.earlier.as_ref().map_or(&[][..], |earlier| earlier.tried);
        let pool = self.pool(view, query.earlier.as_ref(), key, state)?;
        let balance_key = match self.service.policy.balance {
            Balance::Hash => key.unwrap_or_else(|| Key::of_address(query.client)).hash(),
            // Nobody asks for it.
            _ => 0,
        };
        match self.backend(pool, tried, balance_key, state) {
            Some(backend) => Ok((backend, issued)),
            None => {
                let pool = Some(self.live.pools[pool].pool.clone());
                Err(Refusal::Failed { reason: Reason::NoBackend, pool })
            }
        }
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
    ) -> (Option<Key>, Option<Issued>) {
        let Some(sticky) = &self.service.sticky else { return (None, None) };
        if let Some(key) = sticky.key(view) {
            return (Some(key), None);
        }
        let earlier = query.earlier.as_ref().and_then(|earlier| earlier.issued.clone());
        let issued = earlier.or_else(|| issue(self.core, sticky, query.secure));
        (issued.as_ref().map(|issued| issued.key), issued)
    }

    /// The pool of the request: a pin's, else that of the earlier try, else one that is drawn.
    fn pool(
        &self,
        view: &RequestView<'_, impl Fields>,
        earlier: Option<&Earlier<'_>>,
        key: Option<Key>,
        state: &mut ServiceState,
    ) -> Result<usize, Refusal> {
        if let Some(pinned) = self.service.pin(view) {
            return Ok(pinned);
        }
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
            .or_else(|| self.draw(key, PoolSet::ALL, state))
            .ok_or_else(|| Reason::NoBackend.into())
    }

    /// The pools that draws may land on.
    fn drawable(&self) -> PoolSet {
        let undrained = self.service.undrained();
        match self.service.policy.unhealthy_pool {
            UnhealthyPool::Fail => undrained,
            UnhealthyPool::Redistribute => {
                let pools = self.service.pools.iter().zip(&self.live.pools).enumerate();
                pools
                    .filter(|(index, (table, live))| {
                        undrained.contains(*index) && is_available(table, live)
                    })
                    .map(|(index, _)| index)
                    .collect()
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
        if !backend.health.is_available() {
            0
        } else if window.is_zero() {
            FULL
        } else {
            let since = self.now.saturating_sub(backend.health.since_millis());
            slow_start(Duration::from_millis(since), window)
        }
    }
}

/// Some backend can take requests.
fn is_available(table: &PoolTable, live: &PoolEntry) -> bool {
    table.backends.iter().zip(&live.backends).any(|(backend, live)| {
        !backend.drained && backend.weight.get() > 0 && live.health.is_available()
    })
}

/// A cookie for a client that has none, if the service gives them.
fn issue(core: &Core, sticky: &StickyTable, secure: bool) -> Option<Issued> {
    let StickyKey::Cookie(name) = &sticky.key else { return None };
    if !sticky.issue {
        return None;
    }
    let id = core.random_id();
    let id = id.to_str().ok()?;
    let mut cookie = format!("{name}={id}; Path=/; HttpOnly; SameSite=Lax");
    if let Some(max_age) = sticky.max_age {
        cookie.push_str(&format!("; Max-Age={}", max_age.as_secs()));
    }
    // A browser drops a Secure cookie that came over http, and the user would change versions.
    if secure {
        cookie.push_str("; Secure");
    }
    Some(Issued { key: Key::of(id.as_bytes()), cookie: HeaderValue::from_str(&cookie).ok()? })
}
