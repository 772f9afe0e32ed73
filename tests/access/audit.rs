use crate::{
    api::{Answer, Api, eventually, json},
    stage::*,
    support::*,
};
use http::Request;
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const WEIGHTS: &str = "/v1/services/shop/weights";

async fn entries(api: &Api, query: &str) -> Vec<Value> {
    let answer = api.get(&format!("/v1/audit{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["entries"].as_array().unwrap().clone()
}

/// What is told of the request that was answered so.
async fn told(api: &Api, answer: &Answer) -> Value {
    let id = answer.header("x-request-id");
    let told = entries(api, "").await.into_iter().find(|entry| entry["request_id"] == id);
    told.unwrap_or_else(|| panic!("nothing is told of {}", answer.text))
}

async fn newest(api: &Api) -> Value {
    entries(api, "?limit=1").await.remove(0)
}

async fn weights(api: &Api, green: u32, token: &str, with: &[(&str, &str)]) -> Answer {
    let mut request = json(Request::put(format!("{WEIGHTS}?cause=release")));
    for (name, value) in with {
        request = request.header(*name, *value);
    }
    let request = request.header("authorization", format!("Bearer {token}"));
    api.ask(request, json!({ "weights": { "green": green } }).to_string()).await
}

/// That an entry says this, whatever else it says.
fn assert_says(entry: &Value, expected: Value) {
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&entry[key], value, "{key} of {entry:#}");
    }
}

#[tokio::test]
async fn changes_and_attempts_are_told_with_who_and_from_where() {
    let backend = Backend::named("blue").await;
    let api = Api::guarded(guarded(&backend), OPERATOR).await;

    let made = weights(&api, 6, OPERATOR, &[("x-request-id", "req-1")]).await;
    assert_eq!((made.status.as_u16(), made.header("x-request-id")), (200, "req-1"));
    let entry = newest(&api).await;
    assert_says(
        &entry,
        json!({"event": "change.made", "author": "ci", "by": "token", "role": "operator", "method": "PUT",
            "path": WEIGHTS, "operation": "put_weights", "service": "shop", "cause": "release",
            "revision": 2, "request_id": "req-1", "changed": ["services.shop.pools.green.weight"]}),
    );
    assert!(entry["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{entry}");
    assert!(entry["at"].as_str().unwrap().ends_with('Z'), "{entry}");

    for (answer, status, reason) in [
        (weights(&api, 7, OPERATOR, &[("if-match", "\"1\"")]).await, 412, "stale"),
        (api.post("/v1/services/shop/cutover", json!({"to": "red"})).await, 404, "not-found"),
        (api.post("/v1/reload", json!({})).await, 409, "conflict"),
        (api.put(WEIGHTS, json!({"weights": {"green": "hunter2"}})).await, 422, "invalid"),
        (api.ask(Request::put(WEIGHTS), "{}").await, 415, "not-json"),
    ] {
        assert_eq!(answer.status, status, "{}", answer.text);
        let entry = told(&api, &answer).await;
        assert_says(
            &entry,
            json!({"event": "change.refused", "author": "ci", "status": status, "reason": reason,
                "revision": null, "request_id": answer.header("x-request-id")}),
        );
        assert!(!entry.to_string().contains("hunter2"), "{entry}");
    }

    let held = api.post("/v1/services/shop/hold", json!({"for": "30s"})).await;
    assert_eq!(held.status, 200, "{}", held.text);
    let entry = told(&api, &held).await;
    assert_says(&entry, json!({"event": "service.held", "operation": "hold", "service": "shop"}));
    assert_eq!(api.post("/v1/services/shop/release", json!({})).await.status, 200);

    for (token, status, reason, author) in [
        (VIEWER, 403, "forbidden", json!("eye")),
        ("a-token-that-is-wrong", 401, "wrong-token", Value::Null),
    ] {
        assert_eq!(weights(&api, 8, token, &[]).await.status, status);
        let entry = newest(&api).await;
        assert_says(
            &entry,
            json!({"event": "access.denied", "author": author, "status": status, "reason": reason,
                "operation": "put_weights", "service": "shop"}),
        );
        assert!(!entry.to_string().contains(token), "{entry}");
    }
    let astray = Request::get("/v1/status").header("host", "evil.example");
    assert_eq!(api.ask(astray, "").await.status, 421);
    assert_says(&newest(&api).await, json!({"event": "access.denied", "reason": "misdirected"}));

    // What changes nothing is no change, and who looks is none either.
    let before = newest(&api).await["id"].clone();
    assert_eq!(weights(&api, 6, OPERATOR, &[]).await.status, 200);
    assert_eq!(
        api.put(&format!("{WEIGHTS}?dry_run=true"), json!({"weights": {"green": 9}})).await.status,
        200
    );
    assert_eq!(newest(&api).await["id"], before);

    let metrics = api.get("/metrics").await.text;
    assert!(
        metrics.contains("crossfade_admin_refusals_total{reason=\"forbidden\"} 1\n"),
        "{metrics}"
    );
    assert!(metrics.contains("crossfade_audit_lost_total 0\n"));
}

#[tokio::test]
async fn the_log_is_read_page_by_page() {
    let backend = Backend::named("blue").await;
    let api = Api::guarded(guarded(&backend), OPERATOR).await;
    for green in 6..11 {
        assert_eq!(weights(&api, green, OPERATOR, &[]).await.status, 200);
    }
    let ids = |entries: Vec<Value>| {
        entries.iter().map(|entry| entry["id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids(entries(&api, "").await), [5, 4, 3, 2, 1]);
    assert_eq!(ids(entries(&api, "?limit=2").await), [5, 4]);
    assert_eq!(ids(entries(&api, "?limit=2&before=4").await), [3, 2]);
    assert!(entries(&api, "?before=1").await.is_empty());
    for bad in ["?limit=0", "?limit=1001", "?limit=x", "?before=-1", "?before=9223372036854775808"]
    {
        assert_eq!(api.get(&format!("/v1/audit{bad}")).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_change_is_told_also_when_nobody_waits_for_the_answer() {
    let (backend, word) = Backend::waiting("blue").await;
    let api = Api::start(shop(&backend)).await;
    let mut client = api.proxy.h1().await;
    let slow = tokio::spawn(async move { client.get("/").await.text().to_owned() });
    until("a request is in flight", || api.proxy.open() == 1).await;
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    let request = "POST /v1/services/shop/drain-nothing HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    eventually("a path that is none is told of", async || {
        entries(&api, "").await.first().is_some_and(|entry| entry["reason"] == "not-found")
    })
    .await;
    let body = r#"{"to": "green"}"#;
    let request = format!(
        "POST /v1/services/shop/cutover?wait=1h&force=true HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    eventually("the change is told of before it is answered", async || {
        newest(&api).await["event"] == "change.made"
    })
    .await;
    drop(stream);
    assert_says(&newest(&api).await, json!({"author": "api", "by": "address", "revision": 2}));
    word.notify_one();
    assert_eq!(slow.await.unwrap(), "blue");
}

/// What the file has, line by line.
fn lines(served: &Served) -> Vec<Value> {
    let text = fs::read_to_string(served.path("audit.log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn line(served: &Served, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let found = async || lines(served).into_iter().find(&wanted);
    eventually(what, async || found().await.is_some()).await;
    found().await.unwrap()
}

#[tokio::test]
async fn the_file_has_it_all_and_a_new_process_goes_on_with_it() {
    let backend = Backend::named("blue").await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ci.token"), OPERATOR).unwrap();
    let admin = "address: unix:admin.sock, audit: { file: audit.log }, \
        tokens: [{ name: ci, file: ci.token, role: operator }]";
    let config = config_of(&backend, admin);
    let mut served = Served::start(folder, &config);
    served.logged("admin API").await;
    let socket = format!("unix:{}", served.path("admin.sock").display());
    let ask = async |words: &[&str]| {
        run(&[&["--admin", &socket][..], words].concat(), &[("CROSSFADE_TOKEN", OPERATOR)], None)
            .await
    };
    assert_eq!(ask(&["cutover", "shop", "green", "--cause", "release"]).await.code, 0);
    let made = line(&served, "the change is written", |it| it["event"] == "change.made").await;
    assert_says(&made, json!({"author": "ci", "cause": "release", "service": "shop"}));
    assert!(made["from"].as_str().unwrap().starts_with("unix:uid="), "{made}");
    let mode = fs::metadata(served.path("audit.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // The file of the configuration is an author too.
    fs::write(served.path("c.yaml"), format!("{config}metrics: {{ linger: 2m }}\n")).unwrap();
    let loaded = line(&served, "the new file", |it| it["author"] == "file").await;
    assert_says(
        &loaded,
        json!({"event": "change.made", "operation": "load", "changed": ["metrics.linger"]}),
    );
    fs::write(served.path("c.yaml"), "nonsense: true\n").unwrap();
    let refused = line(&served, "the bad file", |it| it["event"] == "change.refused").await;
    assert_says(&refused, json!({"author": "file", "reason": "invalid"}));
    fs::write(served.path("c.yaml"), format!("{config}metrics: {{ linger: 2m }}\n")).unwrap();
    fs::write(served.path("ci.token"), "another-token-of-an-operator").unwrap();
    line(&served, "the new token", |it| it["event"] == "files.renewed").await;

    served.kill();
    let before = lines(&served);
    let last = before.last().unwrap()["id"].as_u64().unwrap();
    // Whoever was killed within a line leaves half of one.
    let mut file = fs::OpenOptions::new().append(true).open(served.path("audit.log")).unwrap();
    std::io::Write::write_all(&mut file, b"{\"id\": 99").unwrap();
    let folder = std::mem::replace(&mut served.folder, tempfile::tempdir().unwrap());
    let again = Served::start(folder, &config);
    again.logged("admin API").await;
    let cut = ["--admin", &socket, "cutover", "shop", "blue"];
    assert_eq!(run(&cut, &[], None).await.code, 0);
    eventually("it goes on", async || {
        let text = fs::read_to_string(again.path("audit.log")).unwrap();
        let id = format!("{{\"id\":{},", last + 1);
        text.lines().last().is_some_and(|line| line.starts_with(&id))
            && text.contains("\n{\"id\": 99\n")
    })
    .await;
    let text = fs::read_to_string(again.path("audit.log")).unwrap();
    assert!(!text.contains("token-of-an-operator"), "{text}");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_told_at_the_start() {
    let backend = Backend::named("blue").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.yaml");
    let config = config_of(&backend, "address: 127.0.0.1:0, audit: { file: none/audit.log }");
    fs::write(&path, config).unwrap();
    let ran = run(&["serve", path.to_str().unwrap()], &[], None).await;
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("none/audit.log") && ran.err.contains("admin.audit"), "{}", ran.err);
}

#[tokio::test]
async fn with_a_state_directory_it_is_kept_there() {
    let backend = Backend::named("blue").await;
    let config = config_of(&backend, "address: unix:admin.sock");
    let config = format!("{config}state: {{ directory: state }}\n");
    let served = Served::start(tempfile::tempdir().unwrap(), &config);
    served.logged("admin API").await;
    let socket = format!("unix:{}", served.path("admin.sock").display());
    assert_eq!(run(&["--admin", &socket, "cutover", "shop", "green"], &[], None).await.code, 0);
    eventually("the change is written", async || {
        let text = fs::read_to_string(served.path("state/audit.log")).unwrap_or_default();
        text.contains("\"event\":\"change.made\"")
    })
    .await;
}
