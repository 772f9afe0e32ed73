//! Some of the requests of the last hour of a service, a thousand at most, each with how many it stands for.

use crate::routing::Sample;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The hour in slots, and the requests that are kept of each.
const SLOTS: u64 = 50;
const KEPT: usize = 20;
const SLOT_MILLIS: u64 = 3_600_000 / SLOTS;

#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<Slot>>);

#[derive(Debug)]
struct Slot {
    number: u64,
    /// Requests that the offered ones stand for.
    requests: f64,
    /// With their keys.
    kept: Vec<(f64, Arc<Sample>)>,
}

/// A request, and how many of the last hour it stands for.
#[derive(Clone, Debug)]
pub struct Weighted {
    pub sample: Arc<Sample>,
    pub requests: f64,
}

impl Recent {
    /// Offers a request that stands for `requests`; `dice` is above 0 and at most 1. Each is kept with a chance in
    /// proportion to what it stands for (Efraimidis and Spirakis 2006, algorithm A-Res). Never waits: while somebody
    /// looks, nothing is kept.
    pub fn offer(&self, sample: Sample, requests: u64, now_millis: u64, dice: f64) {
        let Ok(mut slots) = self.0.try_lock() else { return };
        let number = now_millis / SLOT_MILLIS;
        // Cores may read the clock in another order than they come here.
        let is_new = slots.back().is_none_or(|slot| slot.number < number);
        if is_new {
            slots.push_back(Slot { number, requests: 0.0, kept: Vec::new() });
        }
        forget(&mut slots, number);
        let Some(slot) = slots.back_mut() else { return };
        let stands_for = requests.max(1) as f64;
        slot.requests += stands_for;
        let key = dice.powf(stands_for.recip());
        let new = (key, Arc::new(sample));
        if slot.kept.len() < KEPT {
            slot.kept.push(new);
        } else if let Some(least) = slot.kept.iter_mut().min_by(|a, b| a.0.total_cmp(&b.0))
            && least.0 < key
        {
            *least = new;
        }
    }

    /// What is known of the last hour.
    pub fn look(&self, now_millis: u64) -> Vec<Weighted> {
        let mut slots = self.locked();
        forget(&mut slots, now_millis / SLOT_MILLIS);
        let all = slots.iter().flat_map(|slot| {
            let requests = slot.requests / slot.kept.len().max(1) as f64;
            slot.kept.iter().map(move |(_, sample)| Weighted { sample: sample.clone(), requests })
        });
        all.collect()
    }

    fn locked(&self) -> MutexGuard<'_, VecDeque<Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget(slots: &mut VecDeque<Slot>, now: u64) {
    while slots.front().is_some_and(|slot| slot.number + SLOTS <= now) {
        slots.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        routing::{RequestView, RoutingTable, Salts, compile},
        spec::{Match, Route, Service, Spec},
    };
    use rand::{RngExt, SeedableRng, rngs::SmallRng};
    use std::net::Ipv4Addr;

    fn table() -> RoutingTable {
        let mut spec = Spec::default();
        spec.services.insert("shop".into(), Service::new(Default::default()));
        spec.routes.push(Route::new("shop".into(), Match::default(), "shop".into()));
        compile(&spec, &Salts::default())
    }

    fn sample(table: &RoutingTable, path: &str) -> Sample {
        let fields: &[(&str, &str)] = &[];
        let view = RequestView::new("GET", None, path, None, fields, Ipv4Addr::LOCALHOST.into());
        Sample::of(&view, table, &table.services[0]).unwrap()
    }

    #[test]
    fn the_kept_ones_stand_for_all() {
        let table = table();
        let (recent, mut dice) = (Recent::default(), SmallRng::seed_from_u64(3));
        // An hour at a growing rate; one request in four is for /a, whatever it stands for.
        for second in 0..3600_u64 {
            for n in 0..4 {
                let path = if n == 0 { "/a" } else { "/b" };
                let dice = 1.0 - dice.random::<f64>();
                recent.offer(sample(&table, path), 1 + second / 60, second * 1000, dice);
            }
        }
        let all = recent.look(3_599_000);
        assert_eq!(all.len(), 1000);
        let sum = |path: &str| -> f64 {
            let of = all.iter().filter(|w| w.sample.to_string().ends_with(path));
            of.map(|weighted| weighted.requests).sum()
        };
        let offered: u64 = (0..3600).map(|second| 4 * (1 + second / 60)).sum();
        assert!((sum("/a") + sum("/b") - offered as f64).abs() < 1.0);
        let share = sum("/a") / offered as f64;
        assert!((0.19..0.31).contains(&share), "{share}");
    }

    #[test]
    fn what_is_older_than_an_hour_is_forgotten() {
        let table = table();
        let recent = Recent::default();
        recent.offer(sample(&table, "/old"), 5, 1000, 0.5);
        recent.offer(sample(&table, "/new"), 7, 600_000, 0.5);
        assert_eq!(recent.look(3_000_000).len(), 2);
        let left = recent.look(3_700_000);
        assert_eq!((left.len(), left[0].requests), (1, 7.0));
        assert!(recent.look(9_000_000).is_empty());
    }
}
