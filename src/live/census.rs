//! What is in flight, counted by walking the tickets themselves: each core counts its own. It takes part in nothing
//! else, so that the counters that are written as requests begin and end can be held against it.

use super::LivePool;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Mutex as Turn, Notify, watch},
    time::timeout,
};

/// A core that has not answered by then is stuck, or gone.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tickets by their pool.
pub type Tickets = Vec<(Arc<LivePool>, u64)>;

pub struct Census {
    cores: usize,
    /// One at a time.
    turn: Turn<()>,
    round: watch::Sender<u64>,
    answers: Mutex<Answers>,
    answered: Notify,
}

#[derive(Default)]
struct Answers {
    round: u64,
    cores: usize,
    tickets: Tickets,
}

impl Census {
    pub(super) fn new(cores: usize) -> Self {
        Self {
            cores,
            turn: Turn::default(),
            round: watch::Sender::new(0),
            answers: Mutex::default(),
            answered: Notify::new(),
        }
    }

    /// For the cores: changes when they are to [`Self::answer`].
    pub fn rounds(&self) -> watch::Receiver<u64> {
        self.round.subscribe()
    }

    /// A core's own tickets in this `round`.
    pub fn answer(&self, round: u64, tickets: Tickets) {
        let mut answers = self.answers();
        if answers.round == round {
            answers.cores += 1;
            tickets.into_iter().for_each(|(pool, open)| add(&mut answers.tickets, &pool, open));
            self.answered.notify_one();
        }
    }

    /// Asks all cores. `None`: not all have answered.
    pub async fn take(&self) -> Option<Tickets> {
        let _turn = self.turn.lock().await;
        let round = *self.round.borrow() + 1;
        *self.answers() = Answers { round, ..Answers::default() };
        self.round.send_replace(round);
        let all = async {
            while self.answers().cores < self.cores {
                self.answered.notified().await;
            }
        };
        timeout(PATIENCE, all).await.ok()?;
        Some(std::mem::take(&mut self.answers().tickets))
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds `open` tickets of a pool.
pub fn add(tickets: &mut Tickets, pool: &Arc<LivePool>, open: u64) {
    match tickets.iter_mut().find(|(known, _)| Arc::ptr_eq(known, pool)) {
        Some((_, sum)) => *sum += open,
        None => tickets.push((pool.clone(), open)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_cores_answers_are_added_up_and_one_that_is_stuck_is_told() {
        let census = Arc::new(Census::new(2));
        let pool = LivePool::new(2, "shop".into(), "blue".into(), "v1".into());
        let core = |answers: u64| {
            let (census, pool) = (census.clone(), pool.clone());
            let mut rounds = census.rounds();
            tokio::spawn(async move {
                for _ in 0..answers {
                    rounds.changed().await.unwrap();
                    let round = *rounds.borrow_and_update();
                    census.answer(round, vec![(pool.clone(), 2)]);
                }
            })
        };
        let cores = [core(2), core(1)];
        let tickets = census.take().await.unwrap();
        assert_eq!(tickets.iter().map(|(_, open)| *open).collect::<Vec<_>>(), [4]);
        assert!(census.take().await.is_none(), "one of them has gone");
        for core in cores {
            core.await.unwrap();
        }
        census.answer(1, vec![(pool, 1)]);
        assert_eq!(census.answers().cores, 1, "too late for that round");
    }
}
