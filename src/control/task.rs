//! The one task that owns the desired state.

use super::{
    Change, ChangeError, Command, FileStatus, Handle, Issuance, LeftInFlight, Publishes, Receipt,
    Source, View,
    connectors::Connectors,
    desired::{Applied, Desired},
    discovery::{Discovery, Finding},
    drain::{self, Drains},
    ejector::Ejector,
    handle::Message,
    holds::Holds,
    leaving::{Left, in_flight, left, left_before},
    listeners,
    parts::{Parts, Plan, later},
    prober::{Prober, Report},
    traffic::{gaining, unserved, warnings, why_not},
};
use crate::{
    live::{Live, LiveListener, Phase, Snapshot},
    routing::{self, Salts},
    spec::{Name, Spec},
};
use jiff::Timestamp;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

/// Changes that wait their turn.
const QUEUE: usize = 64;

/// Changes that wait for a healthy backend.
const MAX_WAITING: usize = 64;

/// Said of every change of the API as long as nothing is stored.
const NOT_KEPT: &str = "no state directory: a restart returns to the file";

/// A running control plane.
pub struct Started {
    pub live: Arc<Live>,
    pub handle: Handle,
    /// Ends when every [`Handle`] is gone. If it ends before, or panics, nobody steers any more and the
    /// process should end.
    pub task: JoinHandle<()>,
}

/// Why there is no first snapshot; every reason a line.
#[derive(Debug)]
pub enum StartError {
    Invalid(Vec<String>),
    /// A listener cannot be bound.
    Listen(Vec<String>),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Invalid(reasons) | Self::Listen(reasons)) = self;
        f.write_str(&reasons.join("\n"))
    }
}

impl std::error::Error for StartError {}

/// Binds the listeners, makes `spec` revision 1 and starts the control task on the current runtime, which
/// should not be a worker's. A `file` with a path is what `spec` was read from: the base of later merges.
///
/// # Errors
/// When `spec` is invalid or a listener cannot be bound.
pub async fn start(spec: Spec, cores: usize, file: FileStatus) -> Result<Started, StartError> {
    let from_file = file.path.is_some();
    let desired = Desired::first(spec, from_file).map_err(StartError::Invalid)?;
    let issuance = Issuance::default();
    let listeners = listeners::bind(&[], &desired.spec, &issuance.certificates, cores)
        .map_err(StartError::Listen)?;
    let connectors = Connectors::default().next(&desired.spec).map_err(StartError::Invalid)?;
    let now = Instant::now();
    let mut parts = Parts::new(cores);
    let (discovery, findings) = Discovery::new();
    let plan = parts.plan(&discovery.expand(&desired.spec), std::iter::empty(), now, 0);
    plan.placed.iter().for_each(|placed| connectors.equip(&placed.backend));
    let first = snapshot(1, &plan, &desired.salts, &listeners, &issuance);
    let live = Live::new(cores, first);
    live.set_pools(parts.adopt(plan));

    let (sender, messages) = mpsc::channel(QUEUE);
    let publishes = Publishes { file: u64::from(from_file), api: 0 };
    let view = watch::Sender::new(Arc::new(View {
        revision: 1,
        spec: desired.spec.clone(),
        file: file.clone(),
        needs_restart: Vec::new(),
        drains: Vec::new(),
        holds: Vec::new(),
        orders: Arc::default(),
        publishes,
        names: Vec::new(),
    }));
    let (prober, reports) = Prober::new();
    let mut control = Control {
        live: live.clone(),
        ready_by: later(now, desired.spec.startup_wait),
        desired,
        revision: 1,
        listeners,
        issuance,
        connectors,
        parts,
        drains: Drains::default(),
        holds: Holds::default(),
        discovery,
        prober,
        ejector: Ejector::default(),
        waiting: Vec::new(),
        recheck: true,
        file,
        needs_restart: Vec::new(),
        publishes,
        view,
    };
    let handle = Handle::new(sender, control.view.subscribe());
    control.watch();
    control.show();
    let task = tokio::spawn(control.run(messages, reports, findings));
    Ok(Started { live, handle, task })
}

fn snapshot(
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

struct Control {
    live: Arc<Live>,
    desired: Desired,
    revision: u64,
    listeners: Vec<LiveListener>,
    issuance: Issuance,
    connectors: Connectors,
    parts: Parts,
    drains: Drains,
    holds: Holds,
    discovery: Discovery,
    prober: Prober,
    ejector: Ejector,
    waiting: Vec<Waiting>,
    /// Something happened that may let a waiting change go on.
    recheck: bool,
    /// Ready then, whatever the backends say.
    ready_by: Instant,
    file: FileStatus,
    needs_restart: Vec<String>,
    publishes: Publishes,
    view: watch::Sender<Arc<View>>,
}

/// A change that waits for a healthy backend.
struct Waiting {
    change: Box<Change>,
    answer: oneshot::Sender<Result<Receipt, ChangeError>>,
    until: Instant,
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

impl Control {
    async fn run(
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
                message = messages.recv() => match message {
                    Some(message) => self.receive(message).await,
                    None => return,
                },
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
        let waiting = self.waiting.iter().map(|waiting| due.unwrap_or(waiting.until));
        waiting
            .chain(drains)
            .chain(starting.then_some(self.ready_by))
            .chain(self.parts.next_deadline())
            .chain(self.ejector.next_deadline())
            .chain(self.holds.next_deadline())
            .min()
            .unwrap_or_else(|| later(now, Duration::MAX))
    }

    async fn retry_waiting(&mut self, now: Instant) {
        let all = std::mem::take(&mut self.recheck);
        let (due, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            // Nobody would learn of a change whose caller has left.
            .filter(|waiting| !waiting.answer.is_closed())
            .partition(|waiting| all || now >= waiting.until);
        self.waiting = rest;
        let due: Vec<Waiting> = due;
        for waiting in due {
            self.attempt(waiting).await;
        }
    }

    async fn attempt(&mut self, request: Waiting) {
        let patient = Instant::now() < request.until;
        let result = match self.change(&request.change, patient).await {
            Err(Refused::Wait(_)) if patient && self.waiting.len() < MAX_WAITING => {
                self.waiting.push(request);
                return;
            }
            Err(Refused::Wait(error) | Refused::For(error)) => Err(error),
            Ok(receipt) => Ok(receipt),
        };
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

    /// # Errors
    /// When it is not made. `patient`: it may wait for a healthy backend.
    async fn change(&mut self, change: &Change, patient: bool) -> Result<Receipt, Refused> {
        if change.if_match.is_some_and(|revision| revision != self.revision) {
            return Err(ChangeError::Stale { current: self.revision }.into());
        }
        let applied = self.desired.apply(&change.command)?;
        self.check_healthy(change, &applied.desired.spec, patient)?;
        let mut receipt = self.receipt(change, &applied);
        let unchanged = *applied.desired.spec == *self.desired.spec;
        if change.dry_run {
            receipt.revision = None;
            return Ok(receipt);
        }
        let renewed = unchanged && applied.desired.spec.is_renewed(&self.desired.spec);
        if let Command::Hold { .. } | Command::Release { .. } = change.command {
            self.hold_or_release(change, &mut receipt).await;
        } else if unchanged && !renewed {
            self.desired = Desired { spec: self.desired.spec.clone(), ..applied.desired };
            receipt.leaving =
                left_before(&change.command, self.parts.placed(), self.drains.backends());
        } else if renewed {
            let listeners = self.prepare(&applied.desired.spec)?;
            self.publish(applied.desired, listeners, self.revision).await;
            tracing::info!("certificates or tokens renewed");
        } else {
            let listeners = self.prepare(&applied.desired.spec)?;
            let before = self.desired.spec.clone();
            let published = self.publish(applied.desired, listeners, self.revision + 1).await;
            self.revision += 1;
            self.count(change.source);
            receipt.revision = Some(self.revision);
            receipt.in_flight = published.in_flight;
            receipt.drains = published.drains;
            receipt.leaving = published.left.into_iter().map(|left| left.backend).collect();
            receipt.lingering = self.parts.lingering().map(|p| p.backend.clone()).collect();
            if change.source == Source::Api && !is_load(change) {
                receipt.warnings.push(NOT_KEPT.to_owned());
            }
            receipt.warnings.extend(warnings(&self.parts, &before, &self.desired.spec));
            self.recheck = true;
        }
        if let Some(keys) = applied.needs_restart {
            self.needs_restart = keys;
            self.file.loaded_at = Some(receipt.at);
            self.file.error = None;
        }
        Ok(receipt)
    }

    /// Nothing of what is desired changes: the same table is published, in which requests wait or go on.
    async fn hold_or_release(&mut self, change: &Change, receipt: &mut Receipt) {
        let now = Instant::now();
        match &change.command {
            Command::Hold { service, time } => {
                let by = (change.author.clone(), change.cause.clone());
                receipt.hold = Some(self.holds.begin(service, *time, now, by));
                tracing::info!(%service, author = %change.author, ?time, "service held");
            }
            Command::Release { service } => {
                receipt.released = self.holds.release(service);
                if receipt.released.is_none() {
                    return;
                }
                tracing::info!(%service, author = %change.author, "service released");
            }
            _ => return,
        }
        self.publish(self.desired.clone(), self.listeners.clone(), self.revision).await;
        let held = self.parts.placed().iter().filter(|placed| match &change.command {
            Command::Hold { service, .. } => placed.service == *service,
            _ => false,
        });
        let held: Vec<Left> = held
            .map(|p| Left { backend: p.backend.clone(), whole_pool: true, drains: false })
            .collect();
        receipt.in_flight = in_flight(&held);
        receipt.leaving = held.into_iter().map(|held| held.backend).collect();
    }

    /// What can fail of a publish, done before it: the listeners of `spec`.
    fn prepare(&mut self, spec: &Spec) -> Result<Vec<LiveListener>, ChangeError> {
        let connectors = self.connectors.next(spec).map_err(ChangeError::Invalid)?;
        let issued = &self.issuance.certificates;
        let listeners = listeners::bind(&self.listeners, spec, issued, self.live.cores)
            .map_err(ChangeError::Invalid)?;
        self.connectors = connectors;
        Ok(listeners)
    }

    /// # Errors
    /// When a listener cannot use what was issued; what was there before stays then.
    async fn issue(&mut self, issuance: Issuance) -> Result<(), ChangeError> {
        let before = std::mem::replace(&mut self.issuance, issuance);
        if !self.issuance.serves_the_same(&before) {
            let spec = self.desired.spec.clone();
            match self.prepare(&spec) {
                Ok(listeners) => {
                    self.publish(self.desired.clone(), listeners, self.revision).await;
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
            hold: None,
            released: None,
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
        let mut plan = self.parts.plan(
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
        self.holds.equip(&mut plan.services, &desired.spec);
        let next = snapshot(revision, &plan, &desired.salts, &listeners, &self.issuance);
        self.live.published.swap(next).quiesced().await;
        self.holds.settle();

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

    fn watch(&mut self) {
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

    fn show(&self) {
        self.view.send_replace(Arc::new(View {
            revision: self.revision,
            spec: self.desired.spec.clone(),
            file: self.file.clone(),
            needs_restart: self.needs_restart.clone(),
            drains: self.drains.list(),
            holds: self.holds.list(),
            orders: self.issuance.orders.clone(),
            publishes: self.publishes,
            names: self.discovery.status(),
        }));
    }
}
