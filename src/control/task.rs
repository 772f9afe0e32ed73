//! The one task that owns the desired state.

mod estates;

use super::{
    ChangeError, FileStatus, Issuance, LeftInFlight, Publishes, StateStatus, Store, View,
    connectors::Connectors,
    desired::Desired,
    discovery::{Discovery, Finding},
    drain::{self, Drains},
    ejector::Ejector,
    handle::Message,
    holds::Holds,
    leaving::{Left, in_flight, left},
    making::{Pending, Waiting, told},
    parts::{Parts, Plan, later},
    predecessor::Predecessor,
    prober::{Prober, Report},
    rollout::{Heard, Rollouts},
    traffic::unserved,
};
use crate::{
    live::{Live, LiveListener, Phase, Snapshot},
    routing::{self, Salts},
    spec::{Name, Spec},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};

pub(super) fn snapshot(
    revision: u64,
    plan: &Plan,
    salts: &Salts,
    listeners: &[LiveListener],
    issuance: &Issuance,
) -> Snapshot {
    Snapshot {
        revision,
        table: routing::compile(&plan.effective, salts),
        services: plan.services.clone(),
        listeners: listeners.to_vec(),
        challenges: issuance.challenges.clone(),
    }
}

pub(super) struct Control {
    pub(super) live: Arc<Live>,
    pub(super) desired: Desired,
    pub(super) revision: u64,
    pub(super) listeners: Vec<LiveListener>,
    pub(super) issuance: Issuance,
    pub(super) connectors: Connectors,
    pub(super) parts: Parts,
    pub(super) drains: Drains,
    pub(super) holds: Holds,
    pub(super) rollouts: Rollouts,
    pub(super) discovery: Discovery,
    pub(super) prober: Prober,
    pub(super) ejector: Ejector,
    pub(super) store: Store,
    /// The one that is being written down; no other is looked at meanwhile.
    pub(super) pending: Option<Pending>,
    /// What is in force has been handed over, and the state with it: another process decides about it.
    pub(super) frozen: bool,
    /// It still serves something, by the same desired state.
    pub(super) predecessor: Option<Predecessor>,
    pub(super) waiting: Vec<Waiting>,
    /// Something happened that may let a waiting change go on.
    pub(super) recheck: bool,
    /// Ready then, whatever the backends say.
    pub(super) ready_by: Instant,
    pub(super) file: FileStatus,
    pub(super) needs_restart: Vec<String>,
    pub(super) publishes: Publishes,
    pub(super) state: StateStatus,
    pub(super) view: watch::Sender<Arc<View>>,
}

/// What a publish left behind.
pub(super) struct Swapped {
    pub(super) left: Vec<Left>,
    pub(super) in_flight: Vec<LeftInFlight>,
    /// The drains that it began.
    pub(super) drains: Vec<Name>,
}

impl Control {
    pub(super) async fn run(
        mut self,
        mut messages: mpsc::Receiver<Message>,
        mut reports: mpsc::Receiver<Report>,
        mut findings: mpsc::Receiver<Finding>,
        mut heard: Heard,
    ) {
        let live = self.live.clone();
        loop {
            self.keep_house().await;
            let wake = self.next_deadline();
            tokio::select! {
                message = messages.recv(), if self.pending.is_none() => match message {
                    Some(message) => self.receive(message).await,
                    None => return,
                },
                told = told(&mut self.pending) => self.go_on(told).await,
                Some(report) = reports.recv() => {
                    self.prober.judge(&report, self.live.clock.now_millis());
                    self.recheck = true;
                }
                Some(answered) = heard.answers.recv() => self.hear(answered),
                Some(told) = heard.told.recv() => self.was_told(&told),
                Some(finding) = findings.recv() => self.learn(finding, &mut findings).await,
                () = live.ejected.notified() => self.watch(),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    async fn receive(&mut self, message: Message) {
        match message {
            Message::Apply(change, once, answer) => {
                let wait = change.wait_healthy.unwrap_or(Duration::ZERO);
                let until = later(Instant::now(), wait);
                self.attempt(Waiting { change, once, answer, until }).await;
            }
            // Who asked and has left needs no answer to any of these.
            Message::HandOver { freeze, answer } => drop(answer.send(self.hand_over(freeze).await)),
            Message::TakeBack(answer) => drop(answer.send(self.take_back().await)),
            Message::TakeOver { estate, file, history, answer } => {
                drop(answer.send(self.take_over(&estate, file.as_ref(), history).await));
            }
            Message::Lead(predecessor) => self.predecessor = Some(predecessor),
            Message::Led(answer) => {
                let led = self.predecessor.as_ref();
                drop(answer.send(led.map(Predecessor::questions)));
            }
            Message::Follow(estate, answer) => drop(answer.send(self.follow(estate).await)),
            Message::Alive(answer) => drop(answer.send(())),
            Message::Forecast { service, to, from, plan, answer } => {
                drop(answer.send(self.forecast(&service, &to, from.as_ref(), &plan)));
            }
            Message::Issue(issuance, answer) => {
                let result = self.issue(issuance).await;
                // Who has left will tell everything anew.
                let _ = answer.send(result);
            }
            Message::FileFailed(error) => {
                tracing::error!("the file cannot be loaded; what is in force stays:\n{error}");
                self.file.error = Some(error);
                self.show();
            }
        }
    }

    /// Publishes the addresses that names stand for now: what is desired stays as it is, and with it the revision.
    async fn learn(&mut self, finding: Finding, more: &mut mpsc::Receiver<Finding>) {
        let now = Instant::now();
        let mut changed = self.discovery.judge(finding, now);
        while let Ok(finding) = more.try_recv() {
            changed |= self.discovery.judge(finding, now);
        }
        if changed {
            self.publish(self.desired.clone(), self.listeners.clone(), self.revision).await;
            self.recheck = true;
        }
        self.show();
    }

    /// Everything that time or the data plane brings about.
    async fn keep_house(&mut self) {
        let now = Instant::now();
        let step = self.drains.step(now);
        if step.cut {
            self.live.published.announce();
        }
        if step.cut || step.ended {
            self.show();
        }
        if self.holds.step(now) || self.parts.linger_is_over(now) {
            self.publish(self.desired.clone(), self.listeners.clone(), self.revision).await;
            self.show();
        }
        if self.parts.cool(now) {
            self.watch();
        }
        if let Some(pools) = self.parts.sweep(now, self.desired.spec.metrics_linger) {
            self.live.set_pools(pools);
        }
        let readmitted =
            self.ejector.step(self.parts.placed(), &self.desired.spec, now, self.live.clock);
        self.recheck |= readmitted;
        if self.pending.is_none() && !self.frozen {
            self.show_rollouts(now).await;
        }
        self.retry_waiting(now).await;
        self.look_if_ready(now);
    }

    fn next_deadline(&self) -> Instant {
        let now = Instant::now();
        let drains = (!self.drains.is_empty()).then(|| now + drain::TICK);
        let starting = self.live.lifecycle.phase() == Phase::Starting;
        let due = self.recheck.then_some(now);
        // While one change is written down no other is looked at.
        let waiting = self.waiting.iter().filter(|_| self.pending.is_none());
        let waiting = waiting.map(|waiting| due.unwrap_or(waiting.until));
        waiting
            .chain(drains)
            .chain(starting.then_some(self.ready_by))
            .chain(self.parts.next_deadline())
            .chain(self.ejector.next_deadline())
            .chain(self.holds.next_deadline())
            .chain(self.rollouts.next_deadline().filter(|_| self.pending.is_none() && !self.frozen))
            .min()
            .unwrap_or_else(|| later(now, Duration::MAX))
    }

    /// # Errors
    /// When a listener cannot use what was issued; what was there before stays then.
    async fn issue(&mut self, issuance: Issuance) -> Result<(), ChangeError> {
        let before = std::mem::replace(&mut self.issuance, issuance);
        if !self.issuance.serves_the_same(&before) {
            let spec = self.desired.spec.clone();
            match self.prepare(&spec) {
                Ok(prepared) => {
                    self.connectors = prepared.connectors;
                    self.publish(self.desired.clone(), prepared.listeners, self.revision).await;
                }
                Err(error) => {
                    self.issuance = before;
                    return Err(error);
                }
            }
        }
        self.show();
        Ok(())
    }

    /// Swap, quiesce, count, drain: in this order.
    pub(super) async fn publish(
        &mut self,
        desired: Desired,
        listeners: Vec<LiveListener>,
        revision: u64,
    ) -> Swapped {
        let now = Instant::now();
        // Before names become addresses: what rollouts lay out has the names that are configured.
        let effective = self.discovery.expand(&self.rollouts.overlay(&desired.spec));
        let mut plan = self.parts.plan(
            &effective,
            self.drains.backends(),
            now,
            self.live.clock.at(now).millis(),
        );
        plan.placed.iter().for_each(|placed| self.connectors.equip(&placed.backend));
        // Before the swap: no connection of what comes back may be closed after its first request.
        for placed in plan.placed.iter().filter(|placed| !placed.drained()) {
            placed.backend.stay();
            self.drains.take_back(&placed.backend);
        }
        self.holds.equip(&mut plan.services, &desired.spec);
        self.rollouts.trials().equip(self.live.cores, &mut plan.services, &desired.spec);
        let next = snapshot(revision, &plan, &desired.salts, &listeners, &self.issuance);
        self.live.published.swap(next).quiesced().await;
        self.holds.settle();

        let left = left(self.parts.placed(), &plan.placed);
        let in_flight = in_flight(&left);
        let before = std::mem::replace(&mut self.desired, desired).spec;
        self.listeners = listeners;
        self.live.set_pools(self.parts.replace(plan, &before, now));
        let drains = self.drain(&left, &before);
        self.live.published.announce();
        self.watch();
        Swapped { left, in_flight, drains }
    }

    fn drain(&mut self, left: &[Left], before: &Spec) -> Vec<Name> {
        let now = Instant::now();
        let mut ids = Vec::new();
        for left in left.iter().filter(|left| left.drains) {
            let service = &left.backend.pool.service;
            let specs = [&*self.desired.spec, before];
            let service = specs.iter().find_map(|spec| spec.services.get(service));
            let timeout = service.map_or(Duration::ZERO, |service| service.timeouts.drain);
            ids.push(self.drains.begin(left, timeout, now, self.live.clock));
        }
        ids
    }

    pub(super) fn watch(&mut self) {
        let now = self.live.clock.now_millis();
        self.discovery.follow(&self.desired.spec);
        self.prober.follow(&self.parts, &self.desired.spec, now);
        self.ejector.follow(self.parts.placed());
    }

    fn look_if_ready(&self, now: Instant) {
        if self.live.lifecycle.phase() != Phase::Starting {
            return;
        }
        let without = unserved(&self.parts, &self.desired.spec);
        if without.is_empty() {
            tracing::info!("ready");
        } else if now >= self.ready_by {
            tracing::warn!(
                pools = without.join("; "),
                "ready, although pools with traffic have no healthy backend"
            );
        } else {
            return;
        }
        self.live.lifecycle.advance(Phase::Ready);
    }

    pub(super) fn show(&self) {
        self.view.send_replace(Arc::new(View {
            revision: self.revision,
            spec: self.desired.spec.clone(),
            loaded: self.desired.file_base.clone(),
            file: self.file.clone(),
            needs_restart: self.needs_restart.clone(),
            drains: self.drains.list(),
            holds: self.holds.list(),
            orders: self.issuance.orders.clone(),
            publishes: self.publishes,
            names: self.discovery.status(),
            state: self.state.clone(),
            rollouts: self.rollouts.shown(),
            rollout_routes: self.rollouts.routes(),
            outcomes: self.rollouts.outcomes().clone(),
        }));
    }
}
