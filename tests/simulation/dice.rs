//! Dice of a seed, and the counts that are drawn with them.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

pub(crate) struct Dice(SmallRng);

/// From this mean on a count is as good as normal.
const MANY: f64 = 40.0;

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    /// Dice of their own for a part of what a seed stands for.
    pub(crate) fn of(seed: u64, part: u64) -> Self {
        // Neighbours among the seeds must not be neighbours in what comes of them.
        let spread = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        Self::new(spread ^ part.wrapping_mul(0xD1B5_4A32_D192_ED03))
    }

    /// Of other dice.
    pub(crate) fn seed(&mut self) -> u64 {
        self.0.random()
    }

    pub(crate) fn part(&mut self) -> f64 {
        self.0.random()
    }

    pub(crate) fn chance(&mut self, chance: f64) -> bool {
        self.part() < chance
    }

    /// Seconds until something happens that happens so often in a second.
    pub(crate) fn wait(&mut self, rate: f64) -> f64 {
        -(1.0 - self.part()).ln() / rate
    }

    fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.part(), self.part());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// How often something happens that happens `mean` times on average.
    pub(crate) fn poisson(&mut self, mean: f64) -> u64 {
        if mean > MANY {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (least, mut product, mut count) = ((-mean).exp(), self.part(), 0);
        while product > least {
            product *= self.part();
            count += 1;
        }
        count
    }

    /// Of `all`, how many with this chance each.
    pub(crate) fn binomial(&mut self, all: u64, chance: f64) -> u64 {
        if all == 0 || chance <= 0.0 {
            return 0;
        }
        if chance > 0.5 {
            return all - self.binomial(all, 1.0 - chance);
        }
        let (mean, whole) = (all as f64 * chance, all as f64);
        if mean > MANY {
            let count = mean + (mean * (1.0 - chance)).sqrt() * self.normal();
            return count.round().clamp(0.0, whole) as u64;
        }
        // From one hit to the next.
        let log_miss = (-chance).ln_1p();
        let (mut at, mut hits) = (0.0, 0);
        loop {
            at += ((1.0 - self.part()).ln() / log_miss).floor() + 1.0;
            if at > whole {
                return hits;
            }
            hits += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_the_mean_and_the_spread_that_they_should() {
        let mut dice = Dice::new(1);
        for (all, chance) in [(1, 0.3), (20, 0.9), (1000, 0.001), (1000, 0.03), (5000, 0.4)] {
            let drawn: Vec<f64> = (0..20_000).map(|_| dice.binomial(all, chance) as f64).collect();
            let (mean, variance) = (all as f64 * chance, all as f64 * chance * (1.0 - chance));
            check(&drawn, mean, variance);
        }
        for mean in [0.01, 3.0, 39.0, 400.0] {
            let drawn: Vec<f64> = (0..20_000).map(|_| dice.poisson(mean) as f64).collect();
            check(&drawn, mean, mean);
        }
    }

    fn check(drawn: &[f64], mean: f64, variance: f64) {
        let number = drawn.len() as f64;
        let got = drawn.iter().sum::<f64>() / number;
        assert!((got - mean).abs() < 5.0 * (variance / number).sqrt(), "{got} for {mean}");
        let spread = drawn.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / number;
        assert!((spread / variance - 1.0).abs() < 0.5, "{spread} for {variance}");
    }
}
