use super::LiveBackend;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::SeqCst},
};
use tokio::sync::Notify;

/// The connections to one backend that are open, over all cores; idle ones, too.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: AtomicU64,
    /// Requests that wait for one because there are as many as there may be.
    waiting: Mutex<usize>,
    freed: Notify,
}

/// A connection's place among those that are open. Dropping it gives it to who waits.
#[derive(Debug)]
pub struct Held(Arc<LiveBackend>);

impl LiveBackend {
    /// Open connections.
    pub fn connections(&self) -> u64 {
        self.connections.open.load(SeqCst)
    }

    /// There may be no more connections.
    pub fn has_all(&self, limit: Option<u32>) -> bool {
        limit.is_some_and(|limit| self.connections() >= limit.into())
    }

    /// A place for another connection, if there are fewer than `limit`. Never more, whatever cores do at the same
    /// moment.
    pub fn try_hold(self: &Arc<Self>, limit: Option<u32>) -> Option<Held> {
        let open = &self.connections.open;
        let limit = limit.map_or(u64::MAX, u64::from);
        let taken = open.fetch_update(SeqCst, SeqCst, |n| (n < limit).then(|| n + 1));
        taken.is_ok().then(|| Held(self.clone()))
    }

    /// The same, as soon as there is one. Meanwhile no core keeps an idle connection to this backend; `nudge` has
    /// them close one.
    pub async fn hold(self: &Arc<Self>, limit: u32, nudge: impl Fn()) -> Held {
        let _wanting = Wanting::begin(self);
        nudge();
        loop {
            let freed = self.connections.freed.notified();
            if let Some(held) = self.try_hold(Some(limit)) {
                return held;
            }
            freed.await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, usize> {
        self.connections.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.connections.open.fetch_sub(1, SeqCst);
        self.0.connections.freed.notify_one();
    }
}

/// Somebody waits for a connection.
struct Wanting<'a>(&'a LiveBackend);

impl<'a> Wanting<'a> {
    fn begin(backend: &'a LiveBackend) -> Self {
        let mut waiting = backend.waiting();
        *waiting += 1;
        backend.set_wanted(true);
        Self(backend)
    }
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        *waiting -= 1;
        self.0.set_wanted(*waiting > 0);
        // It may have been told of a place that it does not take any more.
        self.0.connections.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        live::{HealthState, LivePool, Slots},
        spec::PoolProtocol,
    };
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
        thread,
    };

    fn backend() -> Arc<LiveBackend> {
        let pool = LivePool::new(1, "shop".into(), "blue".into(), "v1".into());
        let address = "127.0.0.1:1".parse().unwrap();
        let slot = Slots::default().take();
        let health = (HealthState::Healthy, 0);
        LiveBackend::new(1, address, pool, PoolProtocol::H1, health, slot)
    }

    #[test]
    fn who_waits_gets_the_next_and_idle_ones_are_not_kept_meanwhile() {
        let backend = backend();
        let first = backend.try_hold(Some(1)).unwrap();
        assert!(backend.try_hold(Some(1)).is_none() && backend.has_all(Some(1)));
        assert!(backend.try_hold(None).is_some(), "without a limit");
        assert!(!backend.keeps_none());
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut second = pin!(backend.hold(1, || ()));
            let mut third = pin!(backend.hold(1, || ()));
            assert!(second.as_mut().poll(&mut cx).is_pending());
            assert!(third.as_mut().poll(&mut cx).is_pending());
            assert!(backend.keeps_none());
            drop(first);
            let Poll::Ready(held) = second.as_mut().poll(&mut cx) else { panic!("it is free") };
            assert!(third.as_mut().poll(&mut cx).is_pending());
            drop(held);
            let Poll::Ready(_held) = third.as_mut().poll(&mut cx) else { panic!("it is free") };
        }
        assert!(!backend.keeps_none());
        assert_eq!(backend.connections(), 0);
    }

    #[test]
    fn a_place_that_was_offered_to_who_has_left_goes_on() {
        let backend = backend();
        let first = backend.try_hold(Some(1)).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut second = Box::pin(backend.hold(1, || ()));
        let mut third = pin!(backend.hold(1, || ()));
        assert!(second.as_mut().poll(&mut cx).is_pending());
        assert!(third.as_mut().poll(&mut cx).is_pending());
        drop(first);
        drop(second);
        assert!(third.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn never_more_than_the_limit() {
        let backend = backend();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let backend = backend.clone();
                thread::spawn(move || {
                    for _ in 0..5000 {
                        let held = backend.try_hold(Some(2));
                        assert!(backend.connections() <= 2);
                        drop(held);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(backend.connections(), 0);
    }
}
