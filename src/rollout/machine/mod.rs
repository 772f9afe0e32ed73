//! A rollout as a machine: its state, what happens to it, and what follows. PURE: `(state, event, now)` gives
//! `(state, effects)`.
//!
//! A plan becomes a list of stages ([`stages`]), each with a layout of the traffic. To enter one, the machine asks for
//! its layout ([`Effect::Move`]) and is in it once that is in force ([`Event::Moved`]): until then nothing has
//! happened, so that a crash or a full disk never leaves it between two of them. A second after the other
//! ([`Event::Second`]) is judged; time is counted in these, so that a clock that jumps changes nothing.

mod event;
mod explain;
mod forecast;
mod layout;
mod plan;
mod ratio;
mod second;
mod settling;
mod stages;
#[cfg(test)]
mod tests;
mod totals;
mod verbs;

pub use event::{Answer, By, Effect, Event, Notice, Second, Verb, Why};
pub use explain::{Explained, Lack};
pub use forecast::{StepForecast, Traffic, forecast};
pub use layout::{Before, Exchanged, Layout};
pub use stages::{Stage, Task};
pub use totals::{Total, Totals};

use super::sequential::{self, Judge};
use crate::spec::{
    GateTime, HookEvent, Name, RolloutPlan, RolloutStrategy, Service, Share, WebhookGate,
};
use plan::judge_config;
use ratio::Ratio;
use serde::{Deserialize, Serialize};
use settling::Settling;
use stages::{Setting, stages};
use std::time::Duration;

/// Milliseconds since 1970.
pub type Millis = u64;

/// Notices that are remembered, and the bytes of what people and gates have said in them; the oldest go first.
const MOST_NOTICES: usize = 500;
const MOST_TEXT: usize = 64 << 10;

/// What is to be in force is not.
const NOT_MOVED: &str = "not_moved";

/// So much time may pass between two events: with more, the clock was set or the proxy was down.
const LONGEST_GAP: Millis = 60_000;

/// What a rollout is begun with.
#[derive(Clone, Debug, PartialEq)]
pub struct Beginning<'a> {
    pub id: Name,
    pub service_name: Name,
    pub service: &'a Service,
    pub stable: Name,
    pub canary: Name,
    pub plan: RolloutPlan,
    pub by: By,
    /// Requests of both pools in a second, as far as is known.
    pub rate: Option<f64>,
    /// Latencies of stable so far.
    pub known: Option<Box<sequential::Histogram>>,
    /// How much errors came together on single backends of stable, as [`sequential::dispersion`] has it; 1: not.
    pub dispersion: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    id: Name,
    service: Name,
    stable: Name,
    canary: Name,
    plan: RolloutPlan,
    before: Before,
    stages: Vec<Stage>,
    /// The stage it is in; `None`: before the first.
    at: Option<usize>,
    /// In force.
    layout: Layout,
    /// Not in force yet.
    goal: Option<Goal>,
    phase: Phase,
    judge: Judge,
    ratio: Ratio,
    /// Seconds that it ran, and those in this stage; pauses do not count.
    running: u64,
    in_stage: u64,
    /// Seconds in which the canary should have got requests and had no healthy backend.
    without_canary: u64,
    /// Seconds since its requests wait.
    held: u64,
    gates: Vec<GateState>,
    /// How often what gates have said was forgotten.
    #[serde(default)]
    round: u64,
    /// Asked before a batch of backends is admitted; the last of the gates.
    admit: Option<WebhookGate>,
    totals: Totals,
    started: Millis,
    entered: Millis,
    ended: Option<Millis>,
    /// Stable is drained then, once the canary is promoted.
    warm_until: Millis,
    /// The time of the last event.
    last: Millis,
    settling: Settling,
    /// Why it is where it is.
    why: Option<Why>,
    notices: Vec<Notice>,
    /// Numbers of those that have not reached everybody.
    untold: Vec<u64>,
    next_notice: u64,
    crowded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// In a step.
    Running,
    /// The time of the step is over, evidence or traffic is missing.
    Waiting,
    /// Until somebody, or at this time, something goes on.
    Paused {
        by: Paused,
        until: Option<Millis>,
    },
    Promoted,
    Aborted,
    Superseded,
    /// An abort that cannot move traffic to stable, yet.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Paused {
    Person,
    /// As the plan says.
    Step,
    /// A version that is worse.
    Failure,
    /// The file says something else.
    Drift,
    /// It takes too long.
    Deadline,
}

impl Phase {
    /// As it is written, and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused { .. } => "paused",
            Self::Promoted => "promoted",
            Self::Aborted => "aborted",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
        }
    }

    pub const ALL: [&'static str; 7] =
        ["running", "waiting", "paused", "promoted", "aborted", "superseded", "failed"];

    /// Nothing happens by itself any more, but that stable is drained at last.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Promoted | Self::Aborted | Self::Superseded)
    }
}

/// Where it wants to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Goal {
    Enter {
        stage: usize,
        by: Option<By>,
    },
    /// All to the canary.
    Finish {
        by: Option<By>,
    },
    /// Back to stable.
    Return {
        why: Why,
        by: Option<By>,
    },
    /// Stable is not kept warm any more.
    Retire,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct GateState {
    /// In this stage.
    answer: Option<Answer>,
    /// Not before.
    due: Millis,
}

/// Why a verb changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not in this state.
    Conflict(String),
    /// Somebody else may.
    Forbidden(String),
}

impl Rollout {
    /// # Errors
    /// Why it cannot begin: the plan does not fit the service.
    pub fn begin(beginning: Beginning<'_>, now: Millis) -> Result<(Self, Vec<Effect>), String> {
        let Beginning {
            id,
            service_name,
            service,
            stable,
            canary,
            plan,
            by,
            rate,
            known,
            dispersion,
        } = beginning;
        let before = Before::of(service, &stable, &canary)?;
        if before.both == 0 {
            return Err(format!(
                "neither `{stable}` nor `{canary}` has weight, so there is nothing to share"
            ));
        }
        if plan.strategy == RolloutStrategy::AbTest && service.sticky.is_none() {
            return Err(
                "an ab_test needs `sticky`: who is to be compared with whom must stay the same"
                    .into(),
            );
        }
        let setting = Setting {
            plan: &plan,
            touch: touch(&plan, rate),
            stable_backends: before.stable.len(),
            canary_backends: before.canary.len(),
        };
        let stages = stages(&setting);
        let is_batchwise = plan.strategy == RolloutStrategy::Rolling;
        if is_batchwise && (before.stable.is_empty() || before.canary.is_empty()) {
            return Err("a rolling rollout needs backends of both pools that serve".into());
        }
        if stages.is_empty() {
            return Err("the plan has no step in which the canary gets requests".into());
        }
        let mut judge = Judge::new(judge_config(&plan, dispersion));
        if let Some(known) = known {
            judge.learn(&known);
        }
        let admit = admit_gate(&plan);
        let count = plan.gates.prometheus.len() + plan.gates.webhooks.len();
        let gates = vec![GateState::default(); count + usize::from(admit.is_some())];
        let mut rollout = Self {
            id,
            service: service_name,
            stable,
            canary,
            plan,
            before,
            stages,
            at: None,
            layout: Layout::default(),
            goal: Some(Goal::Enter { stage: 0, by: None }),
            phase: Phase::Running,
            judge,
            ratio: Ratio::default(),
            running: 0,
            in_stage: 0,
            without_canary: 0,
            held: 0,
            gates,
            round: 0,
            admit,
            totals: Totals::default(),
            started: now,
            entered: now,
            ended: None,
            warm_until: now,
            last: now,
            settling: Settling::default(),
            why: None,
            notices: Vec::new(),
            untold: Vec::new(),
            next_notice: 1,
            crowded: false,
        };
        let mut effects = Vec::new();
        rollout.tell(HookEvent::Started, Some(by), None, &mut effects);
        Ok((rollout, effects))
    }

    /// # Errors
    /// When a person wants what is not possible; nothing has changed then.
    pub fn on(&mut self, event: Event, now: Millis) -> Result<Vec<Effect>, Refused> {
        self.keep_time(now);
        let mut effects = Vec::new();
        match event {
            Event::Second(second) => self.second(&second, &mut effects),
            Event::Look(second) => self.advance(&second, &mut effects),
            Event::Verb(verb, by) => self.verb(verb, by, &mut effects)?,
            Event::Moved(Ok(())) => self.moved(&mut effects),
            Event::Moved(Err(why)) => self.stuck(why, &mut effects),
            Event::Answered(gate, answer) => self.answered(gate, answer),
            Event::Superseded(by) => self.supersede(by, &mut effects),
            Event::Drifted => self.drifted(&mut effects),
            Event::Told(number) => self.untold.retain(|untold| *untold != number),
        }
        Ok(effects)
    }

    /// What was to happen in five minutes still does after the clock was set or the proxy was down.
    fn keep_time(&mut self, now: Millis) {
        let from = std::mem::replace(&mut self.last, now);
        if (from..=from.saturating_add(LONGEST_GAP)).contains(&now) {
            return;
        }
        let shift = |at: &mut Millis| *at = at.saturating_add(now).saturating_sub(from);
        shift(&mut self.entered);
        shift(&mut self.warm_until);
        self.gates.iter_mut().for_each(|gate| shift(&mut gate.due));
        if let Phase::Paused { until: Some(until), .. } = &mut self.phase {
            shift(until);
        }
    }

    /// What a layout makes of the service as it is now.
    pub fn lay_out(&self, layout: &Layout, service: &mut Service) {
        self.before.lay_out(layout, (&self.stable, &self.canary), service);
    }

    /// The goal is in force.
    fn moved(&mut self, effects: &mut Vec<Effect>) {
        let Some(goal) = self.goal.take() else { return };
        self.layout = self.layout_of(&goal);
        match goal {
            Goal::Enter { stage, by } => self.enter(stage, by, effects),
            Goal::Finish { by } => {
                self.end(Phase::Promoted);
                self.why = None;
                self.tell(HookEvent::Promoted, by, None, effects);
            }
            Goal::Return { why, by } => {
                self.end(Phase::Aborted);
                self.why = Some(why.clone());
                self.tell(HookEvent::Aborted, by, Some(why), effects);
            }
            Goal::Retire => self.why = None,
        }
    }

    fn layout_of(&self, goal: &Goal) -> Layout {
        match goal {
            Goal::Enter { stage, .. } => self.stages[*stage].layout,
            Goal::Finish { .. } => Layout::of_share(Share::ALL),
            Goal::Return { .. } => Layout::default(),
            Goal::Retire => Layout { stable_drained: true, ..Layout::of_share(Share::ALL) },
        }
    }

    fn enter(&mut self, stage: usize, by: Option<By>, effects: &mut Vec<Effect>) {
        let step = self.stages[stage].step;
        let is_new = self.step() != step;
        self.at = Some(stage);
        self.entered = self.last;
        self.in_stage = 0;
        self.judge.begin_stage();
        self.ask_anew();
        self.phase = Phase::Running;
        self.why = None;
        if is_new {
            self.tell(HookEvent::Step, by, None, effects);
        }
        if let Task::Pause(time) = self.stages[stage].task {
            let until = time.map(|time| self.last.saturating_add(millis(time)));
            self.pause(Paused::Step, until, None, None, effects);
        }
    }

    /// What gates have said does not count any more.
    fn ask_anew(&mut self) {
        self.round += 1;
        self.gates.fill(GateState { answer: None, due: self.last });
    }

    /// What was asked for is not in force; it is asked for again.
    fn stuck(&mut self, why: String, effects: &mut Vec<Effect>) {
        if self.is_returning() {
            let text = format!("back on `{}`, which cannot be kept yet: {why}", self.stable);
            self.fail_to_return(Why::new(NOT_MOVED, text), effects);
        } else {
            self.why = Some(Why::new(NOT_MOVED, why));
        }
    }

    /// Only that it cannot be kept keeps this abort from being carried out: where traffic is to go until it can.
    pub fn unkept(&self) -> Option<Layout> {
        let is_unkept = self.why.as_ref().is_some_and(|why| *why.code == *NOT_MOVED);
        let goal = self.goal.as_ref().filter(|_| self.phase == Phase::Failed && is_unkept)?;
        Some(self.layout_of(goal))
    }

    /// The abort cannot be carried out yet.
    fn fail_to_return(&mut self, why: Why, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Failed {
            self.phase = Phase::Failed;
            self.tell(HookEvent::Failed, None, Some(why.clone()), effects);
        }
        self.why = Some(why);
    }

    fn end(&mut self, phase: Phase) {
        self.phase = phase;
        self.ended = Some(self.last);
        self.warm_until = self.last.saturating_add(millis(self.plan.keep_stable));
    }

    fn supersede(&mut self, by: By, effects: &mut Vec<Effect>) {
        // Whatever was still to be done to the old version is not ours to do any more.
        self.goal = None;
        self.layout.stable_drained = true;
        if !self.phase.is_over() {
            self.end(Phase::Superseded);
            let why = Why::new("superseded", "somebody else has moved the traffic of the service");
            self.why = Some(why.clone());
            self.tell(HookEvent::Superseded, Some(by), Some(why), effects);
        }
    }

    fn drifted(&mut self, effects: &mut Vec<Effect>) {
        if self.phase.is_over() || self.is_returning() || self.awaits_judgement() {
            return;
        }
        let why =
            "the file says something else of the traffic of the service; what is in force stays";
        self.pause(Paused::Drift, None, None, Some(Why::new("drift", why)), effects);
    }

    fn pause(
        &mut self,
        by: Paused,
        until: Option<Millis>,
        person: Option<By>,
        why: Option<Why>,
        effects: &mut Vec<Effect>,
    ) {
        let was = std::mem::replace(&mut self.phase, Phase::Paused { by, until });
        self.why.clone_from(&why);
        if was != self.phase {
            self.tell(HookEvent::Paused, person, why, effects);
        }
    }

    /// Somebody has to decide about a failure, or that it takes so long.
    fn awaits_judgement(&self) -> bool {
        matches!(self.phase, Phase::Paused { by: Paused::Failure | Paused::Deadline, .. })
    }

    /// Back to stable.
    fn abort(&mut self, why: Why, by: Option<By>) {
        if self.phase != Phase::Failed {
            self.phase = Phase::Running;
        }
        self.why = Some(why.clone());
        self.goal = Some(Goal::Return { why, by });
    }

    /// An abort has been decided, though not yet carried out.
    pub fn is_returning(&self) -> bool {
        matches!(self.goal, Some(Goal::Return { .. }))
    }

    fn tell(
        &mut self,
        event: HookEvent,
        by: Option<By>,
        why: Option<Why>,
        effects: &mut Vec<Effect>,
    ) {
        let number = self.next_notice;
        self.next_notice += 1;
        let (step, share) = (self.step(), self.layout.share);
        let notice = Notice { number, at: self.last, event, step, share, by, why };
        if self.plan.hooks.iter().any(|hook| hook.on.contains(&event)) {
            self.untold.push(number);
        }
        self.notices.push(notice.clone());
        let text: usize = self.notices.iter().map(Notice::text).sum();
        let mut above = text.saturating_sub(MOST_TEXT);
        let mut gone = self.notices.len().saturating_sub(MOST_NOTICES);
        while above > 0 && gone + 1 < self.notices.len() {
            above = above.saturating_sub(self.notices[gone].text());
            gone += 1;
        }
        self.notices.drain(..gone);
        let first = self.notices.first().map_or(0, |notice| notice.number);
        self.untold.retain(|number| *number >= first);
        effects.push(Effect::Tell(notice));
    }

    pub fn id(&self) -> &Name {
        &self.id
    }

    pub fn service(&self) -> &Name {
        &self.service
    }

    pub fn stable(&self) -> &Name {
        &self.stable
    }

    pub fn canary(&self) -> &Name {
        &self.canary
    }

    pub fn plan(&self) -> &RolloutPlan {
        &self.plan
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn why(&self) -> Option<&Why> {
        self.why.as_ref()
    }

    /// In force.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The layout that it asks for, if it is not where it wants to be.
    pub fn wanted(&self) -> Option<Layout> {
        self.goal.as_ref().map(|goal| self.layout_of(goal))
    }

    /// Who wants it there; `None`: itself.
    pub fn wanted_by(&self) -> Option<&By> {
        match self.goal.as_ref()? {
            Goal::Enter { by, .. } | Goal::Finish { by } | Goal::Return { by, .. } => by.as_ref(),
            Goal::Retire => None,
        }
    }

    /// What it wants, in a few words.
    pub fn intent(&self) -> String {
        match &self.goal {
            None => self.phase.as_str().to_owned(),
            Some(Goal::Enter { stage, .. }) => {
                let Stage { step, layout, .. } = &self.stages[*stage];
                format!("step {step} of {}, {} % on `{}`", self.steps(), layout.share, self.canary)
            }
            Some(Goal::Finish { .. }) => format!("promoted `{}`", self.canary),
            Some(Goal::Return { why, .. }) => format!("back on `{}`: {}", self.stable, why.text),
            Some(Goal::Retire) => format!("`{}` is not kept warm any more", self.stable),
        }
    }

    /// As the service was.
    pub fn before(&self) -> &Before {
        &self.before
    }

    /// The step of the plan that it is in, from 1; 0: before the first.
    pub fn step(&self) -> usize {
        self.stage().map_or(0, |stage| stage.step)
    }

    /// How many steps there are.
    pub fn steps(&self) -> usize {
        self.stages.last().map_or(0, |stage| stage.step)
    }

    pub fn stage(&self) -> Option<&Stage> {
        self.at.and_then(|at| self.stages.get(at))
    }

    /// Which of the stages it is in; `None`: before the first.
    pub fn at(&self) -> Option<usize> {
        self.at
    }

    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// Seconds in this stage, without pauses.
    pub fn in_stage(&self) -> u64 {
        self.in_stage
    }

    pub fn started(&self) -> Millis {
        self.started
    }

    pub fn ended(&self) -> Option<Millis> {
        self.ended
    }

    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// What happened so far, the oldest first.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// What hooks have not been told.
    pub fn untold(&self) -> impl Iterator<Item = &Notice> {
        self.notices.iter().filter(|notice| self.untold.contains(&notice.number))
    }

    /// Nothing is to be done any more, not even to drain stable.
    pub fn is_settled(&self) -> bool {
        match self.phase {
            Phase::Promoted => self.layout.stable_drained && self.untold.is_empty(),
            phase => phase.is_over() && self.untold.is_empty(),
        }
    }

    /// The evidence of a stage in terms of the statistics; `None`: it does not judge.
    fn asked(&self) -> Option<sequential::Stage> {
        let by_evidence = self.plan.gates.regression.is_some();
        Some(match self.stage()?.task {
            Task::Touch(time) => sequential::Stage::Probe(time.as_secs_f64()),
            Task::Step { bake, last } => sequential::Stage::Step {
                least_time: bake.as_secs_f64(),
                by_evidence: by_evidence && !last,
            },
            Task::Watch(time) => {
                sequential::Stage::Step { least_time: time.as_secs_f64(), by_evidence: false }
            }
            Task::Experiment => {
                sequential::Stage::Step { least_time: f64::MAX, by_evidence: false }
            }
            Task::Pause(_) | Task::Delay(_) | Task::Exchange => {
                sequential::Stage::Step { least_time: 0.0, by_evidence: false }
            }
            Task::Idle => return None,
        })
    }
}

/// Of a first touch while the traffic is not known.
const UNKNOWN: Share = Share::of_percent(1);

/// The share at which so many requests a second come to the canary, to two digits, so that weights stay readable.
fn touch(plan: &RolloutPlan, rate: Option<f64>) -> Option<Share> {
    let most = f64::from(plan.first_touch?.rate.get());
    let Some(rate) = rate else { return Some(UNKNOWN) };
    let millionths = (most / rate.max(most) * 1e6) as u32;
    let digit =
        [1, 10, 100, 1_000, 10_000].into_iter().rev().find(|digit| millionths >= digit * 10);
    let rounded = digit.map_or(millionths, |digit| millionths / digit * digit);
    Share::of_millionths(rounded.max(10))
}

/// Of a plan that exchanges backends.
fn admit_gate(plan: &RolloutPlan) -> Option<WebhookGate> {
    let url = plan.rolling.admit.clone();
    url.filter(|_| plan.strategy == RolloutStrategy::Rolling).map(|url| WebhookGate {
        name: "admit".into(),
        url,
        when: GateTime::Before,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(30),
        key_file: None,
    })
}

fn millis(time: Duration) -> Millis {
    u64::try_from(time.as_millis()).unwrap_or(Millis::MAX)
}
