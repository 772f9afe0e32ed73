//! What the connections of one core share: buffers that are held only while a request is in flight, and
//! the deadlines of connections that wait.

use super::work::Work;
use slab::Slab;
use std::{
    cell::{Cell, RefCell},
    task::{Context, Waker},
    time::SystemTime,
};
use tokio::sync::Notify;

/// Most that is read at once.
pub(in crate::proxy) const READ: usize = 64 << 10;

/// Room before and behind what is read, for the framing that is put around it.
pub(super) const ROOM: usize = 32;

/// Sets of buffers that are kept for the next requests.
const MOST_WORKS: usize = 32;

pub(in crate::proxy) struct Desk {
    /// Where everything is read to; nobody holds it longer than one poll.
    pub(in crate::proxy) scratch: RefCell<Box<[u8]>>,
    #[expect(clippy::vec_box, reason = "they go in and out without being moved")]
    works: RefCell<Vec<Box<Work>>>,
    pub(in crate::proxy) deadlines: Deadlines,
    date: RefCell<(u64, String)>,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            scratch: RefCell::new(vec![0; ROOM + READ + ROOM].into()),
            works: RefCell::default(),
            deadlines: Deadlines::default(),
            date: RefCell::new((u64::MAX, String::new())),
        }
    }
}

impl Desk {
    pub(super) fn take_work(&self) -> Box<Work> {
        self.works.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn return_work(&self, mut work: Box<Work>) {
        let mut works = self.works.borrow_mut();
        if works.len() < MOST_WORKS && work.clear() {
            works.push(work);
        }
    }

    /// Appends a line with the `Date` (RFC 9110 section 6.6.1), which is written anew once a second.
    pub(in crate::proxy) fn add_date(&self, now_millis: u64, out: &mut Vec<u8>) {
        let mut date = self.date.borrow_mut();
        let second = now_millis / 1000;
        if date.0 != second {
            let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
            let printed =
                jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
            *date = (second, format!("date: {}\r\n", printed.unwrap_or_default()));
        }
        out.extend_from_slice(date.1.as_bytes());
    }
}

/// When connections want to be woken. They are looked at by one sweep a core, so that a connection pays for
/// no timer of its own.
#[derive(Default)]
pub(in crate::proxy) struct Deadlines {
    waiting: RefCell<Slab<Waiting>>,
    /// No deadline is before this.
    soonest: Cell<u64>,
    /// Woken when there is a first one.
    some: Notify,
}

#[derive(Default)]
struct Waiting {
    /// Milliseconds of the process's clock.
    deadline: u64,
    passed: bool,
    waker: Option<Waker>,
}

impl Deadlines {
    /// Returns when some connection has a deadline.
    pub(in crate::proxy) async fn some(&self) {
        while self.waiting.borrow().is_empty() {
            self.some.notified().await;
        }
    }

    pub(in crate::proxy) fn sweep(&self, now_millis: u64) {
        if now_millis < self.soonest.get() {
            return;
        }
        let mut soonest = u64::MAX;
        let mut woken = Vec::new();
        for (_, waiting) in self.waiting.borrow_mut().iter_mut() {
            if now_millis >= waiting.deadline {
                waiting.deadline = u64::MAX;
                waiting.passed = true;
                woken.extend(waiting.waker.clone());
            }
            soonest = soonest.min(waiting.deadline);
        }
        self.soonest.set(soonest);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Everybody looks for himself, because some listener has left.
    pub(in crate::proxy) fn wake_all(&self) {
        let wakers: Vec<Waker> =
            self.waiting.borrow().iter().filter_map(|(_, waiting)| waiting.waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn enter(&self, deadline: u64) -> usize {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            self.some.notify_one();
        }
        self.soonest.set(self.soonest.get().min(deadline));
        waiting.insert(Waiting { deadline, ..Waiting::default() })
    }

    pub(super) fn leave(&self, key: usize) {
        self.waiting.borrow_mut().try_remove(key);
    }

    /// The task that is to be woken; one task stays the same for all of a connection.
    pub(super) fn register(&self, key: usize, cx: &Context<'_>) {
        if let Some(waiting) = self.waiting.borrow_mut().get_mut(key)
            && waiting.waker.is_none()
        {
            waiting.waker = Some(cx.waker().clone());
        }
    }

    pub(super) fn set(&self, key: usize, deadline: u64) {
        self.soonest.set(self.soonest.get().min(deadline));
        if let Some(waiting) = self.waiting.borrow_mut().get_mut(key) {
            waiting.deadline = deadline;
            waiting.passed = false;
        }
    }

    /// Whether the deadline that was set last has passed; said once.
    pub(super) fn take_passed(&self, key: usize) -> bool {
        self.waiting
            .borrow_mut()
            .get_mut(key)
            .is_some_and(|waiting| std::mem::take(&mut waiting.passed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_passes_once() {
        let deadlines = Deadlines::default();
        let (early, late) = (deadlines.enter(10), deadlines.enter(20));
        deadlines.sweep(9);
        assert!(!deadlines.take_passed(early));
        deadlines.sweep(10);
        assert!(deadlines.take_passed(early) && !deadlines.take_passed(early));
        assert!(!deadlines.take_passed(late));
        deadlines.set(early, 15);
        deadlines.leave(late);
        deadlines.sweep(30);
        assert!(deadlines.take_passed(early) && !deadlines.take_passed(late));
    }

    #[test]
    fn the_date_is_one_of_rfc_9110() {
        let mut line = Vec::new();
        Desk::default().add_date(0, &mut line);
        let text = std::str::from_utf8(&line).unwrap();
        assert!(text.len() == 37 && text.ends_with(" GMT\r\n"), "{text}");
    }
}
