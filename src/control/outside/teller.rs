use super::{Outside, Telling};
use crate::spec::{Hook, Name};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    collections::{HashMap, VecDeque},
    iter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::sleep,
};
use tracing::{info, warn};

/// Requests to hooks that wait at most, of all rollouts together.
const MOST: usize = 1_000;

/// Tells hooks what happens, again and again until they have heard; what one rollout has for one hook in its order.
/// Copies of it tell by the same queue.
#[derive(Clone, Debug)]
pub struct Teller {
    queue: mpsc::UnboundedSender<(Telling, OwnedSemaphorePermit)>,
    places: Arc<Semaphore>,
    counters: Arc<Counters>,
}

/// How long a hook may take, and how often it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For one answer.
    pub answer: Duration,
    /// The first pause; each next one is twice as long.
    pub first: Duration,
    pub longest: Duration,
    /// All pauses; then it is given up.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            whole: Duration::from_secs(600),
        }
    }
}

impl Patience {
    /// Those after each time that a hook did not hear.
    fn pauses(self) -> impl Iterator<Item = Duration> {
        let double = move |pause: &Duration| Some(pause.saturating_mul(2).min(self.longest));
        let pauses = iter::successors(Some(self.first.min(self.longest)), double);
        pauses.scan(Duration::ZERO, move |sum, pause| {
            *sum = sum.saturating_add(pause);
            (*sum <= self.whole).then_some(pause)
        })
    }
}

/// Every hook of a telling has heard it, or never will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub rollout: Name,
    pub number: u64,
    /// Those that never will, with the reason.
    pub given_up: Vec<(Name, String)>,
}

/// Numbers of requests to hooks since the start; one that is sent again counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub delivered: u64,
    pub given_up: u64,
    /// Too many waited.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Counters {
    delivered: AtomicU64,
    given_up: AtomicU64,
    refused: AtomicU64,
}

/// A telling for one of its hooks, with the place that it holds.
#[derive(Debug)]
struct Waiting {
    telling: Arc<Telling>,
    hook: Hook,
    /// Given back when it is through.
    place: Option<OwnedSemaphorePermit>,
}

/// What keeps its order: what a rollout has for a URL.
type Lane = (Name, Name);

/// Rollout and number of a telling.
type Key = (Name, u64);

/// A request that is through.
struct Sent {
    lane: Lane,
    telling: Key,
    result: Result<(), String>,
}

/// A telling that not every hook has heard yet.
#[derive(Debug)]
struct Open {
    left: usize,
    given_up: Vec<(Name, String)>,
}

impl Teller {
    /// Begins, as a task. It ends when nobody can tell anything any more and everything is told. What is through comes by
    /// the receiver.
    pub fn start(outside: Outside, patience: Patience) -> (Self, mpsc::UnboundedReceiver<Told>) {
        let (queue, waiting) = mpsc::unbounded_channel();
        let (told, results) = mpsc::unbounded_channel();
        let counters = Arc::<Counters>::default();
        let task = Task { outside, patience, counters: counters.clone() };
        tokio::spawn(async move { task.run(waiting, told).await });
        (Self { queue, places: Arc::new(Semaphore::new(MOST)), counters }, results)
    }

    /// Has it told to all of its hooks, soon; never waits. `false`: too much waits, so none of them will hear it, and it
    /// can be told another time.
    #[must_use = "what was not taken is not told"]
    pub fn tell(&self, telling: Telling) -> bool {
        let count = telling.hooks.len();
        let wanted = u32::try_from(count).unwrap_or(u32::MAX);
        let places = self.places.clone().try_acquire_many_owned(wanted);
        let taken = places.is_ok_and(|places| self.queue.send((telling, places)).is_ok());
        if !taken {
            self.counters.refused.fetch_add(count as u64, Ordering::Relaxed);
        }
        taken
    }

    pub fn tally(&self) -> Tally {
        let Counters { delivered, given_up, refused } = &*self.counters;
        Tally {
            delivered: delivered.load(Ordering::Relaxed),
            given_up: given_up.load(Ordering::Relaxed),
            refused: refused.load(Ordering::Relaxed),
        }
    }
}

struct Task {
    outside: Outside,
    patience: Patience,
    counters: Arc<Counters>,
}

/// What is to be told, in order.
#[derive(Default)]
struct Desk {
    /// A lane is there as long as something of it is under way; this is what waits behind that.
    lanes: HashMap<Lane, VecDeque<Waiting>>,
    open: HashMap<Key, Open>,
}

impl Desk {
    /// What of it is sent at once; and the whole, if nobody wants to hear it.
    fn take(
        &mut self,
        telling: Telling,
        mut places: OwnedSemaphorePermit,
    ) -> (Vec<Waiting>, Option<Told>) {
        let (rollout, number) = key(&telling);
        if telling.hooks.is_empty() {
            return (Vec::new(), Some(Told { rollout, number, given_up: Vec::new() }));
        }
        let telling = Arc::new(telling);
        self.open
            .insert((rollout, number), Open { left: telling.hooks.len(), given_up: Vec::new() });
        let mut next = Vec::new();
        for hook in &telling.hooks {
            let lane = lane(&telling, hook);
            let place = places.split(1);
            let waiting = Waiting { telling: telling.clone(), hook: hook.clone(), place };
            match self.lanes.get_mut(&lane) {
                Some(behind) => behind.push_back(waiting),
                None => {
                    self.lanes.insert(lane, VecDeque::new());
                    next.push(waiting);
                }
            }
        }
        (next, None)
    }

    /// What comes behind it; and its telling, if that is through with it.
    fn finish(&mut self, Sent { lane, telling, result }: Sent) -> (Option<Waiting>, Option<Told>) {
        let next = self.lanes.get_mut(&lane).and_then(VecDeque::pop_front);
        if next.is_none() {
            self.lanes.remove(&lane);
        }
        let Some(open) = self.open.get_mut(&telling) else { return (next, None) };
        open.left = open.left.saturating_sub(1);
        open.given_up.extend(result.err().map(|why| (lane.1, why)));
        if open.left > 0 {
            return (next, None);
        }
        let given_up = std::mem::take(&mut open.given_up);
        self.open.remove(&telling);
        let (rollout, number) = telling;
        (next, Some(Told { rollout, number, given_up }))
    }
}

impl Task {
    async fn run(
        &self,
        mut queue: mpsc::UnboundedReceiver<(Telling, OwnedSemaphorePermit)>,
        told: mpsc::UnboundedSender<Told>,
    ) {
        let mut desk = Desk::default();
        let mut under_way = FuturesUnordered::new();
        let mut is_open = true;
        loop {
            let done = tokio::select! {
                wanted = queue.recv(), if is_open => match wanted {
                    None => {
                        is_open = false;
                        None
                    }
                    Some((telling, places)) => {
                        let (next, done) = desk.take(telling, places);
                        under_way.extend(next.into_iter().map(|it| self.send(it)));
                        done
                    }
                },
                Some(sent) = under_way.next() => {
                    let (next, done) = desk.finish(sent);
                    under_way.extend(next.map(|it| self.send(it)));
                    done
                }
                else => return,
            };
            if let Some(done) = done {
                // Who does not want to know has ended.
                let _ = told.send(done);
            }
        }
    }

    async fn send(&self, waiting: Waiting) -> Sent {
        let result = self.insist(&waiting.telling, &waiting.hook).await;
        let counter = match &result {
            Ok(()) => &self.counters.delivered,
            Err(why) => {
                warn!(id = waiting.telling.id(), why, "a hook was given up: it has not heard");
                &self.counters.given_up
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        drop(waiting.place);
        let lane = lane(&waiting.telling, &waiting.hook);
        Sent { lane, telling: key(&waiting.telling), result }
    }

    /// # Errors
    /// Why it was not heard the last time.
    async fn insist(&self, telling: &Telling, hook: &Hook) -> Result<(), String> {
        let (id, body) = (telling.id(), telling.body());
        let mut pauses = self.patience.pauses();
        loop {
            let (key_file, patience) = (hook.key_file.as_deref(), self.patience.answer);
            let sent = self.outside.post(&hook.url, key_file, Some(&id), body.clone(), patience);
            let why = match sent.await {
                Ok(200..=299) => return Ok(()),
                Ok(status) => format!("answers {status}"),
                Err(why) => why,
            };
            let Some(pause) = pauses.next() else { return Err(why) };
            info!(id, why, "a hook has not heard; it is told again in {pause:?}");
            sleep(pause).await;
        }
    }
}

fn lane(telling: &Telling, hook: &Hook) -> Lane {
    (telling.rollout.clone(), hook.url.clone())
}

fn key(telling: &Telling) -> Key {
    (telling.rollout.clone(), telling.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_end_after_ten() {
        let pauses: Vec<u64> = Patience::default().pauses().map(|it| it.as_secs()).collect();
        assert_eq!(pauses[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!((pauses.len(), pauses.iter().sum::<u64>()), (14, 543));
        let none = Patience { whole: Duration::ZERO, ..Patience::default() };
        assert_eq!(none.pauses().count(), 0);
    }
}
