//! Which backends are left out because their requests fail: those that a core suspects after failures in a row,
//! and those of which too few requests succeeded. Never more of a pool than its service allows, never for good.

use super::parts::{Placed, later};
use crate::{
    live::{Clock, Ejected, LiveBackend},
    spec::{Ejection, Service, Spec},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// Looks at the rates within a window.
const LOOKS: u32 = 10;

/// Between two looks at least.
const SHORTEST: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(super) struct Ejector {
    /// By the backend's address in memory, which nobody else has while it is kept here.
    records: HashMap<usize, Record>,
    /// When to look at the rates again.
    next_look: Option<Instant>,
}

struct Record {
    backend: Arc<LiveBackend>,
    window: Window,
    sentence: Sentence,
}

/// How often a backend was left out, and until when.
#[derive(Debug, Default)]
struct Sentence {
    times: u32,
    until: Option<Instant>,
    readmitted: Option<Instant>,
}

impl Sentence {
    /// It is left out from `now` on. Returns for how long.
    fn begin(&mut self, ejection: &Ejection, now: Instant) -> Duration {
        let longest = ejection.longest.max(ejection.duration);
        let forgotten = |at: Instant| now.saturating_duration_since(at) >= longest;
        if self.readmitted.is_some_and(forgotten) {
            self.times = 0;
        }
        let doubled = 2_u32.saturating_pow(self.times);
        let length = ejection.duration.saturating_mul(doubled).min(longest);
        self.times = self.times.saturating_add(1);
        self.until = Some(later(now, length));
        length
    }

    /// True when it ends now.
    fn end(&mut self, now: Instant) -> bool {
        let ends = self.until.is_some_and(|until| now >= until);
        if ends {
            self.until = None;
            self.readmitted = Some(now);
        }
        ends
    }
}

/// What ended and what failed, as counted at some moments; the oldest is at the window's beginning or before.
#[derive(Debug, Default)]
struct Window(VecDeque<(Instant, Count)>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    ended: u64,
    failed: u64,
}

impl Window {
    /// What came to it within the last `length`.
    fn add(&mut self, now: Instant, count: Count, length: Duration) -> Count {
        self.0.push_back((now, count));
        let is_old = |at: &Instant| now.saturating_duration_since(*at) >= length;
        while self.0.get(1).is_some_and(|(at, _)| is_old(at)) {
            self.0.pop_front();
        }
        let first = self.0.front().map_or(count, |(_, first)| *first);
        Count {
            ended: count.ended.saturating_sub(first.ended),
            failed: count.failed.saturating_sub(first.failed),
        }
    }
}

impl Count {
    /// The share that succeeded, if that is too small and there are enough to tell.
    fn too_few(self, ejection: &Ejection) -> Option<f64> {
        if self.ended < u64::from(ejection.min_requests) {
            return None;
        }
        let rate = 1.0 - (self.failed as f64 / self.ended as f64).min(1.0);
        (rate < f64::from(ejection.success_rate_percent) / 100.0).then_some(rate)
    }
}

/// A backend that should be left out.
struct Outlier<'a> {
    placed: &'a Placed,
    ejection: Ejection,
    /// The share of its requests that succeeded; `None`: failures in a row.
    rate: Option<f64>,
}

impl Ejector {
    /// Ends what has lasted long enough and begins what is due, among the backends in the table. True when a
    /// backend was readmitted.
    pub(super) fn step(
        &mut self,
        placed: &[Placed],
        spec: &Spec,
        now: Instant,
        clock: Clock,
    ) -> bool {
        let readmitted = self.readmit(now, clock);
        let mut outliers = self.outliers(placed, spec, now);
        // Those that fail the most go first, as long as some may.
        outliers.sort_by(|a, b| a.rate.unwrap_or(0.0).total_cmp(&b.rate.unwrap_or(0.0)));
        for outlier in outliers {
            if may_go(placed, outlier.placed, &outlier.ejection) {
                self.eject(&outlier, now);
            }
        }
        readmitted
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let ends = self.records.values().filter_map(|record| record.sentence.until);
        ends.chain(self.next_look).min()
    }

    /// Keeps a record of each backend in the table, and of no others.
    pub(super) fn follow(&mut self, placed: &[Placed]) {
        let mut before = std::mem::take(&mut self.records);
        for Placed { backend, .. } in placed {
            let key = key(backend);
            let record = before.remove(&key).unwrap_or_else(|| Record {
                backend: backend.clone(),
                window: Window::default(),
                sentence: Sentence::default(),
            });
            self.records.insert(key, record);
        }
    }

    fn readmit(&mut self, now: Instant, clock: Clock) -> bool {
        let mut any = false;
        for Record { backend, window, sentence } in self.records.values_mut() {
            if sentence.end(now) {
                // What failed meanwhile was sent before.
                window.0.clear();
                backend.health.take_suspicion();
                backend.health.readmit(Ejected::Failing, clock.now_millis());
                let pool = &backend.pool;
                let (service, pool) = (&pool.service, &pool.name);
                tracing::info!(%service, %pool, backend = %backend.address, "backend readmitted");
                any = true;
            }
        }
        any
    }

    fn outliers<'a>(
        &mut self,
        placed: &'a [Placed],
        spec: &Spec,
        now: Instant,
    ) -> Vec<Outlier<'a>> {
        let looks = self.next_look.is_none_or(|at| now >= at);
        let mut next_look: Option<Instant> = None;
        let mut outliers = Vec::new();
        for placed in placed {
            let suspected = placed.backend.health.take_suspicion();
            let Some(service) = spec.services.get(&placed.service) else { continue };
            let Some(record) = self.records.get_mut(&key(&placed.backend)) else { continue };
            let ejection = service.ejection;
            let mut rate = None;
            if ejection.success_rate_percent > 0 && can_lose(&ejection, pool_size(service, placed))
            {
                let pause = (ejection.window / LOOKS).max(SHORTEST);
                next_look = Some(next_look.map_or(now + pause, |at| at.min(now + pause)));
                if looks {
                    let backend = &placed.backend;
                    let count = Count { ended: backend.finished(), failed: backend.failed() };
                    rate = record.window.add(now, count, ejection.window).too_few(&ejection);
                }
            }
            if suspected || rate.is_some() {
                outliers.push(Outlier { placed, ejection, rate });
            }
        }
        if looks {
            self.next_look = next_look;
        }
        outliers
    }

    fn eject(&mut self, outlier: &Outlier<'_>, now: Instant) {
        let backend = &outlier.placed.backend;
        let Some(record) = self.records.get_mut(&key(backend)) else { return };
        if !backend.health.eject(Ejected::Failing) {
            return;
        }
        let length = record.sentence.begin(&outlier.ejection, now);
        backend.pool.record_ejection();
        let (service, pool) = (&backend.pool.service, &backend.pool.name);
        let why = match outlier.rate {
            Some(rate) => format!("{:.0} % of its requests succeeded", rate * 100.0),
            None => format!("{} failures in a row", outlier.ejection.consecutive),
        };
        tracing::warn!(
            %service, %pool, backend = %backend.address, why, ?length, "backend ejected"
        );
    }
}

fn key(backend: &Arc<LiveBackend>) -> usize {
    Arc::as_ptr(backend).addr()
}

fn pool_size(service: &Service, placed: &Placed) -> usize {
    service.pools.get(&placed.pool).map_or(0, |pool| pool.backends.len())
}

/// So many of a pool of `size` may be unavailable when one is left out.
fn allowed(ejection: &Ejection, size: usize) -> usize {
    size * ejection.at_most_percent as usize / 100
}

fn can_lose(ejection: &Ejection, size: usize) -> bool {
    allowed(ejection, size) > 0
}

/// Enough of its pool is left without it, whatever the others are unavailable for.
fn may_go(placed: &[Placed], one: &Placed, ejection: &Ejection) -> bool {
    let same = |p: &&Placed| (&p.service, &p.pool) == (&one.service, &one.pool);
    let (mut all, mut unavailable) = (0, 0);
    for p in placed.iter().filter(same).filter(|p| p.in_service()) {
        all += 1;
        unavailable += usize::from(!p.backend.health.is_available());
    }
    one.backend.health.is_available() && unavailable < allowed(ejection, all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::{
            parts::Parts,
            testing::{pool, service, spec},
        },
        live::Outcome,
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn ejection() -> Ejection {
        Ejection { min_requests: 10, ..Ejection::default() }
    }

    #[test]
    fn each_time_it_is_left_out_twice_as_long_until_it_was_well_for_long() {
        let ejection = Ejection { longest: 100 * SECOND, ..ejection() };
        let (mut sentence, mut now) = (Sentence::default(), Instant::now());
        for seconds in [30, 60, 100, 100] {
            assert_eq!(sentence.begin(&ejection, now), seconds * SECOND);
            assert!(!sentence.end(now + (seconds - 1) * SECOND));
            now += seconds * SECOND;
            assert!(sentence.end(now) && !sentence.end(now));
            now += 99 * SECOND;
        }
        assert_eq!(sentence.begin(&ejection, now + SECOND), 30 * SECOND);
        let short = Ejection { longest: SECOND, ..ejection };
        assert_eq!(Sentence::default().begin(&short, now), 30 * SECOND, "`for` holds");
    }

    #[test]
    fn a_window_forgets() {
        let (mut window, start) = (Window::default(), Instant::now());
        let mut add = |second: u32, ended, failed| {
            let count = Count { ended, failed };
            let Count { ended, failed } = window.add(start + second * SECOND, count, 10 * SECOND);
            (ended, failed)
        };
        assert_eq!(add(0, 100, 50), (0, 0), "what was before it began does not count");
        assert_eq!(add(5, 110, 60), (10, 10));
        assert_eq!(add(10, 120, 60), (20, 10));
        assert_eq!(add(15, 130, 60), (20, 0));
        assert_eq!(add(40, 131, 60), (1, 0), "since it was last looked at");
    }

    #[test]
    fn a_rate_counts_when_there_are_enough_requests() {
        let rate = |ended, failed| Count { ended, failed }.too_few(&ejection());
        assert_eq!(rate(9, 9), None);
        assert_eq!(rate(10, 5), None);
        assert_eq!(rate(10, 6), Some(0.4));
        assert_eq!(rate(10, 11), Some(0.0), "an attempt fails before it ends");
    }

    struct Rig {
        parts: Parts,
        spec: Arc<Spec>,
        ejector: Ejector,
        clock: Clock,
    }

    fn rig(backends: u16, ejection: Ejection) -> Rig {
        let ports: Vec<u16> = (1..=backends).collect();
        let mut shop = service(&[("blue", pool("v1", 1, &ports)), ("green", pool("v2", 1, &[99]))]);
        shop.ejection = ejection;
        let spec = Arc::new(spec(&[("shop", shop)]));
        let mut parts = Parts::new(1);
        parts.adopt(parts.plan(&spec, std::iter::empty(), Instant::now(), 0));
        let mut ejector = Ejector::default();
        ejector.follow(parts.placed());
        Rig { parts, spec, ejector, clock: Clock::start() }
    }

    impl Rig {
        fn step(&mut self, now: Instant) -> bool {
            self.ejector.step(self.parts.placed(), &self.spec, now, self.clock)
        }

        fn backend(&self, index: usize) -> &LiveBackend {
            &self.parts.placed()[index].backend
        }

        /// By the backend's place.
        fn ejected(&self) -> Vec<usize> {
            let placed = self.parts.placed().iter().enumerate();
            let ejected = placed.filter(|(_, p)| p.backend.health.is_ejected_for(Ejected::Failing));
            ejected.map(|(index, _)| index).collect()
        }
    }

    fn serve(backend: &LiveBackend, requests: u32, failed: u32) {
        for request in 0..requests {
            backend.begin(0);
            if request < failed {
                backend.attempt_failed(0);
            }
            backend.end(0, crate::live::Kind::Request, Outcome::Finished);
        }
    }

    #[test]
    fn a_suspect_is_left_out_for_some_time() {
        let (mut rig, now) = (rig(2, ejection()), Instant::now());
        rig.backend(0).health.suspect();
        rig.step(now);
        assert_eq!(rig.ejected(), [0]);
        assert_eq!(rig.backend(0).pool.ejections(), 1);
        assert!(rig.ejector.next_deadline().is_some_and(|at| at <= now + 30 * SECOND));
        assert!(!rig.step(now + 29 * SECOND));
        assert!(rig.step(now + 30 * SECOND));
        assert!(rig.ejected().is_empty() && rig.backend(0).health.is_available());
    }

    #[test]
    fn never_more_of_a_pool_than_allowed() {
        for (backends, at_most_percent, expected) in
            [(1, 50, 0), (1, 100, 1), (2, 50, 1), (3, 50, 1), (4, 50, 2), (5, 30, 1), (9, 0, 0)]
        {
            let mut rig = rig(backends, Ejection { at_most_percent, ..ejection() });
            for index in 0..usize::from(backends) {
                rig.backend(index).health.suspect();
            }
            rig.step(Instant::now());
            assert_eq!(rig.ejected().len(), expected, "{at_most_percent} % of {backends}");
        }
        let mut rig = rig(2, ejection());
        rig.backend(0).health.eject(Ejected::Unreachable);
        rig.backend(1).health.suspect();
        rig.step(Instant::now());
        assert!(rig.ejected().is_empty(), "the other one is unavailable already");
    }

    #[test]
    fn the_worst_of_those_that_fail_goes_first() {
        let (mut rig, now) = (rig(3, ejection()), Instant::now());
        rig.step(now);
        for (index, failed) in [(0, 12), (1, 16), (2, 9)] {
            serve(rig.backend(index), 20, failed);
        }
        rig.step(now + SECOND / 2);
        assert!(rig.ejected().is_empty(), "it is not time to look yet");
        rig.step(now + SECOND);
        assert_eq!(rig.ejected(), [1], "one of three");
        rig.step(now + 31 * SECOND);
        assert!(rig.ejected().is_empty(), "the failures are out of the window");
    }

    #[test]
    fn rates_are_not_judged_where_that_is_off_or_could_not_matter() {
        let off = Ejection { success_rate_percent: 0, ..ejection() };
        for (backends, ejection) in [(2, off), (1, ejection())] {
            let (mut rig, now) = (rig(backends, ejection), Instant::now());
            rig.step(now);
            assert_eq!(rig.ejector.next_deadline(), None);
            serve(rig.backend(0), 20, 20);
            rig.step(now + SECOND);
            assert!(rig.ejected().is_empty());
        }
    }
}
