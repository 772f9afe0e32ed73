use super::LivePool;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The copies of requests that a pool got, apart from its requests.
#[derive(Debug, Default)]
pub struct Mirrors {
    in_flight: AtomicU64,
    results: [AtomicU64; Mirrored::ALL.len()],
}

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirrored {
    /// The head of an answer came, with a status of the class.
    Success,
    Redirection,
    ClientError,
    ServerError,
    /// It was sent, or should have been, and no answer came.
    Failed,
    /// The pool had no backend for it, or had enough of them.
    Dropped,
    /// Its body was larger than is kept.
    TooLarge,
    /// Its body did not come whole.
    Incomplete,
}

impl Mirrored {
    pub const ALL: [Self; 8] = [
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
        Self::Failed,
        Self::Dropped,
        Self::TooLarge,
        Self::Incomplete,
    ];

    pub fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Success,
            300..=399 => Self::Redirection,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::Failed,
        }
    }

    /// The value of the label `result`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
            Self::TooLarge => "too_large",
            Self::Incomplete => "incomplete",
        }
    }
}

impl Mirrors {
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    pub fn count(&self, result: Mirrored) -> u64 {
        self.results[result as usize].load(Relaxed)
    }

    pub fn record(&self, result: Mirrored) {
        self.results[result as usize].fetch_add(1, Relaxed);
    }
}

/// A copy in flight. What became of it is recorded when it is dropped.
#[derive(Debug)]
pub struct MirrorPlace {
    pool: Arc<LivePool>,
    result: Mirrored,
}

impl MirrorPlace {
    /// If there are fewer than `limit`, over all cores; never more.
    pub fn take(pool: &Arc<LivePool>, limit: u32) -> Option<Self> {
        let more = |n: u64| (n < limit.into()).then(|| n + 1);
        let taken = pool.mirrors.in_flight.fetch_update(Relaxed, Relaxed, more);
        taken.is_ok().then(|| Self { pool: pool.clone(), result: Mirrored::Incomplete })
    }

    /// What it has come to so far.
    pub fn set(&mut self, result: Mirrored) {
        self.result = result;
    }
}

impl Drop for MirrorPlace {
    fn drop(&mut self) {
        self.pool.mirrors.record(self.result);
        self.pool.mirrors.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_counted_when_they_end() {
        let pool = LivePool::new(1, "shop".into(), "green".into(), "v2".into());
        let mut first = MirrorPlace::take(&pool, 2).unwrap();
        let second = MirrorPlace::take(&pool, 2).unwrap();
        assert!(MirrorPlace::take(&pool, 2).is_none());
        first.set(Mirrored::of_status(204));
        assert_eq!((pool.mirrors.in_flight(), pool.mirrors.count(Mirrored::Success)), (2, 0));
        drop((first, second));
        let counts = Mirrored::ALL.map(|result| pool.mirrors.count(result));
        assert_eq!((pool.mirrors.in_flight(), counts), (0, [1, 0, 0, 0, 0, 0, 0, 1]));
    }
}
