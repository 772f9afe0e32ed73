//! Rollouts as people and pipelines see them: through the admin API and by the binary.

#[path = "support/mod.rs"]
mod support;

#[path = "support/admin.rs"]
mod api;

use api::{Api, eventually, json as as_json};
use crossfade::{
    control::Command as Change,
    rollout::Phase,
    spec::{Role, Secret, Spec, Token},
};
use http::Request;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

const ROLLOUT: &str = "/v1/services/shop/rollout";
const OPERATOR: &str = "a-good-operator-token";
const VIEWER: &str = "a-good-viewer-token";
const APPROVER: &str = "a-good-approver-token";

/// Two versions of a shop, the second of which does what it is told, and people who visit it.
struct Shop {
    api: Api,
    _backends: [Backend; 2],
    broken: Arc<AtomicBool>,
    visitors: Visitors,
}

impl Shop {
    async fn open() -> Self {
        Self::with(|_| {}, None).await
    }

    async fn with(change: impl FnOnce(&mut Spec), token: Option<&str>) -> Self {
        let broken = Arc::new(AtomicBool::new(false));
        let blue = Backend::named("blue").await;
        let green = Backend::failing("green", &broken).await;
        let mut spec = spec(&[
            ("blue", pool("v1", 100, &[blue.spec_address()])),
            ("green", pool("v2", 0, &[green.spec_address()])),
        ]);
        change(&mut spec);
        let api = Api::begin(spec, None, token.map(str::to_owned)).await;
        Self { api, _backends: [blue, green], broken, visitors: Visitors::default() }
    }

    fn visit(&mut self) {
        self.visitors.come(self.api.proxy.address);
    }

    async fn until(&self, what: &str, phase: impl Fn(Phase) -> bool) {
        let mut views = self.api.proxy.handle.views();
        let waited = views.wait_for(|view| {
            view.rollouts.get("shop").is_some_and(|rollout| phase(rollout.phase()))
        });
        assert!(timeout(3 * PATIENCE, waited).await.is_ok(), "never: {what}");
    }

    async fn rollout(&self) -> Value {
        self.api.get(ROLLOUT).await.json()
    }

    /// The binary, while the API goes on answering.
    async fn run(&self, line: &str) -> Ran {
        self.begin(line).await.unwrap()
    }

    fn begin(&self, line: &str) -> JoinHandle<Ran> {
        let mut command = self.command(line);
        tokio::task::spawn_blocking(move || Ran::of(&command.output().unwrap()))
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crossfade"));
        let line = format!("--admin http://{} rollout {line}", self.api.address);
        command.args(line.split(' ')).env_remove("CROSSFADE_ADMIN");
        command
    }
}

/// Short times and few requests, so that time and guards decide.
fn quick() -> Value {
    json!({
        "to": "green", "steps": [25, 100], "bake": "1s", "first_touch": "off", "min_requests": 20,
        "warm_up": "0s", "gates": { "regression": "off" }, "keep_stable": "1s",
    })
}

/// The same, but for the time of a step.
fn lasting() -> Value {
    let mut body = quick();
    body["bake"] = "10m".into();
    body
}

#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let code = output.status.code().unwrap();
        Self { code, out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// As [`quick`] and [`lasting`] have it.
const START: &str = "start shop --to green --steps 25,100 --set first_touch=off --set min_requests=20 \
    --set warm_up=0s --set gates.regression=off --set keep_stable=1s";

/// A stream of events.
struct Events {
    stream: TcpStream,
    seen: String,
}

impl Events {
    async fn follow(api: &Api, fields: &str) -> Self {
        let mut stream = TcpStream::connect(api.address).await.unwrap();
        let host = api.address;
        let head =
            format!("GET /v1/events HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{fields}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut events = Self { stream, seen: String::new() };
        events.until("").await;
        events
    }

    async fn until(&mut self, what: &str) {
        // Over all of it: comments come for as long as the stream lasts.
        if timeout(3 * PATIENCE, self.read_until(what)).await.is_err() {
            panic!("never {what}: {}", self.seen);
        }
    }

    async fn read_until(&mut self, what: &str) {
        let mut buffer = [0; 4096];
        while !self.has(what) {
            let read = self.stream.read(&mut buffer).await.unwrap();
            assert_ne!(read, 0, "the end before {what}: {}", self.seen);
            self.seen.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
    }

    /// Returns when it has ended.
    async fn ended(&mut self) {
        let mut rest = Vec::new();
        timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    }

    /// The head has come, and this among the events.
    fn has(&self, what: &str) -> bool {
        self.seen.contains("\r\n\r\n") && self.whole().contains(what)
    }

    /// All that was read but for an event that is still on its way.
    fn whole(&self) -> &str {
        let end = self.seen.rfind("\n\n").map_or(0, |end| end + 1);
        &self.seen[..end]
    }

    /// What was told of rollouts, in its order.
    fn rollouts(&self) -> Vec<String> {
        let mut lines = self.whole().lines();
        let mut told = Vec::new();
        while let Some(line) = lines.next() {
            if line != "event: rollout" {
                continue;
            }
            let data = lines.by_ref().find_map(|line| line.strip_prefix("data: ")).unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            told.push(data["event"].as_str().unwrap().to_owned());
        }
        told
    }

    fn last_id(&self) -> &str {
        self.seen.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().unwrap()
    }
}

#[tokio::test]
async fn a_rollout_is_started_seen_and_promoted() {
    let mut shop = Shop::open().await;
    assert_eq!(shop.api.get(ROLLOUT).await.status, 404);
    assert_eq!(shop.api.service().await["rollout"], Value::Null);
    shop.visit();
    let mut body = quick();
    body["cause"] = "release 2".into();
    let dry = shop.api.post(&format!("{ROLLOUT}?dry_run=true"), body.clone()).await;
    assert_eq!((dry.status.as_u16(), &dry.json()["revision"]), (200, &Value::Null));
    assert_eq!(dry.json()["rollout"]["weights"], json!({ "blue": 75, "green": 25 }));
    assert_eq!(shop.api.get(ROLLOUT).await.status, 404, "nothing was done");

    let started = shop.api.post(ROLLOUT, body.clone()).await;
    assert_eq!(started.status, 200, "{}", started.text);
    let receipt = started.json();
    assert_eq!(receipt["revision"], 2);
    assert_eq!(receipt["changed"].as_array().unwrap().len(), 2, "{receipt}");
    let rollout = &receipt["rollout"];
    for (key, wanted) in [
        ("service", json!("shop")),
        ("strategy", json!("canary")),
        ("state", json!("running")),
        ("from", json!("blue")),
        ("to", json!("green")),
        ("step", json!(1)),
        ("steps", json!(2)),
        ("share", json!(0.25)),
        ("weights", json!({ "blue": 75, "green": 25 })),
        ("by", json!({ "author": "api", "cause": "release 2" })),
        ("ended", Value::Null),
        ("paused", Value::Null),
    ] {
        assert_eq!(rollout[key], wanted, "{key}: {rollout}");
    }
    assert_eq!(rollout["plan"]["bake"], "1s");
    assert_eq!(
        rollout["stages"][1],
        json!({ "kind": "step", "step": 2, "share": 0.95, "state": "next" })
    );
    assert!(rollout["lacks"][0]["text"].as_str().unwrap().contains("of its time"), "{rollout}");
    let again = shop.api.post(ROLLOUT, body).await;
    assert_eq!(again.status, 409, "one at a time");

    shop.until("promoted", |phase| phase == Phase::Promoted).await;
    let rollout = shop.rollout().await;
    assert_eq!((&rollout["state"], &rollout["share"]), (&json!("promoted"), &json!(1.0)));
    let again = shop.api.post(&format!("{ROLLOUT}/retry"), json!({})).await;
    assert_eq!(again.status, 409, "all of the traffic would go back: {}", again.text);
    for version in ["stable", "canary"] {
        let version = &rollout[version];
        assert!(
            version["requests"].as_u64().unwrap() >= 20 && version["p99"].is_number(),
            "{version}"
        );
    }
    let events: Vec<&str> = rollout["notices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|notice| notice["event"].as_str().unwrap())
        .filter(|event| *event != "waiting")
        .collect();
    assert_eq!(events, ["started", "step", "step", "promoted"]);
    let short = &shop.api.service().await["rollout"];
    assert_eq!((&short["id"], &short["state"]), (&rollout["id"], &json!("promoted")));
    assert!(short.get("notices").is_none());

    let metrics = shop.api.get("/metrics").await.text;
    for line in [
        "crossfade_rollout_step{service=\"shop\"} 2",
        "crossfade_rollout_state{service=\"shop\",state=\"promoted\"} 1",
        "crossfade_rollout_state{service=\"shop\",state=\"running\"} 0",
        "crossfade_rollouts_total{service=\"shop\",outcome=\"promoted\"} 1",
        "crossfade_rollouts_total{service=\"shop\",outcome=\"aborted\"} 0",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line}");
    }
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let shop = Shop::open().await;
    for (path, body, status, why) in [
        ("/v1/services/none/rollout", json!({ "to": "green" }), 404, "there is: shop"),
        (ROLLOUT, json!({}), 422, "to: name the pool"),
        (ROLLOUT, json!({ "to": "red" }), 404, "has no pool `red`"),
        (ROLLOUT, json!({ "to": "green", "stepps": [1] }), 422, "stepps"),
        (ROLLOUT, json!({ "to": "green", "steps": [50, 5], "supersede": 1 }), 422, "supersede"),
        (ROLLOUT, json!({ "to": "green", "strategy": "ab_test" }), 422, "sticky"),
    ] {
        for path in [path.to_owned(), format!("{path}/plan")] {
            if path.ends_with("/plan") && why == "sticky" {
                continue;
            }
            let answer = shop.api.post(&path, body.clone()).await;
            assert_eq!(answer.status, status, "{path} {body}: {}", answer.text);
            assert!(answer.text.contains(why), "{path} {body}: {}", answer.text);
        }
    }
    for verb in ["pause", "resume", "promote", "abort", "retry"] {
        let answer = shop.api.post(&format!("{ROLLOUT}/{verb}"), json!({})).await;
        assert_eq!(answer.status, 404, "{verb}: {}", answer.text);
    }
    assert_eq!(shop.api.get("/v1/rollouts").await.json(), json!([]));
    assert_eq!(shop.api.get("/v1/rollouts/none").await.status, 404);
    assert_eq!(shop.api.get("/v1/rollouts?limit=0&before=soon").await.status, 422);
}

#[tokio::test]
async fn a_person_steers_and_all_of_it_is_on_record() {
    let mut shop = Shop::open().await;
    shop.visit();
    let verb =
        async |verb: &str, body: Value| shop.api.post(&format!("{ROLLOUT}/{verb}"), body).await;
    shop.api.post(ROLLOUT, lasting()).await;
    let paused = verb("pause", json!({ "for": "1h", "cause": "lunch" })).await;
    let rollout = &paused.json()["rollout"];
    assert_eq!((&rollout["state"], &rollout["paused"]["by"]), (&json!("paused"), &json!("person")));
    assert!(rollout["paused"]["until"].is_string(), "{rollout}");
    assert_eq!(paused.json()["revision"], 2, "nothing of the configuration changes");
    assert_eq!(verb("pause", json!({ "for": "31d" })).await.status, 422);
    assert_eq!(verb("resume", json!({})).await.json()["rollout"]["state"], "running");
    assert_eq!(verb("resume", json!({})).await.status, 409, "it is not paused");
    assert_eq!(verb("retry", json!({})).await.status, 409, "it is not over");
    let promoted = verb("promote", json!({})).await.json();
    assert_eq!((&promoted["revision"], &promoted["rollout"]["step"]), (&json!(3), &json!(2)));
    let stale = Request::post(format!("{ROLLOUT}/abort")).header("if-match", "\"2\"");
    assert_eq!(shop.api.ask(as_json(stale), "{}").await.status, 412);
    let once = async || {
        let abort = Request::post(format!("{ROLLOUT}/abort")).header("idempotency-key", "a-1");
        shop.api.ask(as_json(abort), r#"{"cause": "enough"}"#).await
    };
    let aborted = once().await;
    let rollout = &aborted.json()["rollout"];
    assert_eq!(rollout["why"]["code"], "person", "{rollout}");
    assert!(rollout["summary"].as_str().unwrap().contains("enough"), "{rollout}");
    let again = once().await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.json()["rollout"]["id"], rollout["id"]);

    let retried = verb("retry", json!({ "cause": "once more" })).await.json();
    assert_ne!(retried["rollout"]["id"], rollout["id"]);
    assert_eq!(verb("abort", json!({})).await.status, 200);
    let page = async |query: &str| shop.api.get(&format!("/v1/rollouts{query}")).await.json();
    let all = page("?service=shop").await;
    let ids: Vec<&Value> = all.as_array().unwrap().iter().map(|it| &it["id"]).collect();
    assert_eq!(ids, [&retried["rollout"]["id"], &rollout["id"]], "the newest first");
    assert_eq!(page("?limit=1").await.as_array().unwrap().len(), 1);
    let older = page(&format!("?before={}", all[0]["started"].as_str().unwrap())).await;
    assert_eq!((older.as_array().unwrap().len(), &older[0]["id"]), (1, &rollout["id"]));
    assert_eq!(page("?service=none").await, json!([]));
    let one = format!("/v1/rollouts/{}", rollout["id"].as_str().unwrap());
    let one = shop.api.get(&one).await.json();
    assert_eq!((&one["state"], &one["by"]["author"]), (&json!("aborted"), &json!("api")));

    let audit = shop.api.get("/v1/audit").await.json();
    let recorded: Vec<(&str, &str)> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .filter(|entry| entry["event"] != "change.refused")
        // What a rollout tells itself has no operation.
        .filter_map(|entry| Some((entry["event"].as_str()?, entry["operation"].as_str()?)))
        .collect();
    let made = "change.made";
    assert_eq!(
        recorded,
        [
            (made, "start_rollout"),
            ("rollout.steered", "pause_rollout"),
            ("rollout.steered", "resume_rollout"),
            (made, "promote_rollout"),
            (made, "abort_rollout"),
            (made, "retry_rollout"),
            (made, "abort_rollout"),
        ]
    );
}

#[tokio::test]
async fn viewers_look_operators_steer_and_approvers_approve() {
    let token = |name: &str, role, secret: &str| Token {
        name: name.into(),
        file: std::path::Path::new(name).into(),
        role,
        secret: Secret::of(secret.as_bytes()),
    };
    let tokens = vec![
        token("eye", Role::Viewer, VIEWER),
        token("ci", Role::Operator, OPERATOR),
        token("ann", Role::Approver, APPROVER),
    ];
    let shop = Shop::with(|spec| spec.admin.tokens = tokens, Some(OPERATOR)).await;
    let post = async |path: &str, token: &str, body: Value| {
        let request = Request::post(path).header("authorization", format!("Bearer {token}"));
        shop.api.ask(as_json(request), body.to_string()).await.status.as_u16()
    };
    let mut body = lasting();
    body["approval"] = "approver".into();
    assert_eq!(post(ROLLOUT, VIEWER, body.clone()).await, 403);
    assert_eq!(post(ROLLOUT, OPERATOR, body).await, 200);
    let look = Request::get(ROLLOUT).header("authorization", format!("Bearer {VIEWER}"));
    assert_eq!(shop.api.ask(look, "").await.status, 200);
    let promote = format!("{ROLLOUT}/promote");
    for (token, status) in [(VIEWER, 403), (OPERATOR, 403), (APPROVER, 200)] {
        assert_eq!(post(&promote, token, json!({})).await, status, "{token}");
    }
    assert_eq!(shop.rollout().await["step"], 2);
    assert_eq!(post(&format!("{ROLLOUT}/abort"), OPERATOR, json!({})).await, 200);

    let fields = format!("authorization: Bearer {VIEWER}\r\n");
    let mut events = Events::follow(&shop.api, &fields).await;
    let mut spec = Spec::clone(&shop.api.proxy.handle.view().spec);
    spec.admin.tokens.retain(|token| token.role != Role::Viewer);
    shop.api.proxy.apply(Change::Replace { spec: Box::new(spec) }).await.unwrap();
    events.ended().await;
}

#[tokio::test]
async fn the_audit_log_and_events_tell_the_same_by_the_same_names() {
    let mut shop = Shop::open().await;
    shop.visit();
    let mut events = Events::follow(&shop.api, "").await;
    events.until("id: ").await;
    let before = events.last_id().trim_end().to_owned();
    shop.api.post("/v1/services/shop/hold", json!({ "for": "30s" })).await;
    shop.api.post("/v1/services/shop/release", json!({})).await;
    shop.api.post("/v1/services/none/cutover", json!({ "to": "green" })).await;
    shop.api.post(ROLLOUT, quick()).await;
    events.until("\"name\":\"rollout.promoted\"").await;
    events.until("\"name\":\"change.refused\"").await;
    let kept = async || {
        let audit = shop.api.get("/v1/audit?limit=1000").await.json();
        audit["entries"].as_array().unwrap().clone()
    };
    let has = |entries: &[Value], name: &str| entries.iter().any(|it| it["event"] == name);
    eventually("the last of them is in the log", async || has(&kept().await, "rollout.promoted"))
        .await;
    let entries = kept().await;
    assert!(entries.iter().all(|it| it["schema"] == 1), "{entries:#?}");
    let mut away = Events::follow(&shop.api, &format!("last-event-id: {before}\r\n")).await;
    away.until("\"name\":\"rollout.promoted\"").await;
    away.until("\"name\":\"change.refused\"").await;
    for name in [
        "service.held",
        "service.released",
        "change.refused",
        "change.made",
        "rollout.started",
        "rollout.step",
        "rollout.promoted",
    ] {
        assert!(has(&entries, name), "{name}: {entries:#?}");
        events.until(&format!("\"name\":\"{name}\"")).await;
        away.until(&format!("\"name\":\"{name}\"")).await;
    }
    for told in [events.whole(), away.whole()] {
        let data = told.lines().filter_map(|line| line.strip_prefix("data: "));
        for data in data.map(|data| serde_json::from_str::<Value>(data).unwrap()) {
            assert_eq!(data["schema"], 1, "{data}");
            let name = data["name"].as_str().unwrap();
            eventually(name, async || has(&kept().await, name)).await;
        }
        let held = told.lines().filter(|line| line.contains("\"name\":\"service.held\""));
        assert_eq!(held.count(), 1, "once: {told}");
    }
    let promoted = entries.iter().find(|it| it["event"] == "rollout.promoted").unwrap();
    assert_eq!((&promoted["author"], &promoted["by"]), (&json!("rollout"), &json!("rollout")));
    assert_eq!(promoted["service"], "shop");
}

#[tokio::test]
async fn events_tell_what_happens_and_what_was_missed() {
    let mut shop = Shop::open().await;
    shop.visit();
    let mut events = Events::follow(&shop.api, "").await;
    assert!(events.seen.contains("content-type: text/event-stream"), "{}", events.seen);
    assert!(events.seen.contains("cache-control: no-store"), "{}", events.seen);
    events.until("id: ").await;
    let before = events.last_id().trim_end().to_owned();
    shop.api.post(ROLLOUT, quick()).await;
    events.until("\"event\":\"promoted\"").await;
    events.until("event: revision").await;
    let told: Vec<String> = events.rollouts().into_iter().filter(|it| it != "waiting").collect();
    assert_eq!(told, ["started", "step", "step", "promoted"]);

    // Who was away, and who comes late.
    let mut away = Events::follow(&shop.api, &format!("last-event-id: {before}\r\n")).await;
    away.until("\"event\":\"promoted\"").await;
    away.until("\"revision\":4").await;
    assert_eq!(away.rollouts(), events.rollouts());
    let revisions = |seen: &str| seen.lines().filter(|it| *it == "event: revision").count();
    assert!(revisions(&away.seen) >= 3, "{}", away.seen);
    let mut late = Events::follow(&shop.api, "").await;
    late.until("id: ").await;
    shop.api.post("/v1/services/shop/cutover", json!({ "to": "blue" })).await;
    late.until("event: revision").await;
    assert!(late.rollouts().iter().all(|it| it == "superseded"), "{:?}", late.rollouts());

    // So many may follow, and the end of the API is their end.
    let mut others = Vec::new();
    while others.len() < 61 {
        others.push(Events::follow(&shop.api, "").await);
    }
    assert_eq!(shop.api.get("/v1/events").await.status, 503);
    others.push(events);
    let Shop { api, visitors, .. } = shop;
    drop(visitors);
    // Within its patience: nobody who follows events holds it up.
    api.end().await;
    for follower in &mut others {
        follower.ended().await;
    }
}

#[tokio::test]
async fn a_version_that_fails_is_cut_and_the_reason_names_the_route() {
    let mut shop = Shop::open().await;
    shop.visit();
    shop.api.post(ROLLOUT, lasting()).await;
    let counted = || {
        let view = shop.api.proxy.handle.view();
        let routes = &view.rollout_routes["shop"];
        routes.iter().any(|side| side.canary.requests > 10)
    };
    until("the canary has got requests", counted).await;
    shop.broken.store(true, Ordering::Relaxed);
    shop.until("aborted", |phase| phase == Phase::Aborted).await;
    let rollout = shop.rollout().await;
    assert_eq!(rollout["why"]["code"], "guard", "{rollout}");
    let why = rollout["why"]["text"].as_str().unwrap();
    assert!(why.contains("; route `all` "), "{why}");
    let route = &rollout["routes"][0];
    assert_eq!(route["route"], "all", "{route}");
    assert!(route["canary"]["errors"].as_u64().unwrap() > 0, "{route}");
    assert_eq!(rollout["canary"]["rate"], 0.0, "it is over");
    let stages = rollout["stages"].as_array().unwrap();
    assert!(stages.iter().all(|stage| stage["state"] == "skipped"), "{stages:?}");
}

#[tokio::test]
async fn an_outlook_says_what_could_be_seen() {
    let shop = Shop::open().await;
    let plan = format!("{ROLLOUT}/plan");
    let body = json!({ "to": "green", "steps": [5, { "pause": {} }, 100] });
    let outlook = shop.api.post(&plan, body).await.json();
    assert_eq!((&outlook["from"], &outlook["plan"]["bake"]), (&json!("blue"), &json!("10m")));
    let steps = outlook["steps"].as_array().unwrap();
    let kinds: Vec<&str> = steps.iter().map(|step| step["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["touch", "step", "pause", "step"]);
    assert_eq!(outlook["seconds"], Value::Null, "a person decides");
    assert_eq!(shop.api.get(ROLLOUT).await.status, 404, "it changes nothing");
    let ran = shop.run("plan shop --to green --steps 5,pause,100").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.out.contains("SEES") && ran.out.lines().any(|it| it.starts_with("2")),
        "{}",
        ran.out
    );
}

#[tokio::test]
async fn the_binary_waits_until_it_is_promoted() {
    let mut shop = Shop::open().await;
    shop.visit();
    let ran = shop.run(&format!("{START} --bake 1s --cause release --wait")).await;
    assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
    let lines: Vec<&str> = ran.out.lines().filter(|line| !line.contains("shop: waiting")).collect();
    let [started, first, second, promoted, last] = lines[..] else { panic!("{}", ran.out) };
    for (line, wanted) in [
        (started, "shop: started, step 0 of 2, 0% on green, by api: release"),
        (first, "shop: step, step 1 of 2, 25.0% on green"),
        (second, "shop: step, step 2 of 2, 95.0% on green"),
        (promoted, "shop: promoted, step 2 of 2, 100% on green"),
        (last, "shop: promoted; blue "),
    ] {
        assert!(line.contains(wanted), "{line}: {wanted}");
    }
    let ran = shop.run("status shop").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("canary, from blue to green"), "{}", ran.out);
    let ran = shop.run("status shop -w -o json").await;
    let rollout: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &rollout["state"]), (0, &json!("promoted")));
    let ran = shop.run("history shop").await;
    assert!(ran.out.contains("promoted") && ran.out.starts_with("ROLLOUT"), "{}", ran.out);
    let ran = shop.run("history none").await;
    assert_eq!((ran.code, &*ran.out), (0, ""), "{}", ran.err);
}

#[tokio::test]
async fn a_pipeline_gates_on_a_pause_and_a_person_promotes() {
    let mut shop = Shop::open().await;
    shop.visit();
    let start = START.replace("25,100", "25,pause,100");
    let ran = shop.run(&format!("{start} --bake 1s --wait --until paused")).await;
    assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
    assert!(ran.out.contains("shop: paused"), "{}", ran.out);
    let ran = shop.run("promote shop --wait -o json").await;
    assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
    let rollout: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(rollout["state"], "promoted");
}

#[tokio::test]
async fn an_aborted_rollout_is_3_and_a_superseded_one_1() {
    let mut shop = Shop::open().await;
    shop.visit();
    shop.broken.store(true, Ordering::Relaxed);
    let ran = shop.run(&format!("{START} --bake 10m --wait")).await;
    assert_eq!(ran.code, 3, "{} {}", ran.out, ran.err);
    assert!(ran.err.contains("is aborted: `green` is above a limit"), "{}", ran.err);

    shop.broken.store(false, Ordering::Relaxed);
    let waiting = shop.begin(&format!("{START} --bake 10m --wait"));
    shop.until("it runs", |phase| phase == Phase::Running).await;
    assert_eq!(shop.run(&format!("{START} --bake 10m")).await.code, 1, "one at a time");
    shop.api.proxy.cutover("blue").await;
    let ran = waiting.await.unwrap();
    assert_eq!(ran.code, 1, "{} {}", ran.out, ran.err);
    assert!(ran.err.contains("superseded"), "{}", ran.err);
}

#[tokio::test]
async fn who_gives_up_waiting_is_4_and_the_rollout_goes_on() {
    let shop = Shop::open().await;
    let ran = shop.run(&format!("{START} --bake 10m --wait --timeout 2s")).await;
    assert_eq!(ran.code, 4, "{} {}", ran.out, ran.err);
    assert!(ran.err.contains("crossfade rollout abort shop"), "{}", ran.err);
    assert_eq!(shop.rollout().await["state"], "running");
    let ran = shop.run("pause shop --for 1h --cause lunch").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("of shop: paused"), "{}", ran.out);
    for (verb, state) in [("resume", "running"), ("promote", "running"), ("abort", "aborted")] {
        let ran = shop.run(&format!("{verb} shop")).await;
        assert_eq!(ran.code, 0, "{verb}: {}", ran.err);
        assert_eq!(shop.rollout().await["state"], state, "{verb}");
    }
    let ran = shop.run("retry shop --wait --until paused --timeout 1s").await;
    assert_eq!(ran.code, 4, "{} {}", ran.out, ran.err);
    assert_eq!(shop.run("start shop --to red").await.code, 1);
    assert_eq!(shop.run("start shop --to green --steps many").await.code, 2);
    assert_eq!(
        shop.run("start shop --to green --until paused").await.code,
        2,
        "not without --wait"
    );
}

#[tokio::test]
async fn who_is_interrupted_leaves_the_rollout_running() {
    let shop = Shop::open().await;
    let mut command = shop.command(&format!("{START} --bake 10m --wait"));
    let interrupted = tokio::task::spawn_blocking(move || {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Once something is told, it waits for both the rollout and the signal.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        rustix::process::kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        Ran::of(&child.wait_with_output().unwrap())
    });
    let ran = interrupted.await.unwrap();
    assert_eq!(ran.code, 4, "{} {}", ran.out, ran.err);
    assert!(ran.err.contains("interrupted; the rollout goes on"), "{}", ran.err);
    assert_eq!(shop.rollout().await["state"], "running");
}
