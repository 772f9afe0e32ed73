//! The families of rollouts.

use super::text::{Page, Type};
use crate::{
    control::View,
    rollout::{Phase, Rollout},
};

/// How a rollout can end.
const OUTCOMES: [Phase; 3] = [Phase::Promoted, Phase::Aborted, Phase::Superseded];

pub(super) fn write(page: &mut Page, view: &View) {
    let known: Vec<&Rollout> = view
        .rollouts
        .iter()
        .filter(|(service, _)| view.spec.services.contains_key(*service))
        .map(|(_, rollout)| &**rollout)
        .collect();
    let help = "The step that the service's rollout is in, or was in at its end, from 1; 0 before the first.";
    let mut family = page.family("crossfade_rollout_step", Type::Gauge, help);
    for rollout in &known {
        family.sample(&[("service", rollout.service())], rollout.step());
    }
    let help = "1 for the state that the service's rollout, or the last one, is in, else 0.";
    let mut family = page.family("crossfade_rollout_state", Type::Gauge, help);
    for rollout in &known {
        for state in Phase::ALL {
            let is_in = u8::from(rollout.phase().as_str() == state);
            family.sample(&[("service", rollout.service()), ("state", state)], is_in);
        }
    }
    let help = "Rollouts that have ended, by how.";
    let mut family = page.family("crossfade_rollouts_total", Type::Counter, help);
    for rollout in &known {
        for outcome in OUTCOMES.map(Phase::as_str) {
            let key = (rollout.service().clone(), outcome);
            let count = view.outcomes.get(&key).copied().unwrap_or(0);
            family.sample(&[("service", rollout.service()), ("outcome", outcome)], count);
        }
    }
}
