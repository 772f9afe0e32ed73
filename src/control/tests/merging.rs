use super::*;
use crate::control::merge::merge;

/// The file as last loaded.
fn base() -> Spec {
    spec(&[("shop", shop())])
}

fn edited(edit: impl FnOnce(&mut Spec)) -> Spec {
    let mut spec = base();
    edit(&mut spec);
    spec
}

/// How a spec is made from the base.
type Edit = fn(&mut Spec);

fn pools(spec: &mut Spec) -> &mut indexmap::IndexMap<Name, crate::spec::Pool> {
    &mut spec.services["shop"].pools
}

fn nothing(_: &mut Spec) {}

fn cut_to_green(spec: &mut Spec) {
    pools(spec)["blue"].weight = weight(0);
    pools(spec)["green"].weight = weight(100);
}

fn add_red(spec: &mut Spec, share: u64) {
    pools(spec).insert(name("red"), pool("v3", share, &[31]));
}

fn remove(spec: &mut Spec, pool: &str) {
    pools(spec).shift_remove(pool);
}

/// What the case shows, what the file changed, what the API changed, what is in force then.
const CASES: &[(&str, Edit, Edit, Edit)] = &[
    ("nothing stays nothing", nothing, nothing, nothing),
    ("what only the API changed stays", nothing, cut_to_green, cut_to_green),
    ("what only the file changed comes", cut_to_green, nothing, cut_to_green),
    (
        "both changed the weights: the file wins",
        |file| pools(file)["blue"].weight = weight(50),
        cut_to_green,
        |want| pools(want)["blue"].weight = weight(50),
    ),
    (
        "a pool that the file adds without weight leaves the weights to the API",
        |file| add_red(file, 0),
        cut_to_green,
        |want| {
            cut_to_green(want);
            add_red(want, 0);
        },
    ),
    (
        "a pool that the file adds with weight brings all weights",
        |file| add_red(file, 10),
        cut_to_green,
        |want| add_red(want, 10),
    ),
    (
        "a pool of the API stays, and its weight while the file leaves weights alone",
        |file| file.services["shop"].expose_version = true,
        |ours| add_red(ours, 10),
        |want| {
            want.services["shop"].expose_version = true;
            add_red(want, 10);
        },
    ),
    (
        "a pool of the API stays without weight when the file changes the weights",
        cut_to_green,
        |ours| add_red(ours, 10),
        |want| {
            cut_to_green(want);
            add_red(want, 0);
        },
    ),
    (
        "a pool that the API deleted stays deleted",
        nothing,
        |o| remove(o, "green"),
        |w| remove(w, "green"),
    ),
    (
        "even if the file changes something in it",
        |file| pools(file)["green"].version = name("v2.1"),
        |ours| remove(ours, "green"),
        |want| remove(want, "green"),
    ),
    (
        "a pool that the file removed goes",
        |f| remove(f, "green"),
        nothing,
        |w| {
            remove(w, "green");
        },
    ),
    (
        "even if the API changed something in it",
        |file| remove(file, "green"),
        |ours| pools(ours)["green"].version = name("v2.1"),
        |want| remove(want, "green"),
    ),
    (
        "a backend of the API stays beside one that the file adds",
        |file| {
            pools(file)["blue"].backends.insert(address(3), Default::default());
        },
        |ours| {
            pools(ours)["blue"].backends.insert(address(4), Default::default());
        },
        |want| {
            pools(want)["blue"].backends.insert(address(3), Default::default());
            pools(want)["blue"].backends.insert(address(4), Default::default());
        },
    ),
    (
        "a backend that the API removed stays removed, one that the file removed goes",
        |file| {
            pools(file)["blue"].backends.shift_remove(&address(2));
        },
        |ours| {
            pools(ours)["blue"].backends.shift_remove(&address(1));
        },
        |want| pools(want)["blue"].backends.clear(),
    ),
    (
        "a backend that the file removed goes, though the API changed its weight",
        |file| {
            pools(file)["blue"].backends.shift_remove(&address(2));
        },
        |ours| pools(ours)["blue"].backends[&address(2)].weight = weight(9),
        |want| {
            pools(want)["blue"].backends.shift_remove(&address(2));
        },
    ),
    (
        "a backend's weight is a value of its own",
        |file| pools(file)["blue"].backends[&address(1)].weight = weight(2),
        |ours| {
            pools(ours)["blue"].backends[&address(1)].weight = weight(9);
            pools(ours)["blue"].backends[&address(2)].weight = weight(9);
        },
        |want| {
            pools(want)["blue"].backends[&address(1)].weight = weight(2);
            pools(want)["blue"].backends[&address(2)].weight = weight(9);
        },
    ),
    (
        "drains stay, also of what the file takes up",
        |file| {
            pools(file)["blue"].backends.insert(address(4), Default::default());
        },
        |ours| {
            pools(ours)["green"].drained = true;
            let drained = crate::spec::Backend { drained: true, ..Default::default() };
            pools(ours)["blue"].backends.insert(address(4), drained);
        },
        |want| {
            pools(want)["green"].drained = true;
            let drained = crate::spec::Backend { drained: true, ..Default::default() };
            pools(want)["blue"].backends.insert(address(4), drained);
        },
    ),
    (
        "pins are one value",
        |file| file.services["shop"].pins = vec![pin("green")],
        |ours| ours.services["shop"].pins = vec![pin("blue"), pin("green")],
        |want| want.services["shop"].pins = vec![pin("green")],
    ),
    (
        "each timeout is a value",
        |file| file.services["shop"].timeouts.connect = Duration::from_secs(7),
        |ours| {
            ours.services["shop"].timeouts.connect = Duration::from_secs(8);
            ours.services["shop"].timeouts.response = Duration::from_secs(8);
        },
        |want| {
            want.services["shop"].timeouts.connect = Duration::from_secs(7);
            want.services["shop"].timeouts.response = Duration::from_secs(8);
        },
    ),
    (
        "routes are one value, and other values stay beside it",
        |file| file.routes.push(route("more", "shop")),
        |ours| {
            ours.routes.clear();
            ours.services["shop"].expose_version = true;
        },
        |want| {
            want.routes.push(route("more", "shop"));
            want.services["shop"].expose_version = true;
        },
    ),
    (
        "services come and go like pools",
        |file| {
            file.services.insert(name("new"), shop());
        },
        |ours| {
            ours.services.insert(name("mine"), shop());
        },
        |want| {
            want.services.insert(name("new"), shop());
            want.services.insert(name("mine"), shop());
        },
    ),
    (
        "a service that the file removed goes, with all that the API changed in it",
        |file| {
            file.services.shift_remove("shop");
            file.routes.clear();
        },
        cut_to_green,
        |want| {
            want.services.shift_remove("shop");
            want.routes.clear();
        },
    ),
    (
        "what both added is as the file says",
        |file| add_red(file, 3),
        |ours| {
            pools(ours).insert(name("red"), pool("v9", 1, &[39]));
        },
        |want| {
            // The backend is the API's: its existence is a value of its own.
            pools(want).insert(name("red"), pool("v3", 3, &[31, 39]));
        },
    ),
    (
        "what the API says as the file does now is the file's",
        cut_to_green,
        cut_to_green,
        cut_to_green,
    ),
    (
        "what waits for a restart stays",
        |file| {
            file.threads = std::num::NonZeroUsize::new(3);
            file.admin.address = crate::spec::AdminAddress::Unix("/run/admin".into());
            file.admin.hosts.push("proxy.internal".into());
        },
        nothing,
        |want| want.admin.hosts.push("proxy.internal".into()),
    ),
];

#[test]
fn the_table() {
    for (shows, file, ours, want) in CASES {
        let merged = merge(Some(&base()), &edited(file), &edited(ours));
        assert_eq!(merged, edited(want), "{shows}");
    }
}

/// The table of docs/changes.md is this one, and its words are what the merge does.
#[test]
fn the_table_is_the_one_of_the_docs() {
    let page = include_str!("../../../docs/changes.md");
    let (_, table) = page.split_once("| case | who wins |\n|---|---|\n").expect("the table");
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    let row = |(shows, file, ours, _): &(&str, Edit, Edit, Edit)| {
        let (file, ours) = (edited(file), edited(ours));
        let merged = merge(Some(&base()), &file, &ours);
        let wins = match (merged == file, merged == ours) {
            (true, true) if merged == base() => "neither",
            (true, _) => "file",
            (false, true) => "API",
            (false, false) => "each its own",
        };
        format!("| {shows} | {wins} |")
    };
    assert_eq!(rows, CASES.iter().map(row).collect::<Vec<_>>());
}

#[test]
fn a_health_check_is_merged_value_by_value_if_there_is_one() {
    let check = |edit: fn(&mut crate::spec::HealthCheck)| {
        let mut check = crate::spec::HealthCheck::new("/");
        edit(&mut check);
        Some(check)
    };
    let with = |check: Option<crate::spec::HealthCheck>| {
        let mut spec = base();
        spec.services["shop"].health_check = check;
        spec
    };
    let merged = |base, file, ours| {
        merge(Some(&with(base)), &with(file), &with(ours)).services["shop"].health_check.clone()
    };
    let (plain, path, after) =
        (check(|_| {}), check(|c| c.path = name("/up")), check(|c| c.healthy_after = 9));
    let both = check(|c| {
        c.path = name("/up");
        c.healthy_after = 9;
    });
    assert_eq!(merged(plain.clone(), path.clone(), after.clone()), both);
    assert_eq!(merged(plain.clone(), None, after.clone()), None);
    assert_eq!(merged(plain.clone(), plain.clone(), None), None);
    assert_eq!(merged(None, path.clone(), after), path);
}

#[test]
fn the_first_load_is_the_file() {
    let ours = edited(|ours| add_red(ours, 3));
    let file = edited(cut_to_green);
    assert_eq!(merge(None, &file, &ours), file);
}

#[test]
fn a_merge_that_is_not_valid_changes_nothing() {
    use crate::control::desired::Desired;
    let state = Desired::first(base(), true).unwrap();
    let state = state.apply(&delete_pool("green")).unwrap().desired;
    let file = edited(|file| file.services["shop"].pins = vec![pin("green")]);
    let refused = state.apply(&load(&file)).err().unwrap();
    assert!(
        refused.to_string().contains("a pin of service `shop` names pool `green`"),
        "{refused}"
    );
}
