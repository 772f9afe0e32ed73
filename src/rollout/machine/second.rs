//! What a second comes to.

use super::{
    Answer, Effect, GateState, Goal, Layout, Paused, Phase, Rollout, Second, Task, Why, explain,
    millis,
};
use crate::{
    rollout::sequential::Action,
    spec::{
        FailureAction, GateTime, HookEvent, OnFailure, OnInconclusive, RollingOrder,
        RolloutStrategy, Share, WebhookGate,
    },
};
use std::time::Duration;

/// Seconds that a canary may be without a healthy backend.
const WITHOUT_CANARY: u64 = 10;

/// Until a gate that has not answered is asked again, whatever its interval is.
const LEAST_INTERVAL: u64 = 1000;

/// What a stage comes to at the end of a second.
enum Outcome {
    /// It goes on.
    On,
    /// Its time is over, and something is missing.
    Missing,
    /// The next may begin.
    Over,
    Failure(Why),
}

impl Rollout {
    pub(super) fn second(&mut self, second: &Second, effects: &mut Vec<Effect>) {
        if self.phase.is_over() {
            return self.retire(effects);
        }
        self.crowded = second.crowded;
        self.count(second);
        if let Phase::Paused { by: Paused::Person, until: Some(until) } = self.phase
            && self.last >= until
        {
            self.go_on();
            self.tell(HookEvent::Resumed, None, None, effects);
        }
        if !self.is_returning() {
            self.look(second, effects);
        }
        self.ask(effects);
        self.advance(second, effects);
    }

    /// Stable stays warm for a while, for an undo.
    fn retire(&mut self, effects: &mut Vec<Effect>) {
        let is_due = self.last >= self.warm_until;
        if self.phase == Phase::Promoted && !self.layout.stable_drained && is_due {
            self.goal = Some(Goal::Retire);
            effects.push(Effect::Move(self.layout_of(&Goal::Retire)));
        }
    }

    fn count(&mut self, second: &Second) {
        if let Some(slice) = &second.slice {
            self.totals.add(slice);
        }
        let runs = !matches!(self.phase, Phase::Paused { .. });
        if runs {
            self.running += 1;
            self.in_stage += 1;
        }
        let shared = self.layout.share > Share::NONE && !self.layout.held;
        let gone = shared && !second.canary_healthy;
        self.without_canary = if gone { self.without_canary + 1 } else { 0 };
        self.held = if self.layout.held { self.held + 1 } else { 0 };
        let is_settling = self.settling.is_so(second.share);
        // Once it goes back the canary is of no interest, and baseline requests that began before are in the way.
        if !shared || self.is_returning() {
            return;
        }
        match second.slice.as_ref().filter(|_| !is_settling) {
            Some(slice) => {
                let (canary, stable) = (slice.canary.requests, slice.baseline.requests);
                self.judge.feed(slice, self.ratio.correct(second.share));
                self.ratio.add(canary, canary + stable, second.share);
            }
            None if runs => self.judge.skip(),
            None => {}
        }
    }

    /// What is to be made of what is known.
    fn look(&mut self, second: &Second, effects: &mut Vec<Effect>) {
        let outcome = self.outcome(second);
        match (self.phase, outcome) {
            // It has been seen, and somebody decides.
            (Phase::Paused { by: Paused::Failure, .. }, _) => {}
            (_, Outcome::Failure(why)) => return self.failure(why, effects),
            // It has a goal, whatever else there is to say.
            _ if self.goal.is_some() => {}
            (Phase::Paused { by: Paused::Step, until }, _) => {
                if until.is_some_and(|until| self.last >= until) {
                    self.leave();
                }
            }
            (Phase::Paused { .. }, _) => {}
            (_, Outcome::On) => self.phase = Phase::Running,
            (_, Outcome::Over) => self.leave(),
            (_, Outcome::Missing) => self.wait(effects),
        }
        let is_late = self.running >= self.plan.deadline.as_secs()
            && self.plan.strategy != RolloutStrategy::AbTest;
        if is_late && matches!(self.phase, Phase::Running | Phase::Waiting) && !self.is_returning()
        {
            let text = format!("it is not through after {} s", self.plan.deadline.as_secs());
            self.inconclusive(Why::new("deadline", text), true, effects);
        }
    }

    fn outcome(&self, second: &Second) -> Outcome {
        if self.without_canary >= WITHOUT_CANARY {
            let text =
                format!("pool `{}` had no healthy backend for {WITHOUT_CANARY} s", self.canary);
            return Outcome::Failure(Why::new("canary_unhealthy", text));
        }
        if self.held > self.plan.hold.as_secs() {
            let text =
                format!("`{}` was not ready within {} s", self.canary, self.plan.hold.as_secs());
            return Outcome::Failure(Why::new("hold_expired", text));
        }
        let Some(task) = self.stage().map(|stage| stage.task) else { return Outcome::On };
        let Some(asked) = self.asked() else {
            // Requests that are open on stable get as much time as half of what others may wait.
            let patience = self.plan.hold.as_secs() / 2;
            let is_over = second.stable_in_flight == 0 || self.in_stage >= patience;
            return if is_over { Outcome::Over } else { Outcome::On };
        };
        let passed = |time: Duration| self.in_stage >= time.as_secs();
        let is_careless = self.plan.strategy == RolloutStrategy::Rolling
            && self.plan.rolling.failure_action == FailureAction::Continue;
        // What is asked for does not get less because stable is away and the canary gets everything for a while.
        let share = self.layout.share.as_f64();
        let shared = self.layout.share > Share::NONE && !self.layout.held && !is_careless;
        let verdict = self.judge.verdict(asked, share);
        if shared && verdict.action == Action::Abort {
            let (code, mut text) = explain::failure(self, &verdict);
            if let Some(hint) = second.hint.as_ref().filter(|_| code != "latency") {
                text.push_str("; ");
                text.push_str(hint);
            }
            return Outcome::Failure(Why::new(code, text));
        }
        if let Some((gate, text)) = self.failed_gate().filter(|_| shared) {
            return Outcome::Failure(Why::new("gate", format!("gate `{gate}`: {text}")));
        }
        let is_over = |over: bool| if over { Outcome::Over } else { Outcome::On };
        match task {
            Task::Touch(time) => is_over(passed(time)),
            Task::Delay(time) => is_over(passed(time)),
            Task::Exchange => Outcome::Over,
            Task::Pause(_) | Task::Experiment | Task::Idle => Outcome::On,
            Task::Step { bake: time, .. } | Task::Watch(time) => {
                let is_ready =
                    || is_careless || (verdict.action == Action::Promote && self.is_free());
                match passed(time) {
                    true if is_ready() => Outcome::Over,
                    true => Outcome::Missing,
                    false => Outcome::On,
                }
            }
        }
    }

    /// Nothing but the evidence stands in the way.
    fn is_free(&self) -> bool {
        self.gates_during().into_iter().all(|gate| self.passes(gate))
            && self.ratio.mismatch().is_none()
            && !self.crowded
    }

    fn failure(&mut self, why: Why, effects: &mut Vec<Effect>) {
        let pauses = match self.plan.strategy {
            RolloutStrategy::Rolling => match self.plan.rolling.failure_action {
                FailureAction::Pause => true,
                FailureAction::Rollback => false,
                FailureAction::Continue => {
                    self.why = Some(why);
                    return;
                }
            },
            _ => self.plan.on_failure == OnFailure::Pause,
        };
        // Requests that wait cannot wait for a person.
        if pauses && !self.layout.held {
            self.pause(Paused::Failure, None, None, Some(why), effects);
        } else {
            self.abort(why, None);
        }
    }

    /// The stage is over.
    fn leave(&mut self) {
        let next = self.at.map_or(0, |at| at + 1);
        self.goal = Some(match self.stages.get(next) {
            Some(_) => Goal::Enter { stage: next, by: None },
            None => Goal::Finish { by: None },
        });
        self.phase = Phase::Running;
        self.why = None;
    }

    fn wait(&mut self, effects: &mut Vec<Effect>) {
        let was = std::mem::replace(&mut self.phase, Phase::Waiting);
        if was != Phase::Waiting {
            self.tell(HookEvent::Waiting, None, None, effects);
        }
        if self.in_stage >= self.plan.step_deadline.as_secs() {
            let text =
                format!("the step is inconclusive after {} s", self.plan.step_deadline.as_secs());
            self.inconclusive(Why::new("inconclusive", text), false, effects);
        }
    }

    fn inconclusive(&mut self, why: Why, is_late: bool, effects: &mut Vec<Effect>) {
        match self.plan.on_inconclusive {
            OnInconclusive::Abort => self.abort(why, None),
            OnInconclusive::Promote if self.goal.is_none() && self.is_unsuspected() => self.leave(),
            // It can still go on as soon as there is evidence, but not for ever.
            _ if !is_late => self.why = Some(why),
            _ => self.pause(Paused::Deadline, None, None, Some(why), effects),
        }
    }

    fn is_unsuspected(&self) -> bool {
        let missing =
            self.asked().map(|asked| self.judge.missing(asked, self.layout.share.as_f64()));
        missing.is_none_or(|missing| !missing.suspected && !missing.incident)
            && self.failed_gate().is_none()
    }

    /// Asks for what the goal needs, if it can be reached now.
    pub(super) fn advance(&mut self, second: &Second, effects: &mut Vec<Effect>) {
        let retires = matches!(self.goal, Some(Goal::Retire));
        let Some(goal) = self.goal.as_ref().filter(|_| retires || !self.phase.is_over()) else {
            return;
        };
        let waits = matches!(self.phase, Phase::Paused { .. }) && !self.is_returning();
        if waits {
            return;
        }
        let layout = self.layout_of(goal);
        match self.obstacle(second, goal) {
            None => effects.push(Effect::Move(layout)),
            Some(why) if self.is_returning() => {
                self.fail_to_return(why, effects);
            }
            Some(why) => {
                self.phase = Phase::Waiting;
                self.why = Some(why);
            }
        }
    }

    /// Why the goal cannot be reached now.
    fn obstacle(&self, second: &Second, goal: &Goal) -> Option<Why> {
        let layout = self.layout_of(goal);
        let nobody =
            |pool: &str| Why::new("no_backend", format!("pool `{pool}` has no healthy backend"));
        if let Goal::Return { .. } = goal {
            // Without any share nobody is moved.
            let moves = self.layout.share > Share::NONE;
            return (moves && !second.stable_healthy).then(|| nobody(&self.stable));
        }
        let rises = layout.share > self.layout.share;
        let gates = match goal {
            Goal::Enter { .. } => self.gates_before(layout),
            Goal::Finish { .. } => self.webhooks(GateTime::After),
            _ => Vec::new(),
        };
        if let Some((gate, answer)) = self.closed(gates) {
            return Some(Why::new("gate", format!("gate `{gate}`: {answer}")));
        }
        match (layout.backends, self.layout.backends.unwrap_or_default()) {
            (Some(next), now) => {
                let ill = second.canary_backends.iter().take(next.admitted).skip(now.admitted);
                if ill.filter(|healthy| !**healthy).count() > 0 {
                    let text =
                        format!("the next backends of pool `{}` are not healthy", self.canary);
                    return Some(Why::new("no_backend", text));
                }
                if rises && !second.canary_backends.iter().take(next.admitted).any(|it| *it) {
                    return Some(nobody(&self.canary));
                }
                if next.retired > now.retired {
                    return self.too_few(second, next.admitted, next.retired);
                }
                None
            }
            (None, _) => {
                let ends = matches!(goal, Goal::Finish { .. });
                // Drained as a whole, it is healthy once it gets its traffic.
                let ready = second.canary_healthy || second.canary_backends.contains(&true);
                ((rises || ends) && !ready).then(|| nobody(&self.canary))
            }
        }
    }

    /// Of backends that would serve if so many are admitted and retired.
    fn too_few(&self, second: &Second, admitted: usize, retired: usize) -> Option<Why> {
        let rolling = &self.plan.rolling;
        let count = |healthy: &mut dyn Iterator<Item = &bool>| healthy.filter(|it| **it).count();
        let serving = count(&mut second.canary_backends.iter().take(admitted))
            + count(&mut second.stable_backends.iter().skip(retired));
        let batch = match rolling.order {
            RollingOrder::StartFirst => 0,
            RollingOrder::StopFirst => rolling.parallelism.get(),
        };
        let missing = rolling.max_unavailable.max(batch) as usize;
        let all = self.before.stable.len().min(self.before.canary.len().max(1));
        let least = all.saturating_sub(missing).max(1);
        (serving < least).then(|| {
            let text = format!("{serving} healthy backends would be left, {least} are needed");
            Why::new("unavailable", text)
        })
    }

    /// Those whose answer it waits for, or keeps asking for.
    pub(super) fn gates_wanted(&self) -> Vec<usize> {
        match &self.goal {
            Some(Goal::Enter { stage, .. }) => self.gates_before(self.stages[*stage].layout),
            Some(Goal::Finish { .. }) => self.webhooks(GateTime::After),
            Some(_) => Vec::new(),
            None if self.layout.share > Share::NONE => self.gates_during(),
            None => Vec::new(),
        }
    }

    fn ask(&mut self, effects: &mut Vec<Effect>) {
        for gate in self.gates_wanted() {
            let once = self.webhook(gate).is_some_and(|it| it.when != GateTime::During);
            if self.last < self.gates[gate].due || (once && self.passes(gate)) {
                continue;
            }
            // It is not asked twice at a time.
            let (interval, timeout) = self.pace(gate);
            let pause = millis(interval).max(millis(timeout)).max(LEAST_INTERVAL);
            self.gates[gate].due = self.last.saturating_add(pause);
            effects.push(Effect::Ask(gate));
        }
    }

    pub(super) fn answered(&mut self, gate: usize, answer: Answer) {
        if gate < self.gates.len() {
            let (interval, _) = self.pace(gate);
            let due = self.last.saturating_add(millis(interval).max(LEAST_INTERVAL));
            self.gates[gate] = GateState { answer: Some(answer), due };
        }
    }

    /// It has said yes, in this stage.
    fn passes(&self, gate: usize) -> bool {
        matches!(self.gates[gate].answer, Some(Answer::Pass(_)))
    }

    /// How often a gate is asked, and how long it may take to answer.
    fn pace(&self, gate: usize) -> (Duration, Duration) {
        let prometheus = self.plan.gates.prometheus.get(gate).map(|it| (it.interval, it.timeout));
        let webhook = || self.webhook(gate).map(|it| (it.interval, it.timeout));
        prometheus.or_else(webhook).unwrap_or_default()
    }

    /// Those that are asked again and again.
    fn gates_during(&self) -> Vec<usize> {
        let prometheus = 0..self.plan.gates.prometheus.len();
        prometheus.chain(self.webhooks(GateTime::During)).collect()
    }

    /// Those that must pass before this layout.
    fn gates_before(&self, layout: Layout) -> Vec<usize> {
        // Requests that wait do not wait for gates.
        let moves = self.layout.share == Share::NONE && layout.share > Share::NONE;
        let first = (moves || layout.held) && !self.layout.held;
        let admitted = |layout: &Layout| layout.backends.map_or(0, |it| it.admitted);
        let admits = self.admit.is_some() && admitted(&layout) > admitted(&self.layout);
        let gates = if first { self.webhooks(GateTime::Before) } else { Vec::new() };
        // Behind all others.
        gates.into_iter().chain(admits.then(|| self.gates.len() - 1)).collect()
    }

    fn webhooks(&self, when: GateTime) -> Vec<usize> {
        let first = self.plan.gates.prometheus.len();
        let all = self.plan.gates.webhooks.iter().enumerate();
        all.filter(|(_, gate)| gate.when == when).map(|(nth, _)| first + nth).collect()
    }

    /// The webhook that is the gate of this number.
    pub fn webhook(&self, gate: usize) -> Option<&WebhookGate> {
        let nth = gate.checked_sub(self.plan.gates.prometheus.len())?;
        self.plan.gates.webhooks.iter().chain(&self.admit).nth(nth)
    }

    /// The first of those that must pass once, and has not.
    fn closed(&self, gates: Vec<usize>) -> Option<(String, String)> {
        let gate = gates.into_iter().find(|gate| !self.passes(*gate))?;
        let said = match &self.gates[gate].answer {
            Some(Answer::Fail(said) | Answer::Inconclusive(said) | Answer::Pass(said)) => {
                said.clone()
            }
            None => "has not answered yet".to_owned(),
        };
        Some((self.gate_name(gate).to_owned(), said))
    }

    fn failed_gate(&self) -> Option<(String, String)> {
        self.gates_during().into_iter().find_map(|gate| match &self.gates[gate].answer {
            Some(Answer::Fail(said)) => Some((self.gate_name(gate).to_owned(), said.clone())),
            _ => None,
        })
    }

    pub fn gate_name(&self, gate: usize) -> &str {
        let prometheus = self.plan.gates.prometheus.get(gate).map(|gate| &*gate.name);
        prometheus.or_else(|| self.webhook(gate).map(|gate| &*gate.name)).unwrap_or("")
    }

    /// By name, what each gate has answered in this stage.
    /// Goes up whenever gates are to be asked anew: what they were asked before is not answered for this round.
    pub fn round(&self) -> u64 {
        self.round
    }

    pub fn gates(&self) -> impl Iterator<Item = (&str, Option<&Answer>)> {
        self.gates.iter().enumerate().map(|(at, gate)| (self.gate_name(at), gate.answer.as_ref()))
    }
}
