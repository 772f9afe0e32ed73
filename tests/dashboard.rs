//! The dashboard as a browser gets it, and the feed that it shows. What it looks like and does there is for
//! `tests/tools/dashboard.py`, with a real one.

#[path = "support/mod.rs"]
mod support;

#[path = "support/admin.rs"]
mod api;

use api::{Api, assert_problem, eventually, json as as_json};
use crossfade::spec::{Role, Secret, Spec, Token};
use http::{HeaderMap, Request};
use serde_json::{Value, json};
use std::path::Path;
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const OPERATOR: &str = "the-token-of-an-operator";
const VIEWER: &str = "the-token-of-a-viewer";
const LIVE: &str = "/v1/events?live=true";

/// As many as may follow.
const FOLLOWERS: usize = 64;

fn shop(backend: &Backend) -> Spec {
    let address = [backend.spec_address()];
    spec(&[("blue", pool("v1", 95, &address)), ("green", pool("v2", 5, &address))])
}

fn tokens() -> Vec<Token> {
    let token = |name: &str, role, secret: &str| Token {
        name: name.into(),
        file: Path::new(name).into(),
        role,
        secret: Secret::of(secret.as_bytes()),
    };
    vec![token("ci", Role::Operator, OPERATOR), token("eye", Role::Viewer, VIEWER)]
}

async fn guarded(backend: &Backend) -> Api {
    let mut spec = shop(backend);
    spec.admin.tokens = tokens();
    Api::guarded(spec, OPERATOR).await
}

/// As somebody who shows nothing at all.
fn stranger(path: &str) -> http::request::Builder {
    Request::get(path).header("authorization", "")
}

/// The words of a policy by directive.
fn policy(headers: &HeaderMap) -> Vec<String> {
    let policy = headers["content-security-policy"].to_str().unwrap();
    policy.split(';').map(|part| part.trim().to_owned()).collect()
}

#[tokio::test]
async fn the_page_is_for_anybody_and_what_it_shows_is_not() {
    let backend = Backend::named("blue").await;
    let api = guarded(&backend).await;
    let page = api.ask(stranger("/"), "").await;
    // An empty field is none that is shown: browsers send none at all.
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(
        policy(&page.headers),
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'"
        ]
    );
    let named = |text: &str| -> Vec<String> {
        let marks = ["\"/assets/", "from \"./"];
        let parts = marks.into_iter().flat_map(|mark| text.split(mark).skip(1));
        parts.map(|rest| format!("/assets/{}", rest.split('"').next().unwrap())).collect()
    };
    let mut wanted = named(&page.text);
    let mut seen = Vec::new();
    while let Some(path) = wanted.pop() {
        if seen.contains(&path) {
            continue;
        }
        let asset = api.raw(stranger(&path), "").await;
        assert_eq!(asset.status, 200, "{path}");
        let kind = match path.rsplit('.').next().unwrap() {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(asset.header("content-type"), kind, "{path}");
        assert_eq!(
            asset.header("content-security-policy"),
            "default-src 'none'; frame-ancestors 'none'"
        );
        for answer in [&asset, &page] {
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert_eq!(answer.header("referrer-policy"), "no-referrer");
            assert_eq!(answer.header("cache-control"), "no-cache");
            assert_eq!(answer.header("x-frame-options"), "DENY");
        }
        let again = stranger(&path).header("if-none-match", asset.header("etag"));
        let again = api.raw(again, "").await;
        assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""), "{path}");
        assert_eq!(again.header("etag"), asset.header("etag"));
        wanted.extend(named(&asset.text));
        seen.push(path);
    }
    assert!(seen.len() >= 10, "{seen:?}");
    for path in ["/assets/none.js", "/assets/..%2f..%2fv1%2fconfig", "/assets/index.html"] {
        let none = api.raw(stranger(path), "").await;
        assert_eq!(none.status, 404, "{path}");
        assert_problem(&none);
    }
    for path in ["/v1/me", "/v1/status", LIVE, "/v1/services/shop/traffic", "/v1/revisions"] {
        assert_eq!(api.ask(stranger(path), "").await.status, 401, "{path}");
    }
    let post = as_json(Request::post("/")).header("authorization", "");
    assert_eq!(api.raw(post, "{}").await.status, 401);
    let post = as_json(Request::post("/assets/app.js"));
    assert_eq!(api.raw(post, "{}").await.status, 405);
}

#[tokio::test]
async fn pages_of_others_neither_read_nor_steer() {
    let backend = Backend::named("blue").await;
    let api = Api::start(shop(&backend)).await;
    let asks = |method: &str, path: &str, fields: &[(&str, &str)]| {
        let request = as_json(Request::builder().method(method).uri(path));
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let evil = ("origin", "http://evil.example");
    let cross = ("sec-fetch-site", "cross-site");
    let same = ("sec-fetch-site", "same-site");
    let weights = ("PUT", "/v1/services/shop/weights", r#"{"weights": {"green": 50}}"#);
    let undo = ("POST", "/v1/undo", "{}");
    for (method, path, body) in
        [weights, undo, ("GET", LIVE, ""), ("GET", "/v1/me", ""), ("GET", "/assets/app.js", "")]
    {
        for fields in [&[evil][..], &[cross], &[same], &[evil, cross], &[("origin", "null")]] {
            let answer = api.raw(asks(method, path, fields), body).await;
            assert_eq!(answer.status, 403, "{method} {path} {fields:?}");
            assert_problem(&answer);
        }
        // DNS that was changed to point here.
        let rebound = api.raw(asks(method, path, &[("host", "evil.example")]), body).await;
        assert_eq!(rebound.status, 421, "{method} {path}");
    }
    // What a browser asks before it lets a page of another origin ask.
    let ahead = [evil, ("access-control-request-method", "PUT"), cross];
    let ahead = api.raw(asks("OPTIONS", weights.1, &ahead), "").await;
    assert_eq!(ahead.status, 403);
    // A link leads here, a frame does not, and nobody is told that they may read.
    let link = [cross, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    let page = api.raw(asks("GET", "/", &link), "").await;
    assert_eq!(page.status, 200);
    let frame = [cross, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
    assert_eq!(api.raw(asks("GET", "/", &frame), "").await.status, 403);
    for answer in [&ahead, &page] {
        let mut fields = answer.headers.keys().map(http::HeaderName::as_str);
        let allows = |name: &str| name.starts_with("access-control-");
        assert!(!fields.any(allows), "{:?}", answer.headers);
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
    }
    assert_eq!(api.service().await["revision"], 1, "nothing was changed by any of it");
}

/// Somebody who follows.
struct Follower {
    stream: TcpStream,
    seen: String,
}

impl Follower {
    async fn follow(api: &Api, token: Option<&str>) -> Self {
        let shown = token.map(|token| format!("authorization: Bearer {token}\r\n"));
        Self::with(api, &shown.unwrap_or_default()).await
    }

    /// With these fields, each with its line end.
    async fn with(api: &Api, fields: &str) -> Self {
        let mut stream = TcpStream::connect(api.address).await.unwrap();
        let head = format!(
            "GET {LIVE} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{fields}\r\n",
            api.address
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut follower = Self { stream, seen: String::new() };
        follower.until("a head", |seen| seen.contains("\r\n\r\n").then_some(())).await;
        follower
    }

    /// What is found in all that was seen so far.
    async fn until<T>(&mut self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        let Self { stream, seen } = self;
        let mut reading = async || {
            let mut buffer = vec![0; 1 << 16];
            loop {
                if let Some(found) = find(seen) {
                    return found;
                }
                let read = stream.read(&mut buffer).await.unwrap();
                assert_ne!(read, 0, "the end before {what}");
                seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        };
        // Over all of it: pictures come for as long as the stream lasts.
        timeout(3 * PATIENCE, reading()).await.unwrap_or_else(|_| panic!("never {what}"))
    }

    /// The first picture from now on of which this holds.
    async fn picture(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        // The last one may be half there.
        let whole = self.seen.rfind("\n\n").map_or(0, |end| end + 2);
        self.seen.drain(..whole);
        self.until(what, |seen| {
            let whole = &seen[..seen.rfind("\n\n")?];
            whole.split("event: live").skip(1).find_map(|part| {
                let data = part.lines().find_map(|line| line.strip_prefix("data: "))?;
                serde_json::from_str(data).ok().filter(&holds)
            })
        })
        .await
    }

    /// So many entries of the audit log, with their ids.
    async fn audited(&mut self, count: usize) -> Vec<(String, Value)> {
        self.until(&format!("{count} entries"), |seen| {
            let whole = &seen[..seen.rfind("\n\n")?];
            let told = whole.split("\n\n").filter(|event| event.contains("event: audit"));
            let told: Vec<(String, Value)> = told
                .map(|event| {
                    let line = |key: &str| event.lines().find_map(|line| line.strip_prefix(key));
                    let data = serde_json::from_str(line("data: ").unwrap()).unwrap();
                    (line("id: ").unwrap().to_owned(), data)
                })
                .collect();
            (told.len() >= count).then_some(told)
        })
        .await
    }

    async fn ended(mut self) {
        let mut rest = Vec::new();
        timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_feed_shows_what_is_in_force_and_what_it_does() {
    let backend = Backend::named("blue").await;
    let api = Api::start(shop(&backend)).await;
    let mut follower = Follower::follow(&api, None).await;
    assert!(follower.seen.contains("content-type: text/event-stream"), "{}", follower.seen);
    let first = follower.picture("a picture", |_| true).await;
    assert_eq!(first["status"]["revision"], 1);
    assert_eq!(first["window"], 10);
    assert_eq!(first["status"]["services"], api.get("/v1/services").await.json());
    for (list, kind) in [("drains", "[]"), ("holds", "[]"), ("drift", "[]"), ("rollouts", "{}")] {
        assert_eq!(first[list].to_string(), kind, "{list}");
    }
    let mut client = api.proxy.h1().await;
    for _ in 0..40 {
        client.get("/").await;
    }
    let busy = follower.picture("traffic", |it| it["lately"]["shop"]["blue"]["rate"] != 0.0).await;
    let blue = &busy["lately"]["shop"]["blue"];
    assert_eq!(blue["error_rate"], 0.0);
    assert!(blue["p50"].is_number() && blue["p99"].is_number(), "{blue}");
    assert_eq!(busy["instance"], first["instance"]);

    let body = json!({ "weights": { "blue": 60, "green": 40 }, "cause": "to be seen" });
    api.put("/v1/services/shop/weights", body).await;
    let changed = follower.picture("the change", |it| it["status"]["revision"] == 2).await;
    assert_eq!(changed["status"]["services"][0]["pools"][1]["weight"], 40);
    let told = |seen: &str| seen.contains("event: revision").then_some(());
    follower.until("the revision", told).await;
    assert!(follower.seen.contains("\"cause\":\"to be seen\""), "{}", follower.seen);

    let start = json!({ "to": "green", "steps": [60, 100], "bake": "10m", "first_touch": "off" });
    api.post("/v1/services/shop/rollout", start).await;
    let rolls = follower.picture("the rollout", |it| it["rollouts"]["shop"].is_object()).await;
    let whole = api.get("/v1/services/shop/rollout").await.json();
    assert_eq!(rolls["rollouts"]["shop"]["id"], whole["id"]);
    assert_eq!(rolls["rollouts"]["shop"]["stages"], whole["stages"]);
    api.post("/v1/services/shop/rollout/abort", json!({})).await;
    let over = |it: &Value| it["rollouts"].as_object().is_some_and(serde_json::Map::is_empty);
    let over = follower.picture("its end", over).await;
    assert_eq!(over["status"]["services"][0]["rollout"]["state"], "aborted");
    // The end of the API is the end of it.
    let ending = tokio::spawn(api.end());
    follower.ended().await;
    ending.await.unwrap();
}

#[tokio::test]
async fn so_many_may_follow_and_who_leaves_makes_room() {
    let backend = Backend::named("blue").await;
    let api = Api::start(shop(&backend)).await;
    let mut followers = Vec::new();
    while followers.len() < FOLLOWERS {
        followers.push(Follower::follow(&api, None).await);
    }
    let full = api.get(LIVE).await;
    assert_eq!(full.status, 503);
    assert_problem(&full);
    // Each of them sees it, also who came when others did.
    let pictures = followers.iter_mut().map(|it| it.picture("a picture", |_| true));
    let pictures = futures_util::future::join_all(pictures).await;
    assert!(pictures.iter().all(|it| it["status"]["revision"] == 1));
    followers.pop();
    eventually("room", async || {
        let mut next = TcpStream::connect(api.address).await.unwrap();
        let head = format!("GET {LIVE} HTTP/1.1\r\nhost: {}\r\n\r\n", api.address);
        next.write_all(head.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        next.read_exact(&mut status).await.unwrap();
        &status == b"HTTP/1.1 200"
    })
    .await;
}

#[tokio::test]
async fn a_viewer_sees_who_they_are_and_ceases_to_see_with_their_token() {
    let backend = Backend::named("blue").await;
    let api = guarded(&backend).await;
    let me =
        |token: &str| Request::get("/v1/me").header("authorization", format!("Bearer {token}"));
    let viewer = api.ask(me(VIEWER), "").await.json();
    assert_eq!(viewer, json!({ "author": "eye", "role": "viewer", "by": "token" }));
    assert_eq!(api.ask(me(OPERATOR), "").await.json()["role"], "operator");
    let mut follower = Follower::follow(&api, Some(VIEWER)).await;
    follower.picture("a picture", |_| true).await;
    let view = api.proxy.handle.view();
    let mut spec = Spec::clone(&view.spec);
    spec.admin.tokens.retain(|token| &*token.name != "eye");
    api.proxy.apply(crossfade::control::Command::Replace { spec: Box::new(spec) }).await.unwrap();
    follower.ended().await;
    assert_eq!(api.ask(me(VIEWER), "").await.status, 401);
}

#[tokio::test]
async fn what_was_refused_is_told_as_the_audit_log_has_it() {
    let backend = Backend::named("blue").await;
    let api = guarded(&backend).await;
    let shown = format!("authorization: Bearer {OPERATOR}\r\n");
    let mut follower = Follower::with(&api, &shown).await;
    let weights = |token: &str| {
        as_json(Request::put("/v1/services/shop/weights")).header("authorization", token)
    };
    let ask = async |token: &str| {
        api.raw(weights(token), r#"{"weights": {"green": 50}}"#).await.status.as_u16()
    };
    assert_eq!(ask("").await, 401);
    assert_eq!(ask("Bearer a-token-of-nobody").await, 401);
    assert_eq!(ask(&format!("Bearer {VIEWER}")).await, 403);
    // There is no file.
    let reload = api.post("/v1/reload", json!({})).await;
    assert_eq!(reload.status, 409, "{}", reload.text);
    let told = follower.audited(4).await;

    let says = |(_, entry): &(String, Value)| {
        let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
        let [name, author, operation] = ["name", "author", "operation"].map(text);
        format!("{name} {} {author} {operation}", entry["status"])
    };
    assert_eq!(
        told.iter().map(says).collect::<Vec<_>>(),
        [
            "access.denied 401 - put_weights",
            "access.denied 401 - put_weights",
            "access.denied 403 eye put_weights",
            "change.refused 409 ci reload",
        ]
    );
    let audit = api.get("/v1/audit").await.json();
    let kept: Vec<&Value> = audit["entries"].as_array().unwrap().iter().rev().collect();
    assert_eq!(kept.len(), told.len(), "{audit}");
    for ((_, entry), kept) in told.iter().zip(kept) {
        let mut entry = entry.clone();
        let name = entry.as_object_mut().unwrap().remove("name");
        assert_eq!((name.as_ref(), &entry), (kept.get("event"), kept));
    }
    for secret in [OPERATOR, VIEWER, "a-token-of-nobody"] {
        assert!(!told.iter().any(|(_, entry)| entry.to_string().contains(secret)), "{told:?}");
    }

    // Who was away is told what was missed.
    let fields = format!("{shown}last-event-id: {}\r\n", told[1].0);
    let mut away = Follower::with(&api, &fields).await;
    assert_eq!(away.audited(2).await, told[2..]);
    assert_eq!(api.service().await["revision"], 1);
}

#[tokio::test]
async fn what_was_is_told_for_the_charts_to_begin_with() {
    let backend = Backend::named("blue").await;
    let api = Api::start(shop(&backend)).await;
    let trail = api.get("/v1/services/shop/traffic").await;
    let trail = trail.json();
    assert_eq!((&trail["service"], &trail["every"]), (&json!("shop"), &json!(10)));
    let pools = trail["pools"].as_array().unwrap();
    let names: Vec<_> = pools.iter().map(|pool| (&pool["name"], &pool["version"])).collect();
    assert_eq!(names, [(&json!("blue"), &json!("v1")), (&json!("green"), &json!("v2"))]);
    assert!(pools.iter().all(|pool| pool["points"].is_array()));
    assert_eq!(api.get("/v1/services/none/traffic").await.status, 404);
    assert_eq!(api.get("/v1/events?live=perhaps").await.status, 422);
    assert_eq!(api.get("/v1/events?live=true&live=true").await.status, 400);
}
