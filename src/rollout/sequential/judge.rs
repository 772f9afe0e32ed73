//! All tests over a whole rollout: what they come to, and what follows from it.

use super::{BetConfig, BetTest, Counts, Histogram, Latency, LatencyConfig, NiTest};

/// What is asked of a canary, by the names of the specification of the statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeConfig {
    /// Shares of the canary, one a stage.
    pub stages: Vec<f64>,
    /// Before the first stage, for a limited time only, so that a broken canary harms few.
    pub probe: Option<Probe>,
    /// Seconds in a slice.
    pub slice: f64,
    /// The chance that a canary which is no worse is ever cut, over the whole rollout, at most.
    pub alpha: f64,
    pub weights: Weights,
    pub errors: BetConfig,
    pub latency: LatencyConfig,
    pub guards: Vec<Guard>,
    /// Requests of a stage from which on the guards hold for its plain shares, too.
    pub guard_requests: u64,
    /// The part of its limit above which a guard does not count because the baseline is there itself, and the half
    /// lives, in seconds, over which that is looked at.
    pub guard_freeze: f64,
    pub guard_half_lives: [f64; 2],
    /// Seconds at the beginning in which the canary may be slow.
    pub warm_up: f64,
    pub promotion: Promotion,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    pub share: f64,
    /// Seconds.
    pub time: f64,
}

/// How the evidence of each kind counts; they sum to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    pub errors: f64,
    pub latency: f64,
    pub guards: f64,
}

/// A share of the canary's requests that is too much whatever the baseline's is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guard {
    pub of: Bad,
    pub limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    Errors,
    Slow,
}

/// When a stage may end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Promotion {
    /// Positive evidence is asked for; else time and guards alone decide.
    pub by_evidence: bool,
    /// The chance that a canary which is worse by the margin is let go on from a stage, at most.
    pub beta: f64,
    pub margin: f64,
    pub rho: f64,
    /// Seconds.
    pub least_time: f64,
    pub least_requests: u64,
    /// Seconds until the stage is inconclusive.
    pub deadline: f64,
    pub on_inconclusive: OnInconclusive,
    /// Evidence against the canary from which on it does not go on.
    pub suspicion: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnInconclusive {
    Hold,
    Rollback,
    Promote,
}

impl Default for JudgeConfig {
    fn default() -> Self {
        let guard = |of| Guard { of, limit: 0.01 };
        Self {
            stages: vec![0.05, 0.25, 0.5, 1.0],
            probe: None,
            slice: 1.0,
            alpha: 0.01,
            weights: Weights { errors: 0.5, latency: 0.3, guards: 0.2 },
            errors: BetConfig::default(),
            latency: LatencyConfig::default(),
            guards: vec![guard(Bad::Errors), guard(Bad::Slow)],
            guard_requests: 300,
            guard_freeze: 0.5,
            guard_half_lives: [10.0, 120.0],
            warm_up: 30.0,
            promotion: Promotion {
                by_evidence: true,
                beta: 0.05,
                margin: 0.005,
                rho: 0.25,
                least_time: 60.0,
                least_requests: 300,
                deadline: 1800.0,
                on_inconclusive: OnInconclusive::Hold,
                suspicion: 5.0,
            },
        }
    }
}

/// What one version did in a second.
#[derive(Clone, Debug, PartialEq)]
pub struct Side {
    /// Requests that have ended.
    pub requests: u64,
    pub errors: u64,
    /// Above the limit of the guard.
    pub slow: u64,
    pub latency: Histogram,
}

/// A second.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    pub canary: Side,
    pub baseline: Side,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The stage goes on.
    Run,
    /// From the next second on it is the next stage.
    Promote,
    /// The last stage is over.
    Done,
    Abort,
    /// The stage has come to its end without enough evidence; it goes on.
    Hold,
}

/// What a second came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub action: Action,
    /// The stage it was in; `None`: the probe.
    pub stage: Option<usize>,
    /// The canary's share in it.
    pub share: f64,
    /// The logarithm of the evidence against the canary.
    pub log_evidence: f64,
    pub parts: Parts,
    /// Guards that do not count because the baseline is near their limit itself.
    pub suspended: Vec<Bad>,
    /// The deadline has passed.
    pub inconclusive: bool,
}

/// The evidence by kind, weighted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parts {
    pub errors: f64,
    pub latency: f64,
    pub guards: f64,
}

/// What the most of the evidence is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    Errors,
    Latency,
    Guards,
}

impl Parts {
    pub fn sum(&self) -> f64 {
        self.errors + self.latency + self.guards
    }

    /// The largest.
    pub fn reason(&self) -> Concern {
        let Self { errors, latency, guards } = *self;
        if errors >= latency && errors >= guards {
            Concern::Errors
        } else if latency >= guards {
            Concern::Latency
        } else {
            Concern::Guards
        }
    }
}

/// Fed with one slice after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Judge {
    config: JudgeConfig,
    errors: BetTest,
    latency: Latency,
    guards: Vec<GuardTest>,
    margin: NiTest,
    /// Seconds since the beginning.
    time: f64,
    stage: Option<usize>,
    in_stage: InStage,
    ended: Option<Action>,
}

#[derive(Clone, Debug, PartialEq)]
struct GuardTest {
    guard: Guard,
    test: BetTest,
    /// Requests and bad ones of the baseline, decayed by each half life.
    baseline: [(f64, f64); 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct InStage {
    /// Seconds.
    time: f64,
    begun: bool,
    requests: u64,
    errors: u64,
    slow: u64,
}

impl InStage {
    fn bad(&self, of: Bad) -> u64 {
        match of {
            Bad::Errors => self.errors,
            Bad::Slow => self.slow,
        }
    }
}

impl Side {
    fn bad(&self, of: Bad) -> u64 {
        match of {
            Bad::Errors => self.errors,
            Bad::Slow => self.slow,
        }
    }
}

impl Judge {
    pub fn new(config: JudgeConfig) -> Self {
        let bets = &config.errors;
        let guards = config.guards.iter().map(|&guard| {
            let bets = BetConfig { tau: guard.limit, one_sample: true, ..bets.clone() };
            GuardTest { guard, test: BetTest::new(bets), baseline: Default::default() }
        });
        Self {
            errors: BetTest::new(bets.clone()),
            latency: Latency::new(config.latency.clone(), bets),
            guards: guards.collect(),
            margin: NiTest::new(config.promotion.rho, config.promotion.margin),
            time: 0.0,
            stage: config.probe.is_none().then_some(0),
            in_stage: InStage::default(),
            ended: None,
            config,
        }
    }

    /// The baseline's latencies before the rollout.
    pub fn learn(&mut self, baseline: &Histogram) {
        self.latency.learn(baseline);
    }

    /// The canary's share now.
    pub fn share(&self) -> f64 {
        match (self.ended, self.stage, self.config.probe) {
            (Some(Action::Done), ..) => 1.0,
            (Some(_), ..) => 0.0,
            (None, None, Some(probe)) => probe.share,
            (None, stage, _) => {
                self.config.stages.get(stage.unwrap_or(0)).copied().unwrap_or_default()
            }
        }
    }

    /// A second is over. Once it has ended, nothing is counted any more.
    pub fn step(&mut self, slice: &Slice) -> Verdict {
        if let Some(action) = self.ended {
            return self.verdict(action, self.share(), Vec::new());
        }
        let share = self.share();
        let Slice { canary, baseline } = slice;
        let stage_start = !std::mem::replace(&mut self.in_stage.begun, true);
        self.time += self.config.slice;
        self.in_stage.time += self.config.slice;
        self.in_stage.requests += canary.requests;
        self.in_stage.errors += canary.errors;
        self.in_stage.slow += canary.slow;

        let counts = Counts {
            canary: canary.requests,
            canary_hits: canary.errors,
            baseline: baseline.requests,
            baseline_hits: baseline.errors,
        };
        self.errors.update(share, counts, stage_start);
        self.margin.update(share, counts);
        let cold = self.time <= self.config.warm_up;
        let latencies = (&canary.latency, &baseline.latency);
        self.latency.update(share, latencies, stage_start, cold);
        let (suspended, incident) = self.watch(slice, share, stage_start, cold);
        self.decide(share, suspended, incident)
    }

    /// Feeds the guards. Returns those that do not count, and whether the baseline itself is above a limit now.
    fn watch(
        &mut self,
        Slice { canary, baseline }: &Slice,
        share: f64,
        stage_start: bool,
        cold: bool,
    ) -> (Vec<Bad>, bool) {
        let JudgeConfig { slice, guard_freeze, guard_half_lives, .. } = self.config;
        let (mut suspended, mut incident) = (Vec::new(), false);
        for GuardTest { guard: Guard { of, limit }, test, baseline: known } in &mut self.guards {
            let mut hot = false;
            for (nth, (known, half_life)) in known.iter_mut().zip(guard_half_lives).enumerate() {
                let decay = (-slice / half_life).exp2();
                known.0 = known.0 * decay + baseline.requests as f64;
                known.1 = known.1 * decay + baseline.bad(*of) as f64;
                let is_above = |limit: f64| known.0 >= 1.0 && known.1 > limit * known.0;
                hot |= is_above(guard_freeze * *limit);
                incident |= nth == 0 && share < 1.0 && is_above(*limit);
            }
            let is_suspended = share < 1.0 && hot;
            if is_suspended {
                suspended.push(*of);
            }
            // A cold canary may be slow: the tests of its warm-up look after it.
            let counts = match is_suspended || (cold && *of == Bad::Slow) {
                true => Counts::default(),
                false => Counts {
                    canary: canary.requests,
                    canary_hits: canary.bad(*of),
                    ..Counts::default()
                },
            };
            test.update(share, counts, stage_start);
        }
        (suspended, incident)
    }

    fn decide(&mut self, share: f64, suspended: Vec<Bad>, incident: bool) -> Verdict {
        let evidence = self.parts().sum();
        if evidence >= 1.0 / self.config.alpha {
            return self.end(Action::Abort, share, suspended);
        }
        let Some(stage) = self.stage else {
            // It is there to limit the harm of a broken canary, not to learn.
            let is_over = self.config.probe.is_none_or(|probe| self.in_stage.time >= probe.time);
            let action = if is_over { Action::Promote } else { Action::Run };
            let verdict = self.verdict(action, share, suspended);
            if is_over {
                self.enter(0);
            }
            return verdict;
        };
        let promotion = self.config.promotion;
        let unsuspected = evidence < promotion.suspicion && !incident;
        if unsuspected && self.is_ready(share) {
            return self.go_on(stage, share, suspended);
        }
        if self.in_stage.time < promotion.deadline {
            return self.verdict(Action::Run, share, suspended);
        }
        let verdict = match promotion.on_inconclusive {
            OnInconclusive::Rollback => self.end(Action::Abort, share, suspended),
            OnInconclusive::Promote if unsuspected => self.go_on(stage, share, suspended),
            _ => self.verdict(Action::Hold, share, suspended),
        };
        Verdict { inconclusive: true, ..verdict }
    }

    /// Time, requests and tests of the stage are all there.
    fn is_ready(&self, share: f64) -> bool {
        let (promotion, so_far) = (&self.config.promotion, &self.in_stage);
        let has_enough =
            so_far.time >= promotion.least_time && so_far.requests >= promotion.least_requests;
        let requests = so_far.requests as f64;
        let holds = |guard: &Guard| (so_far.bad(guard.of) as f64) < guard.limit * requests;
        let guarded =
            so_far.requests < self.config.guard_requests || self.config.guards.iter().all(holds);
        let needed = (1.0 / promotion.beta).ln();
        let mut margins = self.latency.margins().chain([self.margin.most_log_evidence()]);
        let is_asked = promotion.by_evidence && share < 1.0;
        has_enough && guarded && (!is_asked || margins.all(|log| log >= needed))
    }

    fn go_on(&mut self, stage: usize, share: f64, suspended: Vec<Bad>) -> Verdict {
        if stage + 1 == self.config.stages.len() {
            return self.end(Action::Done, share, suspended);
        }
        let verdict = self.verdict(Action::Promote, share, suspended);
        self.enter(stage + 1);
        verdict
    }

    fn enter(&mut self, stage: usize) {
        self.stage = Some(stage);
        self.in_stage = InStage::default();
        self.margin.reset();
        self.latency.reset_margins();
    }

    fn end(&mut self, action: Action, share: f64, suspended: Vec<Bad>) -> Verdict {
        let verdict = self.verdict(action, share, suspended);
        self.ended = Some(action);
        verdict
    }

    fn verdict(&self, action: Action, share: f64, suspended: Vec<Bad>) -> Verdict {
        let parts = self.parts();
        let (stage, log_evidence) = (self.stage, parts.sum().ln());
        Verdict { action, stage, share, log_evidence, parts, suspended, inconclusive: false }
    }

    fn parts(&self) -> Parts {
        let weights = self.config.weights;
        let guards: f64 = self.guards.iter().map(|guard| guard.test.evidence()).sum();
        Parts {
            errors: weights.errors * self.errors.evidence(),
            latency: weights.latency * self.latency.evidence(),
            guards: weights.guards * guards / self.guards.len().max(1) as f64,
        }
    }
}
