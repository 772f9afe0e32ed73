//! How rollouts are planned: what is meant, and each mistake at its place.

use super::*;
use crate::spec::*;
use serde_json::json;
use std::time::Duration;

fn text(plan: &str) -> String {
    format!(
        "listeners: [{{ address: 127.0.0.1:1 }}]\n\
         services: {{ s: {{ pools: {{ p: {{ backends: [a:1] }} }}, rollout: {plan} }} }}"
    )
}

fn plan(keys: &str) -> RolloutPlan {
    parsed(&text(&format!("{{ {keys} }}"))).services["s"].rollout.clone().unwrap()
}

/// Where the only problem is within the plan, and what it says.
fn refused(keys: &str) -> String {
    let outcome = read_text(&text(&format!("{{ {keys} }}")));
    let [error] = &outcome.errors[..] else { panic!("{keys}: {}", lines(&outcome.errors)) };
    let path = error.path.strip_prefix("services.s.rollout").unwrap();
    format!("{}: {}; {}", path.trim_start_matches('.'), error.message, error.fix)
}

fn warned(text: &str) -> String {
    let outcome = read_text(text);
    assert_eq!(lines(&outcome.errors), "");
    lines(&outcome.warnings)
}

fn share(millionths: u32) -> Share {
    Share::of_millionths(millionths).unwrap()
}

#[test]
fn an_empty_plan_is_the_default_one_and_no_plan_is_none() {
    assert_eq!(plan(""), RolloutPlan::default());
    assert_eq!(parsed(&text("{}").replace(", rollout: {}", "")).services["s"].rollout, None);
    assert_eq!(plan("approval: operator"), RolloutPlan::default());
}

#[test]
fn steps_are_shares_and_pauses() {
    let plan = plan(
        "steps: [0.1, 5, 7.5%, { share: 20, bake: 1h }, { pause: {} }, { pause: 1h }, { pause: { for: 5m } }, 100]",
    );
    let share = |millionths, bake| RolloutStep::Share { share: share(millionths), bake };
    let hour = Some(Duration::from_secs(3600));
    let expected = [
        share(1_000, None),
        share(50_000, None),
        share(75_000, None),
        share(200_000, hour),
        RolloutStep::Pause(None),
        RolloutStep::Pause(hour),
        RolloutStep::Pause(Some(Duration::from_secs(300))),
        share(1_000_000, None),
    ];
    assert_eq!(plan.steps(), expected);
}

#[test]
fn steps_that_are_none() {
    for (steps, says) in [
        ("[5, 5]", "steps[1]: 5 is not above the step before it, 5; "),
        ("[50, { pause: {} }, 25]", "steps[2]: 25 is not above the step before it, 50; "),
        ("[]", "steps: the list is empty; "),
        ("[0]", "steps[0]: `0` is out of range; use 0.0001 to 100 percent"),
        ("[100.1]", "steps[0]: `100.1` is out of range; "),
        ("[0.00001]", "steps[0]: `0.00001` has more than four digits after the point; "),
        ("[-1]", "steps[0]: `-1` is not a percentage; "),
        ("[nan]", "steps[0]: `nan` is not a percentage; "),
        ("[{}]", "steps[0]: neither of `share` and `pause` are given; "),
        ("[{ share: 5, pause: 1h }]", "steps[0]: both of `share` and `pause` are given; "),
        ("[{ shar: 5 }]", "steps[0].shar: the key `shar` is unknown; did you mean `share`"),
        ("[{ pause: 1h, bake: 1h }]", "steps[0].bake: `bake` is of a share"),
        ("[{ pause: 0s }]", "steps[0].pause: `0s` would leave no time at all; "),
        ("[{ pause: 5 }]", "steps[0].pause: `5` has no unit; "),
        ("[{ pause: { for: x } }]", "steps[0].pause.for: `x` is not a duration; "),
        ("5", "steps: `5` is not a list; "),
    ] {
        let said = refused(&format!("steps: {steps}"));
        assert!(said.starts_with(says), "{steps}: {said}");
    }
    let many: Vec<String> = (1..=101).map(|n| format!("{}", f64::from(n) / 10.0)).collect();
    assert!(
        refused(&format!("steps: [{}]", many.join(", ")))
            .starts_with("steps: 101 steps; use at most 100")
    );
}

#[test]
fn strategies_have_the_steps_that_fit_them() {
    for strategy in ["rolling", "recreate"] {
        let said = refused(&format!("strategy: {strategy}, steps: [5]"));
        assert!(said.starts_with(&format!("steps: `{strategy}` has no steps; ")), "{said}");
    }
    assert!(refused("strategy: ab_test").starts_with("strategy: `ab_test` needs users"));
    let sticky = |plan: &str| text(plan).replace(", rollout", ", sticky: { cookie: u }, rollout");
    let split = parsed(&sticky("{ strategy: ab_test, steps: [10] }"));
    assert_eq!(split.services["s"].rollout.as_ref().unwrap().steps().len(), 1);
    for steps in ["[5, 10]", "[{ pause: {} }]", "[5, { pause: {} }]"] {
        let outcome = read_text(&sticky(&format!("{{ strategy: ab_test, steps: {steps} }}")));
        assert!(lines(&outcome.errors).contains("`ab_test` is one fixed split"), "{steps}");
    }
    assert!(refused("strategy: bluegreen").contains("did you mean `blue_green`?"));
}

#[test]
fn what_can_be_off() {
    for word in ["off", "\"off\"", "null", "~", ""] {
        let plan = plan(&format!(
            "first_touch: {word}, gates: {{ error_rate: {word}, latency: {word}, regression: {word} }}"
        ));
        assert_eq!(plan.first_touch, None);
        let gates = Gates { error_rate: None, latency: None, regression: None, ..Gates::default() };
        assert_eq!(plan.gates, gates);
    }
    assert!(
        refused("first_touch: on").starts_with("first_touch: `on` is not `off` or a mapping; ")
    );
    assert!(
        refused("gates: { regression: 5% }")
            .starts_with("gates.regression: `5%` is not `off` or a mapping")
    );
    assert!(refused("gates: { latency: \"null\" }").contains("`null` is not `off` or a mapping"));
    assert_eq!(
        plan("gates: { latency: { max: 2s } }").gates.latency.unwrap().quantile,
        share(990_000)
    );
}

#[test]
fn numbers_in_their_ranges() {
    let gates = plan("gates: { error_rate: { max: 0.5% }, latency: { quantile: 0.999 }, regression: { latency: 250% } }").gates;
    assert_eq!(gates.error_rate, Some(share(5_000)));
    assert_eq!(gates.latency.unwrap().quantile, share(999_000));
    assert_eq!(gates.regression.unwrap().latency_millionths, 2_500_000);
    assert_eq!(plan("holdback: 0").holdback, Share::NONE);
    for (keys, says) in [
        ("holdback: 100", "holdback: `100` is out of range; "),
        ("confidence: 49%", "confidence: `49%` is out of range; use 50% to 99.999%"),
        ("confidence: 100%", "confidence: `100%` is out of range; "),
        (
            "confidence: 0.99",
            "confidence: `0.99` has no percent sign; write `0.99%`, or `99%` if it is a fraction",
        ),
        (
            "gates: { error_rate: { max: 0.01 } }",
            "gates.error_rate.max: `0.01` has no percent sign; write `0.01%`, or `1%`",
        ),
        (
            "gates: { error_rate: { max: 5 } }",
            "gates.error_rate.max: `5` has no percent sign; write `5%`",
        ),
        ("gates: { error_rate: { max: 0% } }", "gates.error_rate.max: `0%` is out of range; "),
        ("gates: { latency: { quantile: 0 } }", "gates.latency.quantile: `0` is not a quantile; "),
        (
            "gates: { latency: { quantile: 1.0 } }",
            "gates.latency.quantile: `1.0` is not a quantile; ",
        ),
        (
            "gates: { latency: { quantile: 99% } }",
            "gates.latency.quantile: `99%` is not a quantile; ",
        ),
        ("burst: 999ms", "burst: `999ms` is too short; "),
        ("min_requests: 0", "min_requests: `0` is out of range; "),
        ("rolling: { parallelism: 0 }", "rolling.parallelism: `0` is out of range; "),
        ("approval: viewer", "approval: `viewer` is not known here; "),
    ] {
        let said = refused(keys);
        assert!(said.starts_with(says), "{keys}: {said}");
    }
}

#[test]
fn gates_from_elsewhere() {
    let query = "name: q, url: \"http://p:9090/x\", query: up";
    let gate = &plan(&format!("gates: {{ prometheus: [{{ {query}, max: -1.5e3 }}] }}"))
        .gates
        .prometheus[0];
    assert_eq!((gate.max, gate.interval.as_secs(), gate.timeout.as_secs()), (-1500.0, 15, 5));
    for max in [".inf", "inf", ".nan", "1e999", "0x10", "1%"] {
        let said = refused(&format!("gates: {{ prometheus: [{{ {query}, max: {max} }}] }}"));
        assert!(said.contains("is not a number; "), "{max}: {said}");
    }
    for url in
        ["ftp://a", "/x", "http:///x", "http://a:0/", "http://a:99999", "\"http://a/#b\"", "a:1"]
    {
        let said = refused(&format!("hooks: [{{ on: [step], url: {url} }}]"));
        assert!(said.contains("is not a URL by http or https; "), "{url}: {said}");
    }
    let said = refused("hooks: [{ on: [step], url: \"http://me:secret@a/\" }]");
    assert!(said.contains("would be seen by everybody") && !said.contains("secret"), "{said}");
    let same = format!(
        "gates: {{ prometheus: [{{ {query}, max: 1 }}], webhooks: [{{ name: q, url: \"http://a\" }}] }}"
    );
    assert!(refused(&same).starts_with("gates.webhooks[0].name: `q` is the name of two gates; "));
    assert!(
        refused("hooks: [{ on: [], url: \"http://a\" }]")
            .starts_with("hooks[0].on: the list is empty")
    );
    assert!(
        refused("hooks: [{ on: [step, step], url: \"http://a\" }]").contains("in the list already")
    );
}

#[test]
fn keys_are_files_that_can_be_read() {
    let hook =
        |file: &str| format!("hooks: [{{ on: [step], url: \"http://a\", key_file: {file} }}]");
    assert_eq!(plan(&hook("hook.key")).hooks[0].key_file.as_deref(), Some(Path::new("hook.key")));
    let said = refused(&hook("gone"));
    assert!(said.starts_with("hooks[0].key_file: the key `gone` cannot be read: "), "{said}");
    let empty = Surroundings { file: |_| Ok(b" \n".to_vec()), others_read: |_| true, ..MADE_UP };
    let outcome = parse(&text(&format!("{{ {} }}", hook("a"))), Path::new("/etc/f"), empty);
    assert!(
        lines(&outcome.errors).contains("there is no key in `a`"),
        "{}",
        lines(&outcome.errors)
    );
    assert!(lines(&outcome.warnings).contains("everybody on this machine can read the key `a`"));
    let named = outcome.files.iter().any(|file| file.path == Path::new("/etc/a"));
    assert!(named, "it is watched");
}

#[test]
fn what_would_surprise_is_a_warning() {
    let said = warned(&text("{ bake: 1h }"));
    assert!(said.contains("a step bakes for 1h, and `step_deadline` is 30m"), "{said}");
    assert_eq!(warned(&text("{ bake: 1h, step_deadline: 2h }")), "");
    assert_eq!(warned(&text("{ strategy: rolling, bake: 1h }")), "");

    let approved = text("{ approval: approver }");
    let with = |admin: &str| warned(&format!("{approved}\nadmin: {{ {admin} }}\n"));
    assert!(
        warned(&approved).contains("rollout.approval: whoever reaches the admin API may approve")
    );
    let token = |role: &str| format!("tokens: [{{ name: t, file: t.token, role: {role} }}]");
    assert!(with(&token("operator")).contains("nobody has the role approver"));
    assert_eq!(with(&token("approver")), "");
    assert!(with("address: unix:a, unix_roles: [{ role: operator }]").contains("nobody but root"));
    assert_eq!(with("address: unix:a, unix_roles: [{ user: ann, role: approver }]"), "");
}

fn overridden(service: &Service, keys: serde_json::Value) -> Result<RolloutPlan, String> {
    rollout_plan(service, &keys).map_err(|problems| lines(&problems))
}

#[test]
fn a_start_overrides_keys_and_gates_one_by_one() {
    let mut spec = parsed(&text(
        "{ steps: [10, 100], bake: 1m, rolling: { parallelism: 2, delay: 1s }, \
         gates: { latency: off, prometheus: [{ name: q, url: \"http://p\", query: up, max: 1 }] } }",
    ));
    let service = &mut spec.services[0];
    let base = service.rollout.clone().unwrap();
    assert_eq!(overridden(service, json!({})).unwrap(), base);
    let gates = json!({ "error_rate": { "max": "2%" } });
    let plan = overridden(service, json!({ "bake": "5s", "gates": gates })).unwrap();
    let error_rate = Some(share(20_000));
    let expected = Gates { error_rate, ..base.gates.clone() };
    assert_eq!(plan, RolloutPlan { bake: Duration::from_secs(5), gates: expected, ..base.clone() });
    let plan = overridden(service, json!({ "rolling": { "delay": "3s" } })).unwrap();
    assert_eq!(plan.rolling.parallelism.get(), 1, "replaced whole");
    let plan = overridden(service, json!({ "strategy": "rolling" })).unwrap();
    assert_eq!(plan.steps, None, "those of another strategy");
    let plan =
        overridden(service, json!({ "strategy": "canary", "steps": [0.5, { "pause": null }] }));
    assert!(plan.unwrap_err().contains("steps[1].pause: there is no value"));

    let webhook = json!([{ "name": "q", "url": "http://a" }]);
    let said = overridden(service, json!({ "gates": { "webhooks": webhook } })).unwrap_err();
    assert!(said.contains("the other gate is that of the service"), "{said}");
    let said = overridden(service, json!({ "strategy": "ab_test", "to": "green" })).unwrap_err();
    assert!(
        said.contains("`ab_test` needs users") && said.contains("the key `to` is unknown"),
        "{said}"
    );
    service.rollout = Some(RolloutPlan { approval: Some(Role::Approver), ..base });
    let said = overridden(service, json!({ "approval": "operator" })).unwrap_err();
    assert!(said.contains("leaves approval to approvers"), "{said}");
    service.rollout = None;
    let stricter = overridden(service, json!({ "approval": "approver" })).unwrap();
    assert_eq!(stricter.approval, Some(Role::Approver));
    assert_eq!(overridden(service, json!({})).unwrap(), RolloutPlan::default());
    assert!(overridden(service, json!([])).is_err() && overridden(service, json!(null)).is_err());
}

#[test]
fn a_plan_in_full_is_read_as_the_same() {
    let spec = parsed(FULL);
    let service = &spec.services["shop"];
    let mut plan = service.rollout.clone().unwrap();
    // These are made up, and clients may only name those that are there.
    (plan.gates.webhooks[0].key_file, plan.hooks[0].key_file) = (None, None);
    let written = rollout_document(&plan);
    assert_eq!(overridden(&Service { rollout: None, ..service.clone() }, written).unwrap(), plan);
    let all = rollout_document(&RolloutPlan::default());
    assert_eq!(all["gates"]["regression"], json!({ "error_rate": "0.5%", "latency": "20%" }));
    assert_eq!((&all["holdback"], &all["approval"]), (&json!(5), &json!("operator")));
}

#[test]
fn changes_of_a_plan_have_their_paths() {
    let changes = |before: &str, after: &str| -> Vec<String> {
        let changes = super::changes(&parsed(&text(before)), &parsed(&text(after)));
        let path = |it: &str| it.trim_start_matches("services.s.rollout.").to_owned();
        changes.iter().map(|it| format!("{} {} {}", path(&it.path), it.from, it.to)).collect()
    };
    assert_eq!(
        changes(
            "{ bake: 1m }",
            "{ steps: [5, 0.5%], gates: { error_rate: { max: 2% } } }"
                .replace("[5, 0.5%]", "[0.5, 5]")
                .as_str()
        ),
        ["steps null [0.5,5]", "gates.error_rate.max \"1%\" \"2%\"", "bake \"1m\" \"10m\"",]
    );
    assert_eq!(changes("{}", "{ first_touch: off }"), ["first_touch null \"off\""]);
    let none = parsed(&text("{}").replace(", rollout: {}", ""));
    let one = super::changes(&none, &parsed(&text("{}")));
    assert_eq!((&*one[0].path, one.len()), ("services.s.rollout.strategy", 1));
}
