//! For each bucket of a histogram of requests the last recorded trace that fell into it.

use super::{Account, CLASSES, class_of};
use crate::spec::{EXPORT_EDGES_SECONDS, Name, export_bucket};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Pools that have exemplars. Those that have left give way when there are too many.
const MOST_POOLS: usize = 4096;

const BUCKETS: usize = EXPORT_EDGES_SECONDS.len() + 1;

#[derive(Debug, Default)]
pub struct Exemplars(Mutex<HashMap<Pool, Box<OfPool>>>);

/// Service, pool and version; of what no pool answered all are empty.
type Pool = (Name, Name, Name);

type OfPool = [[Option<Exemplar>; BUCKETS]; CLASSES.len()];

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    pub trace: u128,
    pub seconds: f64,
    /// Nanoseconds since 1970.
    pub at: u64,
}

impl Exemplars {
    /// A request that ended `at`, in nanoseconds since 1970. Those of traces that are not recorded lead nowhere, and
    /// tunnels are counted when they begin.
    pub fn note(&self, account: &Account, at: u64) {
        let Some(trace) = account.trace.filter(|trace| trace.is_sampled && !account.is_tunnel)
        else {
            return;
        };
        let pool = match account.labels() {
            Some(it) => (it.service.clone(), it.pool.clone(), it.version.clone()),
            None => ("".into(), "".into(), "".into()),
        };
        let ns = account.ended.since(account.began);
        let mut pools = self.locked();
        if pools.len() >= MOST_POOLS && !pools.contains_key(&pool) {
            pools.clear();
        }
        let of_pool =
            pools.entry(pool).or_insert_with(|| Box::new([[None; BUCKETS]; CLASSES.len()]));
        of_pool[class_of(account.status)][export_bucket(ns)] =
            Some(Exemplar { trace: trace.id, seconds: ns as f64 / 1e9, at });
    }

    /// By bucket, of this index into [`CLASSES`].
    pub fn of(&self, pool: [&Name; 3], class: usize) -> Vec<Option<Exemplar>> {
        let [service, name, version] = pool.map(Clone::clone);
        let pools = self.locked();
        let of_pool = pools.get(&(service, name, version));
        of_pool.and_then(|it| it.get(class)).map(|it| it.to_vec()).unwrap_or_default()
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Pool, Box<OfPool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::{Labels, Moment, Trace};
    use std::{sync::Arc, time::Duration};

    fn account(millis: u64, status: u16, is_sampled: bool) -> Account {
        let mut account = Account::default();
        account.ended = Moment::default() + Duration::from_millis(millis);
        account.status = status;
        account.trace = Some(Trace { id: millis.into(), parent: None, span: 1, is_sampled });
        let labels = Labels {
            service: "shop".into(),
            pool: "blue".into(),
            version: "v1".into(),
            backend: Box::default(),
        };
        account.pool = Some(Arc::new(labels));
        account
    }

    #[test]
    fn each_bucket_has_the_last_recorded_one() {
        let exemplars = Exemplars::default();
        exemplars.note(&account(3, 200, true), 1);
        exemplars.note(&account(4, 204, true), 2);
        exemplars.note(&account(20_000, 200, true), 3);
        exemplars.note(&account(80, 200, false), 4);
        exemplars.note(&account(3, 503, true), 5);
        let of = |pool: &str, class| {
            let [service, pool, version]: [Name; 3] = ["shop".into(), pool.into(), "v1".into()];
            let all = exemplars.of([&service, &pool, &version], class);
            let some = all.into_iter().enumerate().filter_map(|(at, it)| Some((at, it?.trace)));
            some.collect::<Vec<_>>()
        };
        assert_eq!(of("blue", 1), [(3, 4), (17, 20_000)]);
        assert_eq!(of("blue", 4), [(3, 3)]);
        assert!(of("blue", 2).is_empty() && of("green", 1).is_empty());
    }
}
