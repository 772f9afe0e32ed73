//! Draws from the sticky key: the same user, the same pool.

use super::{
    Fields, PoolSet, RequestView,
    hash::{KeyedHash, rendezvous},
};
use crate::spec::{Name, Service, Spec, StickyKey};
use indexmap::IndexMap;
use std::{net::IpAddr, sync::LazyLock, time::Duration};

/// What of a sticky key routing uses: a hash of its value, the same on every proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

static UNSALTED: LazyLock<KeyedHash> = LazyLock::new(|| KeyedHash::new(""));

impl Key {
    /// Of the value of a header or a cookie, issued ones included.
    pub fn of(value: &[u8]) -> Self {
        Self(UNSALTED.of(value))
    }

    /// An IPv4 address has the same key in its IPv6 form.
    pub fn of_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::of(&v4.octets()),
            IpAddr::V6(v6) => Self::of(&v6.octets()),
        }
    }

    /// The same for one key always, whatever the salt: for balancing, and to tell keys apart.
    pub fn hash(self) -> u64 {
        self.0
    }
}

/// The sticky part of a service, compiled.
#[derive(Clone, Debug)]
pub struct StickyTable {
    pub key: StickyKey,
    /// Give a cookie to requests without one.
    pub issue: bool,
    /// Of an issued cookie; `None`: until the browser closes.
    pub max_age: Option<Duration>,
    salted: KeyedHash,
    /// Hash of the name and weight of each pool.
    pools: Box<[(u64, u32)]>,
}

impl StickyTable {
    /// `None` when the service is not sticky.
    pub(super) fn new(service: &Service, salt: &str) -> Option<Self> {
        let sticky = service.sticky.as_ref()?;
        let pools = service
            .pools
            .iter()
            .map(|(name, pool)| (UNSALTED.of(name.as_bytes()), pool.weight.get()))
            .collect();
        Some(Self {
            key: sticky.key.clone(),
            issue: sticky.issue,
            max_age: sticky.max_age,
            salted: KeyedHash::new(salt),
            pools,
        })
    }

    /// The sticky key of a request; an empty value is none.
    pub fn key<F: Fields + ?Sized>(&self, view: &RequestView<'_, F>) -> Option<Key> {
        let value = match &self.key {
            StickyKey::Cookie(name) => view.cookie(name),
            StickyKey::Header(name) => view.fields.values(name).next(),
            StickyKey::ClientAddress => return Some(Key::of_address(view.client)),
        };
        value.filter(|value| !value.is_empty()).map(Key::of)
    }

    /// The pool of a key among the available ones; `None` when none of them has weight. Raising a pool's
    /// weight moves users to that pool only; the users of a pool that is not available are shared by the
    /// others, who keep their own, and come back.
    pub fn draw(&self, key: Key, available: PoolSet) -> Option<usize> {
        let pools = self.pools.iter().enumerate();
        rendezvous(
            self.salted.of(&key.0.to_le_bytes()),
            pools
                .filter(|(pool, _)| available.contains(*pool))
                .map(|(pool, &(hash, weight))| (pool, hash, weight)),
        )
    }
}

/// The salt of each service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salts(IndexMap<Name, Name>);

impl Salts {
    pub fn get(&self, service: &str) -> Option<&Name> {
        self.0.get(service)
    }

    /// Service and salt, in the spec's order.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.0.iter()
    }
}

impl FromIterator<(Name, Name)> for Salts {
    fn from_iter<I: IntoIterator<Item = (Name, Name)>>(salts: I) -> Self {
        Self(salts.into_iter().collect())
    }
}

/// The salt of a release: the service and the versions that take part. It names all of them rather than
/// the canary's, because which one is the canary is history, and two proxies that are given the same
/// configuration at different times must agree.
pub fn derive_salt<'a>(service: &str, versions: impl IntoIterator<Item = &'a str>) -> Name {
    let mut versions: Vec<&str> = versions.into_iter().collect();
    versions.sort_unstable();
    versions.dedup();
    format!("{service}:{}", versions.join(",")).into()
}

/// The salts after a change from `old_spec` (none at the start, when `old` is what was stored) to
/// `new_spec`.
///
/// A salt decides which users go first, so it is new with each release; but a new salt draws every user
/// anew, so it may only come when nobody can be moved by it: when one pool has all the weight before the
/// change or after it. Until then a service keeps the salt it has. A salt from the configuration is used
/// at once, as asked.
pub fn next_salts(old: &Salts, old_spec: Option<&Spec>, new_spec: &Spec) -> Salts {
    let next = |(name, service): (&Name, &Service)| {
        if let Some(fixed) = service.sticky.as_ref().and_then(|sticky| sticky.salt.clone()) {
            return (name.clone(), fixed);
        }
        let before = old_spec.and_then(|spec| spec.services.get(name));
        let nobody_moves = undivided(service) || before.is_some_and(undivided);
        let kept = old.get(name).filter(|_| !nobody_moves).cloned();
        let versions = service.pools.values().map(|pool| &*pool.version);
        (name.clone(), kept.unwrap_or_else(|| derive_salt(name, versions)))
    };
    new_spec.services.iter().map(next).collect()
}

/// One pool has all the weight.
fn undivided(service: &Service) -> bool {
    service.pools.values().filter(|pool| pool.weight.get() > 0).count() <= 1
}
