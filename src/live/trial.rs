//! What is counted of a service's requests while its versions are compared. Each counts for the pool that its draw
//! landed on, whoever answers it in the end.

use super::{Counter, LivePool, PerCore};
use crate::spec::{FINE_BUCKETS, Name, fine_bucket};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// By whether it is an error and whether it is slow: one counter a request, so that no reader finds more errors than
/// requests.
const CLASSES: usize = 4;
const ERROR: usize = 1;
const SLOW: usize = 2;

/// Routes of a pool that are counted each for itself; the others are counted as one.
const MOST_ROUTES: usize = 1000;

/// Of a pool, as long as it lives.
#[derive(Debug)]
pub struct TrialCounts {
    cores: usize,
    cells: PerCore<Cell>,
    routes: Mutex<Routes>,
}

#[derive(Debug)]
struct Cell([[Counter; FINE_BUCKETS]; CLASSES]);

impl Default for Cell {
    fn default() -> Self {
        Self(std::array::from_fn(|_| std::array::from_fn(|_| Counter::default())))
    }
}

type RouteCells = PerCore<[Counter; CLASSES]>;

#[derive(Debug)]
struct Routes {
    known: HashMap<Name, RouteCells>,
    others: RouteCells,
}

/// The counts of a pool added up; they only ever rise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialTotals {
    pub requests: u64,
    pub errors: u64,
    /// Above the limit that was in force.
    pub slow: u64,
    /// All requests, by the bucket of their time to the response's head.
    pub latency: [u64; FINE_BUCKETS],
}

/// The counts of a pool's requests by route, those of routes that have gone among them; they only ever rise. `None`
/// is all routes that have no counters of their own.
pub type RouteTotals = BTreeMap<Option<Name>, RouteCounts>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteCounts {
    pub requests: u64,
    pub errors: u64,
    pub slow: u64,
}

impl RouteCounts {
    fn of(cells: &RouteCells) -> Self {
        let of = |bits: usize| {
            let classes = (0..CLASSES).filter(move |class| class & bits == bits);
            classes.map(|class| cells.iter().map(|core| core[class].get()).sum::<u64>()).sum()
        };
        Self { requests: of(0), errors: of(ERROR), slow: of(SLOW) }
    }

    /// What was counted after `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            slow: self.slow.saturating_sub(earlier.slow),
        }
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            errors: self.errors + other.errors,
            slow: self.slow + other.slow,
        }
    }
}

impl TrialCounts {
    pub(super) fn new(cores: usize) -> Self {
        let routes = Routes { known: HashMap::new(), others: PerCore::new(cores) };
        Self { cores, cells: PerCore::new(cores), routes: Mutex::new(routes) }
    }

    pub fn read(&self) -> TrialTotals {
        let mut totals =
            TrialTotals { requests: 0, errors: 0, slow: 0, latency: [0; FINE_BUCKETS] };
        for cell in self.cells.iter() {
            for (class, buckets) in cell.0.iter().enumerate() {
                let mut sum = 0;
                for (bucket, counter) in totals.latency.iter_mut().zip(buckets) {
                    let count = counter.get();
                    *bucket += count;
                    sum += count;
                }
                totals.requests += sum;
                totals.errors += if class & ERROR != 0 { sum } else { 0 };
                totals.slow += if class & SLOW != 0 { sum } else { 0 };
            }
        }
        totals
    }

    pub fn routes(&self) -> RouteTotals {
        let routes = self.locked();
        let known = routes.known.iter().map(|(name, cells)| (Some(name.clone()), cells));
        let all = known.chain([(None, &routes.others)]);
        all.map(|(route, cells)| (route, RouteCounts::of(cells))).collect()
    }

    /// Where the requests of these routes are counted, in their order.
    fn cells_of(&self, names: &[Name]) -> Box<[RouteCells]> {
        let mut routes = self.locked();
        let Routes { known, others } = &mut *routes;
        let cells = names.iter().map(|name| {
            if let Some(cells) = known.get(name) {
                return cells.clone();
            }
            if known.len() >= MOST_ROUTES {
                return others.clone();
            }
            let cells = RouteCells::new(self.cores);
            known.insert(name.clone(), cells.clone());
            cells
        });
        cells.collect()
    }

    fn locked(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counting of a service's requests, as one publish has it. What was counted stays with the pools.
#[derive(Debug)]
pub struct Trial {
    /// Nanoseconds; what takes longer is slow.
    limit: u64,
    first_errors: Option<Arc<FirstErrors>>,
    pools: Box<[Counted]>,
}

#[derive(Debug)]
struct Counted {
    cells: PerCore<Cell>,
    /// By the route's number among those of the service.
    routes: Box<[RouteCells]>,
}

/// Where a draw has landed.
#[derive(Clone, Copy, Debug)]
pub struct Assigned {
    /// An index into the service's pools.
    pub pool: usize,
    /// The number of its route among those of the service.
    pub route: usize,
    /// The hash of its sticky key.
    pub key: Option<u64>,
}

/// What a request has come to.
#[derive(Clone, Copy, Debug)]
pub struct Finding {
    pub failed: bool,
    /// There was no response's head for so long that it counts as slow whatever the limit is.
    pub hung: bool,
    /// Nanoseconds until the response's head, or until it failed.
    pub ns: u64,
}

impl Trial {
    /// Requests that take longer than `limit` nanoseconds are slow. `pools` and `routes` are those of the service, in
    /// its order. `first_errors`: of each sticky key one error counts.
    pub fn new<'a>(
        cores: usize,
        limit: u64,
        first_errors: Option<Arc<FirstErrors>>,
        pools: impl Iterator<Item = &'a Arc<LivePool>>,
        routes: &[Name],
    ) -> Arc<Self> {
        let counted = |pool: &Arc<LivePool>| {
            let counts = pool.begin_counting(cores);
            Counted { cells: counts.cells.clone(), routes: counts.cells_of(routes) }
        };
        Arc::new(Self { limit, first_errors, pools: pools.map(counted).collect() })
    }

    /// For the `core` that the caller is on; once for each request.
    pub fn count(&self, core: usize, assigned: Assigned, finding: Finding) {
        let Some(pool) = self.pools.get(assigned.pool) else { return };
        let mut class = 0;
        if finding.failed && self.counts_error(assigned.key) {
            class |= ERROR;
        }
        if finding.hung || finding.ns > self.limit {
            class |= SLOW;
        }
        pool.cells.of(core).0[class][fine_bucket(finding.ns)].add(1);
        if let Some(route) = pool.routes.get(assigned.route) {
            route.of(core)[class].add(1);
        }
    }

    fn counts_error(&self, key: Option<u64>) -> bool {
        match (&self.first_errors, key) {
            (Some(first_errors), Some(key)) => first_errors.is_first(key),
            _ => true,
        }
    }
}

/// The sticky keys whose requests have failed: a user whose every request fails would be many errors of the one
/// version that the key draws.
#[derive(Debug, Default)]
pub struct FirstErrors(Mutex<HashSet<u64>>);

impl FirstErrors {
    pub const MOST: usize = 65_536;

    /// Keys that are not known yet have no place any more: their errors do not count.
    pub fn is_full(&self) -> bool {
        self.locked().len() >= Self::MOST
    }

    fn is_first(&self, key: u64) -> bool {
        let mut keys = self.locked();
        keys.len() < Self::MOST && keys.insert(key)
    }

    fn locked(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1_000_000;
    const GOOD: Finding = Finding { failed: false, hung: false, ns: LIMIT };

    fn pool(name: &str) -> Arc<LivePool> {
        LivePool::new(2, "shop".into(), name.into(), "v1".into())
    }

    fn place(route: usize) -> Assigned {
        Assigned { pool: 0, route, key: None }
    }

    fn read(pool: &LivePool) -> (u64, u64, u64) {
        let TrialTotals { requests, errors, slow, latency } = pool.counts().unwrap().read();
        assert_eq!(latency.iter().sum::<u64>(), requests);
        (requests, errors, slow)
    }

    #[test]
    fn each_request_is_counted_once_under_what_it_came_to() {
        let (blue, green) = (pool("blue"), pool("green"));
        assert!(blue.counts().is_none(), "nobody counts yet");
        let pools = [&blue, &green];
        let trial = Trial::new(2, LIMIT, None, pools.into_iter(), &["all".into()]);
        trial.count(0, place(0), GOOD);
        trial.count(1, place(0), Finding { ns: LIMIT + 1, ..GOOD });
        trial.count(1, place(0), Finding { failed: true, ..GOOD });
        trial.count(0, place(0), Finding { failed: true, hung: true, ns: 1 });
        assert_eq!((read(&blue), read(&green)), ((4, 2, 2), (0, 0, 0)));
        let latency = blue.counts().unwrap().read().latency;
        assert_eq!((latency[0], latency[fine_bucket(LIMIT)]), (1, 3));
        trial.count(0, Assigned { pool: 1, ..place(0) }, GOOD);
        trial.count(0, Assigned { pool: 2, ..place(0) }, GOOD);
        assert_eq!((read(&blue), read(&green)), ((4, 2, 2), (1, 0, 0)));

        let next = Trial::new(2, LIMIT, None, pools.into_iter(), &[]);
        next.count(0, place(0), GOOD);
        assert_eq!(read(&blue), (5, 2, 2), "what was counted stays");
    }

    fn of_route(pool: &LivePool, name: Option<&str>) -> (u64, u64, u64) {
        let RouteCounts { requests, errors, slow } =
            pool.counts().unwrap().routes()[&name.map(Name::from)];
        (requests, errors, slow)
    }

    #[test]
    fn routes_keep_their_counts_wherever_they_stand_and_the_rest_is_one() {
        let blue = pool("blue");
        let trial = |routes: &[Name]| Trial::new(2, LIMIT, None, [&blue].into_iter(), routes);
        let before = trial(&["a".into(), "b".into()]);
        before.count(0, place(1), Finding { failed: true, hung: true, ..GOOD });
        let after = trial(&["new".into(), "b".into(), "a".into()]);
        after.count(1, place(1), GOOD);
        after.count(1, place(2), GOOD);
        before.count(1, place(0), GOOD);
        assert_eq!(of_route(&blue, Some("b")), (2, 1, 1));
        assert_eq!(of_route(&blue, Some("a")), (2, 0, 0));

        let many: Vec<Name> = (0..MOST_ROUTES).map(|n| n.to_string().into()).collect();
        let trial = trial(&many);
        assert_eq!(blue.counts().unwrap().routes().len(), MOST_ROUTES + 1);
        for late in [MOST_ROUTES - 1, MOST_ROUTES - 2, MOST_ROUTES] {
            trial.count(0, place(late), GOOD);
        }
        assert_eq!(of_route(&blue, None), (2, 0, 0));
        assert_eq!(read(&blue).0, 7, "one whose route is not known counts all the same");
    }

    #[test]
    fn a_sticky_key_has_one_error_over_all_versions() {
        let (blue, green) = (pool("blue"), pool("green"));
        let first_errors = Arc::new(FirstErrors::default());
        let pools = [&blue, &green];
        let sticky = Some(first_errors.clone());
        let trial = Trial::new(2, LIMIT, sticky, pools.into_iter(), &["all".into()]);
        let failed = Finding { failed: true, ..GOOD };
        let fail = |pool, key| trial.count(0, Assigned { pool, key: Some(key), route: 0 }, failed);
        for pool in [0, 0, 1] {
            fail(pool, 7);
        }
        assert_eq!((read(&blue), read(&green)), ((2, 1, 0), (1, 0, 0)));
        trial.count(0, place(0), failed);
        assert_eq!(read(&blue), (3, 2, 0), "without a key there is nobody to tell apart");
        for key in 0..FirstErrors::MOST as u64 - 1 {
            assert!(!first_errors.is_full());
            fail(1, if key < 7 { key } else { key + 1 });
        }
        assert!(first_errors.is_full());
        fail(1, u64::MAX);
        assert_eq!(read(&green), (65_537, 65_535, 0));
    }
}
