use crate::live::{Clock, Moment};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the clock on the wall showed at a moment, as it goes now: who has set it meanwhile is followed.
#[derive(Clone, Copy)]
pub(super) struct Wall {
    now: Moment,
    /// Nanoseconds since 1970.
    epoch: u64,
}

impl Wall {
    pub(super) fn now(clock: Clock) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let epoch = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Self { now: clock.now(), epoch }
    }

    /// Nanoseconds since 1970.
    pub(super) fn at(&self, moment: Moment) -> u64 {
        let (ago, ahead) = (self.now.since(moment), moment.since(self.now));
        self.epoch.saturating_sub(ago).saturating_add(ahead)
    }
}
