//! How the traffic of a service is laid out between stable and canary, and what that makes of its weights.

use crate::spec::{Name, Pool, Service, Share, Weight};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The canary's part of what stable and canary have together.
    pub share: Share,
    /// Backend by backend; `None`: all of them serve.
    pub backends: Option<Exchanged>,
    /// Requests wait.
    pub held: bool,
    /// Stable is drained as a whole.
    pub stable_drained: bool,
}

/// The first so many backends of each pool, in its order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchanged {
    /// Of the canary: they get requests, the others none.
    pub admitted: usize,
    /// Of stable: they get none any more.
    pub retired: usize,
}

impl Layout {
    pub fn of_share(share: Share) -> Self {
        Self { share, ..Self::default() }
    }

    /// Each backend gets the same, of `old` that stable had.
    pub(super) fn of_backends(admitted: usize, retired: usize, old: usize) -> Self {
        let serving = (admitted + old.saturating_sub(retired)).max(1);
        let millionths = admitted as u64 * u64::from(Share::ALL.millionths()) / serving as u64;
        let share = u32::try_from(millionths).ok().and_then(Share::of_millionths);
        let backends = Some(Exchanged { admitted, retired });
        Self { share: share.unwrap_or(Share::ALL), backends, ..Self::default() }
    }
}

/// The service as it was at the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Before {
    /// The weights of stable and canary together.
    pub both: u32,
    /// Those of the other pools.
    pub others: Vec<(Name, u32)>,
    /// The backends of stable and of the canary that served, in their order. Who was drained is somebody else's business.
    pub stable: Vec<Name>,
    pub canary: Vec<Name>,
}

impl Before {
    /// # Errors
    /// When the service has not both pools.
    pub(super) fn of(service: &Service, stable: &str, canary: &str) -> Result<Self, String> {
        let pool = |name: &str| {
            service.pools.get(name).ok_or_else(|| format!("the service has no pool `{name}`"))
        };
        let weight = |pool: &Pool| pool.weight.get();
        let backends = |pool: &Pool| {
            let serving = pool.backends.iter().filter(|(_, backend)| !backend.drained);
            serving.map(|(address, _)| address.to_string().into()).collect()
        };
        let (old, new) = (pool(stable)?, pool(canary)?);
        let others = service.pools.iter().filter(|(name, _)| ![stable, canary].contains(&&***name));
        Ok(Self {
            both: weight(old).saturating_add(weight(new)).min(Weight::MAX),
            others: others.map(|(name, pool)| (name.clone(), weight(pool))).collect(),
            stable: backends(old),
            canary: backends(new),
        })
    }

    /// What stable and the canary weigh, and by how much all weights of the service are multiplied so that the share
    /// is exact. As exact as weights can be, where it cannot.
    fn weights(&self, share: Share) -> (u32, u32, u32) {
        let all = u64::from(Share::ALL.millionths());
        let both = u64::from(self.both);
        let parts = both * u64::from(share.millionths());
        let wanted = all / gcd(parts, all).max(1);
        let largest = self.others.iter().map(|(_, weight)| u64::from(*weight)).fold(both, u64::max);
        let most = u64::from(Weight::MAX) / largest.max(1);
        let factor = wanted.min(most).max(1);
        let mut canary = (parts * factor + all / 2) / all;
        // Neither of them is left out by rounding.
        if share > Share::NONE && share < Share::ALL && both * factor >= 2 {
            canary = canary.clamp(1, both * factor - 1);
        }
        let narrow = |number: u64| u32::try_from(number).unwrap_or(Weight::MAX);
        (narrow(both * factor - canary), narrow(canary), narrow(factor))
    }

    /// Lays out the traffic of the service as it is now. What has been added since stays as it is.
    pub(super) fn lay_out(
        &self,
        layout: &Layout,
        (stable, canary): (&str, &str),
        service: &mut Service,
    ) {
        let (old, new, factor) = self.weights(layout.share);
        let weight = |weight: u32| Weight::new(u64::from(weight)).unwrap_or(Weight::ZERO);
        for (name, before) in &self.others {
            if let Some(pool) = service.pools.get_mut(name) {
                pool.weight = weight(before.saturating_mul(factor));
            }
        }
        let is_over = layout.backends.is_none();
        if let Some(pool) = service.pools.get_mut(stable) {
            pool.weight = weight(old);
            pool.drained = layout.stable_drained;
            let retired = layout.backends.map_or(0, |it| it.retired);
            serve(pool, &self.stable, |at| is_over || at >= retired);
        }
        if let Some(pool) = service.pools.get_mut(canary) {
            pool.weight = weight(new);
            pool.drained = false;
            let admitted = layout.backends.map_or(usize::MAX, |it| it.admitted);
            serve(pool, &self.canary, |at| at < admitted);
        }
    }
}

fn serve(pool: &mut Pool, known: &[Name], serves: impl Fn(usize) -> bool) {
    for (at, name) in known.iter().enumerate() {
        let found = pool.backends.iter_mut().find(|(address, _)| address.to_string() == **name);
        if let Some((_, backend)) = found {
            backend.drained = !serves(at);
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
