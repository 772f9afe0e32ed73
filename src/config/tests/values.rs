//! What particular values mean.

use super::*;
use crate::spec::*;
use std::time::Duration;

fn service(keys: &str) -> Service {
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:1 }}]\n\
         services: {{ s: {{ pools: {{ p: {{ backends: [a:1] }} }}, {keys} }} }}"
    );
    parsed(&text).services["s"].clone()
}

/// The message and fix of the only problem.
fn refused(keys: &str) -> String {
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:1 }}]\n\
         services: {{ s: {{ pools: {{ p: {{ backends: [a:1] }} }}, {keys} }} }}"
    );
    let outcome = read_text(&text);
    let [error] = &outcome.errors[..] else { panic!("{keys}: {}", lines(&outcome.errors)) };
    format!("{}; {}", error.message, error.fix)
}

fn pin(conditions: &str) -> Match {
    service(&format!("pins: [{{ {conditions}, pool: p }}]")).pins[0].matches.clone()
}

fn refused_pin(conditions: &str) -> String {
    refused(&format!("pins: [{{ {conditions}, pool: p }}]"))
}

#[test]
fn the_full_file_is_good() {
    let outcome = parse(FULL, Path::new("/etc/crossfade/c.yaml"), MADE_UP);
    assert_eq!(lines(&outcome.errors), "");
    assert_eq!(lines(&outcome.warnings), "");
    let spec = outcome.spec.unwrap();
    assert_comes_back(&spec);
    assert_eq!(spec.admin.address.to_string(), "unix:/etc/crossfade/run/admin.sock");
    assert_eq!(spec.admin.hosts, ["admin.example.com"]);
    assert_eq!(spec.listeners[0].trusted_proxies[0].to_string(), "10.0.0.0/8");
    assert_eq!(spec.listeners[0].trusted_proxies[1].to_string(), "::1/128");
    assert_eq!(spec.services["wish"], spec.services["cart"], "by an alias");
    let names: Vec<&str> = spec.routes.iter().map(|route| &*route.name).collect();
    assert_eq!(names, ["shop", "route-2", "route-3", "route-4", "route-5", "route-6"]);
}

#[test]
fn variables_come_from_the_environment() {
    let variable = |name: &str| (name == "PORT").then(|| "81".into());
    let outcome = parse(FULL, Path::new("f"), Surroundings { variable, ..MADE_UP });
    assert_eq!(outcome.spec.unwrap().listeners[0].address.port(), 81);
}

#[test]
fn one_service_needs_no_routes_and_one_pool_no_weight() {
    let spec = parsed(
        "listeners: [{ address: 127.0.0.1:1 }]\nservices: { s: { pools: { p: { backends: [a:1] } } } }",
    );
    assert_eq!(spec.routes.len(), 1);
    assert_eq!(spec.routes[0].matches, Match::default());
    assert_eq!(&**spec.routes[0].service().unwrap(), "s");
    assert_eq!(spec.services["s"].pools["p"].weight.get(), 100);
    assert_eq!(&*spec.services["s"].pools["p"].version, "p");
}

#[test]
fn several_need_both() {
    let outcome = read_text(
        "listeners: [{ address: 127.0.0.1:1 }]\n\
         services:\n  s: { pools: { p: { backends: [a:1] }, q: { backends: [b:1], weight: 1 } } }\n  t: { pools: { p: { backends: [a:1] } } }",
    );
    let paths: Vec<&str> = outcome.errors.iter().map(|it| &*it.path).collect();
    assert_eq!(paths, ["routes", "services.s.pools.p.weight"]);
}

#[test]
fn text_is_taken_as_it_is_written() {
    let matches = pin("headers: { Canary: true, b: 1.50, c: 'x', d: \"~\", e: '' }");
    let values: Vec<(&str, &ValueMatch)> =
        matches.headers.iter().map(|it| (&*it.name, &it.value)).collect();
    let text = |text: &str| ValueMatch::Exact(text.into());
    assert_eq!(
        values,
        [
            ("canary", &text("true")),
            ("b", &text("1.50")),
            ("c", &text("x")),
            ("d", &text("~")),
            ("e", &text("")),
        ]
    );
    assert!(refused_pin("headers: { a: }").starts_with("there is no value; "));
}

#[test]
fn field_matches() {
    assert_eq!(pin("query: { a: { present: true } }").query[0].value, ValueMatch::Present);
    assert!(
        refused_pin("query: { a: { present: false } }").starts_with("`false` is not supported")
    );
    assert!(refused_pin("query: { a: {} }").contains("exactly one of `regex` and `present`"));
    assert!(refused_pin("headers: { A: 1, a: 2 }").starts_with("this name is given twice"));
    assert!(refused_pin("headers: { 'a b': 1 }").starts_with("`a b` is not a header name"));
    assert!(refused_pin("cookies: { a: \"x\\ny\" }").starts_with("`x\\ny` is not a text"));
    assert!(refused_pin("path_regex: 'a)|(b'").contains("not a regular expression"));
    let long = format!("path_regex: {}", "a".repeat(4097));
    assert!(refused_pin(&long).ends_with("has 4097 bytes; use at most 4096"));
    assert!(refused_pin("path_regex: '(a{1000}){1000}'").contains("more than 64 KiB"));
}

#[test]
fn hosts() {
    let hosts = pin("hosts: [A.example.COM., '*.B.example', '[0::1]', 127.0.0.1]").hosts;
    let exact = |name: &str| HostPattern::Exact(name.into());
    assert_eq!(
        hosts,
        [
            exact("a.example.com"),
            HostPattern::Suffix("b.example".into()),
            exact("[::1]"),
            exact("127.0.0.1"),
        ]
    );
    for (bad, says) in [
        ("a.example:80", "use `a.example`"),
        ("'*'", "leave `hosts` out"),
        ("a.*.example", "is not a host"),
        ("http://a", "is not a host"),
        ("é.example", "is not a host"),
        ("'*.'", "is not a host"),
        ("a, A", "in the list already"),
    ] {
        let said = refused_pin(&format!("hosts: [{bad}]"));
        assert!(said.contains(says), "{bad}: {said}");
    }
}

#[test]
fn paths() {
    let path = |keys: &str| pin(keys).path;
    assert_eq!(path("path: /a/"), PathMatch::Exact("/a/".into()));
    assert_eq!(path("path_prefix: /a/"), PathMatch::Prefix("/a".into()));
    assert_eq!(path("path_prefix: /"), PathMatch::Prefix("".into()));
    for bad in ["a", "/a?b", "/a b", "/é", "''", "/a/../b", "/a#b"] {
        refused_pin(&format!("path: {bad}"));
        refused_pin(&format!("path_prefix: \"{}\"", bad.trim_matches('\'')));
    }
}

#[test]
fn pins_need_a_condition_and_a_pool_that_exists() {
    assert!(refused("pins: [{ pool: p }]").starts_with("this pin has no condition"));
    assert!(refused("pins: [{ path: /, pool: P }]").ends_with("did you mean `p`?"));
    assert!(refused("pins: [{ path: /, pool: green }]").ends_with("use one of `p`"));
}

#[test]
fn sticky_keys() {
    let sticky = |keys: &str| service(&format!("sticky: {{ {keys} }}")).sticky.unwrap();
    assert_eq!(sticky("header: X-User").key, StickyKey::Header("x-user".into()));
    assert_eq!(sticky("cookie: User").key, StickyKey::Cookie("User".into()));
    for (bad, says) in [
        ("", "0 of `cookie`"),
        ("cookie: a, client_address: true", "2 of `cookie`"),
        ("client_address: false", "`false` is not supported"),
        ("header: a, issue: true", "needs a cookie"),
        ("cookie: a, max_age: 1d", "`max_age` is of issued cookies"),
        ("cookie: 'a b'", "is not a cookie name"),
    ] {
        let said = refused(&format!("sticky: {{ {bad} }}"));
        assert!(said.contains(says), "{bad}: {said}");
    }
}

#[test]
fn numbers_and_units() {
    for (bad, says) in [
        ("timeouts: { drain: 30 }", "such as `30s`"),
        ("timeouts: { drain: 30sec }", "is not a duration"),
        ("timeouts: { drain: 400d }", "is too long"),
        ("timeouts: { connect: 0s }", "no time at all"),
        ("timeouts: { connect: [1s] }", "a list is not a duration"),
        ("limits: { body_bytes: 64k }", "did you mean `64KiB`?"),
        ("limits: { body_bytes: 0 }", "out of range"),
        ("limits: { body_bytes: much }", "is not a size"),
        ("limits: { in_flight: 0 }", "use 1 to 10000000"),
        ("limits: { queue_timeout: 0s }", "no time at all"),
        ("retries: { budget: 20 }", "write `20%`"),
        ("retries: { budget: 120% }", "is not a percentage"),
        ("retries: { attempts: 0 }", "use 1 to 10"),
        ("retries: { attempts: '2' }", "without quotes"),
        ("retries: { attempts: 2.0 }", "is not a whole number"),
        ("retries: { attempts: 99999999999999999999999 }", "out of range"),
        ("retries: { on: [connect, connect] }", "in the list already"),
        ("retries: { on: [conect] }", "did you mean `connect`?"),
        ("rescue: { to: P }", "did you mean `p`?"),
        ("rescue: { budget: 5% }", "the key `to` is missing"),
        ("rescue: { to: p, on: [] }", "the list is empty"),
        ("rescue: { to: p, on: [failures] }", "did you mean `failure`?"),
        ("expose_version: yes", "use `true` or `false`"),
    ] {
        let said = refused(bad);
        assert!(said.contains(says), "{bad}: {said}");
    }
    assert_eq!(service("timeouts: { request: 0s }").timeouts.request, Duration::ZERO);
}

#[test]
fn weights() {
    for (pool, says) in [
        ("weight: 0.5", "multiply them all"),
        ("weight: 1000001", "use 0 to 1000000"),
        ("weight: -1", "is not a whole number"),
        ("weight: 0", "sum to 0"),
    ] {
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:1 }}]\n\
             services: {{ s: {{ pools: {{ p: {{ backends: [a:1], {pool} }} }} }} }}"
        );
        let outcome = read_text(&text);
        assert_eq!(outcome.errors.len(), 1, "{}", lines(&outcome.errors));
        assert!(outcome.errors[0].to_string().contains(says), "{}", outcome.errors[0]);
    }
}

#[test]
fn addresses() {
    let error = |file: &str| {
        let outcome = read_text(&format!(
            "{file}\nservices: {{ s: {{ pools: {{ p: {{ backends: [a:1] }} }} }} }}"
        ));
        lines(&outcome.errors)
    };
    for (address, says) in [
        (":8080", "did you mean `0.0.0.0:8080`?"),
        ("8080", "did you mean `0.0.0.0:8080`?"),
        ("localhost:80", "did you mean `127.0.0.1:80`?"),
        ("127.0.0.1", "the port is missing"),
        ("example.com:80", "use IP:PORT"),
        ("1.2.3.4:99999", "use IP:PORT"),
    ] {
        let said = error(&format!("listeners: [{{ address: \"{address}\" }}]"));
        assert!(said.contains(says) && said.lines().count() == 1, "{said}");
    }
    let listeners = "listeners: [{ address: 127.0.0.1:1 }]";
    assert_eq!(error(listeners), "");
    let said = error(&format!("{listeners}\nadmin: {{ address: 127.0.0.1:1 }}"));
    assert!(said.contains("also the address of a listener"), "{said}");
    let said = error(&format!("{listeners}\nadmin: {{ address: 0.0.0.0:9900 }}"));
    assert!(said.contains("nobody has to show"), "{said}");
    assert_eq!(error(&format!("{listeners}\nadmin: {{ address: 0.0.0.0:9, insecure: true }}")), "");
    let long = format!("{listeners}\nadmin: {{ address: 'unix:/{}' }}", "x".repeat(107));
    assert!(error(&long).contains("a socket's path has at most 107"));
}

#[test]
fn a_proxy_header_needs_somebody_who_may_send_it() {
    let said = |keys: &str| {
        lines(
            &read_text(&format!(
                "listeners: [{{ address: 127.0.0.1:1, {keys} }}]\n\
             services: {{ s: {{ pools: {{ p: {{ backends: [a:1] }} }} }} }}"
            ))
            .errors,
        )
    };
    assert_eq!(said("proxy_protocol: require, trusted_proxies: [10.0.0.1]"), "");
    assert_eq!(said("proxy_protocol: off"), "");
    for keys in ["proxy_protocol: accept", "proxy_protocol: require, trusted_proxies: []"] {
        assert!(said(keys).contains(":1:53: "), "{}", said(keys));
        assert!(said(keys).contains("`trusted_proxies` is empty"), "{}", said(keys));
    }
    let misspelt = said("proxy_protocol: accept, trusted_proxys: [10.0.0.1]");
    assert_eq!(misspelt.lines().count(), 1, "{misspelt}");
}

#[test]
fn how_names_are_resolved() {
    let read = |resolver: &str| {
        read_text(&format!(
            "listeners: [{{ address: 127.0.0.1:1 }}]\n\
             services: {{ s: {{ pools: {{ p: {{ backends: ['dns:a:80', 'srv:_a'] }} }} }} }}\n\
             resolver: {{ {resolver} }}"
        ))
    };
    let good = read("nameservers: [10.0.0.2, '[::1]:5353'], min_ttl: 5s, families: ipv6");
    assert_eq!(lines(&good.errors), "");
    let resolver = good.spec.unwrap().resolver;
    let servers = ["10.0.0.2:53", "[::1]:5353"].map(|server| server.parse().unwrap());
    assert_eq!(resolver.nameservers, servers);
    assert_eq!((resolver.families, resolver.min_ttl.as_secs()), (Families::V6, 5));
    for (wrong, says) in [
        ("nameservers: [dns.internal]", "is not the address of a name server"),
        ("nameservers: ['10.0.0.2:0']", "is not the address of a name server"),
        ("min_ttl: 10s, max_ttl: 5s", "`min_ttl` is 10s, which is more than `max_ttl`, 5s"),
        ("min_ttl: 10m", "more than `max_ttl`, 5m"),
    ] {
        let said = lines(&read(wrong).errors);
        assert!(said.contains(says), "{wrong}: {said}");
    }
}

/// What is reported of a file with two services, two pools, a pin, a check and a sticky cookie after
/// `right` became `wrong` in it.
fn one_slip(right: &str, wrong: &str) -> String {
    const GOOD: &str = "listeners: [{ address: 127.0.0.1:1 }]
services:
  s:
    pools:
      blue: { weight: 1, backends: [{ address: a:1 }] }
      green: { weight: 0, backends: [b:1] }
    pins: [{ headers: { canary: yes }, pool: green }]
    sticky: { cookie: user, issue: true, max_age: 1h }
    health_check: { path: /health }
  t: { pools: { p: { backends: [c:1] } } }
routes: [{ service: s }, { match: { path: /old }, redirect: { url: /x } }]
";
    assert_eq!(lines(&read_text(GOOD).errors), "");
    assert!(GOOD.contains(right), "{right}");
    lines(&read_text(&GOOD.replacen(right, wrong, 1)).errors)
}

#[test]
fn a_misspelt_key_is_one_mistake() {
    for (right, wrong) in [
        ("listeners:", "listners:"),
        ("services:", "servces:"),
        ("routes:", "rutes:"),
        ("pools:", "pool:"),
        ("weight: 1", "wieght: 1"),
        ("backends: [b:1]", "backend: [b:1]"),
        ("{ address: a:1", "{ adress: a:1"),
        ("pool: green", "pol: green"),
        ("cookie: user", "cookei: user"),
        ("issue: true", "isue: true"),
        ("{ path: /health", "{ pth: /health"),
        ("service: s", "srvice: s"),
        ("redirect: { url: /x", "redirct: { url: /x"),
    ] {
        let said = one_slip(right, wrong);
        assert_eq!(said.lines().count(), 1, "{wrong}\n{said}");
        let key = right.split(':').next().unwrap().trim_start_matches("{ ");
        assert!(said.contains(&format!("did you mean `{key}`?")), "{wrong}\n{said}");
    }
}

#[test]
fn a_service_with_more_pools_than_a_split_can_hold_is_refused() {
    let file = |pools: usize| {
        let pools: String = (0..pools)
            .map(|n| format!("      p{n}: {{ weight: 1, backends: [\"a:1\"] }}\n"))
            .collect();
        format!(
            "listeners: [{{ address: \"127.0.0.1:1\" }}]\nservices:\n  shop:\n    pools:\n{pools}"
        )
    };
    assert!(read_text(&file(64)).spec.is_some());
    let outcome = read_text(&file(65));
    assert!(outcome.spec.is_none());
    assert!(
        lines(&outcome.errors).contains(":5:7: services.shop.pools: 65 pools"),
        "{:?}",
        outcome.errors
    );
}
