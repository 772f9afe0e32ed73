//! A rollout on made traffic, from its first second to its end.

use crate::{shop::shop, traffic::Traffic};
use crossfade::{
    rollout::{
        Beginning, By, Effect, Event, Millis, Phase, Rollout, Second,
        sequential::{Histogram, Slice},
    },
    spec::{Role, RolloutPlan},
};

/// How it went with one version, whoever watched over it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Seconds in which the canary got requests, and these requests.
    pub(crate) seconds: u64,
    pub(crate) requests: u64,
    /// Requests that failed and would not have on stable.
    pub(crate) extra: f64,
    /// It was cut, and why.
    pub(crate) cut: Option<String>,
    /// It went all the way.
    pub(crate) through: bool,
}

impl Run {
    pub(crate) fn add(&mut self, requests: u64, errors: u64, usual: f64) {
        self.seconds += 1;
        self.requests += requests;
        self.extra += errors as f64 - usual * requests as f64;
    }
}

/// A rollout whose moves are in force at once.
pub(crate) struct Lane {
    pub(crate) rollout: Rollout,
    now: Millis,
}

impl Lane {
    pub(crate) fn begin(
        plan: &RolloutPlan,
        rate: Option<f64>,
        known: Option<Box<Histogram>>,
    ) -> Self {
        let service = shop();
        let beginning = Beginning {
            id: "r1".into(),
            service_name: "shop".into(),
            service: &service,
            stable: "blue".into(),
            canary: "green".into(),
            plan: plan.clone(),
            by: By { author: "ada".into(), role: Role::Operator, cause: None },
            rate,
            known,
            dispersion: 1.0,
        };
        let (rollout, _) = Rollout::begin(beginning, 0).expect("a plan that fits");
        Self { rollout, now: 0 }
    }

    pub(crate) fn share(&self) -> f64 {
        self.rollout.layout().share.as_f64()
    }

    /// A second in which everybody is well.
    pub(crate) fn show(&mut self, slice: Option<Slice>) {
        let share = self.share();
        self.show_all(slice, share, false);
    }

    pub(crate) fn show_all(&mut self, slice: Option<Slice>, share: f64, crowded: bool) {
        self.now += 1000;
        let backends = |number: usize| vec![true; number];
        let second = Second {
            slice,
            share,
            stable_healthy: true,
            canary_healthy: true,
            stable_backends: backends(self.rollout.before().stable.len()),
            canary_backends: backends(self.rollout.before().canary.len()),
            stable_in_flight: 0,
            crowded,
            hint: None,
        };
        let mut on = |event| self.rollout.on(event, self.now).expect("no person is refused");
        let effects = on(Event::Second(Box::new(second)));
        if effects.iter().any(|effect| matches!(effect, Effect::Move(_))) {
            on(Event::Moved(Ok(())));
        }
    }
}

/// Until it is over, or for so many seconds.
pub(crate) fn run(plan: &RolloutPlan, traffic: &Traffic, most: u64) -> Run {
    let known = Some(Box::new(traffic.known()));
    let mut lane = Lane::begin(plan, Some(traffic.case().rate), known);
    let mut run = Run::default();
    for _ in 0..=most {
        let share = lane.share();
        let slice = (share > 0.0).then(|| traffic.second(run.seconds, share));
        if let Some(slice) = &slice {
            run.add(slice.canary.requests, slice.canary.errors, traffic.case().stable_errors);
        }
        lane.show(slice);
        if lane.rollout.phase().is_over() {
            break;
        }
    }
    let rollout = lane.rollout;
    match rollout.phase() {
        Phase::Aborted => run.cut = Some(rollout.why().map_or("", |why| &why.code).to_owned()),
        Phase::Promoted => run.through = true,
        _ => {}
    }
    run
}
