//! Which services are held, and until when. A hold is nothing that is desired: it has an end of its own, is no
//! revision, and does not survive a restart.

use super::parts::later;
use crate::{
    live::{Hold, LiveService},
    spec::{Name, Spec},
};
use indexmap::IndexMap;
use jiff::Timestamp;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

#[derive(Default)]
pub(super) struct Holds {
    active: IndexMap<Name, Active>,
    /// Off the list, but perhaps still in the table.
    ending: Vec<Ending>,
}

struct Active {
    hold: Arc<Hold>,
    ends: Instant,
    status: HoldStatus,
}

struct Ending {
    hold: Arc<Hold>,
    in_time: bool,
}

/// A service whose requests wait.
#[derive(Clone, Debug)]
pub struct HoldStatus {
    pub service: Name,
    pub since: Timestamp,
    pub until: Timestamp,
    pub author: Name,
    pub cause: Option<String>,
    pub hold: Arc<Hold>,
}

impl Holds {
    /// Requests wait from the next publish on; who waits already waits until the new end.
    pub(super) fn begin(
        &mut self,
        service: &Name,
        time: Duration,
        now: Instant,
        (author, cause): (Name, Option<String>),
    ) -> HoldStatus {
        let since = Timestamp::now();
        let known = self.active.shift_remove(service);
        let (hold, since) = match known {
            Some(known) => (known.hold, known.status.since),
            None => (Hold::new(0), since),
        };
        let until = Timestamp::now().checked_add(time).unwrap_or(Timestamp::MAX);
        let status = HoldStatus {
            service: service.clone(),
            since,
            until,
            author,
            cause,
            hold: hold.clone(),
        };
        let active = Active { hold, ends: later(now, time), status: status.clone() };
        self.active.insert(service.clone(), active);
        status
    }

    /// `None`: it was not held.
    pub(super) fn release(&mut self, service: &Name) -> Option<HoldStatus> {
        let status = self.active.get(service)?.status.clone();
        self.take_off(|name, _| name == service, true);
        Some(status)
    }

    /// Takes those off the list whose time is over. True: the table must be published anew.
    pub(super) fn step(&mut self, now: Instant) -> bool {
        self.take_off(
            |service, active| {
                let is_over = now >= active.ends;
                if is_over {
                    let waiting = active.hold.waiting();
                    tracing::warn!(%service, waiting, "held, and not released in time");
                }
                is_over
            },
            false,
        )
    }

    /// Puts what is held into the parts of a snapshot; what is not there any more is held no longer.
    pub(super) fn equip(&mut self, services: &mut [LiveService], spec: &Spec) {
        self.take_off(|name, _| !spec.services.contains_key(name), true);
        for service in services {
            service.hold = self.active.get(&service.name).map(|active| {
                let limit = spec.services.get(&service.name).map(|spec| spec.limits.held);
                active.hold.set_most(limit.unwrap_or_default() as usize);
                active.hold.clone()
            });
        }
    }

    /// For after a publish: what the table holds no longer goes on, or is told that it has waited in vain.
    pub(super) fn settle(&mut self) {
        for Ending { hold, in_time } in self.ending.drain(..) {
            if in_time { hold.release() } else { hold.expire() }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.active.values().map(|active| active.ends).min()
    }

    pub(super) fn list(&self) -> Vec<HoldStatus> {
        self.active.values().map(|active| active.status.clone()).collect()
    }

    fn take_off(&mut self, ends: impl Fn(&Name, &Active) -> bool, in_time: bool) -> bool {
        let before = self.ending.len();
        self.active.retain(|name, active| {
            let ends = ends(name, active);
            if ends {
                self.ending.push(Ending { hold: active.hold.clone(), in_time });
            }
            !ends
        });
        self.ending.len() > before
    }
}
