use crate::{
    api::{Answer, Api, assert_problem, eventually, json},
    stage::*,
    support::*,
};
use crossfade::{admin, config, spec::AdminLimits};
use http::Request;
use serde_json::json;
use std::{fs, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

const WEIGHTS: &str = "/v1/services/shop/weights";

async fn with(api: &Api, request: http::request::Builder, shown: &str) -> Answer {
    api.ask(request.header("authorization", shown), r#"{"weights": {"green": 6}}"#).await
}

fn put() -> http::request::Builder {
    json(Request::put(WEIGHTS))
}

#[tokio::test]
async fn viewers_look_operators_change_and_others_do_neither() {
    let backend = Backend::named("blue").await;
    let api = Api::guarded(guarded(&backend), OPERATOR).await;
    let (operator, viewer) = (format!("Bearer {OPERATOR}"), format!("Bearer {VIEWER}"));

    let unknown = api.raw(Request::get("/v1/status").header("authorization", ""), "").await;
    assert_eq!(unknown.status, 401);
    assert_problem(&unknown);
    assert_eq!(
        unknown.header("www-authenticate"),
        "Bearer realm=\"crossfade\", error=\"invalid_token\""
    );
    for shown in ["Bearer the-token-of-a-viewer2", "Basic dGhlLXRva2Vu", VIEWER] {
        let wrong = with(&api, put(), shown).await;
        assert_eq!(wrong.status, 401, "{shown}");
        assert!(!wrong.text.contains("the-token"), "{}", wrong.text);
    }

    let seen = with(&api, Request::get("/v1/status"), &viewer).await;
    assert_eq!(seen.status, 200);
    let refused = with(&api, put(), &viewer).await;
    assert_eq!(refused.status, 403);
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("eye") && detail.contains("role operator"), "{detail}");
    assert_eq!(api.service().await["revision"], 1);

    let made = with(&api, put(), &operator).await;
    assert_eq!((made.status.as_u16(), &made.json()["author"]), (200, &json!("ci")));
    let dry = Request::put(format!("{WEIGHTS}?dry_run=true"));
    assert_eq!(with(&api, json(dry), &viewer).await.status, 403, "a viewer asks for nothing else");
    for path in ["/v1/nothing", "/nothing", "/assets/"] {
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert!(
            say(&api, &head).await.starts_with("HTTP/1.1 401 "),
            "{path}: not even what there is"
        );
    }
}

#[tokio::test]
async fn without_a_token_there_are_probes_and_metrics_if_it_is_said() {
    let backend = Backend::named("blue").await;
    let mut spec = guarded(&backend);
    for public in [false, true] {
        spec.admin.public_metrics = public;
        let api = Api::guarded(spec.clone(), OPERATOR).await;
        for (path, status) in [
            ("/healthz", 200),
            ("/readyz", 200),
            ("/metrics", if public { 200 } else { 401 }),
            ("/v1/status", 401),
            ("/v1/openapi.json", 401),
        ] {
            if path == "/readyz" {
                api.proxy.ready().await;
            }
            let head =
                format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            let answer = say(&api, &head).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
            let challenged = answer.contains("www-authenticate: Bearer realm=\"crossfade\"\r\n");
            assert_eq!(challenged, status == 401, "{path}: {answer}");
        }
    }
}

/// The answer to these bytes, from a connection that ends with it.
async fn say(api: &Api, text: &str) -> String {
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    say_on(&mut stream, &text.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await
}

async fn say_on(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn who_guesses_must_wait_and_others_need_not() {
    let backend = Backend::named("blue").await;
    let api = Api::guarded(guarded(&backend), OPERATOR).await;
    let from = |address: &'static str, token: &'static str| {
        let to = api.address;
        async move {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
            let mut stream = socket.connect(to).await.unwrap();
            let head = format!(
                "GET /v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                 authorization: Bearer {token}\r\n\r\n"
            );
            say_on(&mut stream, &head).await
        }
    };
    let mut answer = String::new();
    // One a second is forgiven meanwhile, however long this takes.
    for guess in 0.. {
        answer = from("127.0.0.2", "a-guess-at-a-token").await;
        if !answer.starts_with("HTTP/1.1 401 ") {
            assert!(guess >= 20, "{guess}: {answer}");
            break;
        }
    }
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    let elsewhere = from("127.0.0.3", OPERATOR).await;
    assert!(elsewhere.starts_with("HTTP/1.1 200 "), "{elsewhere}");
    eventually("who guessed is listened to again", async || {
        from("127.0.0.2", OPERATOR).await.starts_with("HTTP/1.1 200 ")
    })
    .await;
}

#[tokio::test]
async fn nobody_takes_all_connections() {
    let backend = Backend::named("blue").await;
    let mut spec = shop(&backend);
    spec.admin.limits = AdminLimits { connections: 8, connections_each: 3 };
    let api = Api::start(spec).await;
    let from = |address: &str| {
        let (socket, to) = (TcpSocket::new_v4().unwrap(), api.address);
        socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
        async move {
            let mut stream = socket.connect(to).await.unwrap();
            // A connection that is closed at once may be so before this is written.
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
            let mut first = [0; 1];
            (matches!(stream.read(&mut first).await, Ok(1)), stream)
        }
    };
    let mut greedy = Vec::new();
    for taken in 0..5 {
        let (answered, stream) = from("127.0.0.2").await;
        assert_eq!(answered, taken < 3, "connection {taken}");
        greedy.push(stream);
    }
    assert!(from("127.0.0.3").await.0, "others are answered meanwhile");
    let metrics = api.get("/metrics").await.text;
    assert!(metrics.contains("crossfade_admin_connections_refused_total 2\n"), "{metrics}");
    drop(greedy);
    eventually("there is room again", async || from("127.0.0.2").await.0).await;
}

#[tokio::test]
async fn a_token_that_is_replaced_is_good_for_nothing_any_more() {
    let backend = Backend::named("blue").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ci.token");
    fs::write(&file, format!("{OPERATOR}\n")).unwrap();
    let tokens = "tokens: [{ name: ci, file: ci.token, role: operator }]";
    fs::write(folder.path().join("c.yaml"), config_of(&backend, tokens)).unwrap();
    let loaded = config::load(&folder.path().join("c.yaml"));
    let spec = loaded.outcome.spec.clone().expect("a good file");
    let (reloader, mut changes) = config::watch(&loaded, Duration::from_millis(50));
    let api = Api::begin(spec, Some(reloader), Some(OPERATOR.into())).await;
    let (handle, audit) = (api.proxy.handle.clone(), api.audit.clone());
    tokio::spawn(async move {
        while let Some(loaded) = changes.recv().await {
            admin::follow(&handle, &audit, loaded.outcome).await;
        }
    });
    let status = async |token: &str| {
        let shown = format!("Bearer {token}");
        with(&api, Request::get("/v1/status"), &shown).await.status.as_u16()
    };
    assert_eq!(status(OPERATOR).await, 200);
    const NEW: &str = "another-token-of-an-operator";
    fs::write(&file, NEW).unwrap();
    eventually("the old token is good for nothing", async || status(OPERATOR).await == 401).await;
    assert_eq!(status(NEW).await, 200);
    // A bad file changes nothing.
    fs::write(&file, "short").unwrap();
    let shown = format!("Bearer {NEW}");
    eventually("the bad file is told of", async || {
        let status = with(&api, Request::get("/v1/status"), &shown).await.json();
        status["config"]["error"].as_str().is_some_and(|error| error.contains("can be guessed"))
    })
    .await;
    let status = with(&api, Request::get("/v1/status"), &shown).await.json();
    assert_eq!(status["revision"], 1, "another token is no revision");
}

#[tokio::test]
async fn the_command_line_shows_a_token() {
    let backend = Backend::named("blue").await;
    let api = Api::guarded(guarded(&backend), OPERATOR).await;
    let admin = format!("http://{}", api.address);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        fs::write(folder.path().join(name), content).unwrap();
        folder.path().join(name).display().to_string()
    };
    let (operator, viewer) = (file("operator", OPERATOR), file("viewer", VIEWER));
    let cutover = ["--admin", &admin, "cutover", "shop", "green"];

    let bare = run(&cutover, &[], None).await;
    assert_eq!(bare.code, 1);
    assert!(
        bare.err.contains("--token-file") && bare.err.contains("CROSSFADE_TOKEN"),
        "{}",
        bare.err
    );
    let as_viewer = run(&[&cutover[..], &["--token-file", &viewer]].concat(), &[], None).await;
    assert_eq!(as_viewer.code, 1);
    assert!(as_viewer.err.contains("needs the role operator"), "{}", as_viewer.err);
    let wrong = run(&cutover, &[("CROSSFADE_TOKEN", "no-such-token-here")], None).await;
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("does not know the token"), "{}", wrong.err);
    assert_eq!(api.service().await["revision"], 1);

    let done = run(&[&cutover[..], &["--token-file", &operator]].concat(), &[], None).await;
    assert_eq!(done.code, 0, "{}", done.err);
    let status = ["--admin", &admin, "status"];
    assert_eq!(run(&status, &[("CROSSFADE_TOKEN", VIEWER)], None).await.code, 0);
    assert_eq!(run(&status, &[("CROSSFADE_TOKEN_FILE", &viewer)], None).await.code, 0);
    assert_eq!(run(&["--admin", &admin, "healthcheck"], &[], None).await.code, 0);

    let (empty, words) = (file("empty", "\n"), file("words", "two words"));
    for bad in [&*empty, &words, "/none/token"] {
        let ran = run(&[&status[..], &["--token-file", bad]].concat(), &[], None).await;
        assert_eq!(ran.code, 2, "{bad}: {}", ran.err);
        assert!(ran.err.contains(bad), "{}", ran.err);
    }
}

#[tokio::test]
async fn a_public_address_without_tokens_does_not_start() {
    let backend = Backend::named("blue").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.yaml");
    fs::write(&path, config_of(&backend, "address: 0.0.0.0:0")).unwrap();
    let ran = run(&["serve", path.to_str().unwrap()], &[], None).await;
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("admin.address: `0.0.0.0:0` is open to others"), "{}", ran.err);
}

#[tokio::test]
async fn what_listens_in_public_stays_guarded() {
    let backend = Backend::named("blue").await;
    let mut spec = guarded(&backend);
    spec.admin.address = crossfade::spec::AdminAddress::Tcp("0.0.0.0:0".parse().unwrap());
    let api = Api::guarded(spec, OPERATOR).await;
    // The address of the document is not that which is listened on, which stays.
    let mut document = api.get("/v1/config").await.json();
    document["admin"] = json!({});
    let refused = api.put("/v1/config", document.clone()).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("open to others"), "{}", refused.text);
    document["admin"] = json!({ "insecure": true });
    assert_eq!(api.put("/v1/config", document).await.status, 200);
}
