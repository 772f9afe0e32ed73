//! What both sides of a case know of each other, so that they can wait for conditions.

use super::message::Asked;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::sync::watch;

/// When nothing has been taken for so long, nothing is.
const STUCK: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub struct State {
    pub marks: HashSet<&'static str>,
    /// What the client has: informational and final heads, bytes of bodies.
    pub interims: usize,
    pub heads: usize,
    pub body_bytes: usize,
    /// Requests on each of the backend's connections.
    pub seen: Vec<Vec<Asked>>,
    /// Those of the backend's connections that have ended, or that nobody reads.
    pub ended: HashSet<usize>,
    /// Scripts that have been played.
    pub played: usize,
    pub poured: u64,
    /// What the backend did not expect.
    pub wrongs: Vec<String>,
}

#[derive(Clone)]
pub struct Board(Arc<watch::Sender<State>>);

impl Default for Board {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }
}

impl Board {
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        self.0.send_modify(change);
    }

    pub fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.0.borrow())
    }

    pub fn mark(&self, mark: &'static str) {
        self.change(|state| {
            state.marks.insert(mark);
        });
    }

    /// Waits until no more is taken of what is poured.
    pub async fn stuck(&self) {
        let poured = || self.look(|state| state.poured);
        let mut before = 0;
        while before == 0 || before != poured() {
            before = poured();
            tokio::time::sleep(STUCK).await;
        }
    }

    pub async fn until(&self, condition: impl FnMut(&State) -> bool) {
        self.0.subscribe().wait_for(condition).await.expect("the board lives as long as its case");
    }
}
