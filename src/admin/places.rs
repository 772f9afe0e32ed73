//! Room for the connections of the admin API: so many in all, and so many of one client, so that it cannot take all.

use super::access::Source;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The connections that are open.
#[derive(Default)]
pub(super) struct Places {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Default)]
struct State {
    taken: u32,
    by_source: HashMap<Source, u32>,
    /// Connections that were closed at once, since the start.
    refused: u64,
}

/// One connection's; given back when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    source: Source,
}

impl Places {
    /// Returns when fewer than `most` are taken. For one task alone.
    pub(super) async fn free(&self, most: impl Fn() -> u32) {
        while self.state().taken >= most() {
            self.freed.notified().await;
        }
    }

    /// `None`: this client has `most_each` already.
    pub(super) fn take(self: &Arc<Self>, source: Source, most_each: u32) -> Option<Place> {
        let mut state = self.state();
        let taken = state.by_source.get(&source).copied().unwrap_or_default();
        if taken >= most_each {
            state.refused += 1;
            return None;
        }
        state.by_source.insert(source, taken + 1);
        state.taken += 1;
        Some(Place { places: Arc::clone(self), source })
    }

    pub(super) fn taken(&self) -> u32 {
        self.state().taken
    }

    pub(super) fn refused(&self) -> u64 {
        self.state().refused
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        state.taken -= 1;
        if let Some(taken) = state.by_source.get_mut(&self.source) {
            *taken -= 1;
            if *taken == 0 {
                state.by_source.remove(&self.source);
            }
        }
        drop(state);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    const ANN: Source = Source::User(1);
    const BEN: Source = Source::User(2);

    #[tokio::test]
    async fn each_has_a_share_and_gives_it_back() {
        let places = Arc::new(Places::default());
        let mut anns: Vec<_> = (0..3).map_while(|_| places.take(ANN, 2)).collect();
        let ben = places.take(BEN, 2);
        assert_eq!((anns.len(), ben.is_some()), (2, true));
        assert_eq!((places.taken(), places.refused()), (3, 1));
        let mut free = pin!(places.free(|| 3));
        let is_free = tokio::select! {
            biased;
            () = free.as_mut() => true,
            () = std::future::ready(()) => false,
        };
        assert!(!is_free);
        anns.pop();
        free.await;
        anns.extend(places.take(ANN, 2));
        assert_eq!(anns.len(), 2);
        drop((anns, ben));
        assert_eq!(places.taken(), 0);
        assert!(places.state().by_source.is_empty(), "who has gone is forgotten");
    }
}
