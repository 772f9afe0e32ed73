//! The one task that owns the desired state.

use super::{
    Change, ChangeError, Command, FileStatus, Issuance, LeftInFlight, Publishes, Receipt, Source,
    StateStatus, Store, StoreError, View,
    connectors::Connectors,
    desired::{Applied, Desired},
    discovery::{Discovery, Finding},
    drain::{self, Drains},
    ejector::Ejector,
    handle::Message,
    leaving::{Left, in_flight, left, left_before},
    listeners,
    parts::{Parts, Plan, later},
    prober::{Prober, Report},
    store::{Entry, Step},
    traffic::{gaining, unserved, warnings, why_not},
};
use crate::{
    live::{Live, LiveListener, Phase, Snapshot},
    routing::{self, Salts},
    spec::{Name, Spec},
};
use jiff::Timestamp;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot, watch};

/// Changes that wait for a healthy backend.
const MAX_WAITING: usize = 64;

/// Said of every change of the API as long as nothing is stored.
const NOT_KEPT: &str = "no state directory: a restart returns to the file";

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

fn is_load(change: &Change) -> bool {
    matches!(change.command, Command::Load { .. })
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
    pub(super) discovery: Discovery,
    pub(super) prober: Prober,
    pub(super) ejector: Ejector,
    pub(super) store: Store,
    /// The one that is being written down; no other is looked at meanwhile.
    pub(super) pending: Option<Pending>,
    /// Another process has the state now: nothing is changed here.
    pub(super) handed_over: bool,
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

/// A change, and who waits for it.
pub(super) struct Waiting {
    change: Box<Change>,
    answer: oneshot::Sender<Result<Receipt, ChangeError>>,
    until: Instant,
}

/// A change that is made as soon as it is kept.
pub(super) struct Pending {
    request: Waiting,
    ready: Ready,
    kept: oneshot::Receiver<Result<(), StoreError>>,
}

/// A change of which nothing can fail any more, but to keep it.
struct Ready {
    applied: Applied,
    receipt: Receipt,
    work: Work,
}

enum Work {
    /// All is as asked already, or nobody wants more than to know.
    Nothing,
    /// The same files say something else.
    Renew(Prepared),
    Publish(Prepared),
}

/// What can fail of a publish, done before it.
pub(super) struct Prepared {
    pub(super) listeners: Vec<LiveListener>,
    pub(super) connectors: Connectors,
}

/// What a publish left behind.
struct Swapped {
    left: Vec<Left>,
    in_flight: Vec<LeftInFlight>,
    /// The drains that it began.
    drains: Vec<Name>,
}

/// Why a change is not made now.
enum Refused {
    /// It may succeed when a backend has become healthy.
    Wait(ChangeError),
    For(ChangeError),
}

impl From<ChangeError> for Refused {
    fn from(error: ChangeError) -> Self {
        Self::For(error)
    }
}

/// When the pending change is kept or cannot be; never without one.
async fn kept(pending: &mut Option<Pending>) -> Result<(), StoreError> {
    match pending {
        Some(pending) => (&mut pending.kept).await.unwrap_or(Err(StoreError::Closed)),
        None => std::future::pending().await,
    }
}

impl Control {
    pub(super) async fn run(
        mut self,
        mut messages: mpsc::Receiver<Message>,
        mut reports: mpsc::Receiver<Report>,
        mut findings: mpsc::Receiver<Finding>,
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
                kept = kept(&mut self.pending) => self.go_on(kept).await,
                Some(report) = reports.recv() => {
                    self.prober.judge(&report, self.live.clock.now_millis());
                    self.recheck = true;
                }
                Some(finding) = findings.recv() => self.learn(finding, &mut findings).await,
                () = live.ejected.notified() => self.watch(),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    async fn receive(&mut self, message: Message) {
        match message {
            Message::Apply(change, answer) => {
                let wait = change.wait_healthy.unwrap_or(Duration::ZERO);
                let until = later(Instant::now(), wait);
                self.attempt(Waiting { change, answer, until }).await;
            }
            Message::HandOver(answer) => {
                let closed = self.store.close().await;
                self.handed_over |= closed.is_ok();
                let _ = answer.send(closed.map_err(ChangeError::from));
            }
            Message::TakeBack(answer) => {
                let opened =
                    if self.handed_over { self.store.reopen().await.map(drop) } else { Ok(()) };
                self.handed_over &= opened.is_err();
                let _ = answer.send(opened.map_err(ChangeError::from));
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
        if self.parts.linger_is_over(now) {
            self.publish(self.desired.clone(), self.listeners.clone(), self.revision).await;
            self.show();
        }
        if let Some(pools) = self.parts.sweep(now, self.desired.spec.metrics_linger) {
            self.live.set_pools(pools);
        }
        let readmitted =
            self.ejector.step(self.parts.placed(), &self.desired.spec, now, self.live.clock);
        self.recheck |= readmitted;
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
            .min()
            .unwrap_or_else(|| later(now, Duration::MAX))
    }

    async fn retry_waiting(&mut self, now: Instant) {
        if self.pending.is_some() {
            return;
        }
        let all = std::mem::take(&mut self.recheck);
        let (due, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            // Nobody would learn of a change whose caller has left.
            .filter(|waiting| !waiting.answer.is_closed())
            .partition(|waiting| all || now >= waiting.until);
        self.waiting = rest;
        let due: Vec<Waiting> = due;
        let mut due = due.into_iter();
        while self.pending.is_none()
            && let Some(waiting) = due.next()
        {
            self.attempt(waiting).await;
        }
        // The others must wait for their turn, not for a backend.
        self.recheck |= due.len() > 0;
        self.waiting.extend(due);
    }

    async fn attempt(&mut self, request: Waiting) {
        let patient = Instant::now() < request.until;
        match self.consider(&request.change, patient) {
            Err(Refused::Wait(_)) if patient && self.waiting.len() < MAX_WAITING => {
                self.waiting.push(request);
            }
            Err(Refused::Wait(error) | Refused::For(error)) => self.answer(request, Err(error)),
            Ok((ready, Step { entry: None, file: None })) => {
                let receipt = self.carry_out(&request.change, ready).await;
                self.answer(request, Ok(receipt));
            }
            Ok((ready, step)) => {
                let kept = self.store.keep(step);
                self.pending = Some(Pending { request, ready, kept });
            }
        }
    }

    /// The pending change is kept, or cannot be.
    async fn go_on(&mut self, kept: Result<(), StoreError>) {
        let Some(Pending { request, ready, .. }) = self.pending.take() else { return };
        let result = match kept {
            Ok(()) => {
                self.state.error = None;
                Ok(self.carry_out(&request.change, ready).await)
            }
            Err(error) => {
                if !matches!(error, StoreError::Unwritable(_)) {
                    tracing::error!(%error, "a change cannot be kept, so it is not made");
                    self.state.error = Some(error.to_string());
                    self.state.failures += 1;
                }
                Err(error.into())
            }
        };
        self.answer(request, result);
    }

    fn answer(&mut self, request: Waiting, result: Result<Receipt, ChangeError>) {
        self.settle(&request.change, &result);
        // A caller that has left does not undo a change.
        let _ = request.answer.send(result);
    }

    /// Logs what became of a change and shows what it did.
    fn settle(&mut self, change: &Change, result: &Result<Receipt, ChangeError>) {
        let Change { source, author, cause, .. } = change;
        let cause = cause.as_deref().unwrap_or("");
        match result {
            Ok(Receipt { revision: Some(revision), warnings, before, after, .. })
                if before != after =>
            {
                tracing::info!(revision, ?source, %author, cause, ?warnings, "change made");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::info!(?source, %author, cause, %error, "change refused");
                if is_load(change) && !change.dry_run {
                    self.file.error = Some(error.to_string());
                }
            }
        }
        self.show();
    }

    /// What is to be done for a change, and what is to be kept before that.
    ///
    /// # Errors
    /// When it is not made. `patient`: it may wait for a healthy backend.
    fn consider(&self, change: &Change, patient: bool) -> Result<(Ready, Step), Refused> {
        if self.handed_over {
            return Err(ChangeError::HandedOver.into());
        }
        if change.if_match.is_some_and(|revision| revision != self.revision) {
            return Err(ChangeError::Stale { current: self.revision }.into());
        }
        let applied = self.desired.apply(&change.command)?;
        self.check_healthy(change, &applied.desired.spec, patient)?;
        let mut receipt = self.receipt(change, &applied);
        if change.dry_run {
            receipt.revision = None;
            return Ok((Ready { applied, receipt, work: Work::Nothing }, Step::default()));
        }
        let after = &applied.desired.spec;
        let unchanged = **after == *self.desired.spec;
        let mut step = Step::default();
        if applied.desired.file_base != self.desired.file_base {
            step.file.clone_from(&applied.desired.file_base);
        }
        let work = if !unchanged {
            let prepared = self.prepare(after)?;
            step.entry = Some(self.entry(change, &receipt, &applied));
            Work::Publish(prepared)
        } else if after.is_renewed(&self.desired.spec) {
            Work::Renew(self.prepare(after)?)
        } else {
            Work::Nothing
        };
        Ok((Ready { applied, receipt, work }, step))
    }

    fn entry(&self, change: &Change, receipt: &Receipt, applied: &Applied) -> Entry {
        Entry {
            number: self.revision + 1,
            at: receipt.at,
            author: change.author.clone(),
            source: change.source,
            cause: change.cause.clone(),
            before: Some(receipt.before.clone()),
            after: receipt.after.clone(),
            salts: applied.desired.salts.clone(),
            most: receipt.after.state.revisions,
        }
    }

    /// Makes a change that is kept.
    async fn carry_out(&mut self, change: &Change, ready: Ready) -> Receipt {
        let Ready { applied, mut receipt, work } = ready;
        if change.dry_run {
            return receipt;
        }
        match work {
            Work::Nothing => {
                // What is in force stays the same object, for those who compare these.
                self.desired = Desired { spec: self.desired.spec.clone(), ..applied.desired };
                receipt.leaving =
                    left_before(&change.command, self.parts.placed(), self.drains.backends());
            }
            Work::Renew(prepared) => {
                self.connectors = prepared.connectors;
                self.publish(applied.desired, prepared.listeners, self.revision).await;
                tracing::info!("certificates renewed");
            }
            Work::Publish(prepared) => {
                self.connectors = prepared.connectors;
                let before = self.desired.spec.clone();
                let revision = self.revision + 1;
                let published = self.publish(applied.desired, prepared.listeners, revision).await;
                self.revision = revision;
                self.count(change.source);
                receipt.revision = Some(revision);
                receipt.in_flight = published.in_flight;
                receipt.drains = published.drains;
                receipt.leaving = published.left.into_iter().map(|left| left.backend).collect();
                receipt.lingering = self.parts.lingering().map(|p| p.backend.clone()).collect();
                if self.state.directory.is_none()
                    && change.source == Source::Api
                    && !is_load(change)
                {
                    receipt.warnings.push(NOT_KEPT.to_owned());
                }
                receipt.warnings.extend(warnings(&self.parts, &before, &self.desired.spec));
                self.recheck = true;
            }
        }
        if let Some(keys) = applied.needs_restart {
            self.needs_restart = keys;
            self.file.loaded_at = Some(receipt.at);
            self.file.error = None;
        }
        receipt
    }

    /// What can fail of a publish of `spec`.
    fn prepare(&self, spec: &Spec) -> Result<Prepared, ChangeError> {
        let connectors = self.connectors.next(spec).map_err(ChangeError::Invalid)?;
        let issued = &self.issuance.certificates;
        let listeners = listeners::bind(&self.listeners, spec, issued, self.live.cores)
            .map_err(ChangeError::Invalid)?;
        Ok(Prepared { listeners, connectors })
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

    fn receipt(&self, change: &Change, applied: &Applied) -> Receipt {
        Receipt {
            revision: Some(self.revision),
            author: change.author.clone(),
            cause: change.cause.clone(),
            at: Timestamp::now(),
            before: self.desired.spec.clone(),
            after: applied.desired.spec.clone(),
            in_flight: Vec::new(),
            drains: Vec::new(),
            created: applied.created,
            warnings: applied.warnings.clone(),
            leaving: Vec::new(),
            lingering: Vec::new(),
        }
    }

    fn count(&mut self, source: Source) {
        match source {
            Source::File => self.publishes.file += 1,
            Source::Api => self.publishes.api += 1,
            Source::Rollout => self.publishes.rollout += 1,
        }
    }

    /// # Errors
    /// When a person moves traffic to a pool that cannot serve it.
    fn check_healthy(&self, change: &Change, after: &Spec, patient: bool) -> Result<(), Refused> {
        let moves = matches!(change.command, Command::Cutover { .. } | Command::SetWeights { .. });
        if !moves || (change.force && !patient) {
            return Ok(());
        }
        let mut gaining = gaining(&self.desired.spec, after).into_iter();
        let Some((service, pool)) = gaining.find(|(s, p)| !self.parts.has_healthy(s, p)) else {
            return Ok(());
        };
        Err(Refused::Wait(ChangeError::Conflict(format!(
            "pool `{pool}` of service `{service}` has no healthy backend: {}; wait for one \
             (--wait-healthy 30s) or force the change (--force)",
            why_not(&self.parts, &service, &pool)
        ))))
    }

    /// Swap, quiesce, count, drain: in this order.
    async fn publish(
        &mut self,
        desired: Desired,
        listeners: Vec<LiveListener>,
        revision: u64,
    ) -> Swapped {
        let now = Instant::now();
        let plan = self.parts.plan(
            &self.discovery.expand(&desired.spec),
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
        let next = snapshot(revision, &plan, &desired.salts, &listeners, &self.issuance);
        self.live.published.swap(next).quiesced().await;

        let left = left(self.parts.placed(), &plan.placed);
        let in_flight = in_flight(&left);
        let before = std::mem::replace(&mut self.desired, desired).spec;
        self.listeners = listeners;
        self.live.set_pools(self.parts.adopt(plan));
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
        self.prober.follow(self.parts.placed(), &self.desired.spec, now);
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
            file: self.file.clone(),
            needs_restart: self.needs_restart.clone(),
            drains: self.drains.list(),
            orders: self.issuance.orders.clone(),
            publishes: self.publishes,
            names: self.discovery.status(),
            state: self.state.clone(),
        }));
    }
}
