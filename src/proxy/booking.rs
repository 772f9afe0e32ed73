//! A request that counts in a comparison of versions, from its first attempt's decision until it is known what that
//! has come to. Other attempts of it have none of this: they move no count.

use super::failure::fault_of;
use crate::{
    live::{Assigned, Fault, Finding, Moment, Reason, Trial, millis},
    spec::ServiceTimeouts,
};
use std::{rc::Rc, sync::Arc, time::Duration};

/// What has no response's head for so long, or for as long as it may take, hangs: who waits for it longer would see
/// it too late.
const HANGS: Duration = Duration::from_secs(10);

/// A core's hold on what a publish counts by: see [`super::core::CorePolicy`].
pub(super) type CoreTrial = Rc<Arc<Trial>>;

/// Dropping it counts nothing: the client has left, or what happened says nothing about the version.
pub(super) struct Booking {
    trial: CoreTrial,
    core: usize,
    assigned: Assigned,
    began: Moment,
    /// How long a backend may take for the head.
    response: Duration,
    answered: Option<Answered>,
}

/// The head of a good response has come.
struct Answered {
    at: Moment,
    /// Nanoseconds since it was asked for.
    ns: u64,
    /// How a call of gRPC ended comes last.
    is_call: bool,
}

/// What a flight waits for, as far as it concerns what hangs.
pub(super) enum Waits {
    /// For the response's head, which must be there by then, in milliseconds.
    ForHead(u64),
    /// For its client, a connection, or the rest of a response.
    ForOthers,
}

impl Booking {
    pub(super) fn new(
        trial: CoreTrial,
        core: usize,
        assigned: Assigned,
        began: Moment,
        timeouts: &ServiceTimeouts,
    ) -> Self {
        let response = timeouts.response;
        Self { trial, core, assigned, began, response, answered: None }
    }

    /// There is no backend that could be asked, and `reason` is why.
    pub(super) fn refused(self, reason: Reason) {
        let now = self.began;
        self.failed(now, reason, false);
    }

    /// The response's head is there. Returns what is to be counted when the response has ended.
    pub(super) fn answered(
        mut self,
        now: Moment,
        sent: Moment,
        status: u16,
        is_call: bool,
    ) -> Option<Self> {
        let ns = now.since(sent);
        if status >= 500 || status == 101 {
            self.count(Finding { failed: status >= 500, hung: false, ns });
            return None;
        }
        self.answered = Some(Answered { at: now, ns, is_call });
        Some(self)
    }

    /// The attempt has failed. `awaits_head`: nothing but the backend was waited for.
    pub(super) fn failed(self, now: Moment, reason: Reason, awaits_head: bool) {
        let ns = self.answered.as_ref().map_or_else(|| now.since(self.began), |it| it.ns);
        // What limits the whole of a request is up when the backend does not answer.
        let is_its_fault = fault_of(reason) == Fault::Upstream
            || (reason == Reason::RequestDeadline && awaits_head);
        if is_its_fault {
            self.count(Finding { failed: true, hung: false, ns });
        } else {
            self.settle();
        }
    }

    /// The backend has cut its response short, or let the time for it pass.
    pub(super) fn cut(self) {
        if let Some(Answered { ns, .. }) = self.answered {
            self.count(Finding { failed: true, hung: false, ns });
        }
    }

    /// A call of gRPC has said how it ended.
    pub(super) fn call_ended(self, failed: bool) {
        if let Some(Answered { ns, .. }) = self.answered {
            self.count(Finding { failed, hung: false, ns });
        }
    }

    /// The request is over. A call that has not said how it ended was left by its client.
    pub(super) fn settle(self) {
        if let Some(Answered { ns, is_call: false, .. }) = self.answered {
            self.count(Finding { failed: false, hung: false, ns });
        }
    }

    /// Looked at now and then. Returns what is still to be counted.
    pub(super) fn look(self, now_millis: u64, waits: &Waits) -> Option<Self> {
        let hangs = millis(HANGS.min(self.response));
        match (&self.answered, waits) {
            (None, Waits::ForHead(until)) => {
                let left = millis(self.response) - hangs;
                if now_millis < until.saturating_sub(left) {
                    return Some(self);
                }
                let ns = hangs.saturating_mul(1_000_000);
                self.count(Finding { failed: true, hung: true, ns });
                None
            }
            // It flows: whatever comes of it, there was an answer.
            (Some(Answered { at, ns, is_call: false }), _) if now_millis >= at.millis() + hangs => {
                self.count(Finding { failed: false, hung: false, ns: *ns });
                None
            }
            _ => Some(self),
        }
    }

    fn count(&self, finding: Finding) {
        self.trial.count(self.core, self.assigned, finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::{LivePool, TrialTotals};

    const LIMIT: u64 = 5_000_000_000;

    struct Rig {
        pool: Arc<LivePool>,
        trial: CoreTrial,
    }

    fn rig() -> Rig {
        let pool = LivePool::new(1, "shop".into(), "green".into(), "v2".into());
        let trial = Trial::new(1, LIMIT, None, [&pool].into_iter(), &[]);
        Rig { pool, trial: Rc::new(trial) }
    }

    impl Rig {
        /// Of a request that begins with the clock.
        fn booking(&self, response: Duration) -> Booking {
            let assigned = Assigned { pool: 0, route: 0, key: None };
            let timeouts = ServiceTimeouts { response, ..ServiceTimeouts::default() };
            Booking::new(self.trial.clone(), 0, assigned, Moment::default(), &timeouts)
        }

        /// Requests, errors and slow ones.
        fn counted(&self) -> (u64, u64, u64) {
            let TrialTotals { requests, errors, slow, .. } = self.pool.counts().unwrap().read();
            (requests, errors, slow)
        }
    }

    fn after(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    fn answered(booking: Booking, at: u64, status: u16, is_call: bool) -> Booking {
        let sent = Moment::default();
        booking.answered(after(at), sent, status, is_call).expect("it is not over")
    }

    #[test]
    fn what_hangs_is_counted_once_and_as_soon_as_it_does() {
        for (response, hangs) in [(30, 10), (10, 10), (2, 2)] {
            let rig = rig();
            let booking = rig.booking(Duration::from_secs(response));
            // The request went out two seconds after it began.
            let waits = Waits::ForHead((2 + response) * 1000);
            let booking = booking.look((2 + hangs) * 1000 - 1, &waits).expect("not yet");
            assert_eq!(rig.counted(), (0, 0, 0));
            assert!(booking.look((2 + hangs) * 1000, &waits).is_none(), "nothing else counts it");
            assert_eq!(rig.counted(), (1, 1, 1), "slow whatever the limit");
        }
    }

    #[test]
    fn who_waits_for_others_does_not_hang() {
        let rig = rig();
        let long = Duration::from_secs(30);
        for waits in [Waits::ForOthers, Waits::ForHead(u64::MAX)] {
            assert!(rig.booking(long).look(3_600_000, &waits).is_some());
        }
        assert_eq!(rig.counted(), (0, 0, 0));
    }

    #[test]
    fn a_response_that_flows_for_long_is_an_answer_but_a_call_is_not_over() {
        let rig = rig();
        let long = Duration::from_secs(30);
        let flows = answered(rig.booking(long), 6, 200, false);
        let flows = flows.look(15_999, &Waits::ForOthers).expect("it may be cut short yet");
        assert!(flows.look(16_000, &Waits::ForOthers).is_none());
        assert_eq!(rig.counted(), (1, 0, 1));
        let call = answered(rig.booking(long), 1, 200, true);
        let call = call.look(3_600_000, &Waits::ForOthers).expect("its status is to come");
        call.call_ended(true);
        assert_eq!(rig.counted(), (2, 1, 1));
    }

    #[test]
    fn how_it_ends_is_what_it_counts_as() {
        let rig = rig();
        let new = || rig.booking(Duration::from_secs(30));
        for status in [500, 101] {
            assert!(new().answered(after(1), after(0), status, false).is_none());
        }
        assert_eq!(rig.counted(), (2, 1, 0));
        answered(new(), 1, 404, false).settle();
        answered(new(), 1, 200, true).call_ended(false);
        answered(new(), 1, 200, false).cut();
        assert_eq!(rig.counted(), (5, 2, 0));
        // The client has left.
        new().settle();
        answered(new(), 1, 200, true).settle();
        drop(answered(new(), 1, 200, false));
        assert_eq!(rig.counted(), (5, 2, 0));
    }

    #[test]
    fn what_counts_against_a_version_is_its_own_fault() {
        for awaits_head in [false, true] {
            let counts = |reason: &Reason| {
                let rig = rig();
                rig.booking(Duration::from_secs(30)).failed(after(6), *reason, awaits_head);
                let counted = rig.counted();
                assert!([(0, 0, 0), (1, 1, 1)].contains(&counted), "{reason:?}");
                counted.0 == 1
            };
            let of_backend: Vec<&str> =
                Reason::ALL.into_iter().filter(counts).map(Reason::as_str).collect();
            let mut expected = vec![
                "connect_failed",
                "upstream_reset",
                "bad_response",
                "tls_failed",
                "no_backend",
                "response_timeout",
            ];
            expected.extend(awaits_head.then_some("request_deadline"));
            // No request fails so before there is an answer.
            expected.extend(["idle_timeout", "grpc_status", "server_error"]);
            assert_eq!(of_backend, expected);
        }
        let rig = rig();
        answered(rig.booking(Duration::from_secs(30)), 1, 200, false).failed(
            after(9),
            Reason::BadResponse,
            false,
        );
        assert_eq!(rig.counted(), (1, 1, 0), "the time to its head");
    }
}
