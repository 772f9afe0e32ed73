//! Traffic of a service of which two versions run, a second at a time. The same seed and the same share give the same
//! requests, so that whoever judges them judges the same.

use crate::dice::Dice;
use crossfade::{
    rollout::sequential::{Histogram, Side, Slice},
    spec::{FINE_BUCKETS, fine_bucket, fine_edges_ns},
};

/// Backends of both versions together: the canary runs on its share of them.
const PODS: u64 = 20;

/// Longer is slow.
const SLOW_NS: u64 = 1_000_000_000;

/// The latency of stable is log-normal: p50 50 ms, p95 134 ms, p99 202 ms.
const MEDIAN_NS: f64 = 50e6;
const SIGMA: f64 = 0.6;

/// The latency of some requests of a [`Slowness::Tail`].
const TAIL_NS: u64 = 1_200_000_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Requests of both versions in a second.
    pub(crate) rate: f64,
    /// Of the requests, without anything particular.
    pub(crate) stable_errors: f64,
    pub(crate) canary_errors: f64,
    pub(crate) slowness: Slowness,
    pub(crate) disturbance: Disturbance,
}

/// Of the canary.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slowness {
    None,
    /// Every request takes so many times as long.
    Times(f64),
    /// At first, and a third of what it is more after so many seconds.
    Cold {
        times: f64,
        decay: f64,
    },
    /// This part of the requests takes more than a second.
    Tail(f64),
}

/// What happens to both versions alike, or to any backend.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Disturbance {
    None,
    /// Errors of both rise from what they are to this, within so many seconds.
    Drift {
        to: f64,
        within: f64,
    },
    /// Errors of both come and go between what they are and this, and so does the traffic by half.
    Swings {
        to: f64,
        period: f64,
    },
    /// Now and then this part of all requests fails for so many seconds.
    Outages {
        part: f64,
        seconds: f64,
        an_hour: f64,
    },
    /// Now and then all requests of one backend fail for so many seconds.
    Bursts {
        seconds: f64,
        an_hour: f64,
    },
}

pub(crate) struct Traffic {
    case: Case,
    seed: u64,
    usual: Profile,
    /// Of a canary that is as slow as ever.
    slow: Option<Profile>,
    /// When something begins, and on which backend.
    events: Vec<(f64, u64)>,
}

impl Traffic {
    /// For so many seconds.
    pub(crate) fn new(case: Case, seed: u64, seconds: u64) -> Self {
        let mut dice = Dice::of(seed, u64::MAX);
        let mut events = Vec::new();
        let mut often = |an_hour: f64, pod: u64| {
            let mut at = dice.wait(an_hour / 3600.0);
            while at < seconds as f64 {
                events.push((at, pod));
                at += dice.wait(an_hour / 3600.0);
            }
        };
        match case.disturbance {
            Disturbance::Outages { an_hour, .. } => often(an_hour, 0),
            Disturbance::Bursts { an_hour, .. } => (0..PODS).for_each(|pod| often(an_hour, pod)),
            _ => {}
        }
        let slow = match case.slowness {
            Slowness::Times(times) => Some(Profile::new(times)),
            _ => None,
        };
        Self { case, seed, usual: Profile::new(1.0), slow, events }
    }

    pub(crate) fn case(&self) -> &Case {
        &self.case
    }

    /// What is known of stable's latencies from before.
    pub(crate) fn known(&self) -> Histogram {
        let mut dice = Dice::of(self.seed, u64::MAX - 1);
        self.usual.draw((self.case.rate * 400.0) as u64, &mut dice)
    }

    /// The requests of this second at this share of the canary.
    pub(crate) fn second(&self, at: u64, share: f64) -> Slice {
        let mut dice = Dice::of(self.seed, at);
        let rate = self.case.rate * self.busy(at);
        let canary = dice.poisson(rate * share);
        let stable = dice.poisson(rate * (1.0 - share));
        let slower = match self.case.slowness {
            Slowness::Cold { times, decay } if (at as f64) < 10.0 * decay => {
                Some(Profile::new(1.0 + (times - 1.0) * (-(at as f64) / decay).exp()))
            }
            _ => None,
        };
        let tail = if let Slowness::Tail(part) = self.case.slowness { part } else { 0.0 };
        let (ill_canary, ill_stable) = self.ill(at, share);
        let side = |requests, errors, profile: &Profile, tail: f64, dice: &mut Dice| {
            let late = dice.binomial(requests, tail);
            let mut latency = profile.draw(requests - late, dice);
            latency[fine_bucket(TAIL_NS)] += late;
            let slow = latency.iter().zip(fine_edges_ns()).filter(|(_, from)| **from >= SLOW_NS);
            let slow = slow.map(|(count, _)| count).sum();
            Side { requests, errors: dice.binomial(requests, errors), slow, latency }
        };
        let errors = |usual: f64, ill: f64| 1.0 - (1.0 - self.shared(at, usual)) * (1.0 - ill);
        let canary_errors = errors(self.case.canary_errors, ill_canary);
        let stable_errors = errors(self.case.stable_errors, ill_stable);
        let slower = slower.as_ref().or(self.slow.as_ref()).unwrap_or(&self.usual);
        Slice {
            canary: side(canary, canary_errors, slower, tail, &mut dice),
            baseline: side(stable, stable_errors, &self.usual, 0.0, &mut dice),
        }
    }

    /// By how much the traffic is more or less than usual.
    fn busy(&self, at: u64) -> f64 {
        match self.case.disturbance {
            Disturbance::Swings { period, .. } => {
                1.0 + 0.5 * (std::f64::consts::TAU * at as f64 / period).sin()
            }
            _ => 1.0,
        }
    }

    /// The errors of either version, with what happens to both.
    fn shared(&self, at: u64, usual: f64) -> f64 {
        let now = at as f64;
        match self.case.disturbance {
            Disturbance::None | Disturbance::Bursts { .. } => usual,
            Disturbance::Drift { to, within } => {
                usual + (to - usual).max(0.0) * (now / within).min(1.0)
            }
            Disturbance::Swings { to, period } => {
                let swing = 0.5 - 0.5 * (std::f64::consts::TAU * now / period).cos();
                usual + (to - usual).max(0.0) * swing
            }
            Disturbance::Outages { part, seconds, .. } => {
                let over = self.events.iter().map(|(begins, _)| overlap(*begins, seconds, now));
                1.0 - (1.0 - usual) * (1.0 - part * over.fold(0.0, f64::max))
            }
        }
    }

    /// The part of the requests of the canary, and of stable, that fails because of single backends.
    fn ill(&self, at: u64, share: f64) -> (f64, f64) {
        let Disturbance::Bursts { seconds, .. } = self.case.disturbance else { return (0.0, 0.0) };
        let canary = match share {
            0.0 => 0,
            1.0 => PODS,
            share => ((PODS as f64 * share).round() as u64).clamp(1, PODS - 1),
        };
        let part = |on_canary: bool, pods: u64| {
            let on = self.events.iter().filter(|(_, pod)| (*pod < canary) == on_canary);
            let ill: f64 = on.map(|(begins, _)| overlap(*begins, seconds, at as f64)).sum();
            if pods == 0 { 0.0 } else { (ill / pods as f64).min(1.0) }
        };
        (part(true, canary), part(false, PODS - canary))
    }
}

/// The part of this second in which something is that began then and takes so many seconds.
fn overlap(begins: f64, seconds: f64, second: f64) -> f64 {
    ((begins + seconds).min(second + 1.0) - begins.max(second)).max(0.0)
}

/// How likely each bucket of latency is: the bucket of each of so many equally likely requests.
struct Profile(Vec<u8>);

impl Profile {
    const PLACES: usize = 1 << 16;

    /// So many times as slow as usual.
    fn new(times: f64) -> Self {
        let below = |ns: u64| normal_below((ns as f64 / (MEDIAN_NS * times)).ln() / SIGMA);
        let mut places = Vec::with_capacity(Self::PLACES);
        for (bucket, edge) in (0..).zip(fine_edges_ns().iter().skip(1)) {
            places.resize((below(*edge) * Self::PLACES as f64).round() as usize, bucket);
        }
        places.resize(Self::PLACES, (FINE_BUCKETS - 1) as u8);
        Self(places)
    }

    fn draw(&self, requests: u64, dice: &mut Dice) -> Histogram {
        let mut histogram = [0; FINE_BUCKETS];
        let mut left = requests;
        while left > 0 {
            // Four of them from one throw.
            for place in dice.seed().to_le_bytes().chunks(2).take(left.min(4) as usize) {
                let place = usize::from(place[0]) << 8 | usize::from(place[1]);
                histogram[usize::from(self.0[place])] += 1;
            }
            left = left.saturating_sub(4);
        }
        histogram
    }
}

/// The chance that a normal number is below this (Abramowitz and Stegun, 7.1.26).
fn normal_below(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let factors = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let sum = factors.iter().fold(0.0, |sum, factor| (sum + factor) * t);
    let above = 0.5 * sum * (-z * z).exp();
    if x > 0.0 { 1.0 - above } else { above }
}
