//! The heads of requests that are in flight. They are kept as long as a request may be sent again, so many large ones
//! would take much memory: a connection that has some gets no more of them while the core holds too many.

use std::{cell::Cell, rc::Rc};

/// What a connection may always hold: a head of the largest size by default, or some dozens as browsers send them.
const ALWAYS: usize = 64 << 10;

/// Bytes of a core's, or of a connection's.
#[derive(Clone, Debug, Default)]
pub(in crate::proxy) struct Heads(Rc<Cell<usize>>);

impl Heads {
    /// Holds a head of so many `bytes`, of one connection. `None` when it must not.
    pub(super) fn hold(&self, connection: &Self, bytes: usize, most: usize) -> Option<Held> {
        let is_small = connection.0.get() + bytes <= ALWAYS;
        (is_small || self.0.get() + bytes <= most).then(|| {
            let places = [self.0.clone(), connection.0.clone()];
            for place in &places {
                place.set(place.get() + bytes);
            }
            Held { places, bytes }
        })
    }
}

/// A head that is held until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    places: [Rc<Cell<usize>>; 2],
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        for place in &self.places {
            place.set(place.get().saturating_sub(self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_much_gets_no_more_and_others_do() {
        let (core, greedy, modest) = <(Heads, Heads, Heads)>::default();
        let most = 2 * ALWAYS;
        let hold = |connection: &Heads| core.hold(connection, 16 << 10, most);
        let mut held: Vec<Held> = std::iter::from_fn(|| hold(&greedy)).collect();
        assert_eq!(held.len(), 8, "all that there is");
        let others: Vec<Held> = std::iter::from_fn(|| hold(&modest)).collect();
        assert_eq!(others.len(), 4, "what everybody may");
        held.pop();
        assert!(hold(&greedy).is_none(), "there is still too much");
        drop(others);
        assert!(hold(&greedy).is_some());
        drop(held);
        assert_eq!((core.0.get(), greedy.0.get()), (0, 0));
    }
}
