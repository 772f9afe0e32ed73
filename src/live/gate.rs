//! How many requests of a service may be in flight at once, over all cores, and who waits for a place. Only a
//! service with a limit has anybody come here.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

#[derive(Debug, Default)]
pub struct Gate {
    limit: AtomicU64,
    taken: AtomicU64,
    /// Entries of the queue, to be seen without locking it.
    waiting: AtomicUsize,
    /// First come, first served.
    queue: Mutex<VecDeque<Arc<Waiter>>>,
}

/// A place among those in flight. Dropping it gives it to who has waited longest.
#[derive(Debug)]
pub struct Permit(Arc<Gate>);

/// A place in the queue, until it has become a permit. Dropping it leaves the queue.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    waiter: Arc<Waiter>,
}

#[derive(Debug, Default)]
struct Waiter(Mutex<Wait>);

#[derive(Debug, Default)]
struct Wait {
    /// A place among those in flight is its own; only the holder of the [`Place`] gives it back.
    granted: bool,
    waker: Option<Waker>,
}

/// What becomes of a request at the gate.
#[derive(Debug)]
pub enum Entry {
    Open(Permit),
    Wait(Place),
    /// As many as may are in flight, and as many as may wait.
    Full,
}

impl Gate {
    /// Lets a request in, without a lock, if fewer than `limit` are in flight and nobody waits. Never more,
    /// whatever cores do at the same moment.
    pub fn try_enter(self: &Arc<Self>, limit: u64) -> Option<Permit> {
        if self.limit.load(SeqCst) != limit {
            self.limit.store(limit, SeqCst);
        }
        let is_free = self.waiting.load(SeqCst) == 0 && self.take();
        is_free.then(|| Permit(self.clone()))
    }

    /// The same; who is not let in waits, unless `queue` do already.
    pub fn enter(self: &Arc<Self>, limit: u64, queue: usize) -> Entry {
        if let Some(permit) = self.try_enter(limit) {
            return Entry::Open(permit);
        }
        let mut waiters = lock(&self.queue);
        if waiters.len() < queue {
            let waiter = Arc::new(Waiter::default());
            waiters.push_back(waiter.clone());
            self.waiting.store(waiters.len(), SeqCst);
            // A place may have become free before anybody could see that somebody waits.
            self.grant(&mut waiters);
            return Entry::Wait(Place { gate: self.clone(), waiter });
        }
        self.grant(&mut waiters);
        match waiters.is_empty() && self.take() {
            true => Entry::Open(Permit(self.clone())),
            false => Entry::Full,
        }
    }

    /// In flight.
    pub fn taken(&self) -> u64 {
        self.taken.load(SeqCst)
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    fn take(&self) -> bool {
        let limit = self.limit.load(SeqCst);
        self.taken.fetch_update(SeqCst, SeqCst, |taken| (taken < limit).then(|| taken + 1)).is_ok()
    }

    /// Gives free places to the first that wait.
    fn grant(&self, waiters: &mut VecDeque<Arc<Waiter>>) {
        while !waiters.is_empty() && self.take() {
            let Some(first) = waiters.pop_front() else { break };
            let mut wait = lock(&first.0);
            wait.granted = true;
            if let Some(waker) = wait.waker.take() {
                waker.wake();
            }
        }
        self.waiting.store(waiters.len(), SeqCst);
    }

    fn leave(&self) {
        self.taken.fetch_sub(1, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            self.grant(&mut lock(&self.queue));
        }
    }
}

impl Permit {
    pub fn is_of(&self, gate: &Arc<Gate>) -> bool {
        Arc::ptr_eq(&self.0, gate)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Future for Place {
    type Output = Permit;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        let mut wait = lock(&self.waiter.0);
        if std::mem::take(&mut wait.granted) {
            return Poll::Ready(Permit(self.gate.clone()));
        }
        wait.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiters = lock(&self.gate.queue);
        waiters.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
        self.gate.waiting.store(waiters.len(), SeqCst);
        let granted = std::mem::take(&mut lock(&self.waiter.0).granted);
        drop(waiters);
        if granted {
            self.gate.leave();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{task::Wake, thread};

    struct Flag(AtomicUsize);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn open(gate: &Arc<Gate>, limit: u64) -> Permit {
        match gate.enter(limit, 0) {
            Entry::Open(permit) => permit,
            other => panic!("{other:?}"),
        }
    }

    fn place(gate: &Arc<Gate>) -> Place {
        match gate.enter(1, 9) {
            Entry::Wait(place) => place,
            other => panic!("{other:?}"),
        }
    }

    fn poll(place: &mut Place, waker: &Waker) -> Option<Permit> {
        match Pin::new(place).poll(&mut Context::from_waker(waker)) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_came_first_is_first_and_nobody_overtakes() {
        let gate = Arc::new(Gate::default());
        let flag = Arc::new(Flag(AtomicUsize::new(0)));
        let waker = Waker::from(flag.clone());
        let permit = open(&gate, 1);
        assert!(matches!(gate.enter(1, 0), Entry::Full));
        let (mut first, mut second) = (place(&gate), place(&gate));
        assert!(matches!(gate.enter(1, 2), Entry::Full), "two wait already");
        assert!(poll(&mut first, &waker).is_none() && poll(&mut second, &waker).is_none());
        drop(permit);
        assert_eq!(flag.0.load(SeqCst), 1);
        assert!(matches!(gate.enter(1, 0), Entry::Full), "the place is given away");
        assert!(poll(&mut second, &waker).is_none());
        let permit = poll(&mut first, &waker).unwrap();
        drop(first);
        assert_eq!((gate.taken(), gate.waiting()), (1, 1));
        drop(permit);
        assert!(poll(&mut second, &waker).is_some(), "and comes back at once");
        drop(second);
        assert_eq!((gate.taken(), gate.waiting()), (0, 0));
    }

    #[test]
    fn who_leaves_the_queue_leaves_nothing_behind() {
        let gate = Arc::new(Gate::default());
        let permit = open(&gate, 1);
        let (first, second, mut third) = (place(&gate), place(&gate), place(&gate));
        drop(second);
        assert_eq!(gate.waiting(), 2);
        drop(permit);
        // It has been given a place that it never took.
        drop(first);
        assert!(poll(&mut third, Waker::noop()).is_some());
        drop(third);
        assert_eq!((gate.taken(), gate.waiting()), (0, 0));
    }

    #[test]
    fn a_limit_that_rises_lets_more_in() {
        let gate = Arc::new(Gate::default());
        let _one = open(&gate, 1);
        let mut waits = place(&gate);
        let _two = match gate.enter(3, 0) {
            Entry::Open(permit) => permit,
            other => panic!("{other:?}"),
        };
        assert!(poll(&mut waits, Waker::noop()).is_some(), "before who came later");
    }

    #[test]
    fn never_more_than_the_limit_and_nobody_is_forgotten() {
        let gate = Arc::new(Gate::default());
        let work = |gate: Arc<Gate>| {
            for _ in 0..2000 {
                let permit = match gate.enter(2, 100) {
                    Entry::Open(permit) => permit,
                    Entry::Wait(mut place) => loop {
                        match poll(&mut place, Waker::noop()) {
                            Some(permit) => break permit,
                            None => thread::yield_now(),
                        }
                    },
                    Entry::Full => panic!("there is room for all"),
                };
                assert!(gate.taken() <= 2);
                drop(permit);
            }
        };
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let gate = gate.clone();
                thread::spawn(move || work(gate))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!((gate.taken(), gate.waiting()), (0, 0));
    }
}
