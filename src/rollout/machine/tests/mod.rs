//! The machine by hand: every strategy, every verb, every way out.

mod found;
mod strategies;
mod ways;

use super::*;
use crate::{
    rollout::sequential::{Side, Slice},
    spec::{
        Backend, FINE_BUCKETS, FailureAction, GateTime, Gates, OnFailure, OnInconclusive, Pool,
        PoolProtocol, PrometheusGate, Role, Rolling, RollingOrder, RolloutStep, Sticky, StickyKey,
        WebhookGate, Weight,
    },
};
use indexmap::IndexMap;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn pool(weight: u64, backends: &[&str]) -> Pool {
    let backends = backends.iter().map(|it| (it.parse().unwrap(), Backend::default()));
    Pool {
        version: "v".into(),
        weight: Weight::new(weight).unwrap(),
        backends: backends.collect(),
        slow_start: Duration::ZERO,
        drained: false,
        protocol: PoolProtocol::H1,
        proxy_protocol: None,
        tls: None,
    }
}

fn shop() -> Service {
    let blue = pool(100, &["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
    let green = pool(0, &["127.0.0.1:4", "127.0.0.1:5", "127.0.0.1:6"]);
    Service::new(IndexMap::from([("blue".into(), blue), ("green".into(), green)]))
}

fn by(role: Role) -> By {
    By { author: "ada".into(), role, cause: None }
}

fn ada() -> By {
    by(Role::Operator)
}

/// From blue to green, before anything is known of the traffic.
fn beginning(service: &Service, plan: RolloutPlan) -> Beginning<'_> {
    Beginning {
        id: "r1".into(),
        service_name: "shop".into(),
        service,
        stable: "blue".into(),
        canary: "green".into(),
        plan,
        by: ada(),
        rate: None,
        known: None,
        dispersion: 1.0,
    }
}

fn webhook(when: GateTime) -> WebhookGate {
    WebhookGate {
        name: "tests".into(),
        url: "http://127.0.0.1:1/".into(),
        when,
        interval: 5 * SECOND,
        timeout: SECOND,
        key_file: None,
    }
}

/// A service with a rollout, a second at a time.
struct Stage {
    rollout: Rollout,
    service: Service,
    now: Millis,
    told: Vec<Notice>,
    asked: Vec<usize>,
    /// What a second shows: requests, and errors on the canary of every hundred.
    rate: u64,
    errors: u64,
    second: Second,
    /// Moves do not succeed.
    stuck: bool,
    moves: usize,
}

impl Stage {
    fn with(plan: RolloutPlan) -> Self {
        Self::of(shop(), plan)
    }

    fn of(service: Service, plan: RolloutPlan) -> Self {
        let (rollout, effects) = Rollout::begin(beginning(&service, plan), 0).unwrap();
        let second = Second {
            stable_healthy: true,
            canary_healthy: true,
            stable_backends: vec![true; 3],
            canary_backends: vec![true; 3],
            ..Second::default()
        };
        let mut stage = Self {
            rollout,
            service,
            now: 0,
            told: Vec::new(),
            asked: Vec::new(),
            rate: 1000,
            errors: 0,
            second,
            stuck: false,
            moves: 0,
        };
        stage.carry_out(effects);
        stage
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Move(layout) => {
                    self.moves += 1;
                    let result =
                        if self.stuck { Err("the disk is full".to_owned()) } else { Ok(()) };
                    if result.is_ok() {
                        self.rollout.lay_out(&layout, &mut self.service);
                        assert!(self.service.total_weight() > 0);
                    }
                    self.event(Event::Moved(result)).unwrap();
                }
                Effect::Ask(gate) => self.asked.push(gate),
                Effect::Tell(notice) => self.told.push(notice),
            }
        }
    }

    fn event(&mut self, event: Event) -> Result<(), Refused> {
        // What is kept is what it was.
        if self.now.is_multiple_of(7_000) {
            let text = serde_json::to_string(&self.rollout).unwrap();
            assert_eq!(serde_json::from_str::<Rollout>(&text).unwrap(), self.rollout);
        }
        let effects = self.rollout.on(event, self.now)?;
        self.carry_out(effects);
        Ok(())
    }

    /// Whether the canary's backends would answer.
    fn canary_is(&mut self, healthy: bool) {
        self.second.canary_healthy = healthy;
        self.second.canary_backends = vec![healthy; 3];
    }

    fn verb(&mut self, verb: Verb) -> Result<(), Refused> {
        self.event(Event::Verb(verb, ada()))
    }

    fn tick(&mut self) {
        self.now += 1000;
        let share = self.rollout.layout().share.as_f64();
        let canary = (self.rate as f64 * share).round() as u64;
        let side = |requests: u64, errors: u64| {
            let mut latency = [0; FINE_BUCKETS];
            latency[50] = requests;
            Side { requests, errors, slow: 0, latency }
        };
        let canary = side(canary, canary * self.errors / 100);
        let slice = Slice { baseline: side(self.rate - canary.requests, 0), canary };
        let second = Second { slice: Some(slice), share, ..self.second.clone() };
        self.event(Event::Second(Box::new(second))).unwrap();
    }

    /// Until then, or too many seconds.
    fn until(&mut self, most: usize, then: impl Fn(&Self) -> bool) -> usize {
        for second in 0..most {
            if then(self) {
                return second;
            }
            self.tick();
        }
        panic!("after {most} s: {:?} {:?}", self.rollout.explain(), self.events());
    }

    fn until_phase(&mut self, most: usize, phase: &str) -> usize {
        self.until(most, |stage| stage.rollout.phase().as_str() == phase)
    }

    fn ticks(&mut self, seconds: usize) {
        (0..seconds).for_each(|_| self.tick());
    }

    fn weights(&self) -> Vec<u32> {
        self.service.pools.values().map(|pool| pool.weight.get()).collect()
    }

    /// Which backends of a pool serve.
    fn serving(&self, pool: &str) -> Vec<bool> {
        self.service.pools[pool].backends.values().map(|backend| !backend.drained).collect()
    }

    fn events(&self) -> Vec<&'static str> {
        self.told.iter().map(|notice| notice.event.as_str()).collect()
    }

    fn why(&self) -> &str {
        self.rollout.why().map_or("", |why| &why.code)
    }
}

fn plan() -> RolloutPlan {
    RolloutPlan {
        first_touch: None,
        bake: Duration::from_secs(60),
        keep_stable: Duration::from_secs(100),
        ..RolloutPlan::default()
    }
}
