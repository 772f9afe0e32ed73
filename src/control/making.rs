//! How a change is made: considered, kept, carried out. Only to keep it takes time; everything else that the
//! control task does goes on meanwhile, but for other changes.

use super::{
    Change, ChangeError, Command, Forecast, Known, Once, Preview, Receipt, Reply, Source,
    StoreError,
    connectors::Connectors,
    desired::{Applied, Desired},
    leaving::{Elsewhere, Left, drained, in_flight, left_before},
    listeners,
    preview::preview,
    rollout::{Turn, mover},
    store::{Entry, Found, OnceEntry, Question, Step, Target},
    task::Control,
    traffic::{gaining, warnings, why_not},
};
use crate::{
    live::LiveListener,
    net::Inherited,
    routing,
    spec::{Name, Spec},
};
use jiff::Timestamp;
use std::{sync::Arc, time::Instant};
use tokio::sync::oneshot;

/// Changes that wait for a healthy backend.
const MAX_WAITING: usize = 64;

/// Said of every change of the API as long as nothing is stored.
const NOT_KEPT: &str = "no state directory: a restart returns to the file";

/// A change, and who waits for it.
pub(super) struct Waiting {
    pub(super) change: Box<Change>,
    pub(super) once: Option<Once>,
    pub(super) answer: oneshot::Sender<Result<Reply, ChangeError>>,
    pub(super) until: Instant,
}

/// A change that waits for the state.
pub(super) struct Pending {
    request: Waiting,
    stage: Stage,
}

enum Stage {
    /// Something must be known first.
    Asked(oneshot::Receiver<Result<Found, StoreError>>),
    /// It is made as soon as it is kept.
    Kept(Box<Ready>, oneshot::Receiver<Result<(), StoreError>>),
}

/// What the state has said.
pub(super) enum Told {
    Found(Result<Found, StoreError>),
    Kept(Result<(), StoreError>),
}

/// A change of which nothing can fail any more, but to keep it.
struct Ready {
    applied: Applied,
    receipt: Receipt,
    work: Work,
    /// Rollouts as they are from then on.
    turns: Vec<Turn>,
}

enum Work {
    /// All is as asked already, or nobody wants more than to know.
    Nothing,
    /// Requests of a service wait, or go on: nothing of what is desired changes.
    Hold,
    /// The same files say something else.
    Renew(Prepared),
    /// What is desired stays, but not what a rollout makes of it.
    Again,
    Publish(Prepared),
}

/// What can fail of a publish, done before it.
pub(super) struct Prepared {
    pub(super) listeners: Vec<LiveListener>,
    pub(super) connectors: Connectors,
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

/// When the state has answered to the pending change; never without one.
pub(super) async fn told(pending: &mut Option<Pending>) -> Told {
    match pending.as_mut().map(|pending| &mut pending.stage) {
        Some(Stage::Asked(found)) => Told::Found(found.await.unwrap_or(Err(StoreError::Closed))),
        Some(Stage::Kept(_, kept)) => Told::Kept(kept.await.unwrap_or(Err(StoreError::Closed))),
        None => std::future::pending().await,
    }
}

fn is_load(change: &Change) -> bool {
    matches!(change.command, Command::Load { .. })
}

/// # Errors
/// When a file would leave more requests without anybody to answer them than it may.
fn check_stranded(limit: Option<u32>, preview: Option<&Preview>) -> Result<(), ChangeError> {
    let (Some(percent), Some(preview)) = (limit, preview) else { return Ok(()) };
    let Forecast { nowhere, examples, .. } = &preview.all;
    if nowhere * 100.0 <= f64::from(percent) {
        return Ok(());
    }
    Err(ChangeError::Conflict(format!(
        "the file would leave {:.2} % of the last hour's requests without anybody to answer them \
         (reload.max_stranded: {percent}%), such as {}; correct it, or go on all the same \
         (crossfade reload --force)",
        nowhere * 100.0,
        examples.join(", ")
    )))
}

impl Control {
    pub(super) async fn retry_waiting(&mut self, now: Instant) {
        if self.pending.is_some() {
            return;
        }
        let all = std::mem::take(&mut self.recheck);
        let (due, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            // Nobody would learn of a change whose caller has left.
            .filter(|it| !it.answer.is_closed() || mover(&it.change.command).is_some())
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

    pub(super) async fn attempt(&mut self, request: Waiting) {
        if self.frozen {
            return self.answer(request, Err(ChangeError::Upgrading));
        }
        let undo = match &request.change.command {
            Command::Undo { service, to_revision } => Some((service.clone(), *to_revision)),
            _ => None,
        };
        let once = request.once.clone().filter(|_| !request.change.dry_run);
        if undo.is_none() && once.is_none() {
            return self.try_now(request, None).await;
        }
        let once = once.map(|once| (request.change.author.clone(), once));
        let found = self.store.find(Question { once, undo, now: Timestamp::now() });
        self.pending = Some(Pending { request, stage: Stage::Asked(found) });
    }

    /// With what the change goes back to, if it is an undo.
    async fn try_now(&mut self, request: Waiting, target: Option<Target>) {
        let patient = Instant::now() < request.until;
        match self.consider(&request, target, patient) {
            Err(Refused::Wait(_)) if patient && self.waiting.len() < MAX_WAITING => {
                self.waiting.push(request);
            }
            Err(Refused::Wait(error) | Refused::For(error)) => self.answer(request, Err(error)),
            Ok((ready, step)) if step.is_empty() => self.finish(request, ready).await,
            Ok((ready, step)) => {
                let kept = self.store.keep(step);
                self.pending = Some(Pending { request, stage: Stage::Kept(Box::new(ready), kept) });
            }
        }
    }

    /// The state has answered to the pending change.
    pub(super) async fn go_on(&mut self, told: Told) {
        let Some(Pending { request, stage }) = self.pending.take() else { return };
        match (stage, told) {
            (_, Told::Found(Ok(Found { known: Some(known), .. }))) => {
                self.answer(request, Ok(Reply::Known(known)));
            }
            (_, Told::Found(Ok(Found { target, .. }))) => self.try_now(request, target).await,
            (_, Told::Found(Err(error))) => self.answer(request, Err(error.into())),
            (_, Told::Kept(Err(error))) => {
                if !matches!(error, StoreError::Unwritable(_)) {
                    tracing::error!(%error, "a change cannot be kept, so it is not made");
                    self.state.error = Some(error.to_string());
                    self.state.failures += 1;
                }
                self.answer(request, Err(error.into()));
            }
            (Stage::Kept(ready, _), Told::Kept(Ok(()))) => {
                self.state.error = None;
                self.finish(request, *ready).await;
            }
            // Only what was kept is told to be.
            (Stage::Asked(_), Told::Kept(Ok(()))) => {}
        }
    }

    async fn finish(&mut self, request: Waiting, ready: Ready) {
        let receipt = self.carry_out(&request.change, ready).await;
        self.answer(request, Ok(Reply::Made(Box::new(receipt))));
    }

    pub(super) fn answer(&mut self, request: Waiting, result: Result<Reply, ChangeError>) {
        if let Some(service) = mover(&request.change.command) {
            self.moved(service, result.as_ref().err());
        }
        self.settle(&request.change, &result);
        // A caller that has left does not undo a change.
        let _ = request.answer.send(result);
    }

    /// Logs what became of a change and shows what it did.
    fn settle(&mut self, change: &Change, result: &Result<Reply, ChangeError>) {
        let Change { source, author, cause, .. } = change;
        let cause = cause.as_deref().unwrap_or("");
        match result {
            Ok(Reply::Made(receipt)) => {
                if let Receipt { revision: Some(revision), warnings, before, after, .. } =
                    &**receipt
                    && before != after
                {
                    tracing::info!(revision, ?source, %author, cause, ?warnings, "change made");
                }
            }
            Ok(Reply::Known(Known { revision, .. })) => {
                tracing::info!(revision, %author, "asked again for a change that was made");
            }
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
    fn consider(
        &self,
        request: &Waiting,
        target: Option<Target>,
        patient: bool,
    ) -> Result<(Ready, Step), Refused> {
        let change = &request.change;
        if change.if_match.is_some_and(|revision| revision != self.revision) {
            return Err(ChangeError::Stale { current: self.revision }.into());
        }
        let (applied, turns) = match self.turn(change)? {
            Some(own) => own,
            None => {
                let mut applied = match target {
                    Some(target) => self.desired.restore(target)?,
                    None => self.desired.apply(&change.command)?,
                };
                let turns = self.disturb(change, &mut applied)?;
                (applied, turns)
            }
        };
        if !change.force || patient {
            self.check_canary(&turns).map_err(Refused::Wait)?;
        }
        self.check_healthy(change, &applied.desired.spec, patient)?;
        let mut receipt = self.receipt(change, &applied);
        let limit = self.max_stranded(change, &applied);
        let preview = (change.dry_run || limit.is_some()).then(|| self.preview(&applied));
        let stranded = check_stranded(limit, preview.as_ref());
        if change.dry_run {
            receipt.revision = None;
            receipt.preview = preview;
            let own = turns.iter().find(|turn| turn.is_own());
            receipt.rollout = own.map(|turn| Arc::new(turn.rollout().clone()));
            receipt.warnings.extend(stranded.err().map(|error| error.to_string()));
            let ready = Ready { applied, receipt, work: Work::Nothing, turns: Vec::new() };
            return Ok((ready, Step::default()));
        }
        stranded?;
        let after = &applied.desired.spec;
        let unchanged = **after == *self.desired.spec;
        let mut step = Step::default();
        if applied.desired.file_base != self.desired.file_base {
            step.file.clone_from(&applied.desired.file_base);
        }
        step.rollouts = turns.iter().map(|turn| turn.rollout().clone()).collect();
        let own = turns.iter().find(|turn| turn.is_own());
        let work = if let Command::Hold { .. } | Command::Release { .. } = change.command {
            Work::Hold
        } else if !unchanged {
            let prepared = self.prepare(after)?;
            let rollout = own.map(|turn| turn.rollout().id().clone());
            step.entry = Some(self.entry(change, &receipt, &applied, rollout));
            Work::Publish(prepared)
        } else if after.is_renewed(&self.desired.spec) {
            Work::Renew(self.prepare(after)?)
        } else if own.is_some() {
            // Requests wait, or are rescued, or counted.
            Work::Again
        } else {
            Work::Nothing
        };
        step.once = request.once.clone().map(|once| OnceEntry {
            author: change.author.clone(),
            once,
            at: receipt.at,
            revision: self.revision + u64::from(step.entry.is_some()),
        });
        Ok((Ready { applied, receipt, work, turns }, step))
    }

    fn entry(
        &self,
        change: &Change,
        receipt: &Receipt,
        applied: &Applied,
        rollout: Option<Name>,
    ) -> Entry {
        Entry {
            number: self.revision + 1,
            at: receipt.at,
            author: change.author.clone(),
            source: change.source,
            cause: change.cause.clone(),
            before: Some(receipt.before.clone()),
            after: receipt.after.clone(),
            salts: applied.desired.salts.clone(),
            rollout,
            most: receipt.after.state.revisions,
        }
    }

    /// What would become of the requests of the last hour.
    fn preview(&self, applied: &Applied) -> Preview {
        let recent = self.parts.recent(self.live.clock.now_millis());
        let compile = |desired: &Desired| routing::compile(&desired.spec, &desired.salts);
        preview(&recent, &compile(&self.desired), &compile(&applied.desired))
    }

    /// Percent of the last hour's requests that the change may leave without anybody to answer them; `None`: any.
    fn max_stranded(&self, change: &Change, applied: &Applied) -> Option<u32> {
        // A file that has lost most of itself has lost its limit, too.
        let limit = [&self.desired, &applied.desired]
            .into_iter()
            .find_map(|desired| desired.spec.reload.max_stranded_percent);
        let is_limited = is_load(change) && !change.force;
        limit.filter(|_| is_limited && *applied.desired.spec != *self.desired.spec)
    }

    /// Makes a change that is kept.
    async fn carry_out(&mut self, change: &Change, ready: Ready) -> Receipt {
        let Ready { applied, mut receipt, work, turns } = ready;
        if change.dry_run {
            return receipt;
        }
        let own = turns.iter().find(|turn| turn.is_own());
        let own = own.map(|turn| turn.rollout().service().clone());
        let follows = self.adopt(turns);
        match work {
            Work::Hold => self.hold_or_release(change, &mut receipt).await,
            Work::Nothing => {
                // What is in force stays the same object, for those who compare these.
                self.desired = Desired { spec: self.desired.spec.clone(), ..applied.desired };
                receipt.leaving =
                    left_before(&change.command, self.parts.placed(), self.drains.backends());
                receipt.elsewhere = Some(Elsewhere::of(&change.command, true));
            }
            Work::Renew(prepared) => {
                self.connectors = prepared.connectors;
                self.publish(applied.desired, prepared.listeners, self.revision).await;
                tracing::info!("certificates or tokens renewed");
            }
            Work::Again => {
                self.publish(self.desired.clone(), self.listeners.clone(), self.revision).await;
                self.tell_predecessor().await;
            }
            Work::Publish(prepared) => {
                self.connectors = prepared.connectors;
                let before = self.desired.spec.clone();
                let revision = self.revision + 1;
                let published = self.publish(applied.desired, prepared.listeners, revision).await;
                self.revision = revision;
                self.tell_predecessor().await;
                self.count(change.source);
                receipt.revision = Some(revision);
                receipt.in_flight = published.in_flight;
                receipt.drains = published.drains;
                receipt.leaving = published.left.into_iter().map(|left| left.backend).collect();
                let (placed, draining) = (self.parts.placed(), self.drains.backends());
                for backend in drained(&change.command, placed, draining) {
                    if !receipt.leaving.iter().any(|known| Arc::ptr_eq(known, &backend)) {
                        receipt.leaving.push(backend);
                    }
                }
                receipt.elsewhere = Some(Elsewhere::of(&change.command, false));
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
        self.follow_up(follows).await;
        receipt.rollout = own.and_then(|service| self.rollouts.shown_of(&service));
        receipt
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
        self.tell_predecessor().await;
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

    /// What can fail of a publish of `spec`.
    pub(super) fn prepare(&self, spec: &Spec) -> Result<Prepared, ChangeError> {
        let connectors = self.connectors.next(spec).map_err(ChangeError::Invalid)?;
        let issued = &self.issuance.certificates;
        let (cores, mut inherited) = (self.live.cores, Inherited::default());
        let listeners = listeners::bind(&self.listeners, spec, issued, cores, &mut inherited)
            .map_err(ChangeError::Invalid)?;
        Ok(Prepared { listeners, connectors })
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
            rollout: None,
            created: applied.created,
            preview: None,
            warnings: applied.warnings.clone(),
            leaving: Vec::new(),
            lingering: Vec::new(),
            elsewhere: None,
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
        let moves = matches!(
            change.command,
            Command::Cutover { .. } | Command::SetWeights { .. } | Command::Undo { .. }
        );
        if !moves || (change.force && !patient) {
            return Ok(());
        }
        let mut gaining = gaining(&self.desired.spec, after).into_iter();
        let Some((service, pool)) = gaining.find(|(s, p)| !self.parts.would_serve(s, p, after))
        else {
            return Ok(());
        };
        Err(Refused::Wait(ChangeError::Conflict(format!(
            "pool `{pool}` of service `{service}` has no healthy backend: {}; wait for one \
             (--wait-healthy 30s) or force the change (--force)",
            why_not(&self.parts, &service, &pool)
        ))))
    }
}
