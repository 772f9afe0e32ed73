//! Which backends are watched, and what the findings mean for their health. The probes only report: the
//! control task alone judges, so a check that was taken away cannot speak any more.

use super::{
    parts::{Parts, Placed},
    probe::{jittered, part_of, probe, reconnect},
};
use crate::{
    live::{Ejected, HealthState, LiveBackend},
    spec::{HealthCheck, ServiceTimeouts, Spec},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

/// The first pause between the probes of a newcomer that does not answer; each next one is twice as long.
/// Whoever starts a backend and crossfade together does not want to wait for an interval.
const SOON: Duration = Duration::from_millis(100);

/// Findings that wait to be judged; probes wait when there are more.
const QUEUE: usize = 1024;

pub(super) struct Prober {
    /// By the backend's address in memory, which nobody else has while it is watched.
    watches: HashMap<usize, Watch>,
    tasks: u64,
    reports: mpsc::Sender<Report>,
}

/// What a probe found, or that an ejected backend can be reached again.
pub(super) struct Report {
    backend: usize,
    task: u64,
    result: Result<(), String>,
}

struct Watch {
    backend: Arc<LiveBackend>,
    check: Option<HealthCheck>,
    streak: Streak,
    task: Option<Task>,
}

/// A task that ends with whoever holds it.
pub(super) struct Task {
    pub(super) number: u64,
    pub(super) handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Prober {
    pub(super) fn new() -> (Self, mpsc::Receiver<Report>) {
        let (reports, receiver) = mpsc::channel(QUEUE);
        (Self { watches: HashMap::new(), tasks: 0, reports }, receiver)
    }

    /// Watches the backends in the table as `spec` says: with its health check, or, when it has none and the
    /// backend was ejected, until it can be reached again; those that are kept warm as they were; and no
    /// others. `now_millis` is of the process's clock.
    pub(super) fn follow(&mut self, parts: &Parts, spec: &Spec, now_millis: u64) {
        let mut before = std::mem::take(&mut self.watches);
        for Placed { service, backend, .. } in parts.placed() {
            let service = spec.services.get(service);
            let check = service.and_then(|service| service.health_check.as_ref());
            let connect = service.map_or(ServiceTimeouts::default(), |s| s.timeouts).connect;
            let known = before.remove(&key(backend));
            let mut watch = self.watch(known, backend, check, now_millis);
            self.look_after_lost(&mut watch, connect);
            self.watches.insert(key(backend), watch);
        }
        for (backend, check) in parts.warm().all() {
            let known = before.remove(&key(backend));
            let watch = self.watch(known, backend, Some(check), now_millis);
            self.watches.insert(key(backend), watch);
        }
    }

    fn watch(
        &mut self,
        known: Option<Watch>,
        backend: &Arc<LiveBackend>,
        check: Option<&HealthCheck>,
        now_millis: u64,
    ) -> Watch {
        let mut watch = known.unwrap_or_else(|| Watch::new(backend.clone()));
        if watch.check.as_ref() != check {
            watch.check = check.cloned();
            watch.streak = Streak::default();
            watch.task = check.map(|check| self.begin_probes(&watch, check));
            if check.is_none() {
                trust(backend, now_millis);
            }
        }
        watch
    }

    /// Judges a finding.
    pub(super) fn judge(&mut self, report: &Report, now_millis: u64) {
        let Some(watch) = self.watches.get_mut(&report.backend) else { return };
        if watch.task.as_ref().is_none_or(|task| task.number != report.task) {
            return;
        }
        let backend = &watch.backend;
        if report.result.is_ok() && backend.health.is_ejected_for(Ejected::Unreachable) {
            backend.health.readmit(Ejected::Unreachable, now_millis);
            log(backend, "backend readmitted", "it can be reached again");
        }
        match &watch.check {
            None => watch.task = None,
            Some(check) => watch.streak.judge(backend, check, &report.result, now_millis),
        }
    }

    fn look_after_lost(&mut self, watch: &mut Watch, connect: Duration) {
        let is_lost = watch.backend.health.is_ejected_for(Ejected::Unreachable);
        if watch.check.is_some() || watch.task.is_some() || !is_lost {
            return;
        }
        let backend = watch.backend.clone();
        watch.task = Some(self.spawn(key(&watch.backend), |report| async move {
            reconnect(&backend, connect).await;
            report.send(Ok(())).await;
        }));
    }

    /// A newcomer is asked at once, and soon again as long as it does not answer; the others at a time of
    /// their own.
    fn begin_probes(&mut self, watch: &Watch, check: &HealthCheck) -> Task {
        let newcomer = watch.backend.health.state() == HealthState::Unproven;
        let (backend, check) = (watch.backend.clone(), check.clone());
        self.spawn(key(&watch.backend), move |report| async move {
            if newcomer {
                prove(&report, &backend, &check).await;
            }
            sleep(part_of(check.interval)).await;
            loop {
                let next = Instant::now() + jittered(check.interval);
                report.send(probe(&backend, &check).await).await;
                sleep_until(next).await;
            }
        })
    }

    fn spawn<F>(&mut self, backend: usize, work: impl FnOnce(Reporter) -> F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks += 1;
        let reporter = Reporter { backend, task: self.tasks, reports: self.reports.clone() };
        Task { number: self.tasks, handle: tokio::spawn(work(reporter)) }
    }
}

impl Watch {
    fn new(backend: Arc<LiveBackend>) -> Self {
        Self { backend, check: None, streak: Streak::default(), task: None }
    }
}

struct Reporter {
    backend: usize,
    task: u64,
    reports: mpsc::Sender<Report>,
}

impl Reporter {
    async fn send(&self, result: Result<(), String>) {
        let report = Report { backend: self.backend, task: self.task, result };
        // It fails when the control task has ended, which ends this one too.
        let _ = self.reports.send(report).await;
    }
}

/// Asks a newcomer until it answers well, or until its turn comes as everybody's.
async fn prove(report: &Reporter, backend: &LiveBackend, check: &HealthCheck) {
    let mut pause = SOON;
    loop {
        let result = probe(backend, check).await;
        let is_done = result.is_ok() || pause >= check.interval;
        report.send(result).await;
        if is_done {
            return;
        }
        sleep(jittered(pause)).await;
        pause *= 2;
    }
}

fn key(backend: &Arc<LiveBackend>) -> usize {
    Arc::as_ptr(backend).addr()
}

/// Without a health check a backend is healthy as long as it can be connected to.
fn trust(backend: &LiveBackend, now_millis: u64) {
    if backend.health.state() != HealthState::Healthy {
        backend.health.set_state(HealthState::Healthy, now_millis);
        log(backend, "backend healthy", "it is not checked any more");
    }
}

/// Findings in a row.
#[derive(Debug, Default)]
struct Streak {
    good: u32,
    bad: u32,
}

impl Streak {
    fn judge(
        &mut self,
        backend: &LiveBackend,
        check: &HealthCheck,
        result: &Result<(), String>,
        now_millis: u64,
    ) {
        let state = backend.health.state();
        let next = self.next(state, check, result.is_ok());
        if next != state {
            backend.health.set_state(next, now_millis);
        }
        match (state, next, result) {
            (HealthState::Unproven, HealthState::Healthy, _) => {
                log(backend, "backend proven", "its first probe was good");
            }
            (HealthState::Unhealthy, HealthState::Healthy, _) => {
                log(backend, "backend healthy", "its probes are good again");
            }
            (HealthState::Healthy, HealthState::Unhealthy, Err(why)) => {
                warn(backend, "backend unhealthy", why);
            }
            (HealthState::Unproven, HealthState::Unproven, Err(why)) if self.bad == 1 => {
                warn(backend, "newcomer not proven yet", why);
            }
            _ => {}
        }
    }

    fn next(&mut self, state: HealthState, check: &HealthCheck, good: bool) -> HealthState {
        if good {
            *self = Self { good: self.good.saturating_add(1), bad: 0 };
        } else {
            *self = Self { good: 0, bad: self.bad.saturating_add(1) };
        }
        match state {
            HealthState::Unproven if good => HealthState::Healthy,
            HealthState::Unhealthy if self.good >= check.healthy_after && good => {
                HealthState::Healthy
            }
            HealthState::Healthy if self.bad >= check.unhealthy_after && !good => {
                HealthState::Unhealthy
            }
            same => same,
        }
    }
}

fn log(backend: &LiveBackend, what: &str, why: &str) {
    let pool = &backend.pool;
    let (service, pool) = (&pool.service, &pool.name);
    tracing::info!(%service, %pool, backend = %backend.address, why, "{what}");
}

fn warn(backend: &LiveBackend, what: &str, why: &str) {
    let pool = &backend.pool;
    let (service, pool) = (&pool.service, &pool.name);
    tracing::warn!(%service, %pool, backend = %backend.address, why, "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{
        parts::Parts,
        testing::{name, pool, service, spec},
    };

    #[test]
    fn a_state_changes_after_findings_in_a_row() {
        use HealthState::{Healthy, Unhealthy, Unproven};
        let check = HealthCheck { healthy_after: 2, unhealthy_after: 3, ..HealthCheck::new("/") };
        for (from, findings, to) in [
            (Unproven, "x", Unproven),
            (Unproven, "xxxxx", Unproven),
            (Unproven, "xxo", Healthy),
            (Unproven, "oxx", Healthy),
            (Unproven, "oxxx", Unhealthy),
            (Healthy, "xxoxxoxx", Healthy),
            (Healthy, "oxxx", Unhealthy),
            (Healthy, "xxxo", Unhealthy),
            (Healthy, "xxxoxo", Unhealthy),
            (Healthy, "xxxoo", Healthy),
            (Healthy, "xxxooxx", Healthy),
        ] {
            let mut streak = Streak::default();
            let judged = findings.chars().fold(from, |s, f| streak.next(s, &check, f == 'o'));
            assert_eq!(judged, to, "{from:?} {findings}");
        }
    }

    #[tokio::test]
    async fn a_check_that_was_replaced_cannot_speak_any_more() {
        let mut shop = service(&[("blue", pool("v1", 1, &[1]))]);
        let hour = Duration::from_secs(3600);
        shop.health_check = Some(HealthCheck { interval: hour, ..HealthCheck::new("/") });
        let mut spec = Arc::new(spec(&[("shop", shop)]));
        let mut parts = Parts::new(1);
        parts.adopt(parts.plan(&spec, std::iter::empty(), std::time::Instant::now(), 0));
        let (mut prober, _reports) = Prober::new();
        prober.follow(&parts, &spec, 0);
        let report = |prober: &Prober| {
            let backend = &parts.placed()[0].backend;
            let task = prober.watches[&key(backend)].task.as_ref().unwrap().number;
            Report { backend: key(backend), task, result: Ok(()) }
        };
        let stale = report(&prober);
        let services = &mut Arc::make_mut(&mut spec).services;
        services["shop"].health_check.as_mut().unwrap().path = name("/other");
        prober.follow(&parts, &spec, 0);
        let health = &parts.placed()[0].backend.health;
        prober.judge(&stale, 0);
        assert_eq!(health.state(), HealthState::Unproven);
        prober.judge(&report(&prober), 0);
        assert_eq!(health.state(), HealthState::Healthy);
    }
}
