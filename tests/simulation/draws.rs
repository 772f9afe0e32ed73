//! Whether it costs anything that the proxy draws in stretches, of which a slice may see a part: rollouts of a version
//! that is the same as stable, in which every request is drawn by the proxy's own split.

use crate::{dice::Dice, lane::Lane};
use crossfade::{
    rollout::sequential::{Side, Slice},
    routing::{PoolSet, Sequence, Split},
    spec::{FINE_BUCKETS, Gates, Regression, RolloutPlan, RolloutStep, Sensitivity, Share},
};
use rand::{SeedableRng, rngs::SmallRng};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// As the proxy draws, or each request by itself.
    stretches: bool,
    /// Errors come at the beginning of each second, or at any time.
    together: bool,
}

pub(crate) const KINDS: [(&str, Kind); 4] = [
    ("each request by itself, errors at any time ", Kind { stretches: false, together: false }),
    ("as the proxy draws,     errors at any time ", Kind { stretches: true, together: false }),
    ("each request by itself, errors come together", Kind { stretches: false, together: true }),
    ("as the proxy draws,     errors come together", Kind { stretches: true, together: true }),
];

/// Requests in a second: a stretch of a share of 7 percent is none of their number, nor the reverse.
const RATE: u64 = 30;

/// Of the requests fail; together: all of the first two.
const ERRORS: f64 = 0.06;

const SECONDS: u64 = 900;

const PERCENT: u32 = 7;

pub(crate) fn is_cut(kind: Kind, seed: u64, nth: u64) -> bool {
    let mut dice = Dice::of(seed, nth);
    let mut random = SmallRng::seed_from_u64(dice.seed());
    let (split, mut sequence) = (Split::new([100 - PERCENT, PERCENT]), Sequence::default());
    let mut lane = Lane::begin(&plan(), None, None);
    for _ in 0..SECONDS {
        let [mut stable, mut canary] = [(0, 0); 2];
        for request in 0..RATE {
            let is_error = match kind.together {
                true => request < 2 && dice.chance(0.9),
                false => dice.chance(ERRORS),
            };
            let on_canary = match kind.stretches {
                true => sequence.draw(&split, PoolSet::ALL, &mut random) == Some(1),
                false => dice.chance(f64::from(PERCENT) / 100.0),
            };
            let side = if on_canary { &mut canary } else { &mut stable };
            *side = (side.0 + 1, side.1 + u64::from(is_error));
        }
        let side =
            |(requests, errors)| Side { requests, errors, slow: 0, latency: [0; FINE_BUCKETS] };
        lane.show(Some(Slice { canary: side(canary), baseline: side(stable) }));
        if lane.rollout.phase().is_over() {
            return true;
        }
    }
    false
}

/// One step that is as long as it lasts, and looks as closely as it can.
fn plan() -> RolloutPlan {
    let share = Share::of_percent(PERCENT);
    let bake = Some(Duration::from_secs(2 * SECONDS));
    RolloutPlan {
        first_touch: None,
        steps: Some(vec![RolloutStep::Share { share, bake }]),
        gates: Gates {
            error_rate: None,
            latency: None,
            regression: Some(Regression::default()),
            ..Gates::default()
        },
        sensitivity: Sensitivity::Strict,
        confidence: Share::of_percent(80),
        burst: Duration::from_secs(1),
        ..RolloutPlan::default()
    }
}
