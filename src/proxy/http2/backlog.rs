//! What lies in the library for a peer that does not take it: bodies that were handed over and not written to the
//! socket yet. The library limits that for each stream, which is too much where there are many.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    task::{Context, Poll, Waker},
};

/// So much may lie there of a connection, and one piece more of each stream.
const MOST: usize = 256 << 10;

#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: Cell<usize>,
    /// Those bytes by their streams: what is left of one that is reset is never written.
    streams: RefCell<HashMap<u32, usize>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Backlog {
    /// Ready when more may be handed over.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.bytes.get() < MOST {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|known| known.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// A piece has been handed over.
    pub(super) fn add(&self, stream: u32, bytes: usize) {
        if bytes > 0 {
            self.bytes.set(self.bytes.get() + bytes);
            *self.streams.borrow_mut().entry(stream).or_default() += bytes;
        }
    }

    /// A frame of a body is being written.
    pub(super) fn written(&self, stream: u32, bytes: usize) {
        let mut streams = self.streams.borrow_mut();
        let Some(left) = streams.get_mut(&stream) else { return };
        let bytes = bytes.min(*left);
        *left -= bytes;
        if *left == 0 {
            streams.remove(&stream);
        }
        drop(streams);
        self.take(bytes);
    }

    /// The rest of the stream's body will not be written.
    pub(super) fn reset(&self, stream: u32) {
        let left = self.streams.borrow_mut().remove(&stream);
        self.take(left.unwrap_or(0));
    }

    fn take(&self, bytes: usize) {
        let left = self.bytes.get().saturating_sub(bytes);
        self.bytes.set(left);
        // Not for every frame: all that wait look whether there is something for them.
        if left <= MOST / 2 {
            for waker in self.waiting.take() {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        task::Wake,
    };

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_goes_on_when_half_of_it_is_written_or_reset() {
        let woken = Arc::new(Count::default());
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        let backlog = Backlog::default();
        assert!(backlog.poll_room(&cx).is_ready());
        backlog.add(1, MOST / 2);
        backlog.add(3, MOST / 2);
        assert!(backlog.poll_room(&cx).is_pending() && backlog.poll_room(&cx).is_pending());
        backlog.written(1, 1000);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0, "not yet");
        backlog.reset(1);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "once, though it has asked twice");
        backlog.reset(1);
        backlog.written(1, 1000);
        backlog.written(3, MOST);
        assert_eq!((backlog.bytes.get(), backlog.streams.borrow().len()), (0, 0));
        assert!(backlog.poll_room(&cx).is_ready());
    }
}
