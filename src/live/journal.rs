//! What cores hand over of requests that are over, to a thread that writes it down.

use super::{Account, Counter, Exemplars, PerCore};
use std::{
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// Accounts that a queue keeps room for: as many as a busy core hands over from one round to the next.
const KEPT: usize = 2048;

/// Accounts that wait to be written, for each core. Who writes them sleeps as long as there are none.
#[derive(Debug)]
pub struct Journal {
    queues: PerCore<Queue>,
    writer: OnceLock<Thread>,
    /// The writer waits to be woken.
    sleeps: AtomicBool,
    /// Files are to be opened anew.
    reopens: AtomicBool,
    /// The last word has been said.
    ends: AtomicBool,
    /// Rounds that somebody waits for the end of, and the last that has ended.
    asked: AtomicU64,
    ended: Mutex<u64>,
    round: Condvar,
    pub sinks: Sinks,
    pub exemplars: Exemplars,
}

/// What has become of what was handed over.
#[derive(Debug, Default)]
pub struct Sinks {
    pub log: Sink,
    pub spans: Sink,
}

#[derive(Debug, Default)]
pub struct Sink {
    pub written: AtomicU64,
    /// What could not be written or sent.
    pub failed: AtomicU64,
}

/// What an account is handed over for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// The most that may wait, of who wants it.
    pub log: Option<u32>,
    pub spans: Option<u32>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Held only to push, or for an exchange of vectors. Each is moved to where the last one ends: pointers to them
    /// would go from hand to hand through memory that no cache has any more, which costs more than to copy them.
    waiting: Mutex<Vec<Account>>,
    /// What came when there was no room.
    dropped_lines: Counter,
    dropped_spans: Counter,
}

impl Journal {
    pub(super) fn new(cores: usize) -> Self {
        Self {
            queues: PerCore::new(cores),
            writer: OnceLock::new(),
            sleeps: AtomicBool::new(false),
            reopens: AtomicBool::new(false),
            ends: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            ended: Mutex::new(0),
            round: Condvar::new(),
            sinks: Sinks::default(),
            exemplars: Exemplars::default(),
        }
    }

    /// A core hands over a request that is over. Never waits for who writes.
    pub fn hand_over(&self, core: usize, mut account: Account, wanted: Wanted) {
        if wanted.log.is_none() && wanted.spans.is_none() {
            return;
        }
        let queue = self.queues.of(core);
        let mut waiting = queue.locked();
        let waiting_now = waiting.len();
        let has_room = |most: Option<u32>| most.is_some_and(|most| waiting_now < most as usize);
        let (to_log, to_spans) = (has_room(wanted.log), has_room(wanted.spans));
        if wanted.log.is_some() && !to_log {
            queue.dropped_lines.add(1);
        }
        if wanted.spans.is_some() && !to_spans {
            queue.dropped_spans.add(1);
        }
        if !to_log && !to_spans {
            return;
        }
        (account.to_log, account.to_spans) = (to_log, to_spans);
        waiting.push(account);
        // Lines of a busy core are fetched often enough; those of a quiet one need not wait for that.
        let is_much = (waiting_now + 1).is_multiple_of(1024);
        drop(waiting);
        if is_much || self.sleeps.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    fn wake(&self) {
        self.sleeps.store(false, Ordering::SeqCst);
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// For the thread that writes: it is this one.
    pub fn attach(&self) {
        // There is one a process.
        let _ = self.writer.set(thread::current());
    }

    /// For the writer: what waits of each core, one after the other. `room` is empty, before and after.
    pub fn take(&self, room: &mut Vec<Account>, mut each: impl FnMut(&Account)) {
        for queue in self.queues.iter() {
            let mut waiting = queue.locked();
            if waiting.is_empty() {
                continue;
            }
            std::mem::swap(&mut *waiting, room);
            drop(waiting);
            // Each is dropped as long as it is in the processor's cache.
            room.drain(..).for_each(|account| each(&account));
            room.shrink_to(KEPT);
        }
    }

    /// For the writer: returns when something waits, or is asked for.
    pub fn sleep(&self) {
        self.sleeps.store(true, Ordering::SeqCst);
        // What came before the word that it sleeps has woken nobody; what comes once its queue was seen has read it.
        let is_quiet = self.queues.iter().all(|queue| queue.locked().is_empty());
        if is_quiet && !self.is_asked() {
            thread::park();
        }
        self.sleeps.store(false, Ordering::SeqCst);
    }

    /// The same for a moment: whoever is busy has something again soon.
    pub fn pause(&self, time: Duration) {
        if !self.is_asked() {
            thread::park_timeout(time);
        }
    }

    fn is_asked(&self) -> bool {
        self.reopens.load(Ordering::SeqCst)
            || self.ends.load(Ordering::SeqCst)
            || self.asked.load(Ordering::SeqCst) > *self.locked_round()
    }

    /// Files are opened anew with the next line.
    pub fn reopen(&self) {
        self.reopens.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Whether that was asked for; said once.
    pub fn take_reopen(&self) -> bool {
        self.reopens.swap(false, Ordering::SeqCst)
    }

    /// For the writer: a round begins, of this number.
    pub fn begin_round(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// All that was there when this round began is written.
    pub fn end_round(&self, round: u64) {
        *self.locked_round() = round;
        self.round.notify_all();
    }

    /// Returns when everything that was handed over is written, or `patience` is over. False then.
    pub fn flush(&self, patience: Duration) -> bool {
        if self.writer.get().is_none() {
            return true;
        }
        let round = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.wake();
        let until = Instant::now() + patience;
        let mut ended = self.locked_round();
        while *ended < round {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.round.wait_timeout(ended, left);
            ended = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// The writer is to end.
    pub fn end(&self) {
        self.ends.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub fn has_ended(&self) -> bool {
        self.ends.load(Ordering::SeqCst)
    }

    /// Lines and spans for which there was no room, or that could not be written.
    pub fn dropped(&self) -> (u64, u64) {
        let sum = |of: fn(&Queue) -> &Counter| self.queues.iter().map(|it| of(it).get()).sum();
        let lines: u64 = sum(|queue| &queue.dropped_lines);
        let spans: u64 = sum(|queue| &queue.dropped_spans);
        let failed = |sink: &Sink| sink.failed.load(Ordering::Relaxed);
        (lines + failed(&self.sinks.log), spans + failed(&self.sinks.spans))
    }

    fn locked_round(&self) -> MutexGuard<'_, u64> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn locked(&self) -> MutexGuard<'_, Vec<Account>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Wanted = Wanted { log: Some(2), spans: None };

    #[test]
    fn what_there_is_no_room_for_is_dropped_and_counted() {
        let journal = Journal::new(2);
        for _ in 0..5 {
            journal.hand_over(1, Account::default(), ONE);
        }
        journal.hand_over(0, Account::default(), Wanted { log: Some(1), spans: Some(0) });
        assert_eq!(journal.dropped(), (3, 1));
        let take = || {
            let mut taken = Vec::new();
            journal.take(&mut Vec::new(), |it| taken.push((it.to_log, it.to_spans)));
            taken
        };
        assert_eq!(take(), [(true, false); 3]);
        journal.hand_over(1, Account::default(), ONE);
        assert_eq!((take(), journal.dropped()), (vec![(true, false)], (3, 1)));
        assert_eq!(take(), []);
    }

    #[test]
    fn a_flush_ends_when_what_was_there_is_written() {
        let journal = std::sync::Arc::new(Journal::new(1));
        assert!(journal.flush(Duration::ZERO), "nobody writes");
        let (known, is_known) = std::sync::mpsc::channel();
        let writer = thread::spawn({
            let journal = journal.clone();
            move || {
                journal.attach();
                known.send(()).unwrap();
                let mut count = 0;
                while !journal.has_ended() {
                    journal.sleep();
                    let round = journal.begin_round();
                    journal.take(&mut Vec::new(), |_| count += 1);
                    journal.end_round(round);
                }
                count
            }
        });
        is_known.recv().unwrap();
        for _ in 0..3 {
            journal.hand_over(0, Account::default(), Wanted { log: Some(9), spans: None });
            assert!(journal.flush(Duration::from_secs(20)));
        }
        journal.end();
        assert_eq!(writer.join().unwrap(), 3);
    }
}
