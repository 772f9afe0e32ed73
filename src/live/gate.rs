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
    /// Who is let in here takes a place there, too.
    whole: Option<Arc<Gate>>,
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
    Full(Full),
}

/// Why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// As many as may are in flight here; or as many as may wait, for who would.
    Here,
    /// As many as may are in flight in the whole proxy.
    Everywhere,
}

impl Gate {
    /// Of a service; `whole` is that of all together, whose queue nobody is in.
    pub fn below(whole: Arc<Self>) -> Self {
        Self { whole: Some(whole), ..Self::default() }
    }

    /// For the control plane: the limit of the gate of all services together.
    pub fn set_limit(&self, limit: Option<u32>) {
        self.limit.store(limit.map_or(u64::MAX, u64::from), SeqCst);
    }

    /// Lets a request in if fewer than `limit` are in flight and nobody waits. Never more, whatever cores do at the
    /// same moment. Without a lock, unless the whole proxy has a limit, too.
    ///
    /// # Errors
    /// Where there is no place.
    pub fn try_enter(self: &Arc<Self>, limit: u64) -> Result<Permit, Full> {
        if self.limit.load(SeqCst) != limit {
            self.limit.store(limit, SeqCst);
        }
        let _alone = self.alone();
        if self.waiting.load(SeqCst) > 0 {
            return Err(Full::Here);
        }
        self.take().map(|()| Permit(self.clone()))
    }

    /// The same; who is not let in waits, unless `queue` do already, or there is no place in the whole proxy.
    pub fn enter(self: &Arc<Self>, limit: u64, queue: usize) -> Entry {
        match self.try_enter(limit) {
            Ok(permit) => return Entry::Open(permit),
            Err(Full::Everywhere) => return Entry::Full(Full::Everywhere),
            Err(Full::Here) => {}
        }
        let mut waiters = lock(&self.queue);
        if waiters.len() < queue {
            let waiter = Arc::new(Waiter::default());
            waiters.push_back(waiter.clone());
            self.waiting.store(waiters.len(), SeqCst);
            // A place may have become free before anybody could see that somebody waits.
            let granted = self.grant(&mut waiters, &mut false);
            if granted == Err(Full::Everywhere) {
                waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
                self.waiting.store(waiters.len(), SeqCst);
                // Nobody here will leave for it.
                return Entry::Full(Full::Everywhere);
            }
            return Entry::Wait(Place { gate: self.clone(), waiter });
        }
        let granted = self.grant(&mut waiters, &mut false);
        match granted.and_then(|()| self.take()) {
            Ok(()) => Entry::Open(Permit(self.clone())),
            Err(full) => Entry::Full(full),
        }
    }

    /// In flight.
    pub fn taken(&self) -> u64 {
        self.taken.load(SeqCst)
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    fn has_room(&self) -> bool {
        self.taken() < self.limit.load(SeqCst)
    }

    /// Held by who takes or leaves a place, where places are limited in the whole, too: they are two numbers, and
    /// who saw one of them changed and the other not yet would be turned away while there is a place for it.
    fn alone(&self) -> Option<MutexGuard<'_, VecDeque<Arc<Waiter>>>> {
        let whole = self.whole.as_ref()?;
        (whole.limit.load(SeqCst) != u64::MAX).then(|| lock(&self.queue))
    }

    /// A place here and in the whole.
    fn take(&self) -> Result<(), Full> {
        let Some(whole) = &self.whole else { return self.take_here() };
        if !self.has_room() {
            return Err(Full::Here);
        }
        // In this order: nobody may find it full here who would not be told when it is not any more.
        whole.take_here().map_err(|_| Full::Everywhere)?;
        self.take_here().inspect_err(|_| whole.give_back())
    }

    fn take_here(&self) -> Result<(), Full> {
        let limit = self.limit.load(SeqCst);
        let more = |taken: u64| (taken < limit).then(|| taken + 1);
        self.taken.fetch_update(SeqCst, SeqCst, more).map(drop).map_err(|_| Full::Here)
    }

    fn give_back(&self) {
        self.taken.fetch_sub(1, SeqCst);
    }

    /// Gives free places to the first that wait. The first of those gets the place in the whole that is `at_hand`,
    /// if one is.
    ///
    /// # Errors
    /// Where there is no place for who still waits.
    fn grant(&self, waiters: &mut VecDeque<Arc<Waiter>>, at_hand: &mut bool) -> Result<(), Full> {
        while let Some(first) = waiters.front() {
            if *at_hand { self.take_here() } else { self.take() }?;
            *at_hand = false;
            let mut wait = lock(&first.0);
            wait.granted = true;
            if let Some(waker) = wait.waker.take() {
                waker.wake();
            }
            drop(wait);
            waiters.pop_front();
            self.waiting.store(waiters.len(), SeqCst);
        }
        Ok(())
    }

    fn leave(&self) {
        let mut alone = self.alone();
        self.give_back();
        // Who waits here gets the place in the whole too, and nobody else.
        let mut at_hand = self.whole.is_some();
        if self.waiting.load(SeqCst) > 0 {
            // Who still waits is let in by the next who leaves.
            let _ = self.grant(alone.get_or_insert_with(|| lock(&self.queue)), &mut at_hand);
        }
        if let (Some(whole), true) = (&self.whole, at_hand) {
            whole.give_back();
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
        assert!(matches!(gate.enter(1, 0), Entry::Full(Full::Here)));
        let (mut first, mut second) = (place(&gate), place(&gate));
        assert!(matches!(gate.enter(1, 2), Entry::Full(Full::Here)), "two wait already");
        assert!(poll(&mut first, &waker).is_none() && poll(&mut second, &waker).is_none());
        drop(permit);
        assert_eq!(flag.0.load(SeqCst), 1);
        assert!(matches!(gate.enter(1, 0), Entry::Full(Full::Here)), "the place is given away");
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
    fn a_place_in_the_whole_goes_to_who_waits_where_it_is_left() {
        let whole = Arc::new(Gate::default());
        whole.set_limit(Some(2));
        let [shop, cart] = [(); 2].map(|()| Arc::new(Gate::below(whole.clone())));
        let any = u64::from(u32::MAX);
        let in_shop = open(&shop, 1);
        let in_cart = open(&cart, any);
        assert!(matches!(shop.try_enter(1), Err(Full::Here)));
        assert!(matches!(cart.try_enter(any), Err(Full::Everywhere)));
        assert!(matches!(cart.enter(any, 9), Entry::Full(Full::Everywhere)), "nobody waits for it");
        let mut waits = place(&shop);
        drop(in_shop);
        assert!(matches!(cart.try_enter(any), Err(Full::Everywhere)), "it is given away");
        let in_shop = poll(&mut waits, Waker::noop()).unwrap();
        assert_eq!((whole.taken(), shop.taken(), cart.taken()), (2, 1, 1));
        drop(in_cart);
        let _in_cart = open(&cart, any);
        drop((in_shop, waits));
        assert_eq!((whole.taken(), shop.taken(), cart.taken()), (1, 0, 1));
        whole.set_limit(Some(1));
        assert!(matches!(shop.enter(1, 9), Entry::Full(Full::Everywhere)));
        whole.set_limit(None);
        drop(open(&shop, 1));
        assert_eq!((whole.taken(), shop.waiting()), (1, 0));
    }

    #[test]
    fn never_more_than_the_limit_and_nobody_is_forgotten_or_turned_away() {
        for most in [None, Some(2), Some(3)] {
            let whole = Arc::new(Gate::default());
            whole.set_limit(most);
            let gate = Arc::new(Gate::below(whole.clone()));
            let work = |gate: Arc<Gate>| {
                for _ in 0..5000 {
                    let permit = match gate.enter(2, 100) {
                        Entry::Open(permit) => permit,
                        Entry::Wait(mut place) => loop {
                            match poll(&mut place, Waker::noop()) {
                                Some(permit) => break permit,
                                None => thread::yield_now(),
                            }
                        },
                        Entry::Full(full) => panic!("there is room for all, not {full:?}"),
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
            assert_eq!((gate.taken(), gate.waiting(), whole.taken()), (0, 0, 0));
        }
    }

    #[test]
    fn who_finds_both_full_waits_for_the_nearer() {
        let whole = Arc::new(Gate::default());
        whole.set_limit(Some(1));
        let gate = Arc::new(Gate::below(whole));
        let permit = open(&gate, 1);
        assert!(matches!(gate.enter(1, 0), Entry::Full(Full::Here)));
        let mut waits = place(&gate);
        drop(permit);
        assert!(poll(&mut waits, Waker::noop()).is_some());
    }
}
