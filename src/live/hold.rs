//! A service whose requests wait. What was held goes on when it is released, and is refused when the time is over.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};
use tokio::sync::watch;

#[derive(Debug)]
pub struct Hold {
    state: watch::Sender<State>,
    /// At most so many requests wait.
    most: AtomicUsize,
    waiting: AtomicUsize,
    /// Requests that were made to wait so far.
    held: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    On,
    Released,
    Over,
}

/// One of the requests that wait. Dropping it leaves.
#[derive(Debug)]
pub struct HeldPlace {
    hold: Arc<Hold>,
    state: watch::Receiver<State>,
}

impl Hold {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            state: watch::Sender::new(State::On),
            most: AtomicUsize::new(most),
            waiting: AtomicUsize::new(0),
            held: AtomicU64::new(0),
        })
    }

    /// For the control plane: at most so many requests wait from now on. Those that do stay.
    pub fn set_most(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// A place among those that wait; `None`: there is none.
    pub fn enter(self: &Arc<Self>) -> Option<HeldPlace> {
        let most = self.most.load(Relaxed);
        let more = |waiting: usize| (waiting < most).then(|| waiting + 1);
        self.waiting.fetch_update(Relaxed, Relaxed, more).ok()?;
        self.held.fetch_add(1, Relaxed);
        Some(HeldPlace { hold: self.clone(), state: self.state.subscribe() })
    }

    /// Lets all go on. The table that holds nothing must be in force by then.
    pub fn release(&self) {
        self.end(State::Released);
    }

    /// Nobody has released them in time.
    pub fn expire(&self) {
        self.end(State::Over);
    }

    /// The first end stands.
    fn end(&self, end: State) {
        self.state.send_if_modified(|state| {
            let is_on = *state == State::On;
            if is_on {
                *state = end;
            }
            is_on
        });
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Requests that were made to wait so far.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }
}

impl HeldPlace {
    /// Waits for the end of the hold. True: it was released.
    pub async fn released(mut self) -> bool {
        let ended = self.state.wait_for(|state| *state != State::On).await;
        ended.is_ok_and(|state| *state == State::Released)
    }
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        self.hold.waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_goes_on_or_is_told_that_it_is_over() {
        for released in [true, false] {
            let hold = Hold::new(2);
            let places = [hold.enter().unwrap(), hold.enter().unwrap()];
            assert!(hold.enter().is_none(), "two wait already");
            assert_eq!((hold.waiting(), hold.held()), (2, 2));
            if released {
                hold.release()
            } else {
                hold.expire()
            }
            // The first end stands.
            if released {
                hold.expire()
            } else {
                hold.release()
            }
            for place in places {
                assert_eq!(place.released().await, released);
            }
            assert_eq!((hold.waiting(), hold.held()), (0, 2));
            assert_eq!(hold.enter().unwrap().released().await, released, "who comes late");
        }
    }

    #[test]
    fn who_leaves_makes_room() {
        let hold = Hold::new(1);
        drop(hold.enter().unwrap());
        let _place = hold.enter().unwrap();
        hold.set_most(0);
        assert!(hold.enter().is_none());
    }
}
