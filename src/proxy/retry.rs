//! Retries must not multiply the load of a backend that is already failing.

use crate::spec::Retries;

const SECONDS: usize = 10;

/// Retries that one core allows itself for one service: a share of the last 10 s of requests, and at
/// least 3 a second.
#[derive(Default)]
pub(super) struct Budget {
    /// Requests and retries of each second, by the second modulo [`SECONDS`].
    seconds: [Second; SECONDS],
}

#[derive(Clone, Copy, Default)]
struct Second {
    second: u64,
    requests: u32,
    retries: u32,
}

impl Budget {
    const AT_LEAST: u32 = 3 * SECONDS as u32;

    fn second(&mut self, now_millis: u64) -> &mut Second {
        let second = now_millis / 1000;
        let slot = &mut self.seconds[(second % SECONDS as u64) as usize];
        if slot.second != second {
            *slot = Second { second, ..Second::default() };
        }
        slot
    }

    pub(super) fn request(&mut self, now_millis: u64) {
        self.second(now_millis).requests += 1;
    }

    /// Takes one retry out of the budget, if there is one left.
    pub(super) fn retry(&mut self, retries: &Retries, now_millis: u64) -> bool {
        let oldest = (now_millis / 1000).saturating_sub(SECONDS as u64 - 1);
        let recent = self.seconds.iter().filter(|second| second.second >= oldest);
        let (requests, spent) =
            recent.fold((0u64, 0u32), |(r, s), x| (r + u64::from(x.requests), s + x.retries));
        let allowed =
            u64::from(Self::AT_LEAST).max(requests * u64::from(retries.budget_percent) / 100);
        if retries.budget_percent == 0 || u64::from(spent) >= allowed {
            return false;
        }
        self.second(now_millis).retries += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_last_ten_seconds_and_three_a_second() {
        let retries = Retries::default();
        let mut budget = Budget::default();
        let spend = |budget: &mut Budget, now| {
            (0..10_000).take_while(|_| budget.retry(&retries, now)).count()
        };
        assert_eq!(spend(&mut budget, 5_000), 30);
        for _ in 0..1000 {
            budget.request(6_000);
        }
        assert_eq!(spend(&mut budget, 6_500), 170, "20 % of 1,000, 30 are spent");
        assert_eq!(spend(&mut budget, 14_999), 0);
        assert_eq!(spend(&mut budget, 15_000), 30, "what second 5 spent is forgotten");
        assert_eq!(spend(&mut budget, 60_000), 30);
    }

    #[test]
    fn no_budget_no_retry() {
        let retries = Retries { budget_percent: 0, ..Retries::default() };
        assert!(!Budget::default().retry(&retries, 0));
    }
}
