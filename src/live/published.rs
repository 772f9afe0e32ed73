//! The one ArcSwap of the program. A change is one swap; what comes after it must wait until nobody
//! reads the old snapshot any more.

use super::Snapshot;
use arc_swap::ArcSwap;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

pub struct Published {
    current: ArcSwap<Snapshot>,
    /// Counts the times that workers should look at what they hold: after a swap, a closed or cut backend.
    changes: watch::Sender<u64>,
}

/// A snapshot that is no longer current but may still be read.
#[must_use = "nothing may be answered or drained before it is quiesced"]
pub struct Retired(Arc<Snapshot>);

impl Published {
    pub fn new(first: Snapshot) -> Self {
        Self { current: ArcSwap::from_pointee(first), changes: watch::Sender::new(0) }
    }

    /// Reads the current snapshot. It cannot leave the closure, so no await and no request can hold it:
    /// what is in flight holds a ticket instead.
    pub fn read<R>(&self, reader: impl FnOnce(&Snapshot) -> R) -> R {
        reader(&self.current.load())
    }

    /// Makes `next` current.
    pub fn swap(&self, next: Snapshot) -> Retired {
        Retired(self.current.swap(Arc::new(next)))
    }

    /// Tells the workers to look at what they hold.
    pub fn announce(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Retired {
    /// Returns when no reader of the old snapshot is left: whoever picked a backend from it has its
    /// ticket by then, and nobody will pick from it again. Takes microseconds, unless a core is stuck.
    pub async fn quiesced(mut self) {
        let began = Instant::now();
        let mut loud = false;
        // `get_mut` synchronises with the last reader's release, which `strong_count` would not.
        while Arc::get_mut(&mut self.0).is_none() {
            if !loud && began.elapsed() > Duration::from_secs(1) {
                tracing::error!(
                    revision = self.0.revision,
                    "a core has been reading an old snapshot for a second; changes wait for it"
                );
                loud = true;
            }
            if loud {
                tokio::time::sleep(Duration::from_millis(1)).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
    }
}
