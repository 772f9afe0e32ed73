//! Retries and rescues must not multiply the load of backends that are already failing.

const SECONDS: usize = 10;

/// What one core allows itself for one service: shares of the last 10 s of requests, and at least 3 a second.
#[derive(Default)]
pub(super) struct Budget {
    /// By the second modulo [`SECONDS`].
    seconds: [Second; SECONDS],
    /// The one that requests are counted in, and when it ends, in milliseconds.
    current: usize,
    ends: u64,
}

/// What a budget is spent on; each has its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Retry,
    Rescue,
}

#[derive(Clone, Copy, Default)]
struct Second {
    second: u64,
    requests: u32,
    /// By [`Again`].
    spent: [u32; 2],
}

impl Budget {
    const AT_LEAST: u64 = 3 * SECONDS as u64;

    fn second(&mut self, now_millis: u64) -> &mut Second {
        let second = now_millis / 1000;
        let slot = &mut self.seconds[(second % SECONDS as u64) as usize];
        if slot.second != second {
            *slot = Second { second, ..Second::default() };
        }
        slot
    }

    #[inline]
    pub(super) fn request(&mut self, now_millis: u64) {
        if now_millis >= self.ends {
            self.begin_second(now_millis);
        }
        self.seconds[self.current].requests += 1;
    }

    #[cold]
    fn begin_second(&mut self, now_millis: u64) {
        let second = self.second(now_millis).second;
        self.current = (second % SECONDS as u64) as usize;
        self.ends = (second + 1) * 1000;
    }

    /// There is one left of `percent` of the requests.
    pub(super) fn has(&self, again: Again, percent: u32, now_millis: u64) -> bool {
        let oldest = (now_millis / 1000).saturating_sub(SECONDS as u64 - 1);
        let recent = self.seconds.iter().filter(|second| second.second >= oldest);
        let (requests, spent) = recent.fold((0, 0), |(requests, spent), second| {
            let Second { requests: more, spent: of, .. } = second;
            (requests + u64::from(*more), spent + u64::from(of[again as usize]))
        });
        percent > 0 && spent < Self::AT_LEAST.max(requests * u64::from(percent) / 100)
    }

    /// Takes one out of it, if there is one left.
    pub(super) fn take(&mut self, again: Again, percent: u32, now_millis: u64) -> bool {
        let has = self.has(again, percent, now_millis);
        if has {
            self.second(now_millis).spent[again as usize] += 1;
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_last_ten_seconds_and_three_a_second() {
        let mut budget = Budget::default();
        let spend = |budget: &mut Budget, now| {
            (0..10_000).take_while(|_| budget.take(Again::Retry, 20, now)).count()
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
    fn retries_and_rescues_are_spent_apart() {
        let mut budget = Budget::default();
        while budget.take(Again::Retry, 20, 0) {}
        assert!(budget.has(Again::Rescue, 20, 0) && !budget.has(Again::Retry, 20, 0));
        assert_eq!((0..100).take_while(|_| budget.take(Again::Rescue, 20, 0)).count(), 30);
    }

    #[test]
    fn no_budget_nothing_again() {
        assert!(!Budget::default().take(Again::Retry, 0, 0));
    }
}
