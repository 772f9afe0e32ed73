//! What can be seen at all at the traffic there is.

use super::{BETS, JudgeConfig, RATIOS, noninferiority::LAMBDAS};

/// Requests to the canary until the tests let it go on, if both versions fail at `rate`; infinite: never.
pub fn requests_to_promote(config: &JudgeConfig, rate: f64, share: f64) -> f64 {
    let (rho, margin) = (config.promotion.rho, config.promotion.margin);
    let odds = (1.0 + rho) * share / (1.0 - share);
    let growth = LAMBDAS.iter().map(|lambda| {
        (1.0 - rate) * (lambda * margin).ln_1p()
            + rate * (-lambda * (1.0 - margin)).ln_1p()
            + rate * (1.0 - share) / share * (lambda * odds).ln_1p()
    });
    let needed = (1.0 / config.promotion.beta).ln() + (BETS as f64).ln() / 2.0;
    until(growth, needed)
}

/// Requests to the canary until it is cut, if it fails at `canary` and the baseline at `baseline`; infinite: that is
/// tolerated. Bursts are limited, so it takes four to five seconds at least.
pub fn requests_to_abort(config: &JudgeConfig, baseline: f64, canary: f64, share: f64) -> f64 {
    let (rho, tau) = (config.errors.rho, config.errors.tau);
    let odds = (1.0 + rho) * share / (1.0 - share);
    let growth = RATIOS.iter().map(|ratio| {
        let mut lambda = (ratio - 1.0) / (1.0 + ratio * odds);
        if tau > 0.0 {
            lambda = lambda.min(0.9 / tau);
        }
        canary * (lambda * (1.0 - tau)).ln_1p()
            + (1.0 - canary) * (-lambda * tau).ln_1p()
            + baseline * (1.0 - share) / share * (-lambda * odds).ln_1p()
    });
    let weight = config.weights.errors;
    let needed = (BETS as f64 / (config.alpha * weight * config.errors.first_stake)).ln();
    until(growth, needed * config.errors.phi)
}

/// The best of the bets decides, each of which grows by so much a request.
fn until(growth: impl Iterator<Item = f64>, needed: f64) -> f64 {
    let best = growth.fold(0.0, f64::max);
    if best > 0.0 { needed / best } else { f64::INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures that the specification of the statistics gives.
    #[test]
    fn what_is_needed_is_what_was_computed_elsewhere() {
        let mut config = JudgeConfig::default();
        let needed = |config: &JudgeConfig, rate| requests_to_promote(config, rate, 0.05).round();
        let rates = [0.0, 0.001, 0.005, 0.01];
        assert_eq!(rates.map(|rate| needed(&config, rate)), [852.0, 1196.0, 1909.0, 2195.0]);
        config.promotion.margin = 0.01;
        assert_eq!(needed(&config, 0.001), 519.0);
        assert!(requests_to_abort(&config, 0.001, 0.002, 0.05).is_infinite(), "tolerated");
        let seen = requests_to_abort(&config, 0.001, 0.05, 0.05);
        assert!((60.0..160.0).contains(&seen), "{seen}");
        config.errors.phi = 3.0;
        assert_eq!(requests_to_abort(&config, 0.001, 0.05, 0.05), 3.0 * seen);
    }
}
