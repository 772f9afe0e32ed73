//! How often each may do something: nobody tries tokens one after the other.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Sources that are remembered. With one more, the one that is forgiven the soonest is forgotten.
const MOST: usize = 4096;

/// When everything that a source did is forgiven. So one number is a whole bucket: its level is what is left until
/// then.
#[derive(Debug)]
pub(in crate::admin) struct Buckets<K> {
    /// So many at once.
    burst: u32,
    /// After this long one more is forgiven.
    each: Duration,
    table: Mutex<HashMap<K, Instant>>,
}

impl<K: Copy + Eq + Hash> Buckets<K> {
    pub(in crate::admin) fn new(burst: u32, each: Duration) -> Self {
        Self { burst, each, table: Mutex::default() }
    }

    /// How long this source must wait for the next time.
    pub(in crate::admin) fn wait(&self, source: K, now: Instant) -> Option<Duration> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let forgiven = *table.get(&source)?;
        let full = now + self.each * (self.burst - 1);
        (forgiven > full).then(|| forgiven - full)
    }

    /// It has done it once more.
    pub(in crate::admin) fn count(&self, source: K, now: Instant) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MOST && !table.contains_key(&source) {
            table.retain(|_, forgiven| *forgiven > now);
            let soonest = table.iter().min_by_key(|(_, forgiven)| **forgiven).map(|it| *it.0);
            if let Some(soonest) = soonest.filter(|_| table.len() >= MOST) {
                table.remove(&soonest);
            }
        }
        let forgiven = table.entry(source).or_insert(now);
        *forgiven = (*forgiven).max(now) + self.each;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: u32 = 20;
    const EACH: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_then_one_after_the_other() {
        let (buckets, now) = (Buckets::new(BURST, EACH), Instant::now());
        let source = 1;
        for _ in 0..BURST {
            assert_eq!(buckets.wait(source, now), None);
            buckets.count(source, now);
        }
        assert_eq!(buckets.wait(source, now), Some(EACH));
        assert_eq!(buckets.wait(source, now + EACH / 4), Some(EACH - EACH / 4));
        assert_eq!(buckets.wait(2, now), None);
        let later = now + EACH;
        assert_eq!(buckets.wait(source, later), None);
        buckets.count(source, later);
        assert_eq!(buckets.wait(source, later), Some(EACH));
        let much_later = later + EACH * BURST * 2;
        for _ in 0..BURST {
            assert_eq!(buckets.wait(source, much_later), None, "no more is saved up than a burst");
            buckets.count(source, much_later);
        }
        assert_eq!(buckets.wait(source, much_later), Some(EACH));
    }

    #[test]
    fn the_table_has_an_end_and_the_worst_stay_in_it() {
        let (buckets, now) = (Buckets::new(BURST, EACH), Instant::now());
        let worst = 0;
        (0..=BURST).for_each(|_| buckets.count(worst, now));
        for other in 1..3 * MOST as u32 {
            buckets.count(other, now);
        }
        assert_eq!(buckets.table.lock().unwrap().len(), MOST);
        assert!(buckets.wait(worst, now).is_some());
        let forgiven = now + EACH * (BURST + 1);
        buckets.count(u32::MAX, forgiven);
        assert_eq!(buckets.table.lock().unwrap().len(), 1, "who is forgiven is forgotten first");
    }
}
