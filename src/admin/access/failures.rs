//! Who shows wrong tokens must wait: nobody tries them one after the other.

use super::peer::Source;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Wrong tokens of one source at once.
pub(super) const BURST: u32 = 20;

/// After this long one more is forgiven.
pub(super) const EACH: Duration = Duration::from_secs(1);

/// Sources that are remembered. With one more, the one whose last mistake is the longest ago is forgotten.
const MOST: usize = 4096;

/// When everything that a source did wrong is forgiven. So one number is a whole bucket: its level is what is
/// left until then.
#[derive(Debug, Default)]
pub(in crate::admin) struct Failures(Mutex<HashMap<Source, Instant>>);

impl Failures {
    /// How long this source must wait before it is listened to.
    pub(super) fn wait(&self, source: Source, now: Instant) -> Option<Duration> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let forgiven = *table.get(&source)?;
        let full = now + EACH * (BURST - 1);
        (forgiven > full).then(|| forgiven - full)
    }

    /// It has shown a wrong one.
    pub(super) fn count(&self, source: Source, now: Instant) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MOST && !table.contains_key(&source) {
            table.retain(|_, forgiven| *forgiven > now);
            let soonest = table.iter().min_by_key(|(_, forgiven)| **forgiven).map(|it| *it.0);
            if let Some(soonest) = soonest.filter(|_| table.len() >= MOST) {
                table.remove(&soonest);
            }
        }
        let forgiven = table.entry(source).or_insert(now);
        *forgiven = (*forgiven).max(now) + EACH;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_after_the_other() {
        let (failures, now) = (Failures::default(), Instant::now());
        let source = Source::User(1);
        for _ in 0..BURST {
            assert_eq!(failures.wait(source, now), None);
            failures.count(source, now);
        }
        assert_eq!(failures.wait(source, now), Some(EACH));
        assert_eq!(failures.wait(source, now + EACH / 4), Some(EACH - EACH / 4));
        assert_eq!(failures.wait(Source::User(2), now), None);
        let later = now + EACH;
        assert_eq!(failures.wait(source, later), None);
        failures.count(source, later);
        assert_eq!(failures.wait(source, later), Some(EACH));
        let much_later = later + EACH * BURST * 2;
        for _ in 0..BURST {
            assert_eq!(failures.wait(source, much_later), None, "no more is saved up than a burst");
            failures.count(source, much_later);
        }
        assert_eq!(failures.wait(source, much_later), Some(EACH));
    }

    #[test]
    fn the_table_has_an_end_and_the_worst_stay_in_it() {
        let (failures, now) = (Failures::default(), Instant::now());
        let worst = Source::User(0);
        (0..=BURST).for_each(|_| failures.count(worst, now));
        for other in 1..3 * MOST as u32 {
            failures.count(Source::User(other), now);
        }
        assert_eq!(failures.0.lock().unwrap().len(), MOST);
        assert!(failures.wait(worst, now).is_some());
        let forgiven = now + EACH * (BURST + 1);
        failures.count(Source::User(u32::MAX), forgiven);
        assert_eq!(failures.0.lock().unwrap().len(), 1, "who is forgiven is forgotten first");
    }
}
