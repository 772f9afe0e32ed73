//! Rollouts that run: what they are shown, and what becomes of what they want.
//!
//! - `known`, `spread`: what is known of services before a rollout begins: how much traffic, how fast, how even
//! - `second`: what each of them is shown once a second
//! - `routes`: which routes the versions differ in
//! - `change`: what a change, anybody's, means for them
//! - `carry`: what they want done

mod carry;
mod change;
mod known;
mod routes;
mod second;
mod spread;

pub(super) use carry::mover;
pub(super) use change::{Turn, keep_traffic};
pub(super) use known::Knowns;

use super::{
    outside::{Outside, Patience, Teller, Told},
    trials::{RouteSides, Trials},
};
use crate::{
    live::TrialTotals,
    rollout::{Answer, Notice, Rollout, StepForecast, Traffic},
    spec::{Name, Rescue, Spec},
};
use indexmap::IndexMap;
use jiff::Timestamp;
use routes::Routes;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{broadcast, mpsc};

const SECOND: Duration = Duration::from_secs(1);

/// What a rollout has seen is kept at least so often.
const KEEP: Duration = Duration::from_secs(10);

/// Notices that a slow reader may be behind.
const NOTICES: usize = 1024;

/// Something happened to a rollout.
#[derive(Clone, Debug)]
pub struct News {
    pub rollout: Arc<Rollout>,
    pub notice: Notice,
}

/// What a rollout could see at the present traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlook {
    pub stable: Name,
    pub canary: Name,
    pub traffic: Traffic,
    /// The traffic is not known yet.
    pub is_blind: bool,
    pub stages: Vec<StepForecast>,
}

/// How many have ended, by service and how.
pub type Outcomes = BTreeMap<(Name, &'static str), u64>;

/// What a gate has said.
pub(super) struct Answered {
    id: Name,
    round: u64,
    gate: usize,
    answer: Answer,
}

/// Of each service the one that runs, or the last one.
pub(super) struct Rollouts {
    current: IndexMap<Name, Current>,
    trials: Trials,
    knowns: Knowns,
    outcomes: Outcomes,
    news: broadcast::Sender<News>,
    answers: mpsc::Sender<Answered>,
    /// `None`: there is no way to others.
    outside: Option<(Outside, Teller)>,
}

/// What comes from outside.
pub(super) struct Heard {
    pub(super) answers: mpsc::Receiver<Answered>,
    pub(super) told: mpsc::UnboundedReceiver<Told>,
}

struct Current {
    rollout: Rollout,
    shown: Arc<Rollout>,
    /// The counts of stable and canary at the beginning of this second, and the share then.
    from: Option<Reading>,
    /// The end of this second.
    due: Instant,
    /// What it wants is being done.
    moving: bool,
    /// Traffic is where it wants it, though that could not be kept.
    is_unkept: bool,
    kept: Instant,
    routes: Routes,
}

struct Reading {
    stable: TrialTotals,
    canary: TrialTotals,
    share: Option<f64>,
}

impl Rollouts {
    pub(super) fn new(kept: Vec<Rollout>, now: Instant) -> (Self, Heard) {
        let (sender, answers) = mpsc::channel(64);
        let (outside, told) = match Outside::new() {
            Ok(outside) => {
                let (teller, told) = Teller::start(outside.clone(), Patience::default());
                (Some((outside, teller)), told)
            }
            Err(error) => {
                tracing::warn!(%error, "no gate can be asked and no hook told");
                (None, mpsc::unbounded_channel().1)
            }
        };
        let mut rollouts = Self {
            current: IndexMap::new(),
            trials: Trials::default(),
            knowns: Knowns::default(),
            outcomes: Outcomes::new(),
            news: broadcast::Sender::new(NOTICES),
            answers: sender,
            outside,
        };
        rollouts.resume(kept, now);
        (rollouts, Heard { answers, told })
    }

    /// Those of another process, or of before.
    pub(super) fn resume(&mut self, kept: Vec<Rollout>, now: Instant) {
        for rollout in kept {
            self.put(rollout, now);
        }
    }

    fn put(&mut self, rollout: Rollout, now: Instant) {
        let service = rollout.service().clone();
        match rollout.phase().is_over() {
            true => self.trials.end(&service),
            false => self.trials.begin(service.clone(), rollout.plan()),
        }
        let before = self.current.get_mut(&service);
        let routes = before
            .filter(|it| it.rollout.id() == rollout.id())
            .map(|it| std::mem::take(&mut it.routes))
            .unwrap_or_default();
        let shown = Arc::new(rollout.clone());
        let due = now + SECOND;
        let current = Current {
            rollout,
            shown,
            from: None,
            due,
            moving: false,
            is_unkept: false,
            kept: now,
            routes,
        };
        self.current.insert(service, current);
    }

    pub(super) fn of(&self, service: &Name) -> Option<&Rollout> {
        self.current.get(service).map(|current| &current.rollout)
    }

    /// Those that are not over.
    pub(super) fn running(&self) -> impl Iterator<Item = &Rollout> {
        let all = self.current.values().map(|current| &current.rollout);
        all.filter(|rollout| !rollout.phase().is_over())
    }

    /// To be handed over, or kept with a history in memory.
    pub(super) fn all(&self) -> Vec<Rollout> {
        self.current.values().map(|current| current.rollout.clone()).collect()
    }

    pub(super) fn shown(&self) -> IndexMap<Name, Arc<Rollout>> {
        let shown =
            |(service, current): (&Name, &Current)| (service.clone(), current.shown.clone());
        self.current.iter().map(shown).collect()
    }

    pub(super) fn shown_of(&self, service: &Name) -> Option<Arc<Rollout>> {
        self.current.get(service).map(|current| current.shown.clone())
    }

    pub(super) fn routes(&self) -> IndexMap<Name, Arc<[RouteSides]>> {
        let routes = |(service, current): (&Name, &Current)| {
            (service.clone(), current.routes.sides().clone())
        };
        self.current.iter().map(routes).collect()
    }

    pub(super) fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    pub(super) fn news(&self) -> broadcast::Sender<News> {
        self.news.clone()
    }

    pub(super) fn trials(&self) -> &Trials {
        &self.trials
    }

    /// When somebody is to be shown something.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let busy = self.current.values().filter(|it| !it.rollout.is_settled() && !it.moving);
        busy.map(|current| current.due).chain([self.knowns.due()]).min()
    }

    /// While a rollout runs, what fails on the canary is tried once more on stable; unless the service says where. A canary
    /// that was aborted gets nothing any more, be that kept or not.
    pub(super) fn overlay(&self, spec: &Arc<Spec>) -> Arc<Spec> {
        let mut spec = spec.clone();
        for (rollout, layout) in self.running().filter_map(|it| Some((it, it.unkept()?))) {
            if let Some(service) = Arc::make_mut(&mut spec).services.get_mut(rollout.service()) {
                rollout.lay_out(&layout, service);
            }
        }
        let rescued: Vec<_> = self.running().filter(|it| it.plan().rescue).collect();
        for rollout in rescued {
            let service = spec.services.get(rollout.service());
            if service
                .is_some_and(|it| it.rescue.is_none() && it.pools.contains_key(rollout.stable()))
            {
                let services = &mut Arc::make_mut(&mut spec).services;
                // Stable gets no more by it than it had before, so there is nothing to save.
                let rescue =
                    Rescue { budget_percent: 100, ..Rescue::new(rollout.stable().clone()) };
                services[rollout.service()].rescue = Some(rescue);
            }
        }
        spec
    }
}

/// Milliseconds since 1970.
fn wall() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}
