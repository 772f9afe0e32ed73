//! Which services' requests are counted for a comparison of their versions, and what was counted between two looks.

use crate::{
    live::{FirstErrors, LiveService, RouteCounts, RouteTotals, Snapshot, Trial, TrialTotals},
    rollout::sequential::Side,
    spec::{Action, Name, RolloutPlan, Spec},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

/// A service is counted while it has a plan for its rollouts, so that stable is known before one begins, and while a
/// rollout runs.
#[derive(Debug, Default)]
pub struct Trials {
    running: HashMap<Name, Running>,
}

#[derive(Debug)]
struct Running {
    limit: u64,
    first_errors: Arc<FirstErrors>,
}

impl Trials {
    /// A rollout of the service runs, by this plan, from the next publish on: whose requests have failed before is
    /// forgotten.
    pub fn begin(&mut self, service: Name, plan: &RolloutPlan) {
        let running = Running { limit: limit(plan), first_errors: Arc::default() };
        self.running.insert(service, running);
    }

    /// It runs no more, from the next publish on.
    pub fn end(&mut self, service: &Name) {
        self.running.remove(service);
    }

    /// The requests of so many users of a sticky service have failed that those of others would not count: no more is
    /// learned of errors.
    pub fn is_full(&self, service: &Name) -> bool {
        self.running.get(service).is_some_and(|running| running.first_errors.is_full())
    }

    /// Puts what counts into the parts of a snapshot.
    pub(super) fn equip(&self, cores: usize, services: &mut [LiveService], spec: &Spec) {
        let mut routes: HashMap<&Name, Vec<Name>> = HashMap::new();
        for route in &spec.routes {
            if let Action::Forward(forward) = &route.action {
                routes.entry(&forward.service).or_default().push(route.name.clone());
            }
        }
        for live in services {
            let Some(service) = spec.services.get(&live.name) else { continue };
            let running = self.running.get(&live.name);
            let planned = service.rollout.as_ref().map(limit);
            live.trial = running.map(|running| running.limit).or(planned).map(|limit| {
                let is_sticky = service.sticky.is_some();
                let first_errors = running.filter(|_| is_sticky).map(|it| it.first_errors.clone());
                let routes = routes.get(&live.name).map_or(&[][..], Vec::as_slice);
                let pools = live.pools.iter().map(|entry| &entry.pool);
                Trial::new(cores, limit, first_errors, pools, routes)
            });
        }
    }
}

/// Nanoseconds above which a request is slow.
fn limit(plan: &RolloutPlan) -> u64 {
    let nanos = |max: Duration| u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
    plan.gates.latency.map_or(u64::MAX, |gate| nanos(gate.max))
}

/// What a version did between two readings of its counts.
pub fn side(before: &TrialTotals, after: &TrialTotals) -> Side {
    let mut latency = after.latency;
    for (after, before) in latency.iter_mut().zip(&before.latency) {
        *after = after.saturating_sub(*before);
    }
    Side {
        requests: after.requests.saturating_sub(before.requests),
        errors: after.errors.saturating_sub(before.errors),
        slow: after.slow.saturating_sub(before.slow),
        latency,
    }
}

/// What both versions did between two readings by one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSides {
    /// `None`: all others.
    pub route: Option<Name>,
    pub stable: RouteCounts,
    pub canary: RouteCounts,
}

/// The routes with the most requests between two readings, `most` at most, and all others as one behind them; each
/// version's readings are what was before and what is now.
pub fn busiest_routes(
    stable: (&RouteTotals, &RouteTotals),
    canary: (&RouteTotals, &RouteTotals),
    most: usize,
) -> Vec<RouteSides> {
    let mut sums: BTreeMap<&Option<Name>, (RouteCounts, RouteCounts)> = BTreeMap::new();
    let since = |route, after: RouteCounts, before: &RouteTotals| {
        after.since(before.get(route).copied().unwrap_or_default())
    };
    for (route, after) in stable.1 {
        sums.entry(route).or_default().0 = since(route, *after, stable.0);
    }
    for (route, after) in canary.1 {
        sums.entry(route).or_default().1 = since(route, *after, canary.0);
    }
    let side = |(route, (stable, canary)): (&Option<Name>, _)| RouteSides {
        route: route.clone(),
        stable,
        canary,
    };
    let mut sides: Vec<RouteSides> = sums.into_iter().map(side).collect();
    let requests = |side: &RouteSides| side.stable.requests + side.canary.requests;
    sides.retain(|side| requests(side) > 0);
    // Stable, so that routes alike stay in the order of their names; what is one already is to be among the others.
    sides.sort_by_key(|side| (side.route.is_none(), Reverse(requests(side))));
    let named = sides.iter().take_while(|side| side.route.is_some()).count().min(most);
    let others = sides.split_off(named);
    sides.extend(
        others
            .into_iter()
            .reduce(|sum, side| RouteSides {
                route: None,
                stable: sum.stable.and(side.stable),
                canary: sum.canary.and(side.canary),
            })
            .map(|others| RouteSides { route: None, ..others }),
    );
    sides
}

/// The part that the canary gets, 0 to 1, of what stable and canary get together as things stand: weights, drains
/// and health. `None`: neither gets anything, or there is no such pool.
pub fn effective_share(
    snapshot: &Snapshot,
    service: &Name,
    stable: &Name,
    canary: &Name,
) -> Option<f64> {
    let mut services = snapshot.table.services.iter().zip(&snapshot.services);
    let (table, live) = services.find(|(table, _)| table.name == *service)?;
    let shares = live.shares(table);
    let of = |pool: &Name| {
        let place = table.pools.iter().position(|it| it.name == *pool)?;
        shares.get(place).copied()
    };
    let (stable, canary) = (of(stable)?, of(canary)?);
    let both = stable + canary;
    (both > 0.0).then(|| canary / both)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::{FileStatus, Started, start, testing::*},
        live::{Assigned, Finding, HealthState, LivePool},
        spec::{LatencyGate, Sticky, StickyKey, UnhealthyPool},
    };

    const GOOD: Finding = Finding { failed: false, hung: false, ns: 1 };

    fn plan(max: Duration) -> RolloutPlan {
        let mut plan = RolloutPlan::default();
        let quantile = plan.gates.latency.unwrap().quantile;
        plan.gates.latency = Some(LatencyGate { quantile, max });
        plan
    }

    /// A proxy's parts, and its services as a publish would have them.
    async fn services(spec: &Spec) -> (Started, Vec<LiveService>) {
        let started = start(spec.clone(), 1, FileStatus::default(), FORMAT).await.unwrap();
        let services = started.live.published.read(|snapshot| snapshot.services.clone());
        (started, services)
    }

    fn totals(pool: &LivePool) -> TrialTotals {
        pool.counts().unwrap().read()
    }

    #[tokio::test]
    async fn counted_is_what_has_a_plan_or_a_rollout() {
        let mut spec = spec(&[("shop", shop()), ("other", shop())]);
        spec.services["shop"].rollout = Some(plan(Duration::from_nanos(10)));
        let (_started, mut services) = services(&spec).await;
        assert!(services[0].trial.is_some() && services[1].trial.is_none(), "by a start");
        let mut trials = Trials::default();
        let (shop, other) = (name("shop"), name("other"));
        trials.begin(other.clone(), &plan(Duration::from_nanos(10)));
        trials.begin(shop.clone(), &plan(Duration::from_nanos(20)));
        trials.equip(1, &mut services, &spec);
        let assigned = Assigned { pool: 0, route: 0, key: None };
        for service in &services {
            let trial = service.trial.as_ref().unwrap();
            trial.count(0, assigned, Finding { ns: 15, ..GOOD });
        }
        let slow = |services: &[LiveService]| {
            [0, 1].map(|service: usize| totals(&services[service].pools[0].pool).slow)
        };
        assert_eq!(slow(&services), [0, 1], "what runs goes by its own plan");
        trials.end(&shop);
        trials.end(&other);
        trials.equip(1, &mut services, &spec);
        assert!(services[1].trial.is_none());
        services[0].trial.as_ref().unwrap().count(0, assigned, Finding { ns: 15, ..GOOD });
        assert_eq!(slow(&services), [1, 1]);
        let routes = services[0].pools[0].pool.counts().unwrap().routes();
        assert_eq!(routes[&Some(name("shop"))].requests, 2);
    }

    #[tokio::test]
    async fn each_rollout_of_a_sticky_service_knows_its_own_first_errors() {
        let mut spec = spec(&[("shop", shop())]);
        let (_started, mut services) = services(&spec).await;
        let mut trials = Trials::default();
        let shop = name("shop");
        let mut errors = |trials: &Trials, spec: &Spec| {
            trials.equip(1, &mut services, spec);
            let trial = services[0].trial.as_ref().unwrap();
            let assigned = Assigned { pool: 0, route: 0, key: Some(7) };
            trial.count(0, assigned, Finding { failed: true, ..GOOD });
            totals(&services[0].pools[0].pool).errors
        };
        trials.begin(shop.clone(), &RolloutPlan::default());
        assert_eq!([errors(&trials, &spec), errors(&trials, &spec)], [1, 2], "it is not sticky");
        let sticky =
            Sticky { key: StickyKey::ClientAddress, issue: false, max_age: None, salt: None };
        spec.services["shop"].sticky = Some(sticky);
        assert_eq!([errors(&trials, &spec), errors(&trials, &spec)], [3, 3]);
        trials.begin(shop.clone(), &RolloutPlan::default());
        assert_eq!([errors(&trials, &spec), errors(&trials, &spec)], [4, 4]);
        assert!(!trials.is_full(&shop) && !trials.is_full(&name("other")));
    }

    #[test]
    fn a_side_is_what_was_counted_in_between() {
        let mut before = TrialTotals { requests: 5, errors: 1, slow: 2, latency: [0; 160] };
        before.latency[3] = 5;
        let mut after = TrialTotals { requests: 9, errors: 2, slow: 2, latency: [0; 160] };
        (after.latency[3], after.latency[4]) = (6, 3);
        let got = side(&before, &after);
        assert_eq!((got.requests, got.errors, got.slow), (4, 1, 0));
        assert_eq!((got.latency[3], got.latency[4], got.latency.iter().sum::<u64>()), (1, 3, 4));
    }

    #[test]
    fn the_busiest_routes_are_those_of_both_versions() {
        let reading = |counts: &[(&str, u64)]| -> RouteTotals {
            let route = |route: &str| Some(name(route)).filter(|_| !route.is_empty());
            let counts = counts.iter().map(|&(name, requests)| {
                (route(name), RouteCounts { requests, errors: requests / 2, slow: 0 })
            });
            counts.collect()
        };
        let stable =
            (reading(&[("a", 100), ("", 1)]), reading(&[("a", 102), ("b", 4), ("c", 1), ("", 8)]));
        let canary = (reading(&[]), reading(&[("d", 5), ("a", 6), ("idle", 0)]));
        let busiest = |most| {
            let sides = busiest_routes((&stable.0, &stable.1), (&canary.0, &canary.1), most);
            let show = |side: RouteSides| {
                let route = side.route.map_or_else(|| "-".to_owned(), |route| route.to_string());
                (route, side.stable.requests, side.canary.requests, side.canary.errors)
            };
            sides.into_iter().map(show).collect::<Vec<_>>()
        };
        let show = |route: &str, stable, canary, errors| (route.to_owned(), stable, canary, errors);
        assert_eq!(busiest(2), [show("a", 2, 6, 3), show("d", 0, 5, 2), show("-", 12, 0, 0)]);
        let [a, d, b, c, others] = &busiest(100)[..] else { panic!("five") };
        assert_eq!((&*a.0, &*d.0, &*b.0, &*c.0), ("a", "d", "b", "c"));
        assert_eq!(*others, show("-", 7, 0, 0));
    }

    #[tokio::test]
    async fn the_effective_share_is_that_of_the_two() {
        let mut shop = service(&[
            ("blue", pool("v1", 30, &[1])),
            ("green", pool("v2", 10, &[2])),
            ("red", pool("v3", 60, &[3])),
        ]);
        for (unhealthy, without) in
            [(UnhealthyPool::Redistribute, 0.0), (UnhealthyPool::Fail, 0.25)]
        {
            shop.unhealthy_pool = unhealthy;
            let (started, _) = services(&spec(&[("shop", shop.clone())])).await;
            let share = |stable: &str, canary: &str| {
                let (service, stable, canary) = (name("shop"), name(stable), name(canary));
                started.live.published.read(|it| effective_share(it, &service, &stable, &canary))
            };
            assert_eq!(share("blue", "green"), Some(0.25));
            assert_eq!(share("blue", "grey"), None);
            let backend = |pool: usize| {
                started.live.published.read(|it| it.services[0].pools[pool].backends[0].clone())
            };
            backend(1).health.set_state(HealthState::Unhealthy, 1);
            assert_eq!(share("blue", "green"), Some(without));
            backend(0).health.set_state(HealthState::Unhealthy, 1);
            let neither = (unhealthy == UnhealthyPool::Fail).then_some(0.25);
            assert_eq!(share("blue", "green"), neither);
        }
    }
}
