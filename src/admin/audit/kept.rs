//! What is kept in memory.

use super::{Entry, Event};
use std::{collections::VecDeque, sync::Arc};

/// Of each kind.
const MOST: usize = 1000;

/// Apart, so that who is not let in never pushes out a change.
#[derive(Default)]
pub(super) struct Kept {
    changes: VecDeque<Arc<Entry>>,
    denied: VecDeque<Arc<Entry>>,
    /// The last one that was given.
    id: u64,
}

impl Kept {
    /// With the next id.
    pub(super) fn add(&mut self, mut entry: Entry) -> Arc<Entry> {
        self.id += 1;
        entry.id = self.id;
        self.push(entry)
    }

    /// One that was kept before, older ones first.
    pub(super) fn restore(&mut self, entry: Entry) {
        self.id = self.id.max(entry.id);
        self.push(entry);
    }

    fn push(&mut self, entry: Entry) -> Arc<Entry> {
        let place = match entry.event {
            Event::AccessDenied => &mut self.denied,
            _ => &mut self.changes,
        };
        let entry = Arc::new(entry);
        place.push_back(Arc::clone(&entry));
        if place.len() > MOST {
            place.pop_front();
        }
        entry
    }

    /// All of them, older ones first.
    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        let mut all: Vec<_> = self.changes.iter().chain(&self.denied).cloned().collect();
        all.sort_by_key(|entry| entry.id);
        all
    }

    /// The last id that was given.
    pub(super) fn last_id(&self) -> u64 {
        self.id
    }

    /// Ids up to this one are somebody else's.
    pub(super) fn skip_to(&mut self, id: u64) {
        self.id = self.id.max(id);
    }

    /// The newest first, of those before the id `before`.
    pub(super) fn newest(&self, limit: usize, before: Option<u64>) -> Vec<Arc<Entry>> {
        let wanted = |entry: &&Arc<Entry>| before.is_none_or(|before| entry.id < before);
        let newest = |place: &VecDeque<Arc<Entry>>| {
            place.iter().rev().filter(wanted).take(limit).cloned().collect::<Vec<_>>()
        };
        let mut all = newest(&self.changes);
        all.extend(newest(&self.denied));
        all.sort_by_key(|entry| std::cmp::Reverse(entry.id));
        all.truncate(limit);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(kept: &Kept, limit: usize, before: Option<u64>) -> Vec<u64> {
        kept.newest(limit, before).iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn the_newest_come_first_page_by_page() {
        let mut kept = Kept::default();
        for event in [Event::ChangeMade, Event::AccessDenied, Event::ChangeRefused] {
            kept.add(Entry::new(event));
        }
        assert_eq!(ids(&kept, 10, None), [3, 2, 1]);
        assert_eq!(ids(&kept, 2, None), [3, 2]);
        assert_eq!(ids(&kept, 2, Some(2)), [1]);
        assert!(ids(&kept, 2, Some(1)).is_empty());
        assert!(ids(&kept, 0, None).is_empty());
    }

    #[test]
    fn there_is_an_end_of_each_kind_and_ids_go_on() {
        let mut kept = Kept::default();
        kept.restore(Entry { id: 40, ..Entry::new(Event::ChangeMade) });
        for _ in 0..2 * MOST {
            kept.add(Entry::new(Event::AccessDenied));
        }
        let all = ids(&kept, usize::MAX, None);
        assert_eq!((all.len(), all[0], all[MOST]), (MOST + 1, 40 + 2 * MOST as u64, 40));
    }
}
