//! What a rollout wants done.

use super::{
    Answered, Current, News,
    change::{Turn, has_ended, own_change},
    wall,
};
use crate::{
    control::{
        ChangeError, Command,
        making::Waiting,
        outside::{Telling, Told},
        store::Step,
        task::Control,
    },
    rollout::{Answer, Effect, Event, Notice, Phase, Rollout},
    spec::{Name, PrometheusGate, Service, WebhookGate},
};
use indexmap::IndexMap;
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
        let tells = effects.iter().any(|effect| matches!(effect, Effect::Tell(_)));
        if let Some(current) = self.rollouts.current.get_mut(service) {
            current.shown = Arc::new(current.rollout.clone());
            let learns = !current.rollout.phase().is_over();
            // Kept before anybody is told of it.
            if tells || (learns && current.kept.elapsed() >= super::KEEP) {
                self.keep_rollout(service);
            }
        }
        for effect in effects {
            match effect {
                Effect::Move(_) => moves = true,
                Effect::Ask(gate) => self.ask_gate(service, gate),
                Effect::Tell(notice) => self.tell_of(service, notice),
            }
        }
        if moves {
            Box::pin(self.move_rollout(service)).await;
        }
    }

    /// In a task of its own: the control task waits for nobody outside.
    fn ask_gate(&self, service: &Name, gate: usize) {
        let (Some(rollout), Some(spec)) =
            (self.rollouts.of(service), self.desired.spec.services.get(service))
        else {
            return;
        };
        let question = Question::of(rollout, gate, spec);
        let (id, round) = (rollout.id().clone(), rollout.round());
        let answers = self.rollouts.answers.clone();
        let outside = self.rollouts.outside.as_ref().map(|(outside, _)| outside.clone());
        tokio::spawn(async move {
            let answer = match (outside, question) {
                (Some(outside), Some(Question::Prometheus(gate))) => {
                    outside.ask_prometheus(&gate).await
                }
                (Some(outside), Some(Question::Webhook(gate, body))) => {
                    outside.ask_webhook(&gate, &body).await
                }
                _ => Answer::Inconclusive("it cannot be asked from here".into()),
            };
            // The rollout may be over.
            let _ = answers.send(Answered { id, round, gate, answer }).await;
        });
    }

    /// Has hooks told what they have not heard before this process began.
    pub(in crate::control) fn tell_untold(&mut self) {
        let untold: Vec<(Name, Notice)> = self
            .rollouts
            .current
            .iter()
            .flat_map(|(service, it)| {
                it.rollout.untold().map(|notice| (service.clone(), notice.clone()))
            })
            .collect();
        for (service, notice) in untold {
            self.tell_hooks(&service, &notice);
        }
    }

    fn tell_hooks(&self, service: &Name, notice: &Notice) {
        let Some(rollout) = self.rollouts.of(service) else { return };
        let (Some((_, teller)), Some(spec)) =
            (&self.rollouts.outside, self.desired.spec.services.get(service))
        else {
            return;
        };
        let telling = Telling::of(rollout, notice, spec);
        if !telling.hooks.is_empty() && !teller.tell(telling) {
            tracing::warn!(%service, rollout = %rollout.id(), "too many hooks wait; one is told after a restart");
        }
    }

    /// Hooks have heard, or never will.
    pub(in crate::control) fn was_told(&mut self, told: &Told) {
        for (url, why) in &told.given_up {
            tracing::warn!(rollout = %told.rollout, %url, why, "a hook was not told");
        }
        let mut all = self.rollouts.current.values_mut();
        if let Some(current) = all.find(|current| *current.rollout.id() == told.rollout) {
            // It has no effects.
            let _ = current.rollout.on(Event::Told(told.number), wall());
            let (service, is_settled) =
                (current.rollout.service().clone(), current.rollout.is_settled());
            if is_settled {
                self.keep_rollout(&service);
            }
        }
    }

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
            let has_ended = has_ended(phase, rollout.phase());
            if has_ended {
                let outcome = (service.clone(), rollout.phase().as_str());
                *self.rollouts.outcomes.entry(outcome).or_default() += 1;
            }
            if holds && !held {
                let time = rollout.plan().hold.saturating_add(LONGER);
                let cause = Some(format!("rollout {}", rollout.id()));
                self.holds.begin(&service, time, now, ("rollout".into(), cause));
            } else if held && !holds {
                self.holds.release(&service);
            }
            match self.rollouts.current.get_mut(&service) {
                Some(current) if phase.is_some() && !has_ended => {
                    current.rollout = rollout;
                    current.due = now + super::SECOND;
                }
                _ => self.rollouts.put(rollout, now),
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
        self.tell_hooks(service, &notice);
        // Before it is told: who begins to listen only now finds it there.
        self.show();
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

/// What a gate is asked.
enum Question {
    Prometheus(PrometheusGate),
    Webhook(WebhookGate, serde_json::Value),
}

impl Question {
    fn of(rollout: &Rollout, gate: usize, service: &Service) -> Option<Self> {
        let gates = &rollout.plan().gates;
        if let Some(gate) = gates.prometheus.get(gate) {
            return Some(Self::Prometheus(gate.clone()));
        }
        let gate = rollout.webhook(gate)?;
        let weights: IndexMap<&str, u32> =
            service.pools.iter().map(|(name, pool)| (&**name, pool.weight.get())).collect();
        let body = serde_json::json!({
            "gate": gate.name,
            "rollout": rollout.id(),
            "service": rollout.service(),
            "state": rollout.phase().as_str(),
            "from": rollout.stable(),
            "to": rollout.canary(),
            "step": rollout.step(),
            "weights": weights,
        });
        Some(Self::Webhook(gate.clone(), body))
    }
}

/// Whose turn a change of this kind is.
pub(in crate::control) fn mover(command: &Command) -> Option<&Name> {
    match command {
        Command::MoveRollout { service } => Some(service),
        _ => None,
    }
}
