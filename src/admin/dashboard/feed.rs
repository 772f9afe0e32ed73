use crate::{
    admin::{
        Admin, history,
        hold::HoldView,
        receipt::Changed,
        rollout::RolloutView,
        traffic::{Recent, SHORT},
        views::{self, DrainView, StatusView},
    },
    control::View,
    spec::Spec,
};
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::Serialize;
use std::{sync::Arc, time::Instant};
use tokio::sync::{Notify, watch};
use utoipa::ToSchema;

/// What somebody who follows is shown; only the last one is kept for who is slow.
pub(in crate::admin) type Pictures = watch::Receiver<Arc<str>>;

/// One picture for all who follow.
#[derive(Default)]
pub(in crate::admin) struct Feed {
    picture: watch::Sender<Arc<str>>,
    joined: Notify,
}

impl Feed {
    /// From now on; the first one comes at once.
    pub(in crate::admin) fn follow(&self) -> Pictures {
        let pictures = self.picture.subscribe();
        self.joined.notify_one();
        pictures
    }

    /// Returns when somebody has begun to follow. For one task alone.
    pub(in crate::admin) async fn joined(&self) {
        self.joined.notified().await;
    }

    /// Nothing is painted where nobody looks.
    pub(in crate::admin) fn show(&self, paint: impl FnOnce() -> Option<String>) {
        if self.picture.receiver_count() > 0
            && let Some(picture) = paint()
        {
            self.picture.send_replace(picture.into());
        }
    }
}

/// What is in force and what it does: the event `live` of `/v1/events?live=true`.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct LiveView {
    /// RFC 3339.
    at: String,
    /// Of the process: another one has another.
    instance: String,
    /// What `lately` is taken over, in seconds.
    window: u64,
    status: StatusView,
    /// By service and pool.
    lately: IndexMap<String, IndexMap<String, Figures>>,
    drains: Vec<DrainView>,
    holds: Vec<HoldView>,
    /// What differs from the file, as in `/v1/drift`; of many the first 100, `status.drift` has the number.
    drift: Vec<Changed>,
    /// Of each service the rollout that is not over, with the last 20 notices and 20 routes.
    rollouts: IndexMap<String, RolloutView>,
}

/// What a pool did.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct Figures {
    /// Replies a second.
    rate: f64,
    /// Share, 0 to 1, of replies that were 5xx; `null`: no replies.
    error_rate: Option<f64>,
    /// Seconds; `null`: no replies.
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

impl From<Recent> for Figures {
    fn from(recent: Recent) -> Self {
        let Recent { rate, error_rate, p50, p95, p99 } = recent;
        Self { rate, error_rate, p50, p95, p99 }
    }
}

/// Notices and routes of a rollout in a picture.
const MOST: usize = 20;

/// Values of the drift in a picture.
const MOST_DRIFT: usize = 100;

/// Paints what there is to see.
pub(in crate::admin) struct Painter {
    instance: String,
    drift: Drift,
}

/// What differs from the file, which need not be found out again while both are the same.
#[derive(Default)]
struct Drift {
    between: Option<(Arc<Spec>, Option<Arc<Spec>>)>,
    count: usize,
    first: Vec<Changed>,
}

impl Painter {
    pub(in crate::admin) fn new() -> Self {
        Self { instance: format!("{:016x}", rand::random::<u64>()), drift: Drift::default() }
    }

    /// `None`: it cannot be written, which never happens.
    pub(in crate::admin) fn paint(&mut self, admin: &Admin) -> Option<String> {
        let (view, now) = (admin.handle.view(), Instant::now());
        self.drift.look(&view);
        let lately = views::pools(admin).into_iter().map(|(service, pools)| {
            let pools = pools.iter().map(|pool| {
                (pool.name.to_string(), Figures::from(admin.traffic.lately(pool, now)))
            });
            (service.to_string(), pools.collect())
        });
        let open = view.rollouts.iter().filter(|(service, rollout)| {
            !rollout.phase().is_over() && view.spec.services.contains_key(*service)
        });
        let picture = LiveView {
            at: Timestamp::now().to_string(),
            instance: self.instance.clone(),
            window: SHORT.as_secs(),
            status: views::status_of(admin, &view, self.drift.count),
            lately: lately.collect(),
            drains: views::drains(&view),
            holds: view.holds.iter().map(HoldView::of).collect(),
            drift: self.drift.first.clone(),
            rollouts: open
                .map(|(service, it)| {
                    (service.to_string(), RolloutView::current(it, &view).short_of(MOST))
                })
                .collect(),
        };
        serde_json::to_string(&picture).ok()
    }
}

impl Drift {
    fn look(&mut self, view: &View) {
        let is_known = self.between.as_ref().is_some_and(|(spec, loaded)| {
            let same = |one: &Arc<Spec>| loaded.as_ref().is_some_and(|it| Arc::ptr_eq(it, one));
            Arc::ptr_eq(spec, &view.spec) && view.loaded.as_ref().map_or(loaded.is_none(), same)
        });
        if !is_known {
            let drift = history::drift_of(view);
            self.count = drift.len();
            self.first = drift.into_iter().take(MOST_DRIFT).collect();
            self.between = Some((view.spec.clone(), view.loaded.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_painted_where_nobody_looks() {
        let feed = Feed::default();
        feed.show(|| panic!("for nobody"));
        let mut one = feed.follow();
        let mut other = feed.follow();
        feed.joined().await;
        let mut painted = 0;
        for number in 1..=3 {
            feed.show(|| {
                painted += 1;
                Some(number.to_string())
            });
        }
        assert_eq!(painted, 3, "once for both");
        for pictures in [&mut one, &mut other] {
            pictures.changed().await.unwrap();
            assert_eq!(&**pictures.borrow_and_update(), "3", "who is slow sees the last one");
            assert!(!pictures.has_changed().unwrap());
        }
        drop((one, other));
        feed.show(|| panic!("they have gone"));
    }
}
