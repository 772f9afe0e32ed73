use std::sync::{Arc, Mutex, PoisonError};

/// Hands out small numbers, each to one holder at a time, so that a core can keep what belongs to a
/// service or a backend in a plain vector.
#[derive(Clone, Debug, Default)]
pub struct Slots(Arc<Mutex<Free>>);

#[derive(Debug, Default)]
struct Free {
    returned: Vec<usize>,
    next: usize,
}

/// A number of one's own until dropped.
#[derive(Debug)]
pub struct Slot {
    index: usize,
    home: Slots,
}

impl Slots {
    pub fn take(&self) -> Slot {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = free.returned.pop().unwrap_or_else(|| {
            free.next += 1;
            free.next - 1
        });
        Slot { index, home: self.clone() }
    }
}

impl Slot {
    pub fn index(&self) -> usize {
        self.index
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.home.0.lock().unwrap_or_else(PoisonError::into_inner).returned.push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_holder() {
        let slots = Slots::default();
        let (a, b) = (slots.take(), slots.take());
        assert_eq!((a.index(), b.index()), (0, 1));
        drop(a);
        assert_eq!(slots.take().index(), 0);
        assert_eq!(b.index(), 1);
    }
}
