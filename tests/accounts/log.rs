use crate::{
    stage::{Stage, assert_says},
    support::*,
};
use crossfade::{
    control::Command,
    spec::{
        AccessLog, BackendAddress, Engine, FieldMatch, HostPattern, LogField, LogFormat, LogTarget,
        Match, Mirror, PathMatch, Pin, PlainField, Rescue, RescueOn, Retries, RetryOn, Share, Spec,
        Sticky, StickyKey, ValueMatch,
    },
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::{fs, path::Path, sync::Arc, sync::atomic::AtomicBool, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ENGINES: [Engine; 2] = [Engine::Native, Engine::Hyper];

fn one(engine: Engine, backend: &Backend) -> Spec {
    let mut spec = spec(&[("blue", pool("v1", 100, &[backend.spec_address()]))]);
    spec.engine = engine;
    spec
}

/// Answers with what it has heard.
async fn echo() -> Backend {
    Backend::start(|request| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        text(body)
    })
    .await
}

fn millis(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("{key} of {line}"))
}

#[tokio::test]
async fn a_line_says_what_became_of_a_request() {
    for (engine, h2_backend) in [(ENGINES[0], false), (ENGINES[1], false), (ENGINES[0], true)] {
        let backend = match h2_backend {
            true => Backend::http2(10, |_| async { text("hello") }).await,
            false => Backend::start(|_| async { text("hello") }).await,
        };
        let mut spec = one(engine, &backend);
        if h2_backend {
            spec.services["shop"].pools["blue"].protocol = crossfade::spec::PoolProtocol::H2;
        }
        let stage = Stage::start(spec, |_| {}).await;
        let clients = [(stage.proxy.h1().await, "HTTP/1.1"), (stage.proxy.h2().await, "HTTP/2")];
        for (nth, (mut client, protocol)) in clients.into_iter().enumerate() {
            let id = format!("id-{nth}");
            let request = get("/a/b?page=2&token=abc")
                .header("x-request-id", &id)
                .header("user-agent", "test/1 \"x\"")
                .header("authorization", "Bearer sesame")
                .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
            assert_eq!(client.send(request.body(full("")).unwrap()).await.status, 200);
            let line = stage.line(nth + 1).await;
            assert_says(
                &line,
                &json!({
                    "service": "shop", "route": "all", "pool": "blue", "version": "v1",
                    "backend": backend.address.to_string(), "chosen_by": "draw", "attempts": 1,
                    "failed": null, "rescued": null, "client": "127.0.0.1", "protocol": protocol,
                    "method": "GET", "host": "shop.example.com", "path": "/a/b",
                    "query": "page=2&token=***", "status": 200, "fault": null, "reason": null,
                    "bytes_in": 0, "bytes_out": 5, "queue_ms": null, "kind": "request",
                    "request_id": id, "trace_id": "0af7651916cd43dd8448eb211c80319c",
                    "header.user-agent": "test/1 \"x\"",
                }),
            );
            assert!(!line.to_string().contains("sesame"));
            let times = ["first_byte_ms", "total_ms"].map(|key| millis(&line, key));
            assert!(0.0 < times[0] && times[0] <= times[1], "{line}");
            let at: jiff::Timestamp = line["time"].as_str().unwrap().parse().unwrap();
            assert!(at.duration_until(jiff::Timestamp::now()).as_secs().abs() < 60, "{line}");
            assert!(nth > 0 || millis(&line, "connect_ms") > 0.0, "{line}");
        }
    }
}

#[tokio::test]
async fn bodies_are_counted_however_they_are_framed() {
    let backend = echo().await;
    let chunked = Backend::start(|request| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let pieces = [body, bytes::Bytes::from_static(b"tail")];
        http::Response::new(frames(pieces.map(hyper::body::Frame::data).into()))
    })
    .await;
    for engine in ENGINES {
        for (backend, more) in [(&backend, 0), (&chunked, 4)] {
            let stage = Stage::start(one(engine, backend), |_| {}).await;
            for (nth, mut client) in
                [stage.proxy.h1().await, stage.proxy.h2().await].into_iter().enumerate()
            {
                let body = "x".repeat(100_000);
                let reply = client.send(post("/").body(full(body)).unwrap()).await;
                assert_eq!(reply.body.len(), 100_000 + more);
                let line = stage.line(nth + 1).await;
                let expected =
                    json!({ "method": "POST", "bytes_in": 100_000, "bytes_out": 100_000 + more });
                assert_says(&line, &expected);
            }
            let framed = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
                          3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
            assert!(stage.proxy.raw(framed).await.starts_with("HTTP/1.1 200"));
            assert_says(&stage.line(3).await, &json!({ "bytes_in": 5, "bytes_out": 5 + more }));
        }
    }
}

#[tokio::test]
async fn what_is_refused_has_a_line_too() {
    let backend = echo().await;
    for engine in ENGINES {
        let mut desired = one(engine, &backend);
        desired.routes[0].matches.hosts = vec![HostPattern::Exact("shop.example.com".into())];
        desired.services["shop"].pools.insert("none".into(), pool("v0", 0, &[dead_address()]));
        desired.services["shop"].pools["none"].drained = true;
        let matches = Match { path: PathMatch::Exact("/none".into()), ..Match::default() };
        desired.services["shop"].pins =
            vec![Pin { matches, from: Vec::new(), pool: "none".into() }];
        let stage = Stage::start(desired, |_| {}).await;
        let mut count = 0;
        for mut client in [stage.proxy.h1().await, stage.proxy.h2().await] {
            let request = http::Request::get("/x").header("host", "other");
            let reply = client.send(request.body(full("")).unwrap()).await;
            assert_eq!(reply.status, 404);
            count += 1;
            let expected = json!({
                "status": 404, "fault": "downstream", "reason": "no_route", "method": "GET",
                "host": "other", "path": "/x", "route": null, "pool": null, "attempts": 0,
                "bytes_out": reply.body.len(),
            });
            assert_says(&stage.line(count).await, &expected);
            assert_eq!(client.get("/none").await.status, 503);
            count += 1;
            let expected = json!({
                "status": 503, "fault": "proxy", "reason": "draining", "route": "all",
                "service": "shop", "pool": "none", "version": "v0", "backend": null, "path": "/none",
            });
            assert_says(&stage.line(count).await, &expected);
        }
        // What cannot even be read.
        let reply = stage.proxy.raw("GET / HTTP/1.1\r\nno colon\r\n\r\n").await;
        assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
        if engine == Engine::Native {
            let expected = json!({ "status": 400, "reason": "bad_request", "path": null });
            assert_says(&stage.line(count + 1).await, &expected);
        }
    }
}

#[tokio::test]
async fn nothing_that_a_client_sends_breaks_a_line() {
    let backend = echo().await;
    for format in [LogFormat::Json, LogFormat::Text] {
        let stage = Stage::start(one(Engine::Native, &backend), |log| log.format = format).await;
        let head =
            b"GET /a%0a;b HTTP/1.1\r\nhost: a\r\nuser-agent: \xff\t\xc2\x9b31m\" status=1\r\n\
                     x-request-id: a\"b\r\nconnection: close\r\n\r\n";
        stage.proxy.raw(head).await;
        let is_there = || stage.text("access.log").ends_with('\n');
        until("a line", is_there).await;
        let text = stage.text("access.log");
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(text.trim_end().chars().all(|c| !c.is_control()), "{text:?}");
        match format {
            LogFormat::Json => drop(serde_json::from_str::<Value>(&text).expect(&text)),
            LogFormat::Text => {
                assert!(text.contains("header.user-agent=\""), "{text}");
                assert!(!text.contains(" status=1 ") && text.contains("\\\" status=1\""), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn attempts_and_rescues_are_told_apart() {
    let good = Backend::named("good").await;
    let fails = Arc::new(AtomicBool::new(true));
    let failing = Backend::failing("bad", &fails).await;
    let dead = dead_address();
    for engine in ENGINES {
        let mut desired = spec(&[("blue", pool("v1", 100, &[dead.clone(), good.spec_address()]))]);
        desired.engine = engine;
        let shop = &mut desired.services["shop"];
        shop.retries =
            Retries { attempts: 3, on: RetryOn { connect: true, reset: true }, ..shop.retries };
        shop.ejection.consecutive = 1000;
        let stage = Stage::start(desired, |_| {}).await;
        let mut client = stage.proxy.h1().await;
        let mut count = 0;
        let retried = loop {
            assert_eq!(client.get("/").await.status, 200);
            count += 1;
            let line = stage.line(count).await;
            if line["attempts"] == 2 {
                break line;
            }
            assert!(count < 100, "never tried again");
        };
        let [failed] = &retried["failed"].as_array().unwrap()[..] else { panic!("{retried}") };
        let BackendAddress::Socket(address) = &dead else { panic!() };
        let expected =
            json!({ "pool": "blue", "backend": address.to_string(), "reason": "connect_failed" });
        assert_says(failed, &expected);
        let expected = json!({
            "status": 200, "backend": good.address.to_string(), "fault": null, "rescued": null,
        });
        assert_says(&retried, &expected);

        let green = pool("v2", 100, &[failing.spec_address()]);
        let mut desired =
            spec(&[("blue", pool("v1", 0, &[good.spec_address()])), ("green", green)]);
        desired.engine = engine;
        let on = RescueOn { server_error: true, failure: true };
        let rescue = Rescue { to: "blue".into(), budget_percent: 100, on };
        desired.services["shop"].rescue = Some(rescue);
        let stage = Stage::start(desired, |_| {}).await;
        assert_eq!(stage.proxy.h1().await.get("/").await.text(), "good");
        let line = stage.line(1).await;
        let expected = json!({ "status": 200, "pool": "blue", "rescued": true, "attempts": 2 });
        assert_says(&line, &expected);
        assert_says(&line["failed"][0], &json!({ "pool": "green", "reason": "server_error" }));
    }
}

#[tokio::test]
async fn pins_and_stickiness_are_said() {
    let backend = echo().await;
    let mut desired = one(Engine::Native, &backend);
    let shop = &mut desired.services["shop"];
    shop.pools.insert("green".into(), pool("v2", 0, &[backend.spec_address()]));
    let canary = FieldMatch { name: "canary".into(), value: ValueMatch::Present };
    let matches = Match { headers: vec![canary], ..Match::default() };
    shop.pins = vec![Pin { matches, from: Vec::new(), pool: "green".into() }];
    shop.sticky = Some(Sticky {
        key: StickyKey::Header("x-user".into()),
        issue: false,
        max_age: None,
        salt: None,
    });
    let stage = Stage::start(desired, |_| {}).await;
    let mut client = stage.proxy.h1().await;
    for (nth, (name, chosen_by, pool)) in
        [("canary", "pin", "green"), ("x-user", "sticky", "blue"), ("x-other", "draw", "blue")]
            .into_iter()
            .enumerate()
    {
        client.send(get("/").header(name, "1").body(full("")).unwrap()).await;
        let expected = json!({ "chosen_by": chosen_by, "pool": pool });
        assert_says(&stage.line(nth + 1).await, &expected);
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_said_to() {
    for engine in ENGINES {
        let (backend, _word) = Backend::waiting("late").await;
        let stage = Stage::start(one(engine, &backend), |_| {}).await;
        let mut client = stage.proxy.connect().await;
        client.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        until("it is there", || backend.count() == 1).await;
        drop(client);
        let expected = json!({
            "status": 499, "fault": "downstream", "reason": "client_closed", "path": "/slow",
            "pool": "blue", "first_byte_ms": null,
        });
        assert_says(&stage.line(1).await, &expected);
    }
}

#[tokio::test]
async fn a_request_that_waits_says_how_long() {
    let (backend, word) = Backend::waiting("late").await;
    for engine in ENGINES {
        let mut desired = one(engine, &backend);
        desired.services["shop"].limits.in_flight = Some(1);
        desired.services["shop"].limits.queue = 10;
        let stage = Stage::start(desired, |_| {}).await;
        let before = backend.count();
        let (mut first, mut second) = (stage.proxy.h1().await, stage.proxy.h1().await);
        let first = tokio::spawn(async move { first.get("/first").await.status });
        until("the first is there", || backend.count() == before + 1).await;
        let second = tokio::spawn(async move { second.get("/second").await.status });
        let gate =
            || stage.proxy.live.published.read(|snapshot| snapshot.services[0].gate.waiting());
        until("the second waits", || gate() == 1).await;
        word.notify_one();
        assert_eq!(first.await.unwrap(), 200);
        word.notify_one();
        assert_eq!(second.await.unwrap(), 200);
        let lines = stage.lines(2).await;
        let line = lines.iter().find(|line| line["path"] == "/second").unwrap();
        let waited = millis(line, "queue_ms");
        assert!(waited > 0.0 && waited < millis(line, "total_ms"), "{line}");
        assert_says(line, &json!({ "status": 200, "attempts": 1, "route": "all" }));
    }
}

#[tokio::test]
async fn a_tunnel_has_its_line_at_its_end() {
    let backend = Backend::raw(|mut stream| async move {
        let mut heard = [0; 4096];
        let _ = stream.read(&mut heard).await;
        let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).await.unwrap();
        stream.write_all(b"and seven").await.unwrap();
        let _ = stream.read(&mut heard).await;
    })
    .await;
    for engine in ENGINES {
        let stage = Stage::start(one(engine, &backend), |_| {}).await;
        let mut client = stage.proxy.connect().await;
        let request = b"GET /t HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        client.write_all(b"four").await.unwrap();
        client.read_exact(&mut [0; 9]).await.unwrap();
        assert!(stage.proxy.live.journal.flush(PATIENCE));
        assert_eq!(stage.text("access.log"), "", "it is not over");
        drop(client);
        let line = stage.line(1).await;
        let expected = json!({ "status": 101, "kind": "tunnel", "path": "/t", "fault": null });
        assert_says(&line, &expected);
        assert_eq!(line["bytes_in"], 4, "{line}");
        // The head of the answer goes through the tunnel where it has not been written before.
        assert!(line["bytes_out"].as_u64().unwrap() >= 9, "{line}");
    }
}

#[tokio::test]
async fn copies_have_no_line() {
    let backend = echo().await;
    let other = echo().await;
    let mut desired = one(Engine::Native, &backend);
    let shop = &mut desired.services["shop"];
    shop.pools.insert("green".into(), pool("v2", 0, &[other.spec_address()]));
    shop.mirror = Some(Mirror { share_percent: 100, ..Mirror::new("green".into()) });
    let stage = Stage::start(desired, |_| {}).await;
    let mut client = stage.proxy.h1().await;
    client.get("/").await;
    until("the copy has come", || other.count() == 1).await;
    assert!(stage.proxy.live.journal.flush(PATIENCE));
    client.get("/").await;
    let lines = stage.lines(2).await;
    assert!(lines.iter().all(|line| line["pool"] == "blue"), "{lines:?}");
}

#[tokio::test]
async fn some_requests_are_enough_but_failures_are_never_left_out() {
    let fails = Arc::new(AtomicBool::new(false));
    let backend = Backend::failing("shop", &fails).await;
    let stage = Stage::start(one(Engine::Native, &backend), |log| log.sample = Share::NONE).await;
    let mut client = stage.proxy.h1().await;
    for _ in 0..50 {
        client.get("/good").await;
    }
    fails.store(true, std::sync::atomic::Ordering::Relaxed);
    client.get("/bad").await;
    assert_says(&stage.line(1).await, &json!({ "status": 500, "path": "/bad" }));
}

#[tokio::test]
async fn a_reload_turns_it_on_and_off_and_changes_what_it_says() {
    let backend = echo().await;
    let desired = one(Engine::Native, &backend);
    let stage = Stage::start(desired.clone(), |_| {}).await;
    let load = async |log: Option<AccessLog>| {
        let mut spec = desired.clone();
        spec.access_log = log.map(Arc::new);
        let load = Command::Load { file: Box::new(spec) };
        stage.proxy.apply(load).await.unwrap();
    };
    let mut client = stage.proxy.h1().await;
    client.get("/1").await;
    stage.lines(1).await;
    let fields = [PlainField::Path, PlainField::Status].map(LogField::Plain).to_vec();
    let other = LogTarget::File(stage.path("other.log").into());
    load(Some(AccessLog { fields: fields.clone(), ..AccessLog::new(other.clone()) })).await;
    client.get("/2").await;
    assert_eq!(stage.lines_of("other.log", 1).await, [json!({ "path": "/2", "status": 200 })]);
    load(None).await;
    client.get("/3").await;
    let text = AccessLog { fields, format: LogFormat::Text, ..AccessLog::new(other) };
    load(Some(text)).await;
    client.get("/4").await;
    until("a line of text", || stage.text("other.log").ends_with("path=/4 status=200\n")).await;
    assert!(!stage.text("other.log").contains("/3"));
    stage.lines(1).await;
}

#[tokio::test]
async fn a_disk_that_is_full_costs_lines_alone() {
    let backend = echo().await;
    let full = |log: &mut AccessLog| log.to = LogTarget::File(Path::new("/dev/full").into());
    let stage = Stage::start(one(Engine::Native, &backend), full).await;
    let mut client = stage.proxy.h1().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status, 200);
    }
    until("they are counted", || stage.proxy.live.journal.dropped().0 == 20).await;
}

#[tokio::test]
async fn a_file_is_opened_anew_on_request() {
    let backend = echo().await;
    let stage = Stage::start(one(Engine::Native, &backend), |_| {}).await;
    let mut client = stage.proxy.h1().await;
    client.get("/1").await;
    stage.lines(1).await;
    fs::rename(stage.path("access.log"), stage.path("old.log")).unwrap();
    stage.proxy.live.journal.reopen();
    client.get("/2").await;
    assert_says(&stage.line(1).await, &json!({ "path": "/2" }));
    stage.lines_of("old.log", 1).await;
}

#[tokio::test]
async fn what_was_answered_before_the_end_is_written() {
    let backend = echo().await;
    let stage = Stage::start(one(Engine::Native, &backend), |_| {}).await;
    let mut client = stage.proxy.h1().await;
    for _ in 0..100 {
        client.get("/").await;
    }
    drop(client);
    let Stage { proxy, folder } = stage;
    let journal = proxy.live.clone();
    assert!(proxy.drain(Duration::from_secs(20)).await);
    assert_eq!(journal.journal.dropped(), (0, 0));
    let text = fs::read_to_string(folder.path().join("access.log")).unwrap();
    assert_eq!(text.lines().count(), 100);
}
