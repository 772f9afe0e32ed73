//! What a rollout wants done.

use super::{
    Current, News,
    change::{Turn, has_ended, own_change},
    outcome, wall,
};
use crate::{
    control::{ChangeError, Command, making::Waiting, store::Step, task::Control},
    rollout::{Effect, Event, Notice, Phase},
    spec::Name,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Requests wait a little longer than the rollout lets them: it goes back before they are given up.
const LONGER: Duration = Duration::from_secs(5);

impl Control {
    /// What follows from a second or a turn, the rollout's state being what it is.
    pub(super) async fn carry_out_effects(&mut self, service: &Name, effects: Vec<Effect>) {
        let mut moves = false;
        let mut told = false;
        for effect in effects {
            match effect {
                Effect::Move(_) => moves = true,
                Effect::Ask(gate) => self.ask_gate(service, gate),
                Effect::Tell(notice) => {
                    told = true;
                    self.tell_of(service, notice);
                }
            }
        }
        if let Some(current) = self.rollouts.current.get_mut(service) {
            current.shown = Arc::new(current.rollout.clone());
            if told || current.kept.elapsed() >= super::KEEP {
                self.keep_rollout(service);
            }
        }
        if moves {
            Box::pin(self.move_rollout(service)).await;
        }
    }

    fn ask_gate(&mut self, _service: &Name, _gate: usize) {}

    async fn move_rollout(&mut self, service: &Name) {
        let Some(current) = self.rollouts.current.get_mut(service) else { return };
        current.moving = true;
        let change = Box::new(own_change(&current.rollout));
        let (answer, _) = oneshot::channel();
        let waiting = Waiting { change, once: None, answer, until: Instant::now() };
        if self.pending.is_none() {
            self.attempt(waiting).await;
        } else {
            self.waiting.push(waiting);
            self.recheck = true;
        }
    }

    /// What became of a change that a rollout wanted.
    pub(in crate::control) fn moved(&mut self, service: &Name, error: Option<&ChangeError>) {
        let Some(current) = self.rollouts.current.get_mut(service) else { return };
        current.moving = false;
        current.from = None;
        if let Some(error) = error {
            tracing::warn!(%service, rollout = %current.rollout.id(), %error, "a rollout cannot go on");
            let event = Event::Moved(Err(error.to_string()));
            let effects = current.rollout.on(event, wall()).unwrap_or_default();
            for effect in effects {
                if let Effect::Tell(notice) = effect {
                    self.tell_of(service, notice);
                }
            }
        }
    }

    /// The rollouts are as they are after a change that was kept; what follows is done after it is in force.
    pub(in crate::control) fn adopt(&mut self, turns: Vec<Turn>) -> Vec<(Name, Vec<Effect>)> {
        let now = Instant::now();
        let mut follows = Vec::new();
        for turn in turns {
            let holds = turn.holds();
            let Turn { rollout, effects, .. } = turn;
            let service = rollout.service().clone();
            let before = self.rollouts.current.get(&service);
            let held =
                before.is_some_and(|it| it.rollout.layout().held && !it.rollout.phase().is_over());
            let same = before.filter(|it| it.rollout.id() == rollout.id());
            let phase = same.map(|it| it.rollout.phase());
            if has_ended(phase, rollout.phase())
                && let Some(outcome) = outcome(rollout.phase())
            {
                *self.rollouts.outcomes.entry((service.clone(), outcome)).or_default() += 1;
            }
            if holds && !held {
                let time = rollout.plan().hold.saturating_add(LONGER);
                let cause = Some(format!("rollout {}", rollout.id()));
                self.holds.begin(&service, time, now, ("rollout".into(), cause));
            } else if held && !holds {
                self.holds.release(&service);
            }
            match phase.is_none() || has_ended(phase, rollout.phase()) {
                true => self.rollouts.put(rollout, now),
                false => {
                    if let Some(current) = self.rollouts.current.get_mut(&service) {
                        current.rollout = rollout;
                        current.due = now + super::SECOND;
                    }
                }
            }
            if let Some(Current { kept, from, .. }) = self.rollouts.current.get_mut(&service) {
                (*kept, *from) = (now, None);
            }
            follows.push((service, effects));
        }
        follows
    }

    pub(in crate::control) async fn follow_up(&mut self, follows: Vec<(Name, Vec<Effect>)>) {
        for (service, effects) in follows {
            self.carry_out_effects(&service, effects).await;
        }
    }

    fn tell_of(&mut self, service: &Name, notice: Notice) {
        let Some(current) = self.rollouts.current.get_mut(service) else { return };
        current.shown = Arc::new(current.rollout.clone());
        let rollout = current.shown.clone();
        let event = notice.event.as_str();
        let why = notice.why.as_ref().map_or("", |why| &why.text);
        let by = notice.by.as_ref().map_or("itself", |by| &by.author);
        let (id, step, share) = (rollout.id(), notice.step, notice.share);
        match rollout.phase() {
            Phase::Failed => {
                tracing::error!(%service, rollout = %id, event, step, %share, by, why, "rollout");
            }
            _ => tracing::info!(%service, rollout = %id, event, step, %share, by, why, "rollout"),
        }
        // Nobody may be listening.
        let _ = self.rollouts.news.send(News { rollout, notice });
    }

    /// What it has seen so far is kept, so that a restart goes on from there. It may fail: then less of it is.
    fn keep_rollout(&mut self, service: &Name) {
        let Some(current) = self.rollouts.current.get_mut(service) else { return };
        current.kept = Instant::now();
        let step = Step { rollouts: vec![current.rollout.clone()], ..Step::default() };
        let kept = self.store.keep(step);
        tokio::spawn(async move {
            if let Ok(Err(error)) = kept.await {
                tracing::warn!(%error, "what a rollout has seen is not kept");
            }
        });
    }
}

/// Whose turn a change of this kind is.
pub(in crate::control) fn mover(command: &Command) -> Option<&Name> {
    match command {
        Command::MoveRollout { service } => Some(service),
        _ => None,
    }
}
