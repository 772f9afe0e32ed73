//! The binary as people and scripts use it.

#[path = "support/mod.rs"]
mod support;

#[path = "support/admin.rs"]
mod api;

use api::Api;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};
use support::*;
use tokio::sync::Notify;

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crossfade"));
    command.args(arguments).env_remove("CROSSFADE_ADMIN").env_remove("NO_COLOR");
    command
}

fn run(arguments: &[&str]) -> Ran {
    let output = command(arguments).output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Against an API, which must go on answering meanwhile.
async fn steer(api: &Api, line: &str) -> Ran {
    let arguments = format!("--admin http://{} {line}", api.address);
    let work = move || run(&arguments.split(' ').collect::<Vec<_>>());
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn shop() -> (Backend, Backend, Api) {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let spec = spec(&[
        ("blue", pool("v1", 95, &[blue.spec_address()])),
        ("green", pool("v2", 5, &[green.spec_address()])),
    ]);
    (blue, green, Api::start(spec).await)
}

#[test]
fn help_and_version_succeed_and_misuse_is_2() {
    let help = run(&["--help"]);
    assert_eq!(help.code, 0);
    for verb in [
        "demo",
        "serve",
        "check",
        "schema",
        "status",
        "top",
        "weights",
        "cutover",
        "drain",
        "undrain",
        "backend",
        "rollout",
        "reload",
        "healthcheck",
        "upgrade",
        "completions",
        "man",
    ] {
        assert!(help.out.lines().any(|line| line.trim_start().starts_with(verb)), "{verb}");
        assert_eq!(run(&[verb, "--help"]).code, 0, "{verb}");
    }
    assert!(!help.out.contains("demo-app"));
    let version = run(&["--version"]);
    assert_eq!((version.code, &*version.out), (0, "crossfade 0.1.0\n"));
    for misuse in [
        &[][..],
        &["nonsense"],
        &["weights", "shop"],
        &["weights", "shop", "blue"],
        &["weights", "shop", "blue=1", "blue=2"],
        &["weights", "shop", "blue=1000001"],
        &["cutover", "shop", "green", "--wait", "soon"],
        &["backend", "add", "shop", "blue", "nowhere"],
        &["drain", "shop", "blue", "127.0.0.1"],
        &["--admin", "http://localhost", "--ca", "ca.crt", "status"],
        &["--admin", "https://localhost", "--ca", "/none/ca.crt", "status"],
        &["--admin", "https://localhost", "--cert", "only.crt", "status"],
        &["--admin", "ftp://localhost", "status"],
        &["--admin", "http://", "status"],
        &["completions", "cmd.exe"],
        &["man", "rollout", "begin"],
    ] {
        let ran = run(misuse);
        assert_eq!(ran.code, 2, "{misuse:?}: {}", ran.err);
        assert!(!ran.err.is_empty() && ran.out.is_empty(), "{misuse:?}");
    }
}

#[test]
fn check_tells_every_error_with_its_place() {
    let mistakes = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/mistakes.yaml");
    let ran = run(&["check", mistakes]);
    assert_eq!(ran.code, 2);
    assert!(ran.out.is_empty());
    let places = ran.err.lines().filter(|line| line.starts_with(&format!("{mistakes}:"))).count();
    assert_eq!(places, 53, "{}", ran.err);

    let missing = run(&["check", "/none/crossfade.yaml"]);
    assert_eq!(missing.code, 2);
    assert!(missing.err.starts_with("/none/crossfade.yaml:1:1: "), "{}", missing.err);

    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good.yaml");
    let text = "services: {shop: {pools: {blue: {version: v1, weight: 1, backends: [127.0.0.1:1]}}}}\n\
        listeners: [{address: 127.0.0.1:0}]\n\
        routes: [{name: all, match: {path_prefix: /}, service: shop}]\n";
    std::fs::write(&good, text).unwrap();
    let ran = run(&["check", good.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.out.lines().count(), 1, "{}", ran.out);
    assert!(ran.out.contains("valid"));
}

#[test]
fn the_schema_is_one() {
    let ran = run(&["schema"]);
    assert_eq!(ran.code, 0);
    let schema: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(schema["properties"]["services"].is_object());
}

#[test]
fn shells_and_manuals_are_told_of_every_verb() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(&["completions", shell]);
        assert_eq!(ran.code, 0, "{shell}: {}", ran.err);
        assert!(["cutover", "rollout", "wait-healthy"].iter().all(|it| ran.out.contains(it)));
    }
    for (verb, told) in [(&["man"][..], "cutover"), (&["man", "rollout", "start"], "\\-\\-to")] {
        let ran = run(verb);
        assert_eq!(ran.code, 0, "{verb:?}: {}", ran.err);
        assert!(ran.out.contains(".TH ") && ran.out.contains(told), "{}", ran.out);
    }
}

#[tokio::test]
async fn nobody_there_is_5() {
    let address = dead_address();
    for verb in ["status", "top", "reload", "healthcheck", "cutover shop green"] {
        let mut arguments = vec!["--admin".to_owned(), address.to_string()];
        arguments.extend(verb.split(' ').map(str::to_owned));
        let ran = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(ran.code, 5, "{verb}: {}", ran.err);
        assert!(ran.err.contains("CROSSFADE_ADMIN"), "{}", ran.err);
    }
    let ran = run(&["--admin", "unix:/none/admin.sock", "status"]);
    assert_eq!(ran.code, 5, "{}", ran.err);
}

#[tokio::test]
async fn status_is_a_table_or_what_the_api_said() {
    let (blue, _green, api) = shop().await;
    let ran = steer(&api, "status").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let words: Vec<Vec<&str>> = ran.out.lines().map(|l| l.split_whitespace().collect()).collect();
    assert!(ran.out.starts_with("crossfade 0.1.0, ready, revision 1"), "{}", ran.out);
    let blue_row = words.iter().find(|row| row.first() == Some(&"shop")).unwrap();
    assert_eq!(blue_row[1..8], ["blue", "v1", "active", "95", "95.0%", "1/1", "0"]);
    assert!(!ran.out.contains('\x1b'), "colours are for terminals");

    let one = steer(&api, "status shop").await;
    assert!(one.out.contains(&blue.address.to_string()), "{}", one.out);
    let json = steer(&api, "status -o json").await;
    assert_eq!(serde_json::from_str::<Value>(&json.out).unwrap()["revision"], 1);
    let json = steer(&api, "-o json status shop").await;
    assert_eq!(serde_json::from_str::<Value>(&json.out).unwrap()["name"], "shop");
    let unknown = steer(&api, "status none").await;
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("shop"), "names those that exist: {}", unknown.err);
}

#[tokio::test]
async fn changes_are_made_and_told() {
    let (blue, green, api) = shop().await;
    let dry = steer(&api, "weights shop green=50 --dry-run").await;
    assert_eq!((dry.code, dry.out.lines().next()), (0, Some("would change")));
    let ran = steer(&api, "weights shop green=50 --cause half").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.starts_with("revision 2\n"), "{}", ran.out);
    assert!(ran.out.contains("services.shop.pools.green.weight: 5 -> 50"), "{}", ran.out);
    let again = steer(&api, "weights shop green=50").await;
    assert!(again.out.starts_with("nothing to change"), "{}", again.out);

    let json = steer(&api, "cutover shop green --wait 30s -o json").await;
    assert_eq!(json.code, 0, "{}", json.err);
    assert_eq!(serde_json::from_str::<Value>(&json.out).unwrap()["revision"], 3);
    assert_eq!(api.service().await["pools"][0]["weight"], 0);

    let add = format!("backend add shop blue {} --weight 3", green.address);
    assert_eq!(steer(&api, &add).await.code, 0);
    assert_eq!(api.service().await["pools"][0]["backends"][1]["weight"], 3);
    let remove = format!("backend remove shop blue {} --wait", green.address);
    assert_eq!(steer(&api, &remove).await.code, 0);
    assert_eq!(api.service().await["pools"][0]["backends"].as_array().unwrap().len(), 1);

    let state = async || api.service().await["pools"][0]["state"].clone();
    assert_eq!(steer(&api, "drain shop blue --wait").await.code, 0);
    assert_eq!(state().await, "drained");
    assert_eq!(steer(&api, "undrain shop blue").await.code, 0);
    assert_eq!(state().await, "active");
    let one = format!("drain shop blue {}", blue.address);
    assert_eq!(steer(&api, &one).await.code, 0);
    assert_eq!(api.service().await["pools"][0]["backends"][0]["state"], "drained");
    assert_eq!(steer(&api, &one.replace("drain", "undrain")).await.code, 0);
    assert_eq!(steer(&api, "drain shop --wait").await.code, 0);
    assert_eq!(state().await, "drained");
    assert_eq!(steer(&api, "undrain shop").await.code, 0);
    assert_eq!(state().await, "active");
    let held = steer(&api, "hold shop --for 1h --wait").await;
    assert!(held.code == 0 && held.out.contains("shop is held until"), "{} {}", held.out, held.err);
    let released = steer(&api, "release shop").await;
    assert!(released.out.contains("shop is released, 0 requests"), "{}", released.out);
    assert_eq!(steer(&api, "healthcheck").await.code, 0);
}

#[tokio::test]
async fn refused_is_1() {
    let (_blue, _green, api) = shop().await;
    for line in [
        "cutover shop red",
        "cutover none blue",
        "weights shop blue=0 green=0",
        "backend remove shop blue 127.0.0.1:1",
        "reload",
    ] {
        let ran = steer(&api, line).await;
        assert_eq!(ran.code, 1, "{line}: {}", ran.err);
        assert!(ran.err.starts_with("crossfade: ") && ran.out.is_empty(), "{line}: {}", ran.err);
    }
    let json = steer(&api, "cutover shop red -o json").await;
    assert_eq!(json.code, 1);
    assert_eq!(serde_json::from_str::<Value>(&json.out).unwrap()["status"], 404);
    api.proxy.live.lifecycle.advance(crossfade::live::Phase::Leaving);
    assert_eq!(steer(&api, "healthcheck").await.code, 0, "who leaves must not be killed");
    assert_eq!(steer(&api, "healthcheck --ready").await.code, 1);
}

#[tokio::test]
async fn a_wait_that_is_too_short_is_4() {
    let (blue, word) = Backend::waiting("blue").await;
    let green = Backend::named("green").await;
    let spec = spec(&[
        ("blue", pool("v1", 1, &[blue.spec_address()])),
        ("green", pool("v2", 0, &[green.spec_address()])),
    ]);
    let api = Api::start(spec).await;
    let mut client = api.proxy.h1().await;
    let slow = tokio::spawn(async move { client.get("/").await.text().to_owned() });
    until("a request is in flight", || api.proxy.open() == 1).await;
    let ran = steer(&api, "cutover shop green --wait 1ms").await;
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("the change is made"), "{}", ran.err);
    assert!(ran.out.starts_with("revision 2\n"), "{}", ran.out);
    let again = steer(&api, "cutover shop green --wait 1ms").await;
    assert_eq!(again.code, 4, "it waits for the same: {}", again.out);
    assert_eq!(api.service().await["pools"][1]["weight"], 1);
    word.notify_one();
    assert_eq!(slow.await.unwrap(), "blue");
}

/// Starts a command that waits; its first line on stderr, and the rest of it once `go` was told.
async fn watch(api: &Api, line: &str, go: &Notify) -> (String, Ran) {
    let arguments = format!("--admin http://{} {line}", api.address);
    let mut command = command(&arguments.split(' ').collect::<Vec<_>>());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let first = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        err.read_line(&mut line).unwrap();
        (line, err)
    });
    let (first, mut rest) = first.await.unwrap();
    go.notify_one();
    let ran = tokio::task::spawn_blocking(move || {
        let mut err = String::new();
        rest.read_to_string(&mut err).unwrap();
        let output = child.wait_with_output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        Ran { code: output.status.code().unwrap(), out, err }
    });
    (first, ran.await.unwrap())
}

#[tokio::test]
async fn who_waits_is_told_for_what() {
    let (blue, word) = Backend::waiting("blue").await;
    let green = Backend::named("green").await;
    let api = Api::start(spec(&[
        ("blue", pool("v1", 1, &[blue.spec_address()])),
        ("green", pool("v2", 0, &[green.spec_address()])),
    ]))
    .await;
    let address = blue.address;
    for line in [
        "cutover shop green --wait 1m".to_owned(),
        "drain shop blue --wait".to_owned(),
        format!("drain shop blue {address} --wait 1m"),
        "weights shop blue=0 green=1 --wait 1m".to_owned(),
        "drain shop --wait 1m".to_owned(),
    ] {
        let mut client = api.proxy.h1().await;
        let slow = tokio::spawn(async move { client.get("/").await.text().to_owned() });
        until("a request is in flight", || api.proxy.open() == 1).await;
        let (first, ran) = watch(&api, &line, &word).await;
        assert_eq!(first, "waiting, 1 in flight\n", "{line}");
        assert_eq!(ran.code, 0, "{line}: {}", ran.err);
        assert!(ran.out.starts_with("revision "), "{line}: {}", ran.out);
        assert!(ran.out.ends_with("  nothing of before is in flight any more\n"), "{}", ran.out);
        assert_eq!(slow.await.unwrap(), "blue");
        for back in [
            "undrain shop".to_owned(),
            "undrain shop blue".to_owned(),
            format!("undrain shop blue {address}"),
            "cutover shop blue".to_owned(),
        ] {
            assert_eq!(steer(&api, &back).await.code, 0, "{back}");
        }
    }
    // Nothing to wait for, nothing to say.
    let idle = steer(&api, "cutover shop green --wait 1m").await;
    assert_eq!(idle.code, 0);
    assert!(!idle.err.contains("in flight"), "{}", idle.err);
}

#[tokio::test]
async fn an_api_that_does_not_answer_is_4() {
    let silent = Backend::raw(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let address = silent.address.to_string();
    let work = move || run(&["--admin", &address, "--timeout", "50ms", "status"]);
    let ran = tokio::task::spawn_blocking(work).await.unwrap();
    assert_eq!(ran.code, 4, "{}", ran.err);
}

#[tokio::test]
async fn a_unix_socket_will_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let (_blue, _green, api) = shop().await;
    let address = crossfade::spec::AdminAddress::Unix(path.clone());
    let socket = crossfade::admin::bind(&address).unwrap();
    let (live, handle) = (api.proxy.live.clone(), api.proxy.handle.clone());
    let end = std::future::pending();
    let log = api.audit.clone();
    let served = tokio::spawn(crossfade::admin::serve(live, handle, None, None, log, socket, end));
    let admin = format!("unix:{}", path.display());
    let work = move || {
        let output = command(&["cutover", "shop", "green"]).env("CROSSFADE_ADMIN", admin).output();
        output.unwrap().status.code()
    };
    assert_eq!(tokio::task::spawn_blocking(work).await.unwrap(), Some(0));
    assert_eq!(api.service().await["pools"][0]["weight"], 0);
    served.abort();
}

#[tokio::test]
async fn the_demo_app_answers_and_fails_when_told() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let options = crossfade::cli::demo_app::Options {
        version: "v7".into(),
        fail_percent: 0,
        latency: std::time::Duration::ZERO,
    };
    let served = tokio::spawn(crossfade::cli::demo_app::serve(listener, options));
    let io = hyper_util::rt::TokioIo::new(tokio::net::TcpStream::connect(address).await.unwrap());
    let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut client = Client::H1(sender);
    let reply = client.get("/any").await;
    assert_eq!(reply.status, 200);
    assert_eq!(serde_json::from_slice::<Value>(&reply.body).unwrap()["version"], "v7");
    let fail = |percent: &str| post(&format!("/fail?percent={percent}")).body(full("")).unwrap();
    for bad in ["101", "-1", "x", ""] {
        assert_eq!(client.send(fail(bad)).await.status, 400, "{bad}");
    }
    assert_eq!(client.send(fail("100")).await.status, 200);
    assert_eq!(client.get("/any").await.status, 500);
    assert_eq!(client.get("/health/ready").await.status, 200);
    served.abort();
}
