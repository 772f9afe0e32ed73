//! The statistics of rollouts: sequential tests on the counts of every request, which may be looked at every second
//! and stopped at any time. Natural logarithms throughout.
//!
//! - [`BetTest`]: evidence that the canary is worse than is tolerated; it only needs that the proxy's own dice gave
//!   each request its version
//! - [`NiTest`]: evidence that it is not worse by a margin
//! - [`Latency`]: both, on tails of the latency histograms
//! - [`Judge`]: all of them over a whole rollout
//! - [`dispersion`]: how much backends of one version differ by themselves
//! - [`requests_to_promote`], [`requests_to_abort`]: what can be seen at all, and how soon

mod bet;
mod dispersion;
mod judge;
mod latency;
mod noninferiority;
mod power;

pub use bet::{BetConfig, BetTest};
pub use dispersion::dispersion;
pub use judge::{
    Action, Bad, Concern, Guard, InStage, Judge, JudgeConfig, Missing, OnInconclusive, Parts,
    Promotion, Side, Slice, Stage, Verdict, Weights,
};
pub use latency::{Histogram, Latency, LatencyConfig};
pub use noninferiority::NiTest;
pub use power::{requests_to_abort, requests_to_promote};

/// What a wrong decision of either kind may cost at most is spread over this many bets.
const BETS: usize = 8;

/// How many times worse than is tolerated each bet takes the canary to be.
const RATIOS: [f64; BETS] = [1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];

/// Counts of one second: requests of each version, and those of them with what is looked for (an error, say).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub canary: u64,
    pub canary_hits: u64,
    pub baseline: u64,
    pub baseline_hits: u64,
}
