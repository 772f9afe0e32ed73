//! The admin API over real sockets, in front of a real control task.

#[path = "support/mod.rs"]
mod support;

#[path = "support/admin.rs"]
mod api;

use api::{Api, assert_problem, eventually, json};
use crossfade::spec::{HostPattern, Match, Pin, Route, Spec, UnhealthyPool};
use http::Request;
use serde_json::{Value, json};
use std::{io::Write, process::Stdio, sync::Arc, time::Duration};
use support::*;
use tokio::sync::Notify;

/// A shop with blue at 95 and green at 5, each with one backend.
async fn shop() -> (Backend, Backend, Api) {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let api = Api::start(two_pools(&blue, &green)).await;
    (blue, green, api)
}

fn two_pools(blue: &Backend, green: &Backend) -> Spec {
    spec(&[
        ("blue", pool("v1", 95, &[blue.spec_address()])),
        ("green", pool("v2", 5, &[green.spec_address()])),
    ])
}

/// A backend whose replies wait for a word, and one that has none to wait for.
async fn slow_shop() -> (Arc<Notify>, Backend, Backend, Api) {
    let (blue, word) = Backend::waiting("blue").await;
    let green = Backend::named("green").await;
    let mut spec = two_pools(&blue, &green);
    spec.services["shop"].pools["blue"].weight = crossfade::spec::Weight::ONE;
    spec.services["shop"].pools["green"].weight = crossfade::spec::Weight::ZERO;
    let api = Api::start(spec).await;
    (word, blue, green, api)
}

#[tokio::test]
async fn everything_promised_is_mounted_and_described() {
    let (_b, _g, api) = shop().await;
    let pool = "/v1/services/{service}/pools/{pool}";
    let promised = [
        ("get", "/healthz"),
        ("get", "/readyz"),
        ("get", "/metrics"),
        ("get", "/v1/openapi.json"),
        ("get", "/v1/status"),
        ("get", "/v1/config"),
        ("put", "/v1/config"),
        ("get", "/v1/services"),
        ("get", "/v1/services/{service}"),
        ("put", "/v1/services/{service}/weights"),
        ("post", "/v1/services/{service}/cutover"),
        ("put", pool),
        ("delete", pool),
        ("post", &format!("{pool}/drain")),
        ("post", &format!("{pool}/undrain")),
        ("put", &format!("{pool}/backends/{{address}}")),
        ("delete", &format!("{pool}/backends/{{address}}")),
        ("post", &format!("{pool}/backends/{{address}}/drain")),
        ("post", &format!("{pool}/backends/{{address}}/undrain")),
        ("post", "/v1/services/{service}/drain"),
        ("post", "/v1/services/{service}/undrain"),
        ("post", "/v1/services/{service}/hold"),
        ("post", "/v1/services/{service}/release"),
        ("get", "/v1/holds"),
        ("get", "/v1/drains"),
        ("post", "/v1/services/{service}/rollout"),
        ("get", "/v1/services/{service}/rollout"),
        ("post", "/v1/services/{service}/rollout/pause"),
        ("post", "/v1/services/{service}/rollout/resume"),
        ("post", "/v1/services/{service}/rollout/promote"),
        ("post", "/v1/services/{service}/rollout/abort"),
        ("post", "/v1/services/{service}/rollout/retry"),
        ("get", "/v1/rollouts"),
        ("get", "/v1/audit"),
        ("get", "/v1/ledger"),
        ("post", "/v1/reload"),
        ("post", "/v1/plan"),
    ];
    let described = api.described();
    assert!(described["openapi"].as_str().unwrap().starts_with("3.1"), "{}", described["openapi"]);
    for (method, path) in promised {
        let operation = &described["paths"][path][method];
        assert!(operation["responses"]["200"].is_object(), "{method} {path}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            let said = response["description"].as_str().unwrap_or_default();
            assert!(!said.is_empty(), "{method} {path} {status}: a response has a description");
        }
        let is_change = method != "get";
        for status in ["400", "404", "409", "412", "422", "504"] {
            let always = operation["responses"][status].is_object();
            assert!(always || !is_change, "{method} {path} {status}");
        }
        let has_body = operation["requestBody"].is_object();
        assert_eq!(has_body, ["put", "post"].contains(&method), "{method} {path}");
        for status in ["408", "413", "415"] {
            assert_eq!(operation["responses"][status].is_object(), has_body, "{method} {path}");
        }
        // Mounted: whatever it answers, it is not "no such path" or "no such method".
        let path =
            path.replace("{service}", "x").replace("{pool}", "x").replace("{address}", "x:1");
        let answer =
            api.ask(Request::builder().method(&*method.to_uppercase()).uri(path), "").await;
        let problem = serde_json::from_str::<Value>(&answer.text).unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(!detail.contains("/v1/openapi.json"), "{detail}");
    }
}

#[tokio::test]
async fn every_reference_of_the_description_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(keys) => {
                found.extend(keys.get("$ref").and_then(Value::as_str));
                keys.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let (_b, _g, api) = shop().await;
    let described = api.described();
    let mut found = Vec::new();
    references(described, &mut found);
    for reference in &found {
        let target = reference.strip_prefix('#').and_then(|path| described.pointer(path));
        assert!(target.is_some(), "{reference}");
    }
    assert!(found.len() > 50, "{}", found.len());
    let schemas = &described["components"]["schemas"];
    for (body, has, has_not) in [
        ("PoolBody", ["version", "force"], "weights"),
        ("BackendBody", ["weight", "cause"], "address"),
        ("RolloutBody", ["to", "bake"], "weights"),
    ] {
        let keys = schemas[body]["properties"].as_object().unwrap();
        assert!(has.iter().all(|key| keys.contains_key(*key)), "{body}: {keys:?}");
        assert!(!keys.contains_key(has_not), "{body}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let (_b, _g, api) = shop().await;
    for path in ["/v2", "/v1/services/shop/", "/v1/services/shop/pools", "/metrics/x"] {
        let answer = api.raw(Request::get(path), "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert_problem(&answer);
    }
    let answer = api.raw(Request::delete("/v1/config"), "").await;
    assert_eq!(answer.status, 405);
    assert!(answer.header("allow").contains("PUT"), "{}", answer.header("allow"));
    assert_problem(&answer);
    let answer = api.raw(Request::get("/v1/services/%ff"), "").await;
    assert_eq!(answer.status, 400);
    assert_problem(&answer);
    assert_eq!(api.get("/").await.status, 200);
    assert_eq!(api.get("/v1/services/other").await.status, 404);
}

#[tokio::test]
async fn a_service_shows_what_is_in_force_and_what_it_does() {
    let (_b, _g, api) = shop().await;
    let mut client = api.proxy.h1().await;
    for _ in 0..100 {
        client.get("/").await;
    }
    let service = api.service().await;
    assert_eq!(service["name"], "shop");
    assert_eq!(service["revision"], 1);
    assert_eq!(service["rollout"], Value::Null);
    let blue = &service["pools"][0];
    assert_eq!(blue["name"], "blue");
    assert_eq!(blue["version"], "v1");
    assert_eq!(blue["weight"], 95);
    assert_eq!(blue["effective_weight"], 0.95);
    assert_eq!(blue["state"], "active");
    assert_eq!(blue["in_flight"], 0);
    assert_eq!(blue["in_flight_by_kind"], json!({"request": 0, "stream": 0, "tunnel": 0}));
    assert_eq!(blue["backends"][0]["healthy"], true);
    assert_eq!(blue["backends"][0]["state"], "active");
    assert_eq!(blue["error_rate"], 0.0);
    let rate = blue["rate"].as_f64().unwrap() + service["pools"][1]["rate"].as_f64().unwrap();
    assert!(rate > 3.0, "{rate}");
    let quantile = |name: &str| blue[name].as_f64().unwrap();
    assert!(0.0 < quantile("p50") && quantile("p50") <= quantile("p95"));
    assert!(quantile("p95") <= quantile("p99") && quantile("p99") < 20.0);

    assert_eq!(api.get("/v1/services").await.json()[0]["name"], "shop");
    let status = api.get("/v1/status").await.json();
    assert_eq!(status["phase"], "ready");
    assert_eq!(status["revision"], 1);
    assert_eq!(status["config"], json!({"file": null, "loaded_at": null, "error": null}));
    assert_eq!(status["needs_restart"], json!([]));
    assert_eq!(status["listeners"][0]["address"], api.proxy.address.to_string());
    assert_eq!(status["listeners"][0]["connections"]["h1"], 1);
    assert_eq!(status["services"][0]["pools"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_share_of_an_unhealthy_pool_is_seen_to_move() {
    let (blue, green) = (Backend::named("blue").await, dead_address());
    for (unhealthy, shares) in
        [(UnhealthyPool::Redistribute, [1.0, 0.0]), (UnhealthyPool::Fail, [0.75, 0.25])]
    {
        let mut spec = spec(&[
            ("blue", pool("v1", 3, &[blue.spec_address()])),
            ("green", pool("v2", 1, std::slice::from_ref(&green))),
        ]);
        let shop = &mut spec.services["shop"];
        shop.unhealthy_pool = unhealthy;
        shop.health_check = Some(health_check());
        let api = Api::start(spec).await;
        let mut seen = Value::Null;
        eventually("blue is healthy", async || {
            seen = api.service().await["pools"].clone();
            seen[0]["backends"][0]["healthy"] == true
        })
        .await;
        for (pool, share) in shares.into_iter().enumerate() {
            assert_eq!(seen[pool]["effective_weight"], share, "{unhealthy:?}");
        }
        assert_eq!(seen[1]["backends"][0]["healthy"], false);
        let page = api.get("/metrics").await.text;
        let labels = "service=\"shop\",pool=\"green\",version=\"v2\"";
        let share = shares[1];
        assert!(
            page.contains(&format!("crossfade_weight{{{labels},kind=\"effective\"}} {share}\n"))
        );
        assert!(page.contains(&format!("crossfade_weight{{{labels},kind=\"configured\"}} 1\n")));
    }
}

#[tokio::test]
async fn weights_answer_with_a_receipt() {
    let (_b, _g, api) = shop().await;
    let path = "/v1/services/shop/weights";
    let body = json!({"weights": {"green": 50}, "cause": "half"});
    let dry = api.put(&format!("{path}?dry_run=true"), body.clone()).await;
    assert_eq!(dry.status, 200);
    assert!(dry.json().get("revision").is_none(), "{}", dry.text);
    let change = json!([{"path": "services.shop.pools.green.weight", "from": 5, "to": 50}]);
    assert_eq!(dry.json()["changed"], change);
    assert_eq!(api.service().await["pools"][1]["weight"], 5);

    let receipt = api.put(path, body.clone()).await.json();
    assert_eq!(receipt["revision"], 2);
    assert_eq!(receipt["author"], "api");
    assert_eq!(receipt["cause"], "half");
    assert_eq!(receipt["changed"], change);
    assert!(receipt["at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{receipt}");
    for list in ["in_flight", "drains", "warnings"] {
        assert!(receipt[list].is_array(), "{list}: {receipt}");
    }
    assert_eq!(api.service().await["pools"][1]["weight"], 50);

    let again = api.put(path, body).await;
    assert_eq!((again.status.as_u16(), again.json()["revision"].as_u64()), (200, Some(2)));
    assert_eq!(again.json()["changed"], json!([]));
}

#[tokio::test]
async fn what_is_wrong_with_a_change_is_told_at_once() {
    let (_b, _g, api) = shop().await;
    let path = "/v1/services/shop/weights?wiat=3s";
    let body = json!({"weights": {"blue": -1, "green": 1_000_001, "red": "x"}, "couse": "typo",
        "force": "maybe"});
    let answer = api.put(path, body).await;
    assert_eq!(answer.status, 422);
    let errors = answer.json()["errors"].clone();
    let keys: Vec<&str> = errors.as_array().unwrap().iter().map(|e| e.as_str().unwrap()).collect();
    for key in ["wiat", "couse", "weights.blue", "weights.green", "weights.red", "force"] {
        assert_eq!(
            keys.iter().filter(|e| e.starts_with(&format!("{key}:"))).count(),
            1,
            "{keys:?}"
        );
    }
    for (path, body, status) in [
        ("/v1/services/shop/weights", json!({}), 422),
        ("/v1/services/shop/weights", json!([]), 422),
        ("/v1/services/shop/weights", json!({"weights": {"blue": 0, "green": 0}}), 422),
        ("/v1/services/shop/weights", json!({"weights": {"red": 1}}), 404),
        ("/v1/services/none/weights", json!({"weights": {"blue": 1}}), 404),
    ] {
        assert_eq!(api.put(path, body.clone()).await.status, status, "{path} {body}");
    }
    let cutover = "/v1/services/shop/cutover";
    assert_eq!(api.post(cutover, json!({})).await.status, 422);
    assert_eq!(api.post(cutover, json!({"to": 3})).await.status, 422);
    assert_eq!(api.post(cutover, json!({"to": "red"})).await.status, 404);
    assert_eq!(
        api.post("/v1/services/shop/pools/blue/drain?dry_run=1", json!({})).await.status,
        422
    );
    assert_eq!(api.service().await["revision"], 1, "nothing of it was done");
}

#[tokio::test]
async fn bodies_must_be_json_and_of_a_size() {
    let (_b, _g, api) = shop().await;
    let path = "/v1/services/shop/weights";
    let good = r#"{"weights": {"blue": 1}}"#;
    for (content_type, status) in [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json-patch+json", 415),
    ] {
        let request = Request::put(path).header("content-type", content_type);
        assert_eq!(api.ask(request, good).await.status, status, "{content_type}");
    }
    assert_eq!(api.ask(Request::put(path), good).await.status, 415);
    assert_eq!(api.ask(json(Request::put(path)), "{\"weights\": ").await.status, 400);
    assert_eq!(api.ask(json(Request::put("/v1/config")), "services: {}").await.status, 400);
    let drain = "/v1/services/shop/pools/green/drain";
    assert_eq!(api.ask(Request::post(drain), "").await.status, 200, "no body is {{}}");
    let long = format!("{{\"cause\": \"{}\"}}", "x".repeat(1 << 20));
    assert_eq!(api.ask(json(Request::post(drain)), long.clone()).await.status, 413);
    // A configuration may be longer, so it is read and judged.
    assert_eq!(api.ask(json(Request::put("/v1/config")), long).await.status, 422);
    let long = "x".repeat((16 << 20) + 1);
    assert_eq!(api.ask(json(Request::put("/v1/config")), long).await.status, 413);
}

#[tokio::test]
async fn if_match_makes_a_change_conditional() {
    let (_b, _g, api) = shop().await;
    let tag = api.get("/v1/config").await.header("etag").to_owned();
    assert_eq!(tag, "\"1\"");
    let path = "/v1/services/shop/weights";
    let put = async |tag: &str, green: u32| {
        let body = json!({"weights": {"green": green}}).to_string();
        api.ask(json(Request::put(path)).header("if-match", tag), body).await.status.as_u16()
    };
    assert_eq!(put(&tag, 6).await, 200);
    assert_eq!(put(&tag, 7).await, 412);
    assert_eq!(put("W/\"2\"", 7).await, 412);
    assert_eq!(put("2", 7).await, 400);
    assert_eq!(put("\"9\", \"2\"", 7).await, 200);
    assert_eq!(put("*", 8).await, 200);
    assert_eq!(api.service().await["revision"], 4);
}

#[tokio::test]
async fn a_cutover_waits_for_what_it_left() {
    let (word, _blue, _green, api) = slow_shop().await;
    let mut client = api.proxy.h1().await;
    let slow = tokio::spawn(async move { client.get("/").await.text().to_owned() });
    until("a request is in flight", || api.proxy.open() == 1).await;

    let cutover = "/v1/services/shop/cutover";
    let late = api.post(&format!("{cutover}?wait=1ms"), json!({"to": "green"})).await;
    assert_eq!(late.status, 504);
    let late = late.json();
    assert_eq!(late["open"], 1);
    assert_eq!(late["receipt"]["revision"], 2);
    let left = &late["receipt"]["in_flight"][0];
    assert_eq!(left["service"], "shop");
    assert_eq!(left["pool"], "blue");
    assert_eq!(left["request"], 1);
    assert_eq!(api.service().await["pools"][1]["weight"], 1, "the change stands");
    assert_eq!(api.service().await["pools"][0]["in_flight_by_kind"]["request"], 1);

    word.notify_one();
    assert_eq!(slow.await.unwrap(), "blue");

    // Back, and away again: this time in time.
    api.post(cutover, json!({"to": "blue"})).await;
    let mut client = api.proxy.h1().await;
    let slow = tokio::spawn(async move { client.get("/").await.text().to_owned() });
    until("a request is in flight", || api.proxy.open() == 1).await;
    let path = format!("{cutover}?wait=1m");
    let (waited, ()) = tokio::join!(api.post(&path, json!({"to": "green"})), async {
        eventually("green has the weight", async || api.service().await["pools"][1]["weight"] == 1)
            .await;
        // The weight is seen before the receipt has counted; what asks next comes behind both.
        let same = api.put("/v1/services/shop/weights", json!({"weights": {"green": 1}})).await;
        assert_eq!(same.status, 200);
        word.notify_one();
    });
    assert_eq!(waited.status, 200);
    assert_eq!(waited.json()["in_flight"][0]["request"], 1);
    assert_eq!(slow.await.unwrap(), "blue");
}

#[tokio::test]
async fn traffic_to_an_unhealthy_pool_must_be_forced() {
    let blue = Backend::named("blue").await;
    let mut spec = spec(&[
        ("blue", pool("v1", 1, &[blue.spec_address()])),
        ("green", pool("v2", 0, &[dead_address()])),
    ]);
    spec.services["shop"].health_check = Some(health_check());
    let api = Api::start(spec).await;
    api.proxy.ready().await;
    let refused = api.post("/v1/services/shop/cutover", json!({"to": "green"})).await;
    assert_eq!(refused.status, 409);
    assert!(refused.json()["detail"].as_str().unwrap().contains("green"), "{}", refused.text);
    let path = "/v1/services/shop/weights?wait_healthy=1ms";
    assert_eq!(api.put(path, json!({"weights": {"green": 1}})).await.status, 409);
    let forced = api.post("/v1/services/shop/cutover", json!({"to": "green", "force": true})).await;
    assert_eq!(forced.status, 200);
}

#[tokio::test]
async fn pools_come_and_go() {
    let (blue, _g, mut api) = {
        let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
        let mut spec = two_pools(&blue, &green);
        let shop = &mut spec.services["shop"];
        let matches = Match { methods: vec!["GET".into()], ..Match::default() };
        shop.pins.push(Pin { matches, from: Vec::new(), pool: "green".into() });
        let api = Api::start(spec).await;
        (blue, green, api)
    };
    let path = "/v1/services/shop/pools/red";
    let red = json!({"version": "v3", "backends": [blue.address.to_string()], "cause": "try"});
    assert_eq!(api.put(&format!("{path}?dry_run=true"), red.clone()).await.status, 200);
    let created = api.put(path, red.clone()).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.json()["cause"], "try");
    assert_eq!(api.service().await["pools"][2]["weight"], 0, "a new pool gets nothing yet");
    api.put("/v1/services/shop/weights", json!({"weights": {"red": 7}})).await;
    let mut replaced = red.clone();
    replaced["version"] = json!("v4");
    assert_eq!(api.put(path, replaced).await.status, 200);
    let pool = api.service().await["pools"][2].clone();
    assert_eq!((&pool["version"], &pool["weight"]), (&json!("v4"), &json!(7)));

    let bad = api.put(path, json!({"version": 1, "backend": [], "backends": ["nowhere"]})).await;
    assert_eq!(bad.status, 422);
    assert!(bad.json()["errors"].as_array().unwrap().len() >= 2, "{}", bad.text);

    assert_eq!(api.delete(path).await.status, 200);
    assert_eq!(api.delete(path).await.status, 404);
    assert_eq!(api.delete("/v1/services/shop/pools/green").await.status, 409, "a pin names it");
    api = Api::start(two_pools(&blue, &blue)).await;
    assert_eq!(api.delete("/v1/services/shop/pools/green").await.status, 200);
    assert_eq!(api.delete("/v1/services/shop/pools/blue").await.status, 409, "the only one");
}

#[tokio::test]
async fn backends_come_and_go_under_either_spelling() {
    let (_b, green, api) = shop().await;
    let address = green.address.to_string();
    let pool = "/v1/services/shop/pools/blue/backends";
    let encoded = format!("{pool}/{}", address.replace(':', "%3A"));
    assert_eq!(api.ask(Request::put(&encoded), "").await.status, 201);
    let plain = format!("{pool}/{address}");
    let changed = api.put(&plain, json!({"weight": 3})).await;
    assert_eq!(changed.status, 200);
    let backends = api.service().await["pools"][0]["backends"].clone();
    assert_eq!(backends[1]["address"], *address);
    assert_eq!(backends[1]["weight"], 3);
    assert_eq!(api.delete(&plain).await.status, 200);
    assert_eq!(api.delete(&encoded).await.status, 404);
    assert_eq!(api.put(&format!("{pool}/%5B::1%5D:80"), json!({})).await.status, 201);
    assert_eq!(api.put(&format!("{pool}/nowhere"), json!({})).await.status, 422);
    assert_eq!(api.delete(&format!("{pool}/nowhere")).await.status, 404);
    assert_eq!(api.put(&plain, json!({"weight": 1, "wait": "x"})).await.status, 422);
}

#[tokio::test]
async fn a_drain_is_seen_until_it_is_over() {
    let (word, blue, _green, api) = slow_shop().await;
    let mut client = api.proxy.h1().await;
    let slow = tokio::spawn(async move { client.get("/").await.text().to_owned() });
    until("a request is in flight", || api.proxy.open() == 1).await;
    let backend = format!("/v1/services/shop/pools/blue/backends/{}", blue.address);
    let receipt = api.post(&format!("{backend}/drain"), json!({})).await.json();
    let id = receipt["drains"][0].clone();
    let state = async || api.service().await["pools"][0]["backends"][0]["state"].clone();
    assert_eq!(state().await, "draining");
    let drains = api.get("/v1/drains").await.json();
    assert_eq!(drains.as_array().unwrap().len(), 1);
    let drain = &drains[0];
    assert_eq!(drain["id"], id);
    assert_eq!(drain["service"], "shop");
    assert_eq!(drain["pool"], "blue");
    assert_eq!(drain["backend"], blue.address.to_string());
    assert_eq!(drain["in_flight"], json!({"request": 1, "stream": 0, "tunnel": 0}));
    assert_eq!(drain["cut"], 0);
    let time = |key: &str| drain[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time("since") < time("deadline"));
    let labels = "service=\"shop\",pool=\"blue\",version=\"v1\"";
    let active = format!("crossfade_drains_active{{{labels}}} 1\n");
    assert!(api.get("/metrics").await.text.contains(&active));

    word.notify_one();
    assert_eq!(slow.await.unwrap(), "blue");
    eventually("the drain is over", async || api.get("/v1/drains").await.json() == json!([])).await;
    assert_eq!(state().await, "drained");
    assert_eq!(api.post(&format!("{backend}/undrain"), json!({})).await.status, 200);
    assert_eq!(state().await, "active");
    api.post("/v1/services/shop/pools/blue/drain", json!({})).await;
    assert_eq!(api.service().await["pools"][0]["state"], "drained");
    let other = "/v1/services/shop/pools/blue/backends/127.0.0.1:1/drain";
    assert_eq!(api.post(other, json!({})).await.status, 404);
}

#[tokio::test]
async fn several_are_drained_at_once_or_none() {
    let (blue, green, api) = shop().await;
    let backends = format!("/v1/services/shop/pools/blue/backends/{}", green.address);
    api.put(&backends, json!({})).await;
    let pool = "/v1/services/shop/pools/blue";
    let (one, two) = (blue.address.to_string(), green.address.to_string());
    let states = async || {
        let backends = api.service().await["pools"][0]["backends"].clone();
        [0, 1].map(|at: usize| backends[at]["state"].as_str().unwrap().to_owned())
    };
    let unknown = json!({"backends": [one, "127.0.0.1:1"]});
    assert_eq!(api.post(&format!("{pool}/drain"), unknown).await.status, 404);
    for wrong in [json!({"backends": []}), json!({"backends": one}), json!({"backends": [1]})] {
        assert_eq!(api.post(&format!("{pool}/drain"), wrong.clone()).await.status, 422, "{wrong}");
    }
    assert_eq!(states().await, ["active", "active"]);
    let both = json!({"backends": [one, two]});
    let receipt = api.post(&format!("{pool}/drain"), both.clone()).await.json();
    assert_eq!(receipt["changed"].as_array().unwrap().len(), 2, "{receipt}");
    assert_eq!(states().await, ["drained", "drained"]);
    let desired = api.get("/v1/config").await.json();
    assert_eq!(desired["services"]["shop"]["pools"]["blue"]["backends"][1]["drained"], true);
    assert_eq!(api.post(&format!("{pool}/undrain"), both).await.status, 200);
    assert_eq!(states().await, ["active", "active"]);

    assert_eq!(api.post("/v1/services/shop/drain", json!({})).await.status, 200);
    let refused = api.proxy.h1().await.get("/").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["x-crossfade-error"], "draining");
    assert_eq!(api.post("/v1/services/shop/undrain", json!({})).await.status, 200);
    assert_eq!(api.proxy.h1().await.get("/").await.status, 200);
}

#[tokio::test]
async fn a_service_is_held_and_released() {
    let (_blue, _green, api) = shop().await;
    let shop = "/v1/services/shop";
    for wrong in [json!({"for": 3}), json!({"for": "2h"}), json!({"fro": "3s"})] {
        assert_eq!(api.post(&format!("{shop}/hold"), wrong.clone()).await.status, 422, "{wrong}");
    }
    assert_eq!(api.post("/v1/services/none/hold", json!({})).await.status, 404);
    let body = json!({"for": "1h", "cause": "restart"});
    let receipt = api.post(&format!("{shop}/hold"), body).await.json();
    assert_eq!((&receipt["revision"], &receipt["changed"]), (&json!(1), &json!([])));
    assert_eq!(receipt["hold"]["service"], "shop");
    let mut client = api.proxy.h1().await;
    let waits = tokio::spawn(async move { client.get("/").await.status });
    eventually("it waits", async || api.get("/v1/holds").await.json()[0]["waiting"] == 1).await;
    assert!(api.get("/metrics").await.text.contains("crossfade_held{service=\"shop\"} 1\n"));
    let dry = api.post(&format!("{shop}/release?dry_run=true"), json!({})).await;
    assert_eq!(
        (dry.status.as_u16(), api.get("/v1/holds").await.json()[0]["waiting"].as_u64()),
        (200, Some(1))
    );
    let receipt = api.post(&format!("{shop}/release"), json!({})).await.json();
    assert_eq!(receipt["released"]["held"], 1);
    assert_eq!(waits.await.unwrap(), 200);
    assert_eq!(api.get("/v1/holds").await.json(), json!([]));
}

#[tokio::test]
async fn the_ledger_is_balanced_and_exported() {
    let (_blue, _green, api) = shop().await;
    for _ in 0..10 {
        assert_eq!(api.proxy.h1().await.get("/").await.status, 200);
    }
    until("all have ended", || api.proxy.open() == 0).await;
    let ledger = api.get("/v1/ledger").await.json();
    let sum = |key: &str| -> u64 {
        ledger.as_array().unwrap().iter().map(|entry| entry[key].as_u64().unwrap()).sum()
    };
    assert_eq!([sum("started"), sum("finished"), sum("cut"), sum("open")], [10, 10, 0, 0]);
    let metrics = api.get("/metrics").await.text;
    for kind in ["started_total", "finished_total", "cut_total", "open"] {
        let sample = format!("crossfade_tickets_{kind}{{service=\"shop\",pool=\"blue\"");
        assert!(metrics.contains(&sample), "{kind}");
    }
}

#[tokio::test]
async fn the_config_comes_back_as_it_was_given() {
    let (_b, _g, api) = shop().await;
    let before = api.get("/v1/config").await;
    let mut document = before.json();
    let same = api.put("/v1/config", document.clone()).await;
    assert_eq!((same.status.as_u16(), &same.json()["changed"]), (200, &json!([])));

    document["services"]["shop"]["pools"]["green"]["weight"] = json!(20);
    let receipt = api.put("/v1/config", document.clone()).await.json();
    assert_eq!(receipt["changed"][0]["path"], "services.shop.pools.green.weight");
    let after = api.get("/v1/config").await;
    assert_eq!(after.json(), document);
    assert_eq!(after.header("etag"), "\"2\"");

    document["services"]["shop"]["pools"]["green"]["wieght"] = json!(20);
    document["routes"][0]["service"] = json!("none");
    document["listeners"][0]["address"] = json!("${HOME}");
    let refused = api.put("/v1/config", document).await;
    assert_eq!(refused.status, 422);
    assert!(refused.json()["errors"].as_array().unwrap().len() >= 3, "{}", refused.text);
    assert!(!refused.text.contains(&std::env::var("HOME").unwrap()), "{}", refused.text);
    assert_eq!(api.ask(json(Request::put("/v1/config")), "").await.status, 422);
}

#[tokio::test]
async fn a_reload_puts_the_file_in_force_or_says_why_not() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("crossfade.yaml");
    let write = |weight: &str| {
        let text = format!(
            "listeners: [{{address: 127.0.0.1:0}}]\nservices: {{shop: {{pools: {{blue: {{version: v1, \
             weight: {weight}, backends: [127.0.0.1:1]}}}}}}}}\n\
             routes: [{{name: all, match: {{path_prefix: /}}, service: shop}}]\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    write("1");
    let loaded = crossfade::config::load(&file);
    let spec = loaded.outcome.spec.clone().unwrap();
    let (reloader, mut changes) = crossfade::config::watch(&loaded, Duration::from_secs(3600));
    // What the watch sees by itself is let go: the test reloads when it wants to.
    tokio::spawn(async move { while changes.recv().await.is_some() {} });
    let api = Api::with(spec, Some(reloader)).await;
    write("7");
    let receipt = api.ask(Request::post("/v1/reload"), "").await.json();
    assert_eq!(receipt["revision"], 2);
    assert_eq!(receipt["changed"][0]["path"], "services.shop.pools.blue.weight");
    assert_eq!(api.service().await["pools"][0]["weight"], 7);

    write("heavy");
    let refused = api.post("/v1/reload", json!({})).await;
    assert_eq!(refused.status, 422);
    assert!(refused.text.contains("crossfade.yaml:2:"), "{}", refused.text);
    assert_eq!(api.service().await["pools"][0]["weight"], 7);
    eventually("the error is shown", async || {
        let status = api.get("/v1/status").await.json();
        status["config"]["error"].as_str().is_some_and(|error| error.contains("heavy"))
    })
    .await;
    let page = api.get("/metrics").await.text;
    assert!(page.contains("crossfade_config_last_reload_successful 0\n"));

    let (_b, _g, without) = shop().await;
    assert_eq!(without.post("/v1/reload", json!({})).await.status, 409);
}

#[tokio::test]
async fn readiness_says_what_it_waits_for() {
    let mut spec = spec(&[("blue", pool("v1", 1, &[dead_address()]))]);
    spec.services["shop"].health_check = Some(health_check());
    let api = Api::start(spec).await;
    assert_eq!(api.get("/healthz").await.status, 200);
    let starting = api.get("/readyz").await;
    assert_eq!(starting.status, 503);
    let detail = starting.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("starting") && detail.contains("shop/blue"), "{detail}");

    let (_b, _g, api) = shop().await;
    api.proxy.ready().await;
    assert_eq!(api.get("/readyz").await.status, 200);
    api.proxy.live.lifecycle.advance(crossfade::live::Phase::Leaving);
    assert_eq!(api.get("/readyz").await.status, 503);
    assert_eq!(api.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_web_page_gets_nowhere() {
    let (_b, _g, api) = shop().await;
    for (host, status) in [
        ("127.0.0.1", 200),
        ("localhost:1234", 200),
        ("[::1]:9900", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:9900", 421),
        ("192.0.2.1:9900", 421),
        ("", 421),
    ] {
        let request = Request::get("/v1/status").header("host", host);
        assert_eq!(api.ask(request, "").await.status, status, "{host}");
    }
    let mut spec = two_pools(&_b, &_g);
    spec.admin.hosts = vec!["proxy.internal".into()];
    let listed = Api::start(spec).await;
    let request = Request::get("/v1/status").header("host", "proxy.internal:9900");
    assert_eq!(listed.ask(request, "").await.status, 200);

    let drain = "/v1/services/shop/pools/green/drain";
    let from = |origin: String| Request::post(drain).header("origin", origin);
    assert_eq!(api.ask(from("http://evil.example".into()), "").await.status, 403);
    assert_eq!(api.ask(from("null".into()), "").await.status, 403);
    assert_eq!(api.service().await["pools"][1]["state"], "active");
    assert_eq!(api.ask(from(format!("http://{}", api.address)), "").await.status, 200);
}

#[tokio::test]
async fn too_many_at_once_are_refused_but_probes_are_not() {
    use tokio::{io::AsyncWriteExt, net::TcpStream};
    let (_b, _g, api) = shop().await;
    let mut stuck = Vec::new();
    let head = "POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Content-Length: 9\r\n\r\n";
    for _ in 0..128 {
        let mut stream = TcpStream::connect(api.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stuck.push(stream);
    }
    eventually("it is full", async || api.get("/v1/status").await.status == 503).await;
    assert_eq!(api.get("/v1/status").await.header("retry-after"), "1");
    for path in ["/healthz", "/metrics"] {
        assert_eq!(api.get(path).await.status, 200, "{path}");
    }
    drop(stuck);
    eventually("it has room", async || api.get("/v1/status").await.status == 200).await;
}

#[tokio::test]
async fn the_end_waits_for_answers() {
    let (word, _blue, _green, api) = slow_shop().await;
    let mut client = api.proxy.h1().await;
    let slow = tokio::spawn(async move { client.get("/").await.text().to_owned() });
    until("a request is in flight", || api.proxy.open() == 1).await;
    let mut waiting = tokio::net::TcpStream::connect(api.address).await.unwrap();
    let body = "{\"to\": \"green\"}";
    let request = format!(
        "POST /v1/services/shop/cutover?wait=1m HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    waiting.write_all(request.as_bytes()).await.unwrap();
    eventually("it is made", async || api.service().await["pools"][1]["weight"] == 1).await;
    let address = api.address;
    let (_proxy, answer) = tokio::join!(api.end(), async {
        // Once nobody listens the end has begun, and the answer is still to come.
        eventually("nobody listens", async || {
            tokio::net::TcpStream::connect(address).await.is_err()
        })
        .await;
        word.notify_one();
        let mut answer = String::new();
        waiting.read_to_string(&mut answer).await.unwrap();
        answer
    });
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(slow.await.unwrap(), "blue");
}

#[tokio::test]
async fn metrics_are_sound_and_tell_the_versions_apart() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let mut spec = two_pools(&blue, &green);
    let hosts = vec![HostPattern::Exact("shop.example.com".into())];
    let matches = Match { hosts, ..Match::default() };
    spec.routes = vec![Route::new("shop".into(), matches, "shop".into())];
    let api = Api::start(spec).await;
    let mut client = api.proxy.h1().await;
    for _ in 0..100 {
        client.get("/").await;
    }
    client.send(Request::get("/").header("host", "other").body(full("")).unwrap()).await;
    // A reply is counted when its last byte has left, which the client may see before.
    let requests = |page: &str, pool: &str| {
        let start = format!("crossfade_requests_total{{service=\"{pool}\",");
        let lines = page.lines().filter(|line| line.starts_with(&start));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    let mut answer = api.get("/metrics").await;
    eventually("all are counted", async || {
        answer = api.get("/metrics").await;
        requests(&answer.text, "shop") == 100 && requests(&answer.text, "") == 1
    })
    .await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let page = answer.text;
    page_is_sound(&page);
    for line in [
        "crossfade_requests_total{service=\"\",pool=\"\",version=\"\",method=\"GET\",code=\"404\"} 1",
        "crossfade_failures_total{service=\"\",pool=\"\",version=\"\",fault=\"downstream\",\
         reason=\"no_route\"} 1",
        "crossfade_in_flight{service=\"shop\",pool=\"blue\",version=\"v1\",kind=\"stream\"} 0",
        "crossfade_retries_total{service=\"shop\",pool=\"blue\",version=\"v1\"} 0",
        "crossfade_ejections_total{service=\"shop\",pool=\"blue\",version=\"v1\"} 0",
        "crossfade_queued{service=\"shop\"} 0",
        "crossfade_rescued_total{service=\"shop\",pool=\"blue\",version=\"v1\"} 0",
        "crossfade_drain_cut_total{service=\"shop\",pool=\"green\",version=\"v2\"} 0",
        "crossfade_revision 1",
        "crossfade_publishes_total{source=\"api\"} 0",
        "crossfade_config_last_reload_successful 1",
        &format!(
            "crossfade_backend_healthy{{service=\"shop\",pool=\"blue\",version=\"v1\",backend=\"{}\"}} 1",
            blue.address
        ),
        &format!(
            "crossfade_open_connections{{listener=\"{}\",protocol=\"h1\"}} 1",
            api.proxy.address
        ),
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is missing in\n{page}");
    }
    for name in ["crossfade_build_info{version=", "process_cpu_seconds_total ", "process_open_fds "]
    {
        assert!(page.lines().any(|l| l.starts_with(name)), "{name}");
    }
    lint(&page);
}

/// The rules of the text format: each family has HELP and TYPE once and before its samples, which are
/// together; no series is there twice; buckets add up.
fn page_is_sound(page: &str) {
    let (mut families, mut series) = (Vec::new(), std::collections::HashSet::new());
    let mut last_bucket: Option<(String, f64)> = None;
    for line in page.lines().filter(|line| !line.is_empty()) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let name = help.split(' ').next().unwrap().to_owned();
            assert!(!families.contains(&name), "{name} is there twice");
            families.push(name);
            continue;
        }
        let family = families.last().unwrap();
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert_eq!(kind.split(' ').next(), Some(&**family));
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        assert!(name.starts_with(&**family), "{line} is not of {family}");
        assert!(series.insert(name.to_owned()), "{line} is there twice");
        if let Some((labels, _)) = name.split_once("le=\"") {
            if let Some((before, below)) = &last_bucket
                && before == labels
            {
                assert!(*below <= value, "{line}");
            }
            last_bucket = Some((labels.to_owned(), value));
        } else if name.contains("_count{") {
            assert_eq!(last_bucket.take().unwrap().1, value, "{line} is not the last bucket");
        }
    }
    assert!(families.len() > 20, "{families:?}");
}

/// What Prometheus says itself, where its tool is installed.
fn lint(page: &str) {
    let tool = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = tool else { return };
    tool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty() && output.stdout.is_empty(), "{output:?}");
}

#[tokio::test]
async fn a_plan_changes_nothing_and_tells_where_requests_would_go() {
    let (_blue, _green, api) = shop().await;
    assert_eq!(api.proxy.h1().await.get("/cart").await.status, 200);
    let mut document = api.get("/v1/config").await.json();
    document["services"]["shop"]["pools"]["blue"]["weight"] = json!(5);
    let planned = api.post("/v1/plan", document.clone()).await;
    assert_eq!(planned.status, 200, "{}", planned.text);
    let planned = planned.json();
    assert_eq!(planned["changed"][0]["path"], "services.shop.pools.blue.weight");
    assert!(planned.get("revision").is_none());
    assert_eq!(planned["preview"]["elsewhere"], 0.45);
    assert_eq!(
        (&planned["preview"]["samples"], &planned["preview"]["nowhere"]),
        (&json!(1), &json!(0.0))
    );
    assert_eq!(api.service().await["revision"], 1);
    document["services"]["shop"]["pools"]["blue"]["weight"] = json!(-1);
    assert_eq!(api.post("/v1/plan", document).await.status, 422);
}

#[tokio::test]
async fn an_upgrade_is_not_tried_and_not_made_when_stale() {
    let (_blue, _green, api) = shop().await;
    // `409`: it was started without a file. Whatever is wrong with the request comes first.
    assert_eq!(api.post("/v1/upgrade", json!({})).await.status, 409);
    assert_eq!(api.post("/v1/upgrade?dry_run=true", json!({})).await.status, 422);
    for (tag, status) in [("\"1\"", 409), ("\"2\"", 412), ("1", 400)] {
        let asked = json(Request::post("/v1/upgrade")).header("if-match", tag);
        assert_eq!(api.ask(asked, "{}").await.status, status, "{tag}");
    }
}

#[tokio::test]
async fn what_a_document_is_warned_of_is_told_before_and_after() {
    let (_blue, _green, api) = shop().await;
    let mut document = api.get("/v1/config").await.json();
    document["admin"]["unix_roles"] = json!([{ "role": "viewer" }]);
    let [planned, put] = [
        api.post("/v1/plan", document.clone()).await.json(),
        api.put("/v1/config", document).await.json(),
    ];
    for answer in [planned, put] {
        let warnings = answer["warnings"].to_string();
        assert!(warnings.contains("`unix_roles` are for a unix socket"), "{warnings}");
    }
}

#[tokio::test]
async fn history_and_the_way_back() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let api = Api::start(two_pools(&blue, &green)).await;
    let weights = "/v1/services/shop/weights";
    let body = json!({"weights": {"blue": 70, "green": 30}, "cause": "try"});
    assert_eq!(api.put(weights, body).await.json()["revision"], 2);
    let revisions = api.get("/v1/revisions").await.json();
    assert_eq!(revisions.as_array().unwrap().len(), 2);
    assert_eq!((&revisions[0]["cause"], &revisions[0]["source"]), (&json!("try"), &json!("api")));
    let changed = revisions[0]["changed"].clone();
    assert!(changed.as_array().is_some_and(|it| !it.is_empty()), "{changed}");
    assert_eq!(api.get("/v1/revisions?limit=1&before=2").await.json()[0]["revision"], 1);
    assert_eq!(api.get("/v1/revisions?service=none").await.json(), json!([]));
    for bad in ["limit=0", "limit=x", "before=-1", "before=9223372036854775808"] {
        assert_eq!(api.get(&format!("/v1/revisions?{bad}")).await.status, 422, "{bad}");
    }

    let whole = api.get("/v1/revisions/2").await.json();
    assert_eq!(whole["config"], api.get("/v1/config").await.json());
    assert_eq!(whole["revision"], 2);
    let difference = api.get("/v1/revisions/1/diff?to=2").await.json();
    assert_eq!(difference["changed"], changed);
    assert_eq!(api.get("/v1/revisions/2/diff").await.json()["changed"], json!([]));
    for missing in ["/v1/revisions/9", "/v1/revisions/x", "/v1/revisions/1/diff?to=9"] {
        assert_eq!(api.get(missing).await.status, 404, "{missing}");
    }
    assert_eq!(api.get("/v1/revisions/1/diff?to=x").await.status, 422);
    for twice in [
        "/v1/revisions?limit=1&limit=2",
        "/v1/revisions/1/diff?to=1&to=2",
        "/v1/adopt?service=a&service=b",
    ] {
        assert_eq!(api.get(twice).await.status, 400, "{twice}");
    }

    let undone = api.post("/v1/undo", json!({"service": "shop", "cause": "no"})).await;
    assert_eq!((undone.status.as_u16(), &undone.json()["revision"]), (200, &json!(3)));
    let again = api.post("/v1/undo", json!({"to_revision": 2, "service": null})).await.json();
    assert_eq!(again["revision"], 4);
    assert_eq!(api.post("/v1/undo", json!({"to_revision": 9})).await.status, 404);
    assert_eq!(api.post("/v1/undo", json!({"service": "none"})).await.status, 409);
    for bad in [json!({"to_revision": "2"}), json!({"service": 1}), json!({"to": 1})] {
        assert_eq!(api.post("/v1/undo", bad.clone()).await.status, 422, "{bad}");
    }
    let stale = json(Request::post("/v1/undo")).header("if-match", "\"3\"");
    let answer = api.ask(stale, "{}").await;
    let current = format!("\"{}\"", api.service().await["revision"]);
    assert_eq!((answer.status.as_u16(), answer.header("etag")), (412, &*current));

    // Without a file there is no drift, and what is in force is what a file would say.
    let drift = api.get("/v1/drift").await.json();
    assert_eq!(drift, json!({"file": null, "drift": []}));
    assert_eq!(api.get("/v1/adopt").await.json(), api.get("/v1/config").await.json());
}

#[tokio::test]
async fn a_post_with_a_key_is_made_once() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let api = Api::start(two_pools(&blue, &green)).await;
    let ask = async |key: &str, to: &str| {
        let request =
            json(Request::post("/v1/services/shop/cutover")).header("idempotency-key", key);
        api.ask(request, json!({ "to": to }).to_string()).await
    };
    let first = ask("\"k\"", "green").await;
    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (200, ""));
    api.post("/v1/services/shop/cutover", json!({"to": "blue"})).await;
    let again = ask("k", "green").await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (200, "true"));
    assert_eq!(again.json(), first.json());
    assert_eq!(api.get("/v1/config").await.header("etag"), "\"3\"");
    let other = ask("k", "blue").await;
    assert_eq!(other.status, 422);
    assert!(other.text.contains("use a new key for each change"), "{}", other.text);
    for bad in ["", "a b", "\"", &"x".repeat(256)] {
        assert_eq!(ask(bad, "green").await.status, 400, "{bad}");
    }
    // What is refused is not remembered.
    assert_eq!(ask("n", "none").await.status, 404);
    assert_eq!(ask("n", "green").await.status, 200);
}
