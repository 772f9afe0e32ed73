//! What a client connection is doing, for its deadlines.

use crate::live::Clock;
use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

#[derive(Default)]
pub(super) struct Activity {
    active: Cell<u32>,
    /// When the last request ended, in milliseconds of the process's clock.
    pub(super) quiet_since: Cell<u64>,
    /// Responses that were given up without the client having taken note of it; when there are no others,
    /// it is closed.
    pub(super) given_up: Cell<u32>,
    /// When a request head began to arrive; 0: none is on its way.
    pub(super) head_since: Arc<AtomicU64>,
    /// Bytes that have passed, either way.
    pub(super) passed: Arc<AtomicU64>,
}

impl Activity {
    /// Requests that are not yet answered whole.
    pub(super) fn active(&self) -> u32 {
        self.active.get()
    }
}

/// A request of the connection, until it is answered whole.
pub(in crate::proxy) struct Active {
    activity: Rc<Activity>,
    clock: Clock,
}

impl Active {
    pub(super) fn begin(activity: &Rc<Activity>, clock: Clock) -> Self {
        activity.active.set(activity.active.get() + 1);
        Self { activity: activity.clone(), clock }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let activity = &self.activity;
        activity.active.set(activity.active.get().saturating_sub(1));
        activity.quiet_since.set(self.clock.now_millis());
        // What came meanwhile belonged to this request's body.
        activity.head_since.store(0, Ordering::Relaxed);
    }
}
