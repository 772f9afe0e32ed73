//! All tests over a whole rollout: what they come to, and what follows from it.

use super::{BetConfig, BetTest, Counts, Histogram, Latency, LatencyConfig, NiTest};
use serde::{Deserialize, Serialize};

/// What is asked of a canary, by the names of the specification of the statistics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeConfig {
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

/// What a stage asks for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Stage {
    /// There to limit the harm of a broken canary, not to learn: over after so many seconds.
    Probe(f64),
    Step {
        /// Seconds.
        least_time: f64,
        /// Positive evidence, where both versions get requests.
        by_evidence: bool,
    },
}

/// How the evidence of each kind counts; they sum to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    pub errors: f64,
    pub latency: f64,
    pub guards: f64,
}

/// A share of the canary's requests that is too much whatever the baseline's is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    pub of: Bad,
    pub limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bad {
    Errors,
    Slow,
}

/// When a stage may end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Promotion {
    /// The chance that a canary which is worse by the margin is let go on from a stage, at most.
    pub beta: f64,
    pub margin: f64,
    pub rho: f64,
    pub least_requests: u64,
    /// Seconds until the stage is inconclusive.
    pub deadline: f64,
    pub on_inconclusive: OnInconclusive,
    /// Evidence against the canary from which on it does not go on.
    pub suspicion: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnInconclusive {
    Hold,
    Rollback,
    Promote,
}

impl Default for JudgeConfig {
    fn default() -> Self {
        let guard = |of| Guard { of, limit: 0.01 };
        Self {
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
                beta: 0.05,
                margin: 0.005,
                rho: 0.25,
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
    /// The next stage may begin.
    Promote,
    Abort,
    /// The stage has come to its end without enough evidence; it goes on.
    Hold,
}

/// What a second came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub action: Action,
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

/// Fed with one slice after the other, all of them at the share that was in force then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    config: JudgeConfig,
    errors: BetTest,
    latency: Latency,
    guards: Vec<GuardTest>,
    margin: NiTest,
    /// Seconds since the beginning.
    time: f64,
    in_stage: InStage,
    /// Guards that do not count now.
    suspended: Vec<Bad>,
    /// The baseline itself is above a limit now.
    incident: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct GuardTest {
    guard: Guard,
    test: BetTest,
    /// Requests and bad ones of the baseline, decayed by each half life.
    baseline: [(f64, f64); 2],
}

/// What the canary did in a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InStage {
    /// Seconds.
    pub time: f64,
    begun: bool,
    pub requests: u64,
    pub errors: u64,
    pub slow: u64,
}

/// What a stage still asks for before the next may begin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Missing {
    /// Seconds.
    pub time: f64,
    pub requests: u64,
    /// Whose plain share in this stage is above the limit.
    pub guards: Vec<Bad>,
    /// Evidence that the canary's errors are not more by the margin: so much is missing, in nats.
    pub errors: Option<f64>,
    /// The same for its latency, at the quantile where most is missing.
    pub latency: Option<f64>,
    /// There is evidence against the canary, if not enough.
    pub suspected: bool,
    /// The baseline itself is above a limit of the guards.
    pub incident: bool,
}

impl Missing {
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
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
            // How much errors come together is known; of what is slow nobody knows.
            let phi = if guard.of == Bad::Errors { bets.phi } else { 1.0 };
            let bets = BetConfig { tau: guard.limit, one_sample: true, phi, ..bets.clone() };
            GuardTest { guard, test: BetTest::new(bets), baseline: Default::default() }
        });
        Self {
            errors: BetTest::new(bets.clone()),
            latency: Latency::new(config.latency.clone(), bets),
            guards: guards.collect(),
            margin: NiTest::new(config.promotion.rho, config.promotion.margin),
            time: 0.0,
            in_stage: InStage::default(),
            suspended: Vec::new(),
            incident: false,
            config,
        }
    }

    /// The baseline's latencies before the rollout.
    pub fn learn(&mut self, baseline: &Histogram) {
        self.latency.learn(baseline);
    }

    /// Another stage begins: what speaks for the canary is asked for anew.
    pub fn begin_stage(&mut self) {
        self.in_stage = InStage::default();
        self.margin.reset();
        self.latency.reset_margins();
    }

    /// What is known of the canary is forgotten; what is known of the baseline stays.
    pub fn forget(&mut self) {
        let fresh = Self::new(self.config.clone());
        self.latency.forget(fresh.latency);
        (self.errors, self.margin) = (fresh.errors, fresh.margin);
        for (guard, fresh) in self.guards.iter_mut().zip(fresh.guards) {
            guard.test = fresh.test;
        }
        self.in_stage = InStage::default();
    }

    /// A second is over in which the canary had this share.
    pub fn feed(&mut self, slice: &Slice, share: f64) {
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
        self.watch(slice, share, stage_start, cold);
    }

    /// A second has passed of which nothing is known.
    pub fn skip(&mut self) {
        self.time += self.config.slice;
        self.in_stage.time += self.config.slice;
    }

    /// Feeds the guards.
    fn watch(
        &mut self,
        Slice { canary, baseline }: &Slice,
        share: f64,
        stage_start: bool,
        cold: bool,
    ) {
        let JudgeConfig { slice, guard_freeze, guard_half_lives, .. } = self.config;
        (self.suspended, self.incident) = (Vec::new(), false);
        for GuardTest { guard: Guard { of, limit }, test, baseline: known } in &mut self.guards {
            let mut hot = false;
            for (nth, (known, half_life)) in known.iter_mut().zip(guard_half_lives).enumerate() {
                let decay = (-slice / half_life).exp2();
                known.0 = known.0 * decay + baseline.requests as f64;
                known.1 = known.1 * decay + baseline.bad(*of) as f64;
                let is_above = |limit: f64| known.0 >= 1.0 && known.1 > limit * known.0;
                hot |= is_above(guard_freeze * *limit);
                self.incident |= nth == 0 && share < 1.0 && is_above(*limit);
            }
            let is_suspended = share < 1.0 && hot;
            if is_suspended {
                self.suspended.push(*of);
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
    }

    /// What the seconds so far come to, in a stage that asks for this, at this share of the canary.
    pub fn verdict(&self, stage: Stage, share: f64) -> Verdict {
        let (parts, mut inconclusive) = (self.parts(), false);
        let evidence = parts.sum();
        let promotion = &self.config.promotion;
        let action = if evidence >= 1.0 / self.config.alpha {
            Action::Abort
        } else if let Stage::Probe(time) = stage {
            if self.in_stage.time >= time { Action::Promote } else { Action::Run }
        } else if self.missing(stage, share).is_nothing() {
            Action::Promote
        } else if self.in_stage.time < promotion.deadline {
            Action::Run
        } else {
            inconclusive = true;
            match promotion.on_inconclusive {
                OnInconclusive::Rollback => Action::Abort,
                OnInconclusive::Promote if self.is_unsuspected(evidence) => Action::Promote,
                _ => Action::Hold,
            }
        };
        let (log_evidence, suspended) = (evidence.ln(), self.suspended.clone());
        Verdict { action, log_evidence, parts, suspended, inconclusive }
    }

    fn is_unsuspected(&self, evidence: f64) -> bool {
        evidence < self.config.promotion.suspicion && !self.incident
    }

    /// What the stage still asks for.
    pub fn missing(&self, stage: Stage, share: f64) -> Missing {
        let Stage::Step { least_time, by_evidence } = stage else { return Missing::default() };
        let (promotion, so_far) = (&self.config.promotion, &self.in_stage);
        let requests = so_far.requests as f64;
        let is_above =
            |guard: &&GuardTest| so_far.bad(guard.guard.of) as f64 >= guard.guard.limit * requests;
        let guarded = so_far.requests >= self.config.guard_requests;
        let above = self.guards.iter().filter(is_above).filter(|_| guarded);
        let needed = (1.0 / promotion.beta).ln();
        let lacks = |log: f64| (log < needed).then_some(needed - log);
        let asked = by_evidence && share < 1.0;
        let of_latency = self.latency.margins().filter_map(lacks).filter(|_| asked);
        Missing {
            time: (least_time - so_far.time).max(0.0),
            requests: promotion.least_requests.saturating_sub(so_far.requests),
            guards: above.map(|guard| guard.guard.of).collect(),
            errors: lacks(self.margin.most_log_evidence()).filter(|_| asked),
            latency: of_latency
                .fold(None, |most: Option<f64>, lack| Some(most.map_or(lack, |it| it.max(lack)))),
            suspected: self.parts().sum() >= promotion.suspicion,
            incident: self.incident,
        }
    }

    /// What the canary did in this stage.
    pub fn so_far(&self) -> &InStage {
        &self.in_stage
    }

    pub fn config(&self) -> &JudgeConfig {
        &self.config
    }

    /// The evidence against the canary, by kind.
    pub fn parts(&self) -> Parts {
        let weights = self.config.weights;
        let guards: f64 = self.guards.iter().map(|guard| guard.test.evidence()).sum();
        Parts {
            errors: weights.errors * self.errors.evidence(),
            latency: weights.latency * self.latency.evidence(),
            guards: weights.guards * guards / self.guards.len().max(1) as f64,
        }
    }
}
