//! What people do with a rollout.

use super::{By, Effect, Goal, Paused, Phase, Refused, Rollout, Verb, Why};
use crate::spec::{HookEvent, Role, RolloutStrategy};

impl Rollout {
    pub(super) fn verb(
        &mut self,
        verb: Verb,
        by: By,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        if self.phase.is_over() {
            return Err(self.conflict("it is over; start another one"));
        }
        if self.is_returning() && verb != Verb::Abort {
            return Err(self.conflict("it goes back to stable"));
        }
        match verb {
            Verb::Promote => self.promote(by),
            Verb::Pause(_) if self.awaits_judgement() || self.is_paused_by(Paused::Drift) => {
                Err(self.conflict("it is paused already"))
            }
            Verb::Pause(seconds) => {
                let until = seconds.map(|it| self.last.saturating_add(it.saturating_mul(1000)));
                let why = by.cause.clone().map(|cause| Why::new("person", cause));
                self.pause(Paused::Person, until, Some(by), why, effects);
                Ok(())
            }
            Verb::Resume => self.resume(by, effects),
            Verb::Abort => {
                let cause = by.cause.as_ref().map_or(String::new(), |cause| format!(": {cause}"));
                let why = Why::new("person", format!("{} aborted it{cause}", by.author));
                self.abort(why, Some(by));
                Ok(())
            }
        }
    }

    /// On to the next step: what a person says counts for the evidence, the gates and the rest of the time.
    fn promote(&mut self, by: By) -> Result<(), Refused> {
        self.check_approval(&by)?;
        if self.awaits_judgement() {
            self.forget_evidence();
        } else if self.goal.is_some() && !matches!(self.phase, Phase::Paused { .. }) {
            return Err(self.conflict(&match &self.why {
                Some(why) => format!("it is on its way already: {}", why.text),
                None => "it is on its way already".to_owned(),
            }));
        }
        if self.goal.is_some() {
            self.go_on();
            return Ok(());
        }
        let next = self.after(self.at);
        self.goal = Some(match self.stages.get(next) {
            Some(_) => Goal::Enter { stage: next, by: Some(by) },
            None => Goal::Finish { by: Some(by) },
        });
        self.go_on();
        Ok(())
    }

    fn is_paused_by(&self, reason: Paused) -> bool {
        matches!(self.phase, Phase::Paused { by, .. } if by == reason)
    }

    /// The stage after that one which belongs to another step: a probe and the parts of a batch go together.
    fn after(&self, at: Option<usize>) -> usize {
        let Some(at) = at else { return 0 };
        let step = self.stages[at].step;
        let is_batchwise = self.plan.strategy == RolloutStrategy::Rolling;
        let same = self.stages[at + 1..].iter().take_while(|it| is_batchwise && it.step == step);
        // What exchanges backends is never left out.
        let skipped = same.take_while(|it| it.layout == self.stages[at].layout).count();
        at + 1 + skipped
    }

    fn resume(&mut self, by: By, effects: &mut Vec<Effect>) -> Result<(), Refused> {
        let Phase::Paused { by: paused, .. } = self.phase else {
            return Err(self.conflict("it is not paused"));
        };
        if paused == Paused::Step {
            return self.promote(by);
        }
        if self.awaits_judgement() {
            self.check_approval(&by)?;
            self.forget_evidence();
        }
        self.go_on();
        self.tell(HookEvent::Resumed, Some(by), None, effects);
        Ok(())
    }

    /// Runs again; a step that is a pause is still one.
    pub(super) fn go_on(&mut self) {
        let until = match self.stage().map(|stage| stage.task) {
            Some(super::Task::Pause(time)) if self.goal.is_none() => {
                Some(time.map(|time| self.entered.saturating_add(super::millis(time))))
            }
            _ => None,
        };
        self.phase =
            until.map_or(Phase::Running, |until| Phase::Paused { by: Paused::Step, until });
        self.why = None;
    }

    /// Who goes on although there is evidence against the canary has judged himself: else the same evidence would stop
    /// it again a second later.
    fn forget_evidence(&mut self) {
        self.judge.forget();
        self.ask_anew();
        self.in_stage = 0;
        self.running = 0;
    }

    fn check_approval(&self, by: &By) -> Result<(), Refused> {
        let needed = self.plan.approval.unwrap_or(Role::Operator);
        if by.role >= needed {
            return Ok(());
        }
        Err(Refused::Forbidden(format!(
            "to go on with this rollout takes the role `{}`, which {} does not have",
            needed.as_str(),
            by.author
        )))
    }

    fn conflict(&self, why: &str) -> Refused {
        Refused::Conflict(format!(
            "the rollout of service `{}` is {}: {why}",
            self.service,
            self.phase.as_str()
        ))
    }
}
