//! What happens to a rollout, second by second.

use super::{
    checks::Checks,
    plans::{below, one_of, plan},
};
use crate::{
    dice::Dice,
    shop::pool,
    traffic::{Case, Disturbance, Slowness, Traffic},
};
use crossfade::{
    rollout::{
        Answer, Beginning, By, Effect, Event, Layout, Millis, Paused, Phase, Refused, Rollout,
        Second, Verb,
    },
    spec::{Role, RolloutStrategy, Service, Share, Sticky, StickyKey, Weight},
};
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

/// Seconds in which anything may happen.
const WILD: u64 = 100;

/// Seconds afterwards within which it is over, whatever has happened.
const CALM: u64 = 3000;

/// Seconds between two times that the state is stored without a reason.
const STORED_EVERY: u64 = 10;

const DAY: Millis = 24 * 3600 * 1000;

pub(crate) struct World {
    seed: u64,
    dice: Dice,
    rollout: Rollout,
    service: Service,
    traffic: [Traffic; 2],
    /// What a restart finds.
    stored: String,
    stored_at: u64,
    /// As it is set, and how much time has passed really, in seconds.
    clock: Millis,
    passed: u64,
    calm: bool,
    /// Seconds that something lasts still.
    full: u64,
    crowded: u64,
    stable_ill: Vec<u64>,
    canary_ill: Vec<u64>,
    /// Gates that were asked, and when they answer.
    asked: Vec<(usize, u64)>,
    checks: Checks,
    log: VecDeque<String>,
    end: End,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct End {
    pub(crate) phase: &'static str,
    pub(crate) seconds: u64,
    pub(crate) restarts: u64,
    pub(crate) failed: u64,
    pub(crate) largest: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let plan = plan(&mut dice);
        let service = service(&mut dice, plan.strategy);
        let case = Case {
            rate: one_of(&mut dice, &[3.0, 50.0, 400.0]),
            stable_errors: 0.001,
            canary_errors: one_of(&mut dice, &[0.001, 0.001, 0.03, 0.6]),
            slowness: one_of(&mut dice, &[Slowness::None, Slowness::None, Slowness::Times(4.0)]),
            disturbance: Disturbance::None,
        };
        let good = Case {
            rate: 2000.0,
            canary_errors: 0.001,
            slowness: Slowness::None,
            disturbance: Disturbance::None,
            ..case
        };
        let traffic = [case, good].map(|case| Traffic::new(case, seed, 0));
        let clock = 1_700_000_000_000;
        let beginning = Beginning {
            id: "r1".into(),
            service_name: "shop".into(),
            service: &service,
            stable: "blue".into(),
            canary: "green".into(),
            plan,
            by: by(Role::Operator),
            rate: dice.chance(0.8).then_some(case.rate),
            known: dice.chance(0.5).then(|| Box::new(traffic[0].known())),
            dispersion: 1.0,
        };
        let (rollout, effects) = Rollout::begin(beginning, clock).unwrap();
        let ill = |of: &[_]| vec![0; of.len()];
        let mut world = Self {
            seed,
            dice,
            traffic,
            stored: String::new(),
            stored_at: 0,
            clock,
            passed: 0,
            calm: false,
            full: 0,
            crowded: 0,
            stable_ill: ill(&rollout.before().stable),
            canary_ill: ill(&rollout.before().canary),
            asked: Vec::new(),
            checks: Checks::new(),
            log: VecDeque::new(),
            end: End::default(),
            rollout,
            service,
        };
        world.carry_out(effects, None);
        world.store();
        world
    }

    /// Until nothing is to be done any more. Prints what led to it when an invariant does not hold.
    pub(crate) fn live(mut self) -> End {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run())) else { return self.end };
        let log: Vec<&str> = self.log.iter().map(String::as_str).collect();
        eprintln!(
            "CROSSFADE_SEED={} CROSSFADE_ROLLOUTS=1\n{:#?}\n{}\n{:?} {:?}",
            self.seed,
            self.rollout.plan(),
            log.join("\n"),
            self.rollout.phase(),
            self.rollout.explain()
        );
        resume_unwind(panic)
    }

    fn run(&mut self) {
        while self.passed < WILD {
            self.happen();
            self.second();
        }
        self.calm = true;
        (self.full, self.crowded) = (0, 0);
        self.stable_ill.iter_mut().chain(&mut self.canary_ill).for_each(|ill| *ill = 0);
        let mut left = CALM;
        while !self.is_settled() {
            self.help();
            self.second();
            assert!(left > 0, "it is never over");
            left -= 1;
        }
        let was = *self.rollout.layout();
        (0..3).for_each(|_| self.second());
        assert_eq!(*self.rollout.layout(), was, "it was over");
        self.end.phase = self.rollout.phase().as_str();
        self.end.seconds = self.passed;
    }

    fn is_settled(&self) -> bool {
        let is_kept_warm =
            self.rollout.phase() == Phase::Promoted && !self.rollout.layout().stable_drained;
        self.rollout.phase().is_over() && !is_kept_warm
    }

    /// What would wait for a person for ever does not.
    fn help(&mut self) {
        let verb = match self.rollout.phase() {
            Phase::Paused { until: None, .. } => Verb::Resume,
            Phase::Paused { by: Paused::Failure | Paused::Deadline, .. } => Verb::Resume,
            _ if self.rollout.plan().strategy == RolloutStrategy::AbTest => Verb::Promote,
            _ => return,
        };
        // On its way already is as good.
        let _ = self.verb(verb, by(Role::Approver));
    }

    fn note(&mut self, text: String) {
        if self.log.len() == 80 {
            self.log.pop_front();
        }
        self.log.push_back(format!("{:4} {text}", self.passed));
    }

    /// Something of all that may happen, or nothing.
    fn happen(&mut self) {
        let dice = &mut self.dice;
        if dice.chance(0.02) {
            self.full = below(dice, 8);
        }
        if dice.chance(0.005) {
            self.crowded = below(dice, 20);
        }
        for ill in [&mut self.stable_ill, &mut self.canary_ill] {
            if dice.chance(0.015) {
                let seconds = below(dice, 25);
                ill.fill(seconds);
            } else if dice.chance(0.02) && !ill.is_empty() {
                let which = below(dice, ill.len() as u64) as usize;
                ill[which] = below(dice, 10);
            }
        }
        match (dice.part() * 500.0) as u64 {
            0..15 => {
                let verb = one_of(
                    dice,
                    &[
                        Verb::Promote,
                        Verb::Promote,
                        Verb::Pause(None),
                        Verb::Pause(Some(10)),
                        Verb::Resume,
                        Verb::Resume,
                        Verb::Abort,
                    ],
                );
                let role = one_of(dice, &[Role::Operator, Role::Approver]);
                // What cannot be kept is refused before it gets here.
                if self.full == 0 {
                    let _ = self.verb(verb, by(role));
                }
            }
            15..19 => self.drift(),
            19 => self.supersede(),
            20..23 => self.edit_others(),
            23..31 => self.restart(),
            31..34 => {
                let ahead = dice.chance(0.5);
                let jump = 61_000 + (dice.part() * 30.0 * DAY as f64) as Millis;
                self.clock = if ahead { self.clock + jump } else { self.clock - jump };
                self.note(format!("the clock jumps {}", if ahead { "ahead" } else { "back" }));
            }
            _ => {}
        }
    }

    fn drift(&mut self) {
        if self.full == 0 {
            self.note("drift".into());
            self.event(Event::Drifted).unwrap();
            self.store();
        }
    }

    /// Somebody moves the traffic as he likes.
    fn supersede(&mut self) {
        if self.full > 0 {
            return;
        }
        self.note("superseded".into());
        self.checks.superseded();
        for pool in ["blue", "green"] {
            self.service.pools[pool].weight = Weight::new(50).unwrap();
        }
        self.event(Event::Superseded(by(Role::Operator))).unwrap();
        self.store();
    }

    fn edit_others(&mut self) {
        let weight = Weight::new(below(&mut self.dice, 500)).unwrap();
        for (name, pool) in &mut self.service.pools {
            if !["blue", "green"].contains(&&**name) {
                pool.weight = weight;
            }
        }
    }

    fn restart(&mut self) {
        self.rollout = serde_json::from_str(&self.stored).unwrap();
        let down = below(&mut self.dice, 30);
        self.note(format!("restart, as of {}, down for {down} s", self.stored_at));
        self.passed += down;
        self.clock += down * 1000;
        self.asked.clear();
        self.end.restarts += 1;
        self.checks.holds(&self.rollout, &self.service);
    }

    /// As each revision does, and every ten seconds.
    fn store(&mut self) {
        if self.full > 0 {
            return;
        }
        self.stored = serde_json::to_string(&self.rollout).unwrap();
        self.stored_at = self.passed;
        self.end.largest = self.end.largest.max(self.stored.len() as u64);
        assert!(self.stored.len() < 200_000, "{}", self.stored.len());
    }

    fn verb(&mut self, verb: Verb, who: By) -> Result<(), Refused> {
        let was = (self.rollout.phase(), self.rollout.wanted());
        let result = self.event(Event::Verb(verb, who));
        self.note(format!("{verb:?}: {result:?}"));
        match &result {
            Ok(()) => {
                self.store();
                self.checks.paused(match verb {
                    Verb::Pause(Some(seconds)) => Some(self.passed + seconds),
                    _ => None,
                });
            }
            Err(_) => assert_eq!((self.rollout.phase(), self.rollout.wanted()), was, "refused"),
        }
        result
    }

    fn second(&mut self) {
        self.passed += 1;
        self.clock += 1000;
        for left in [&mut self.full, &mut self.crowded]
            .into_iter()
            .chain(&mut self.stable_ill)
            .chain(&mut self.canary_ill)
        {
            *left = left.saturating_sub(1);
        }
        self.answer();
        let second = self.seen();
        self.checks.before(&self.rollout, &second, self.full > 0);
        let effects = self.rollout.on(Event::Second(Box::new(second.clone())), self.clock).unwrap();
        self.carry_out(effects, Some(&second));
        self.checks.after(&self.rollout, &self.service, self.passed);
        if self.passed - self.stored_at >= STORED_EVERY {
            self.store();
        }
        let state = format!(
            "{:?} {:?} at {} %, wants {:?}",
            self.rollout.phase(),
            self.rollout.stage().map(|stage| (stage.step, stage.task)),
            self.rollout.layout().share,
            self.rollout.wanted().map(|layout| (layout.share, layout.backends))
        );
        if self
            .log
            .iter()
            .rev()
            .find(|line| line.contains(" at "))
            .is_none_or(|line| !line.ends_with(&state))
        {
            self.note(state);
        }
    }

    /// What this second shows.
    fn seen(&mut self) -> Second {
        let layout = self.rollout.layout();
        let (held, backends) = (layout.held, layout.backends);
        let healthy = |ill: &[u64]| -> Vec<bool> { ill.iter().map(|ill| *ill == 0).collect() };
        let (stable, canary) = (healthy(&self.stable_ill), healthy(&self.canary_ill));
        let serving = backends.map_or(canary.len(), |it| it.admitted);
        let canary_healthy = canary[..serving].contains(&true);
        let stable_healthy = stable.contains(&true);
        let share = match (canary_healthy, stable_healthy) {
            (true, true) => layout.share.as_f64(),
            (true, false) if layout.share > Share::NONE => 1.0,
            _ => 0.0,
        };
        let slice = (!self.dice.chance(if self.calm { 0.0 } else { 0.05 }) && !held)
            .then(|| self.traffic[usize::from(self.calm)].second(self.passed, share));
        Second {
            slice,
            share,
            stable_healthy,
            canary_healthy,
            stable_backends: stable,
            canary_backends: canary,
            stable_in_flight: if held { below(&mut self.dice, 3) } else { 10 },
            crowded: self.crowded > 0,
            hint: None,
        }
    }

    fn answer(&mut self) {
        let now = self.passed;
        let due: Vec<usize> =
            self.asked.iter().filter(|(_, at)| *at <= now).map(|(gate, _)| *gate).collect();
        self.asked.retain(|(_, at)| *at > now);
        for gate in due {
            let answers = [
                Answer::Fail("1".into()),
                Answer::Inconclusive("?".into()),
                Answer::Pass("0".into()),
            ];
            let [fail, unknown, pass] = answers;
            let answer = match self.dice.part() {
                _ if self.calm => pass,
                ..0.01 => fail,
                ..0.3 => unknown,
                ..0.4 => continue,
                _ => pass,
            };
            self.event(Event::Answered(gate, answer)).unwrap();
        }
    }

    fn event(&mut self, event: Event) -> Result<(), Refused> {
        let effects = self.rollout.on(event, self.clock)?;
        self.carry_out(effects, None);
        Ok(())
    }

    fn carry_out(&mut self, effects: Vec<Effect>, second: Option<&Second>) {
        for effect in effects {
            match effect {
                Effect::Move(layout) => self.carry_out_move(&layout, second),
                Effect::Ask(gate) => {
                    let delay = if self.calm { 0 } else { below(&mut self.dice, 5) };
                    self.asked.push((gate, self.passed + delay));
                }
                Effect::Tell(notice) => {
                    self.end.failed +=
                        u64::from(notice.event == crossfade::spec::HookEvent::Failed);
                    self.note(format!("told {:?} {}", notice.event, notice.step));
                    self.checks.told(&notice);
                    self.store();
                }
            }
        }
    }

    fn carry_out_move(&mut self, layout: &Layout, second: Option<&Second>) {
        self.checks.moves(&self.rollout, layout, second, self.passed);
        if self.full > 0 {
            self.event(Event::Moved(Err("the disk is full".into()))).unwrap();
            return;
        }
        self.rollout.lay_out(layout, &mut self.service);
        // With the revision, so that a restart finds both or neither.
        let effects = self.rollout.on(Event::Moved(Ok(())), self.clock).unwrap();
        self.store();
        self.checks.moved(&self.rollout, self.passed);
        self.carry_out(effects, second);
        self.checks.holds(&self.rollout, &self.service);
    }
}

fn by(role: Role) -> By {
    By { author: "ada".into(), role, cause: None }
}

fn service(dice: &mut Dice, strategy: RolloutStrategy) -> Service {
    let (old, new) = (1 + below(dice, 4) as u16, 1 + below(dice, 4) as u16);
    let weights = one_of(dice, &[(100, 0), (1, 0), (95, 5), (1_000_000, 0), (0, 7)]);
    let mut pools = vec![
        ("blue".into(), pool(weights.0, 1..=old)),
        ("green".into(), pool(weights.1, 11..=10 + new)),
    ];
    for nth in 0..below(dice, 3) as u16 {
        let weight = one_of(dice, &[0, 1, 50, 1_000_000]);
        pools.push((format!("other{nth}").into(), pool(weight, 21 + nth..=21 + nth)));
    }
    let mut service = Service::new(pools.into_iter().collect());
    if strategy == RolloutStrategy::AbTest {
        let key = StickyKey::Cookie("user".into());
        service.sticky = Some(Sticky { key, issue: false, max_age: None, salt: None });
    }
    service
}
