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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        routing::testing::{pools, service, spec, sticky},
        spec::Sticky,
    };
    use proptest::prelude::*;

    const USERS: u64 = 100_000;

    fn table(pools: &[(&str, &str, u32)], salt: &str) -> StickyTable {
        let mut service = service(pools);
        service.sticky = Some(sticky(StickyKey::Cookie("user".into())));
        StickyTable::new(&service, salt).unwrap()
    }

    fn weights(blue: u32, green: u32) -> StickyTable {
        table(&[("blue", "v1", blue), ("green", "v2", green)], "shop:v1,v2")
    }

    fn user(n: u64) -> Key {
        Key::of(format!("user-{n}").as_bytes())
    }

    fn draws(table: &StickyTable, available: PoolSet) -> Vec<usize> {
        (0..USERS).map(|n| table.draw(user(n), available).unwrap()).collect()
    }

    /// By how many standard deviations each pool's number of users is off its share.
    fn assert_shares(drawn: &[usize], shares: &[f64]) {
        for (pool, share) in shares.iter().enumerate() {
            let count = drawn.iter().filter(|&&p| p == pool).count() as f64;
            let (n, sigma) =
                (drawn.len() as f64, (drawn.len() as f64 * share * (1.0 - share)).sqrt());
            assert!((count - n * share).abs() <= 4.0 * sigma, "pool {pool}: {count} of {n}");
        }
    }

    /// Where users go must never change by accident: proxies of two builds may run side by side.
    #[test]
    fn golden_users() {
        let pools = [("blue", "v1", 70), ("green", "v2", 25), ("red", "v3", 5)];
        let table = table(&pools, "shop:v1,v2,v3");
        let names =
            ["", "a", "alice", "bob", "carol", "dave", "erin", "grace", "0", "1", "user-22"];
        let pools = names.map(|name| table.draw(Key::of(name.as_bytes()), PoolSet::ALL).unwrap());
        assert_eq!(pools, [0, 0, 0, 0, 1, 1, 0, 1, 0, 1, 2]);
        assert_eq!(Key::of(b"alice").hash(), 0xb03d_5596_61d5_d55f);
    }

    #[test]
    fn users_are_shared_by_weight() {
        assert_shares(&draws(&weights(95, 5), PoolSet::ALL), &[0.95, 0.05]);
        assert_shares(&draws(&weights(999, 1), PoolSet::ALL), &[0.999, 0.001]);
        let three = table(&[("a", "1", 500_000), ("b", "2", 300_000), ("c", "3", 200_000)], "s");
        assert_shares(&draws(&three, PoolSet::ALL), &[0.5, 0.3, 0.2]);
    }

    #[test]
    fn raising_a_weight_only_adds_users() {
        let mut before = draws(&weights(100, 0), PoolSet::ALL);
        assert!(before.iter().all(|&pool| pool == 0));
        for green in [1, 5, 25, 50, 75, 99, 100] {
            let after = draws(&weights(100 - green, green), PoolSet::ALL);
            assert!(
                before.iter().zip(&after).all(|(&old, &new)| old == new || new == 1),
                "{green}"
            );
            assert_shares(&after, &[1.0 - f64::from(green) / 100.0, f64::from(green) / 100.0]);
            before = after;
        }
    }

    #[test]
    fn users_of_an_unavailable_pool_move_and_come_back_and_no_others() {
        let table = table(&[("a", "1", 50), ("b", "2", 30), ("c", "3", 20)], "s");
        let before = draws(&table, PoolSet::ALL);
        let during = draws(&table, pools(&[0, 2]));
        assert!(before.iter().zip(&during).all(|(&old, &new)| if old == 1 {
            new != 1
        } else {
            old == new
        }));
        let moved: Vec<usize> =
            before.iter().zip(&during).filter(|(old, _)| **old == 1).map(|(_, &new)| new).collect();
        assert_shares(&moved, &[50.0 / 70.0, 0.0, 20.0 / 70.0]);
        assert_eq!(table.draw(user(1), PoolSet::EMPTY), None);
    }

    #[test]
    fn another_salt_draws_other_users() {
        let (one, two) =
            (weights(90, 10), table(&[("blue", "v1", 90), ("green", "v2", 10)], "shop:v2,v3"));
        let pairs = draws(&one, PoolSet::ALL).into_iter().zip(draws(&two, PoolSet::ALL));
        let both = pairs.filter(|&pair| pair == (1, 1)).count() as f64;
        let due = USERS as f64 * 0.01;
        assert!((both - due).abs() < 4.0 * due.sqrt(), "{both} users go first twice");
    }

    #[test]
    fn keys_come_from_cookie_header_or_address() {
        let fields = [("cookie", "user=ann; empty="), ("x-user", "ann"), ("x-user", "bob")];
        let key = |key: StickyKey, client: &str| {
            let mut service = service(&[("a", "1", 1)]);
            service.sticky = Some(sticky(key));
            let client = client.parse().unwrap();
            let view = RequestView::new("GET", None, "/", None, &fields[..], client);
            StickyTable::new(&service, "").unwrap().key(&view)
        };
        let ann = Some(Key::of(b"ann"));
        assert_eq!(key(StickyKey::Cookie("user".into()), "::1"), ann);
        assert_eq!(key(StickyKey::Header("x-user".into()), "::1"), ann);
        assert_eq!(key(StickyKey::Cookie("other".into()), "::1"), None);
        assert_eq!(key(StickyKey::Cookie("empty".into()), "::1"), None);
        let address = |text: &str| key(StickyKey::ClientAddress, text);
        assert_eq!(address("10.0.0.1"), address("::ffff:10.0.0.1"));
        assert_ne!(address("10.0.0.1"), address("10.0.0.2"));
        assert!(StickyTable::new(&service(&[("a", "1", 1)]), "").is_none());
    }

    fn shop(pools: &[(&str, &str, u32)]) -> Spec {
        spec(vec![("shop", service(pools))], Vec::new())
    }

    #[test]
    fn a_salt_changes_with_the_release_and_only_when_nobody_moves() {
        let salt = |salts: &Salts| salts.get("shop").unwrap().to_string();
        let idle = shop(&[("blue", "v1", 100), ("green", "v2", 0)]);
        let first = next_salts(&Salts::default(), None, &idle);
        assert_eq!(salt(&first), "shop:v1,v2");

        let split = shop(&[("blue", "v1", 95), ("green", "v2", 5)]);
        let during = next_salts(&first, Some(&idle), &split);
        assert_eq!(during, first);
        let renamed = shop(&[("blue", "v1", 90), ("green", "v2.1", 10)]);
        assert_eq!(next_salts(&during, Some(&split), &renamed), first, "users would move");

        let done = shop(&[("blue", "v1", 0), ("green", "v2", 100)]);
        assert_eq!(next_salts(&during, Some(&split), &done), first, "the same release");
        let next = shop(&[("blue", "v3", 0), ("green", "v2", 100)]);
        let second = next_salts(&first, Some(&done), &next);
        assert_eq!(salt(&second), "shop:v2,v3");
        let at_once = shop(&[("blue", "v3", 5), ("green", "v2", 95)]);
        assert_eq!(next_salts(&first, Some(&done), &at_once), second, "from one pool, at once");
        let to_one = shop(&[("blue", "v3", 100), ("green", "v2", 0)]);
        assert_eq!(next_salts(&during, Some(&split), &to_one), second, "to one pool, at once");
    }

    #[test]
    fn proxies_that_are_given_the_same_configuration_agree() {
        let split = shop(&[("green", "v2", 5), ("blue", "v1", 95), ("red", "v1", 0)]);
        assert_eq!(
            next_salts(&Salts::default(), None, &split).get("shop"),
            Some(&"shop:v1,v2".into())
        );
        assert_eq!(derive_salt("shop", ["v2", "v1", "v2"]), derive_salt("shop", ["v1", "v2"]));
    }

    #[test]
    fn a_salt_survives_a_restart_and_ends_with_its_service() {
        let stored: Salts =
            [("shop".into(), "old".into()), ("gone".into(), "x".into())].into_iter().collect();
        let split = shop(&[("blue", "v1", 95), ("green", "v2", 5)]);
        let salts = next_salts(&stored, None, &split);
        assert_eq!(salts.iter().map(|(s, t)| (&**s, &**t)).collect::<Vec<_>>(), [("shop", "old")]);
    }

    #[test]
    fn a_salt_from_the_configuration_is_used_at_once() {
        let mut split = shop(&[("blue", "v1", 95), ("green", "v2", 5)]);
        let derived = next_salts(&Salts::default(), None, &split);
        let fixed = Sticky { salt: Some("mine".into()), ..sticky(StickyKey::ClientAddress) };
        split.services[0].sticky = Some(fixed);
        let salts = next_salts(&derived, Some(&split), &split);
        assert_eq!(salts.get("shop"), Some(&"mine".into()));
    }

    proptest! {
        /// Whatever changes, a key moves only to a pool that gained or from one that lost.
        #[test]
        fn a_key_moves_only_where_weights_moved(
            old in prop::array::uniform4(0..=1_000_000_u32), raised in 0..4_usize, by: u32, key: u64,
        ) {
            let mut new = old;
            new[raised] = old[raised].saturating_add(by).min(1_000_000);
            let draw = |weights: [u32; 4]| {
                let names = ["a", "b", "c", "d"];
                let pools: Vec<_> = names.into_iter().zip(weights).map(|(n, w)| (n, n, w)).collect();
                table(&pools, "s").draw(Key::of(&key.to_le_bytes()), PoolSet::ALL)
            };
            let (before, after) = (draw(old), draw(new));
            prop_assert!(before == after || after == Some(raised));
        }
    }
}
