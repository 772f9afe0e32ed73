use super::*;
use crate::{
    control::{desired::Desired, validate::problems},
    spec::{Backend, Rescue, Weight},
};
use proptest::prelude::*;

fn desired() -> Desired {
    let mut shop = shop();
    shop.pins.push(pin("green"));
    let other = service(&[("only", pool("v1", 1, &[21]))]);
    Desired::first(spec(&[("shop", shop), ("other", other)]), true).unwrap()
}

fn after(command: &Command) -> Arc<Spec> {
    desired().apply(command).unwrap().desired.spec
}

/// Pool and weight of the shop.
fn weights(spec: &Spec) -> Vec<(&str, u32)> {
    spec.services["shop"].pools.iter().map(|(name, pool)| (&**name, pool.weight.get())).collect()
}

#[test]
fn weights_change_for_the_pools_that_are_named() {
    let spec = after(&set_weights(&[("green", 50)]));
    assert_eq!(weights(&spec), [("blue", 95), ("green", 50)]);
    assert_eq!(weights(&after(&set_weights(&[]))), [("blue", 95), ("green", 5)]);
}

#[test]
fn a_cutover_keeps_the_sum() {
    assert_eq!(weights(&after(&cutover("green"))), [("blue", 0), ("green", 100)]);
    let heavy = set_weights(&[("blue", 1_000_000), ("green", 1_000_000)]);
    let heavy = desired().apply(&heavy).unwrap().desired;
    let spec = heavy.apply(&cutover("green")).unwrap().desired.spec;
    assert_eq!(weights(&spec), [("blue", 0), ("green", Weight::MAX)], "the largest there is");
}

#[test]
fn drains_stay_until_an_undrain() {
    let drained = desired().apply(&drain("blue", Some(1))).unwrap().desired;
    let drained = drained.apply(&drain("green", None)).unwrap().desired;
    let same = |command: Command| {
        assert_eq!(drained.apply(&command).unwrap().desired.spec, drained.spec, "{command:?}");
    };
    same(put_backend("blue", 1));
    same(put_pool("blue", pool("v1", 95, &[1, 2])));
    same(put_pool("green", pool("v2", 5, &[11])));
    same(Command::Replace { spec: Box::new(Spec::clone(&desired().spec)) });
    same(load(&desired().spec));
    let undrained = drained.apply(&undrain("blue", Some(1))).unwrap().desired;
    let undrained = undrained.apply(&undrain("green", None)).unwrap().desired;
    assert_eq!(undrained.spec, desired().spec);
}

#[test]
fn what_is_new_is_created() {
    for (command, created) in [
        (put_pool("red", pool("v3", 0, &[31])), true),
        (put_pool("green", pool("v3", 5, &[31])), false),
        (put_backend("green", 12), true),
        (put_backend("green", 11), false),
        (cutover("green"), false),
    ] {
        assert_eq!(desired().apply(&command).unwrap().created, created, "{command:?}");
    }
}

#[test]
fn what_cannot_be_is_refused_and_says_what_would_help() {
    let nowhere = Command::Cutover { service: name("shpo"), to: name("green") };
    let sole = Command::DeletePool { service: name("other"), name: name("only") };
    let mut dangling = Spec::clone(&desired().spec);
    dangling.services[0].pools.shift_remove("green");
    dangling.services.shift_remove("other");
    let dangling = Command::Replace { spec: Box::new(dangling) };
    let unpinned = |command: &Command| {
        let mut state = desired();
        Arc::make_mut(&mut state.spec).services[0].pins.clear();
        state.apply(command).err().unwrap()
    };
    let rescued = |command: &Command| {
        let mut state = desired();
        let shop = &mut Arc::make_mut(&mut state.spec).services[0];
        shop.pins.clear();
        shop.rescue = Some(Rescue::new(name("green")));
        state.apply(command).err().unwrap()
    };
    let mut astray = Spec::clone(&desired().spec);
    astray.services[0].rescue = Some(Rescue::new(name("red")));
    let astray = Command::Replace { spec: Box::new(astray) };
    let refused = |command: &Command| desired().apply(command).err().unwrap();
    for (error, kind, says) in [
        (refused(&nowhere), "NotFound", "no service `shpo`; known services: `shop`, `other`"),
        (refused(&cutover("gren")), "NotFound", "no pool `gren`; known pools: `blue`, `green`"),
        (refused(&set_weights(&[("red", 1)])), "NotFound", "no pool `red`"),
        (refused(&drain("red", None)), "NotFound", "no pool `red`"),
        (refused(&drain("blue", Some(9))), "NotFound", "known backends: `127.0.0.1:1`"),
        (refused(&undrain("blue", Some(9))), "NotFound", "no backend `127.0.0.1:9`"),
        (refused(&delete_backend("green", 1)), "NotFound", "known backends: `127.0.0.1:11`"),
        (refused(&put_backend("red", 1)), "NotFound", "no pool `red`"),
        (refused(&delete_pool("red")), "NotFound", "no pool `red`"),
        (refused(&delete_pool("green")), "Conflict", "a pin names it"),
        (rescued(&delete_pool("green")), "Conflict", "`rescue` names it"),
        (refused(&astray), "Invalid", "`rescue` of service `shop` names pool `red`"),
        (refused(&sole), "Conflict", "the only one"),
        (refused(&set_weights(&[("blue", 0), ("green", 0)])), "Invalid", "sum to 0"),
        (refused(&dangling), "Invalid", "a pin of service `shop` names pool `green`"),
        (refused(&dangling), "Invalid", "route `other` leads to service `other`"),
        (
            unpinned(&Command::DeletePool { service: name("shop"), name: name("x") }),
            "NotFound",
            "`x`",
        ),
    ] {
        assert!(format!("{error:?}").starts_with(kind), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let mut state = desired().apply(&cutover("blue")).unwrap().desired;
    Arc::make_mut(&mut state.spec).services[0].pins.clear();
    let all = state.apply(&delete_pool("blue")).err().unwrap();
    assert!(matches!(&all, ChangeError::Conflict(why) if why.contains("all the weight")), "{all}");
    assert!(state.apply(&delete_pool("green")).is_ok());
}

#[test]
fn a_service_has_64_pools_at_most() {
    let mut state = desired();
    for n in 0..62 {
        let next = put_pool(&format!("p{n}"), pool("v", 0, &[]));
        state = state.apply(&next).unwrap().desired;
    }
    let refused = state.apply(&put_pool("one-more", pool("v", 0, &[]))).err().unwrap();
    assert!(refused.to_string().contains("at most 64"), "{refused}");
}

#[test]
fn a_replaced_config_keeps_what_waits_for_a_restart_and_never_becomes_the_base() {
    let mut wanted = Spec::clone(&desired().spec);
    wanted.threads = std::num::NonZeroUsize::new(9);
    wanted.services[0].expose_version = true;
    let applied = desired().apply(&Command::Replace { spec: Box::new(wanted) }).unwrap();
    assert_eq!(applied.desired.spec.threads, None);
    assert!(applied.desired.spec.services[0].expose_version);
    assert!(applied.warnings[0].contains("threads"));
    assert_eq!(applied.desired.file_base, desired().file_base);
}

fn any_pool() -> impl Strategy<Value = Name> {
    prop::sample::select(vec!["blue", "green", "red", "nope"]).prop_map(name)
}

fn any_settings() -> impl Strategy<Value = crate::spec::Pool> {
    (prop::sample::select(vec!["v1", "v2"]), 0..3_u64, prop::collection::vec(1..5_u16, 0..3))
        .prop_map(|(version, share, ports)| pool(version, share, &ports))
}

fn any_spec() -> impl Strategy<Value = Box<Spec>> {
    let pools = prop::collection::vec((any_pool(), any_settings()), 0..4);
    (pools, prop::collection::vec(any_pool(), 0..2)).prop_map(|(pools, pins)| {
        let mut shop = service(&[]);
        shop.pools = pools.into_iter().collect();
        shop.pins = pins.iter().map(|target| pin(target)).collect();
        Box::new(spec(&[("shop", shop)]))
    })
}

fn any_command() -> impl Strategy<Value = Command> {
    let shop = || Just(name("shop"));
    let backends = || prop::collection::vec((1..5_u16).prop_map(address), 0..3);
    let target = || (shop(), prop::option::of(any_pool()), backends());
    prop_oneof![
        prop::collection::vec((any_pool(), (0..3_u64).prop_map(weight)), 0..4)
            .prop_map(|weights| Command::SetWeights { service: name("shop"), weights }),
        (shop(), any_pool()).prop_map(|(service, to)| Command::Cutover { service, to }),
        (shop(), any_pool(), any_settings()).prop_map(|(service, name, pool)| Command::PutPool {
            service,
            name,
            pool
        }),
        (shop(), any_pool()).prop_map(|(service, name)| Command::DeletePool { service, name }),
        (shop(), any_pool(), 1..5_u16, 0..2_u64).prop_map(|(service, pool, port, share)| {
            let backend = Backend { weight: weight(share), drained: false };
            Command::PutBackend { service, pool, address: address(port), backend }
        }),
        (shop(), any_pool(), 1..5_u16).prop_map(|(service, pool, port)| {
            Command::DeleteBackend { service, pool, address: address(port) }
        }),
        target().prop_map(|(service, pool, backends)| Command::Drain { service, pool, backends }),
        target().prop_map(|(service, pool, backends)| Command::Undrain { service, pool, backends }),
        any_spec().prop_map(|spec| Command::Replace { spec }),
        any_spec().prop_map(|file| Command::Load { file }),
    ]
}

proptest! {
    #[test]
    fn the_spec_stays_valid_whatever_is_asked(
        commands in prop::collection::vec(any_command(), 1..30),
    ) {
        let mut state = desired();
        for command in &commands {
            match (state.apply(command), state.apply(command)) {
                (Ok(first), Ok(second)) => {
                    prop_assert_eq!(&first.desired.spec, &second.desired.spec);
                    prop_assert_eq!(&first.desired.salts, &second.desired.salts);
                    prop_assert!(problems(&first.desired.spec).is_empty());
                    // What compiles a valid spec relies on it.
                    crate::routing::compile(&first.desired.spec, &first.desired.salts);
                    // Asked again it changes nothing, but that a file was seen.
                    if !matches!(command, Command::DeletePool { .. } | Command::DeleteBackend { .. }) {
                        let again = first.desired.apply(command);
                        prop_assert_eq!(again.unwrap().desired.spec, first.desired.spec.clone());
                    }
                    state = first.desired;
                }
                (Err(first), Err(second)) => prop_assert_eq!(first, second),
                _ => prop_assert!(false, "not the same answer twice"),
            }
        }
    }
}
