//! What a rollout is shown once a second.

use super::{Answered, Current, Reading, SECOND, wall};
use crate::{
    control::{
        parts::Placed,
        task::Control,
        trials::{effective_share, side},
    },
    live::{LivePool, RouteTotals},
    rollout::{Event, Rollout, Second, sequential::Slice},
    spec::{Name, Weight},
};
use std::{sync::Arc, time::Instant};

/// A second in which the share was not the same is not judged; this is the rounding of sums.
const SAME: f64 = 1e-9;

impl Control {
    /// Shows every rollout whose second is over what it has come to, and does what they want.
    pub(in crate::control) async fn show_rollouts(&mut self, now: Instant) {
        self.rollouts.knowns.look(&self.parts, now);
        let is_due = |current: &Current| {
            !current.moving && !current.rollout.is_settled() && now >= current.due
        };
        let due: Vec<Name> = self
            .rollouts
            .current
            .iter()
            .filter(|(_, current)| is_due(current))
            .map(|(service, _)| service.clone())
            .collect();
        for service in &due {
            let Some(rollout) = self.rollouts.of(service) else { continue };
            // One that only waits to drain stable learns nothing more.
            let learns = !rollout.phase().is_over();
            let reading = learns.then(|| self.reading(rollout)).flatten();
            let from = self.rollouts.current[service].from.as_ref();
            let mut second = self.second(rollout, from, reading.as_ref());
            let by_route = learns.then(|| self.by_route(rollout)).flatten();
            let current = &mut self.rollouts.current[service];
            current.from = reading;
            if let Some((stable, canary)) = by_route {
                current.routes.look(current.rollout.step(), stable, canary);
                second.hint = current.routes.hint();
            }
            // What was missed is not shown again: one longer second is one.
            current.due = (current.due + SECOND).max(now);
            let event = Event::Second(Box::new(second));
            // Only people are refused anything.
            let effects = current.rollout.on(event, wall()).unwrap_or_default();
            self.carry_out_effects(service, effects).await;
        }
        self.lay_out_unkept().await;
        if !due.is_empty() {
            self.show();
        }
    }

    /// Traffic does not stay on a version that is worse because a disk is full.
    async fn lay_out_unkept(&mut self) {
        let mut has_changed = false;
        for current in self.rollouts.current.values_mut() {
            let is_unkept = current.rollout.unkept().is_some();
            has_changed |= is_unkept != std::mem::replace(&mut current.is_unkept, is_unkept);
        }
        if has_changed {
            self.publish(self.desired.clone(), self.listeners.clone(), self.revision).await;
            self.tell_predecessor().await;
        }
    }

    pub(in crate::control) fn hear(&mut self, answered: Answered) {
        let Answered { id, round, gate, answer } = answered;
        let mut all = self.rollouts.current.values_mut();
        // What was asked in the step before is not an answer for this one.
        let is_of = |it: &Rollout| *it.id() == id && it.round() == round;
        if let Some(current) = all.find(|current| is_of(&current.rollout)) {
            // An answer has no effects of its own: the next second sees it.
            let _ = current.rollout.on(Event::Answered(gate, answer), wall());
        }
    }

    /// As things stand, without what was counted.
    pub(super) fn look_at(&self, rollout: &Rollout) -> Second {
        self.second(rollout, None, None)
    }

    fn reading(&self, rollout: &Rollout) -> Option<Reading> {
        let counts = |pool: &Name| Some(self.pool(rollout.service(), pool)?.counts()?.read());
        let share = self.live.published.read(|snapshot| {
            effective_share(snapshot, rollout.service(), rollout.stable(), rollout.canary())
        });
        let (stable, canary) = (counts(rollout.stable())?, counts(rollout.canary())?);
        Some(Reading { stable, canary, share })
    }

    fn by_route(&self, rollout: &Rollout) -> Option<(RouteTotals, RouteTotals)> {
        let counts = |pool: &Name| Some(self.pool(rollout.service(), pool)?.counts()?.routes());
        Some((counts(rollout.stable())?, counts(rollout.canary())?))
    }

    fn pool(&self, service: &Name, pool: &Name) -> Option<Arc<LivePool>> {
        let placed = self.parts.placed_in(service, pool).first()?;
        Some(placed.backend.pool.clone())
    }

    fn second(&self, rollout: &Rollout, from: Option<&Reading>, to: Option<&Reading>) -> Second {
        let service = rollout.service();
        let share = to.and_then(|to| to.share);
        let slice = from.zip(to).and_then(|(from, to)| {
            let (before, after) = from.share.zip(to.share)?;
            ((before - after).abs() < SAME && after > 0.0).then(|| Slice {
                canary: side(&from.canary, &to.canary),
                baseline: side(&from.stable, &to.stable),
            })
        });
        let placed = |pool: &Name| self.parts.placed_in(service, pool);
        let is_well = |p: &&Placed| {
            p.settings.weight > Weight::ZERO
                && p.lingers_until.is_none()
                && p.backend.health.is_available()
        };
        let (stable, canary) = (placed(rollout.stable()), placed(rollout.canary()));
        // Stable gets its backends back when it gets its traffic back.
        let stable_healthy = stable.iter().any(|p| is_well(&p));
        let canary_healthy = canary.iter().filter(|p| !p.settings.drained).any(|p| is_well(&p));
        let of = |names: &[Name], placed: &[Placed]| -> Vec<bool> {
            let is_of = |name: &Name, p: &&Placed| {
                name.parse().is_ok_and(|address| p.backend.address.is_of(&address))
            };
            let well = |name| placed.iter().filter(|p| is_of(name, p)).any(|p| is_well(&p));
            names.iter().map(well).collect()
        };
        Second {
            slice,
            share: share.unwrap_or(0.0),
            stable_healthy,
            canary_healthy,
            stable_backends: of(&rollout.before().stable, stable),
            canary_backends: of(&rollout.before().canary, canary),
            stable_in_flight: stable.iter().map(|p| p.backend.open()).sum(),
            crowded: self.rollouts.trials.is_full(service),
            hint: None,
        }
    }
}
