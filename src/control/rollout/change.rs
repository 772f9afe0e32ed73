//! What a change means for rollouts. A turn is taken on a copy: it is kept together with the revision that it makes,
//! and becomes the state when that does.

use super::{Outlook, wall};
use crate::{
    control::{
        Change, ChangeError, Command, Source,
        desired::{Applied, Desired},
        task::Control,
        traffic::why_not,
        validate::known,
    },
    rollout::{Beginning, By, Effect, Event, Phase, Refused, Rollout, Traffic, forecast},
    spec::{Name, RolloutPlan, RolloutStrategy, Service, Spec, Weight},
};
use jiff::Timestamp;
use std::sync::Arc;

/// A rollout after a change.
pub(in crate::control) struct Turn {
    pub(super) rollout: Rollout,
    pub(super) effects: Vec<Effect>,
    /// The revision is one of its own.
    pub(super) is_own: bool,
}

impl Turn {
    pub(in crate::control) fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    pub(in crate::control) fn is_own(&self) -> bool {
        self.is_own
    }

    /// Requests of the service must wait, or need not any more.
    pub(in crate::control) fn holds(&self) -> bool {
        self.rollout.layout().held && !self.rollout.phase().is_over()
    }
}

/// What is wanted of a rollout, made of a change.
struct Wanted<'a> {
    service: &'a Name,
    to: &'a Name,
    from: Option<&'a Name>,
    plan: &'a RolloutPlan,
    supersede: bool,
}

impl Control {
    /// A change that is a rollout's own: one begins, somebody steers it, or it wants to go on. `None`: it is another.
    ///
    /// # Errors
    /// When it is not possible.
    pub(in crate::control) fn turn(
        &self,
        change: &Change,
    ) -> Result<Option<(Applied, Vec<Turn>)>, ChangeError> {
        match &change.command {
            Command::StartRollout { service, to, from, plan, supersede } => {
                let (from, supersede) = (from.as_ref(), *supersede);
                self.start_rollout(change, &Wanted { service, to, from, plan, supersede }).map(Some)
            }
            Command::RetryRollout { service } => {
                let last = self.rollout_of(service)?;
                if !last.phase().is_over() {
                    return Err(ChangeError::Conflict(format!(
                        "the rollout of service `{service}` is {}; only one that has ended can be tried again",
                        last.phase().as_str()
                    )));
                }
                // All of the traffic would go back to what was left for good.
                if last.phase() == Phase::Promoted {
                    return Err(ChangeError::Conflict(format!(
                        "the rollout of service `{service}` to `{}` was promoted: there is nothing to try again",
                        last.canary()
                    )));
                }
                let (to, from) = (last.canary(), Some(last.stable()));
                let wanted = Wanted { service, to, from, plan: last.plan(), supersede: false };
                self.start_rollout(change, &wanted).map(Some)
            }
            Command::SteerRollout { service, verb } => {
                let mut rollout = self.rollout_of(service)?.clone();
                let by = by(change);
                let effects = rollout.on(Event::Verb(*verb, by), wall()).map_err(refused)?;
                self.go_on_at_once(rollout, effects).map(Some)
            }
            Command::MoveRollout { service } => {
                // It looks once more: something may have happened while this change waited for its turn.
                let rollout = self.rollout_of(service)?.clone();
                self.go_on_at_once(rollout, Vec::new()).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn rollout_of(&self, service: &Name) -> Result<&Rollout, ChangeError> {
        self.service_of(service)?;
        self.rollouts.of(service).ok_or_else(|| {
            ChangeError::NotFound(format!("service `{service}` has no rollout; start one"))
        })
    }

    fn start_rollout(
        &self,
        change: &Change,
        wanted: &Wanted<'_>,
    ) -> Result<(Applied, Vec<Turn>), ChangeError> {
        let Wanted { service: name, to, plan, supersede, .. } = *wanted;
        let service = self.service_of(name)?;
        let stable = stable_of(name, service, to, wanted.from)?;
        let mut turns = Vec::new();
        if let Some(before) = self.rollouts.of(name) {
            let mut rollout = before.clone();
            if !rollout.phase().is_over() && !supersede {
                return Err(ChangeError::Conflict(format!(
                    "a rollout of service `{name}` to `{}` is {}: abort it first, or let this one take over (supersede)",
                    rollout.canary(),
                    rollout.phase().as_str()
                )));
            }
            let effects = rollout.on(Event::Superseded(by(change)), wall()).unwrap_or_default();
            turns.push(Turn { rollout, effects, is_own: false });
        }
        let knowns = &self.rollouts.knowns;
        let rates = [&stable, to].map(|pool| knowns.rate(name, pool));
        let rate = rates[0].map(|rate| rate + rates[1].unwrap_or(0.0));
        let beginning = Beginning {
            id: self.rollout_id(name),
            service_name: name.clone(),
            service,
            stable: stable.clone(),
            canary: to.clone(),
            plan: plan.clone(),
            by: by(change),
            rate,
            known: knowns.latency(name, &stable),
            dispersion: knowns.dispersion(name, &stable),
        };
        let (rollout, effects) =
            Rollout::begin(beginning, wall()).map_err(|why| ChangeError::Invalid(vec![why]))?;
        let (applied, own) = self.go_on_at_once(rollout, effects)?;
        // The one before is over first.
        turns.extend(own);
        Ok((applied, turns))
    }

    /// # Errors
    /// When it could not be started between these pools.
    pub(in crate::control) fn forecast(
        &self,
        name: &Name,
        to: &Name,
        from: Option<&Name>,
        plan: &RolloutPlan,
    ) -> Result<Outlook, ChangeError> {
        let service = self.service_of(name)?;
        let stable = stable_of(name, service, to, from)?;
        let knowns = &self.rollouts.knowns;
        let rates = [&stable, to].map(|pool| knowns.rate(name, pool));
        let backends = |pool: &Name| service.pools.get(pool).map_or(0, |pool| pool.backends.len());
        let traffic = Traffic {
            rate: rates.iter().flatten().sum(),
            error_rate: knowns.error_rate(name, &stable),
            dispersion: knowns.dispersion(name, &stable),
            stable_backends: backends(&stable),
            canary_backends: backends(to),
        };
        let stages = forecast(plan, &traffic);
        let is_blind = rates[0].is_none();
        Ok(Outlook { stable, canary: to.clone(), traffic, is_blind, stages })
    }

    fn service_of(&self, name: &Name) -> Result<&Service, ChangeError> {
        let services = &self.desired.spec.services;
        services.get(name).ok_or_else(|| {
            let known = known("services", services.keys());
            ChangeError::NotFound(format!("there is no service `{name}`; {known}"))
        })
    }

    fn rollout_id(&self, service: &Name) -> Name {
        let now = Timestamp::now().strftime("%Y%m%dT%H%M%S");
        let id = format!("{service}-{now}");
        match self.rollouts.of(service) {
            Some(last) if last.id().starts_with(&*id) => format!("{}-2", last.id()).into(),
            _ => id.into(),
        }
    }

    /// What can be done now is done now, so that who asks for it is answered when it is.
    fn go_on_at_once(
        &self,
        mut rollout: Rollout,
        mut effects: Vec<Effect>,
    ) -> Result<(Applied, Vec<Turn>), ChangeError> {
        let look = Event::Look(Box::new(self.look_at(&rollout)));
        effects.extend(rollout.on(look, wall()).unwrap_or_default());
        let mut spec = Spec::clone(&self.desired.spec);
        let (moves, mut told): (Vec<_>, Vec<_>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Move(_)));
        for effect in moves {
            if let (Effect::Move(layout), Some(service)) =
                (effect, spec.services.get_mut(rollout.service()))
            {
                rollout.lay_out(&layout, service);
                told.extend(rollout.on(Event::Moved(Ok(())), wall()).unwrap_or_default());
            }
        }
        let applied = self.desired.with(spec)?;
        Ok((applied, vec![Turn { rollout, effects: told, is_own: true }]))
    }

    /// What a change by others does to the rollouts. A file's weights are held back while one owns them.
    ///
    /// # Errors
    /// When it would take a pool away from one.
    pub(in crate::control) fn disturb(
        &self,
        change: &Change,
        applied: &mut Applied,
    ) -> Result<Vec<Turn>, ChangeError> {
        let is_file = matches!(change.command, Command::Load { .. });
        let mut turns = Vec::new();
        for current in self.rollouts.current.values() {
            let mut rollout = current.rollout.clone();
            if rollout.is_settled() {
                continue;
            }
            let is_over = rollout.phase().is_over();
            let event = match self.disturbance(&rollout, change, &applied.desired.spec)? {
                Disturbance::None => continue,
                Disturbance::Weights if is_file && !is_over => {
                    hold_back(rollout.service(), &self.desired.spec, &mut applied.desired);
                    Event::Drifted
                }
                _ => Event::Superseded(by(change)),
            };
            let effects = rollout.on(event, wall()).unwrap_or_default();
            turns.push(Turn { rollout, effects, is_own: false });
        }
        Ok(turns)
    }

    fn disturbance(
        &self,
        rollout: &Rollout,
        change: &Change,
        after: &Spec,
    ) -> Result<Disturbance, ChangeError> {
        let name = rollout.service();
        let before = self.desired.spec.services.get(name);
        let after = after.services.get(name);
        let is_undo = matches!(change.command, Command::Undo { .. });
        let pools = [rollout.stable(), rollout.canary()];
        if !after.is_some_and(|after| pools.iter().all(|pool| after.pools.contains_key(*pool))) {
            if is_undo || rollout.phase().is_over() {
                return Ok(Disturbance::Asked);
            }
            return Err(ChangeError::Conflict(format!(
                "a rollout of service `{name}` from `{}` to `{}` is {}: it needs both pools; abort or promote it first",
                pools[0],
                pools[1],
                rollout.phase().as_str()
            )));
        }
        let is_asked = match &change.command {
            Command::Cutover { service, .. } | Command::SetWeights { service, .. } => {
                service == name
            }
            Command::Undo { .. } => before != after,
            _ => false,
        };
        Ok(match (is_asked, weights(before) == weights(after)) {
            (true, _) => Disturbance::Asked,
            (false, true) => Disturbance::None,
            (false, false) => Disturbance::Weights,
        })
    }

    /// # Errors
    /// When the canary of a rollout that begins could not answer anybody.
    pub(in crate::control) fn check_canary(&self, turns: &[Turn]) -> Result<(), ChangeError> {
        for Turn { rollout, .. } in turns {
            // There is nobody yet whose turn it will be, or each batch is waited for.
            let later = [RolloutStrategy::Recreate, RolloutStrategy::Rolling];
            let begins =
                self.rollouts.of(rollout.service()).is_none_or(|it| it.id() != rollout.id());
            if !begins || later.contains(&rollout.plan().strategy) {
                continue;
            }
            if !self.look_at(rollout).canary_healthy {
                let (service, pool) = (rollout.service(), rollout.canary());
                return Err(ChangeError::Conflict(format!(
                    "pool `{pool}` of service `{service}` has no healthy backend: {}; wait for one \
                     (--wait-healthy 30s) or start it all the same (--force)",
                    why_not(&self.parts, service, pool)
                )));
            }
        }
        Ok(())
    }
}

enum Disturbance {
    None,
    /// The traffic is laid out otherwise.
    Weights,
    /// Somebody has said how the traffic shall be laid out.
    Asked,
}

/// The only other pool with weight, unless it is said which.
fn stable_of(
    name: &Name,
    service: &Service,
    to: &Name,
    from: Option<&Name>,
) -> Result<Name, ChangeError> {
    let invalid = |why: String| ChangeError::Invalid(vec![why]);
    let exists = |pool: &Name| {
        let known = known("pools", service.pools.keys());
        let found = service.pools.contains_key(pool);
        found.then_some(()).ok_or_else(|| {
            ChangeError::NotFound(format!("service `{name}` has no pool `{pool}`; {known}"))
        })
    };
    exists(to)?;
    if let Some(from) = from {
        exists(from)?;
        if from == to {
            return Err(invalid(format!("`from` and `to` are both `{from}`; name two pools")));
        }
        return Ok(from.clone());
    }
    let others = service
        .pools
        .iter()
        .filter(|(pool, settings)| *pool != to && settings.weight > Weight::ZERO);
    let others: Vec<&Name> = others.map(|(pool, _)| pool).collect();
    match others[..] {
        [only] => Ok(only.clone()),
        [] => Err(invalid(format!(
            "no other pool of service `{name}` has weight, so there is nothing to go from; name it (`from`)"
        ))),
        _ => Err(invalid(format!(
            "several other pools of service `{name}` have weight; say which is stable (`from`)"
        ))),
    }
}

/// What a file says of the traffic of services with a rollout is held back, after a time in which it could not be read;
/// those rollouts wait for a person.
///
/// # Errors
/// When it takes a pool away from one.
pub(in crate::control) fn keep_traffic(
    rollouts: &mut [Rollout],
    before: &Spec,
    desired: &mut Desired,
) -> Result<(), String> {
    for rollout in rollouts.iter_mut().filter(|rollout| !rollout.phase().is_over()) {
        let name = rollout.service().clone();
        let pools = [rollout.stable(), rollout.canary()];
        let after = desired.spec.services.get(&name);
        if !after.is_some_and(|after| pools.iter().all(|pool| after.pools.contains_key(*pool))) {
            return Err(format!(
                "a rollout of service `{name}` from `{}` to `{}` is {}: it needs both pools, and the file lacks one",
                pools[0],
                pools[1],
                rollout.phase().as_str()
            ));
        }
        if weights(before.services.get(&name)) != weights(after) {
            hold_back(&name, before, desired);
            // Only people are refused anything.
            let _ = rollout.on(Event::Drifted, wall());
        }
    }
    Ok(())
}

/// Of the pools that have any.
fn weights(service: Option<&Service>) -> Vec<(Name, Weight)> {
    let pools = service.into_iter().flat_map(|service| &service.pools);
    let weighty = pools.filter(|(_, pool)| pool.weight > Weight::ZERO);
    weighty.map(|(name, pool)| (name.clone(), pool.weight)).collect()
}

/// All weights of a service are one value: those in force stay, and a pool that is new gets none.
pub(super) fn hold_back(service: &Name, before: &Spec, desired: &mut Desired) {
    let Some(before) = before.services.get(service) else { return };
    let spec = Arc::make_mut(&mut desired.spec);
    let Some(after) = spec.services.get_mut(service) else { return };
    for (name, pool) in &mut after.pools {
        pool.weight = before.pools.get(name).map_or(Weight::ZERO, |pool| pool.weight);
    }
}

fn by(change: &Change) -> By {
    By { author: change.author.clone(), role: change.role, cause: change.cause.clone() }
}

fn refused(refused: Refused) -> ChangeError {
    match refused {
        Refused::Conflict(why) => ChangeError::Conflict(why),
        Refused::Forbidden(why) => ChangeError::Forbidden(why),
    }
}

/// Who makes the revision of a rollout that goes on, and why.
pub(super) fn own_change(rollout: &Rollout) -> Change {
    let by = rollout.wanted_by();
    Change {
        command: Command::MoveRollout { service: rollout.service().clone() },
        source: Source::Rollout,
        author: by.map_or_else(|| "rollout".into(), |by| by.author.clone()),
        role: crate::spec::Role::Operator,
        cause: Some(rollout.intent()),
        force: true,
        if_match: None,
        dry_run: false,
        wait_healthy: None,
    }
}

/// Ended, by somebody else or by itself.
pub(super) fn has_ended(before: Option<Phase>, after: Phase) -> bool {
    after.is_over() && before.is_none_or(|before| !before.is_over())
}
