//! Thousands of random commands, on the pure core and on a model that is written another way.

use super::*;
use crate::{
    control::{
        desired::Desired,
        store::{Content, Target},
    },
    routing::Salts,
    spec::{Backend, Weight},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const SERVICES: [&str; 2] = ["shop", "other"];
const POOLS: [&str; 3] = ["blue", "green", "red"];

/// Weight and drained, each by name; nothing else of a spec.
type Backends = BTreeMap<u16, (u64, bool)>;
type Pools = BTreeMap<&'static str, (u64, bool, Backends)>;
type World = BTreeMap<&'static str, Pools>;

/// A command in the words of the model.
#[derive(Clone, Debug)]
enum Wish {
    Weights(Vec<(&'static str, u64)>),
    Cutover(&'static str),
    PutPool(&'static str, u64, Vec<u16>),
    DeletePool(&'static str),
    PutBackend(&'static str, u16, u64),
    DeleteBackend(&'static str, u16),
    Drain(bool, Option<&'static str>, Vec<u16>),
    /// To so many revisions before the newest; of the service, or of all.
    Undo(usize, bool),
}

fn wish() -> impl Strategy<Value = (&'static str, Wish)> {
    let pool = || prop::sample::select(&POOLS[..]);
    let port = || 1..5u16;
    let share = || prop_oneof![Just(0), 1..100u64, Just(u64::from(Weight::MAX))];
    let wish = prop_oneof![
        prop::collection::vec((pool(), share()), 1..3).prop_map(Wish::Weights),
        pool().prop_map(Wish::Cutover),
        (pool(), share(), prop::collection::vec(port(), 0..3))
            .prop_map(|(pool, share, ports)| Wish::PutPool(pool, share, ports)),
        pool().prop_map(Wish::DeletePool),
        (pool(), port(), share())
            .prop_map(|(pool, port, share)| Wish::PutBackend(pool, port, share)),
        (pool(), port()).prop_map(|(pool, port)| Wish::DeleteBackend(pool, port)),
        (any::<bool>(), prop::option::of(pool()), prop::collection::vec(port(), 0..2))
            .prop_map(|(on, pool, ports)| Wish::Drain(on, pool, ports)),
        (0..6usize, any::<bool>()).prop_map(|(back, whole)| Wish::Undo(back, whole)),
    ];
    (prop::sample::select(&SERVICES[..]), wish)
}

/// What the model makes of it; `None`: it is refused.
fn wished(worlds: &[World], service: &'static str, wish: &Wish) -> Option<World> {
    let mut world = worlds.last()?.clone();
    let pools = world.get_mut(service)?;
    let total = |pools: &Pools| pools.values().map(|pool| pool.0).sum::<u64>();
    match wish {
        Wish::Weights(shares) => {
            for (pool, share) in shares {
                pools.get_mut(pool)?.0 = *share;
            }
        }
        Wish::Cutover(to) => {
            pools.get(to)?;
            let all = total(pools).min(u64::from(Weight::MAX));
            pools.iter_mut().for_each(|(name, pool)| pool.0 = if name == to { all } else { 0 });
        }
        Wish::PutPool(name, share, ports) => {
            let old = pools.remove(name);
            let was = |port: u16| {
                let backend = old.as_ref().and_then(|old| old.2.get(&port));
                backend.is_some_and(|backend| backend.1)
            };
            let backends = ports.iter().map(|&port| (port, (1, was(port)))).collect();
            pools.insert(name, (*share, old.as_ref().is_some_and(|old| old.1), backends));
        }
        Wish::DeletePool(name) => {
            let pool = pools.remove(name)?;
            if pools.is_empty() || pool.0 == total(pools) + pool.0 {
                return None;
            }
        }
        Wish::PutBackend(pool, port, share) => {
            let backends = &mut pools.get_mut(pool)?.2;
            let drained = backends.get(port).is_some_and(|backend| backend.1);
            backends.insert(*port, (*share, drained));
        }
        Wish::DeleteBackend(pool, port) => {
            pools.get_mut(pool)?.2.remove(port)?;
        }
        Wish::Drain(on, None, _) => pools.values_mut().for_each(|pool| pool.1 = *on),
        Wish::Drain(on, Some(pool), ports) => {
            let pool = pools.get_mut(pool)?;
            if ports.is_empty() {
                pool.1 = *on;
            }
            for port in ports {
                pool.2.get_mut(port)?.1 = *on;
            }
        }
        Wish::Undo(back, whole) => {
            let then = &worlds[worlds.len().checked_sub(back + 1)?];
            if *whole {
                world = then.clone();
            } else {
                *pools = then[service].clone();
            }
        }
    }
    world.values().all(|pools| total(pools) > 0).then_some(world)
}

/// The command of the control plane; `None` for what has no pure one.
fn command(service: &str, wish: &Wish) -> Option<Command> {
    let service = name(service);
    Some(match wish {
        Wish::Weights(shares) => Command::SetWeights {
            service,
            weights: shares.iter().map(|&(pool, share)| (name(pool), weight(share))).collect(),
        },
        Wish::Cutover(to) => Command::Cutover { service, to: name(to) },
        Wish::PutPool(pool_name, share, ports) => {
            Command::PutPool { service, name: name(pool_name), pool: pool("v", *share, ports) }
        }
        Wish::DeletePool(pool) => Command::DeletePool { service, name: name(pool) },
        Wish::PutBackend(pool, port, share) => Command::PutBackend {
            service,
            pool: name(pool),
            address: address(*port),
            backend: Backend { weight: weight(*share), drained: false },
        },
        Wish::DeleteBackend(pool, port) => {
            Command::DeleteBackend { service, pool: name(pool), address: address(*port) }
        }
        Wish::Drain(on, pool, ports) => {
            let (pool, backends) = (pool.map(name), ports.iter().map(|&it| address(it)).collect());
            if *on {
                Command::Drain { service, pool, backends }
            } else {
                Command::Undrain { service, pool, backends }
            }
        }
        Wish::Undo(..) => return None,
    })
}

fn world_of(spec: &Spec) -> World {
    let of = |names: &'static [&'static str], name: &str| {
        *names.iter().find(|known| **known == name).expect("a name of the test's")
    };
    let backends = |pool: &crate::spec::Pool| -> Backends {
        let backend = |(at, it): (&crate::spec::BackendAddress, &Backend)| {
            let port = (1..5).find(|port| *at == address(*port)).expect("a port of the test's");
            (port, (u64::from(it.weight.get()), it.drained))
        };
        pool.backends.iter().map(backend).collect()
    };
    let pools = |service: &crate::spec::Service| -> Pools {
        let pools = service.pools.iter();
        pools
            .map(|(name, pool)| {
                let weight = u64::from(pool.weight.get());
                (of(&POOLS, name), (weight, pool.drained, backends(pool)))
            })
            .collect()
    };
    spec.services.iter().map(|(name, service)| (of(&SERVICES, name), pools(service))).collect()
}

fn start_of_all() -> Spec {
    let shop = || service(&[("blue", pool("v", 95, &[1, 2])), ("green", pool("v", 5, &[3]))]);
    spec(&[("shop", shop()), ("other", shop())])
}

proptest! {
    // 100 lives of 100 commands.
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_core_does_what_the_model_does(wishes in prop::collection::vec(wish(), 100)) {
        let mut desired = Desired::first(start_of_all(), true).unwrap();
        let mut worlds = vec![world_of(&desired.spec)];
        let mut history: Vec<(Spec, Salts)> = vec![(Spec::clone(&desired.spec), desired.salts.clone())];
        for (service, wish) in wishes {
            let applied = match (&wish, command(service, &wish)) {
                (_, Some(command)) => desired.apply(&command),
                (Wish::Undo(back, whole), None) => {
                    let Some(at) = history.len().checked_sub(back + 1) else { continue };
                    let (spec, salts) = history[at].clone();
                    let services = (!whole).then(|| vec![name(service)]);
                    desired.restore(Target { content: Content { spec, salts }, services })
                }
                (wish, None) => panic!("{wish:?}"),
            };
            let wished = wished(&worlds, service, &wish);
            match (applied, wished) {
                (Ok(applied), Some(world)) => {
                    desired = applied.desired;
                    prop_assert_eq!(world_of(&desired.spec), world.clone(), "{:?}", wish);
                    worlds.push(world);
                    history.push((Spec::clone(&desired.spec), desired.salts.clone()));
                }
                // What is refused leaves everything as it was.
                (Err(_), None) => prop_assert_eq!(&world_of(&desired.spec), worlds.last().unwrap()),
                (Ok(_), None) => prop_assert!(false, "not refused: {wish:?}"),
                (Err(error), Some(_)) => prop_assert!(false, "refused: {wish:?}: {error}"),
            }
        }
    }
}
