//! Another process takes over, on real processes: no connection is refused, no request fails, nothing that was
//! changed is forgotten; and where it cannot, nothing has changed.

mod log;
mod stage;
mod supervised;

#[path = "../support/mod.rs"]
mod support;

use rustix::process::Signal;
use serde_json::json;
use stage::{Stage, answer_on, get_on};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use support::{Backend, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

struct Shop {
    blue: Backend,
    green: Backend,
}

impl Shop {
    async fn open() -> Self {
        Self { blue: Backend::named("blue").await, green: Backend::named("green").await }
    }

    /// On two threads, with everything on blue.
    fn config(&self) -> String {
        self.config_with("threads: 2")
    }

    fn config_with(&self, keys: &str) -> String {
        let (blue, green) = (self.blue.address, self.green.address);
        format!(
            "{keys}\nlisteners: [{{ address: '127.0.0.1:0' }}]\n\
            admin: {{ address: '127.0.0.2:0' }}\nshutdown: {{ drain: 20s }}\nservices:\n  shop:\n    pools:\n\
            \x20     blue: {{ version: v1, weight: 1, backends: ['{blue}'] }}\n\
            \x20     green: {{ version: v2, weight: 0, backends: ['{green}'] }}\n"
        )
    }
}

/// How many sockets listen at a port.
fn listening(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let place = format!("0100007F:{port:04X}");
    let is_listening = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some(&place) && words.nth(1) == Some("0A")
    };
    table.lines().filter(is_listening).count()
}

/// A connection that has served a request, with another one that is not all there: one that is silent for a second is closed
/// by a process that ends.
async fn begun(stage: &Stage) -> TcpStream {
    let mut stream = TcpStream::connect(stage.proxy()).await.unwrap();
    get_on(&mut stream, "/").await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: shop.example.com\r\n").await.unwrap();
    stream
}

async fn end_of(begun: &mut TcpStream) -> String {
    begun.write_all(b"\r\n").await.unwrap();
    answer_on(begun).await
}

#[tokio::test]
async fn a_new_process_takes_over_what_is_in_force() {
    let shop = Shop::open().await;
    let mut stage = Stage::start(&shop.config()).await;
    stage.cutover("green").await;
    assert!(stage.get("/").await.ends_with("green"));
    let mut kept = begun(&stage).await;

    let second = stage.upgrade().await;
    let (_, config) = stage.ask("GET", "/v1/config", json!({})).await;
    assert_eq!(config["services"]["shop"]["pools"]["green"]["weight"], 1, "{config}");
    let (_, status) = stage.ask("GET", "/v1/status", json!({})).await;
    assert_eq!(status["revision"], 2, "{status}");
    assert!(stage.get("/").await.ends_with("green"));
    let last = end_of(&mut kept).await;
    assert!(last.contains("connection: close") && last.ends_with("green"), "{last}");
    assert!(stage.first_ended().await.success());

    // What the file changes since is what it has changed since it was last loaded, not since the start.
    let third = stage.upgrade().await;
    stage.ended(second).await;
    stage.write(&shop.config().replace("version: v1", "version: v9"));
    let fourth = stage.upgrade().await;
    stage.ended(third).await;
    let (_, config) = stage.ask("GET", "/v1/config", json!({})).await;
    let pools = &config["services"]["shop"]["pools"];
    assert_eq!((&pools["blue"]["version"], &pools["green"]["weight"]), (&json!("v9"), &json!(1)));
    stage.signal(fourth, Signal::TERM);
    stage.ended(fourth).await;
    assert!(TcpStream::connect(stage.proxy()).await.is_err(), "nobody has kept a socket");
}

#[tokio::test]
async fn every_socket_is_handed_over_whatever_the_number_of_threads() {
    let shop = Shop::open().await;
    let mut stage = Stage::start(&shop.config_with("threads: 3")).await;
    let proxy = stage.proxy();
    assert_eq!(listening(proxy.port()), 3);
    let over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (over, served) = (over.clone(), served.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let mut stream = TcpStream::connect(proxy).await.unwrap();
                    assert!(get_on(&mut stream, "/").await.ends_with("blue"));
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for (threads, sockets) in [(1, 3), (2, 3), (4, 4), (1, 4)] {
        let before = served.load(Ordering::Relaxed);
        stage.write(&shop.config_with(&format!("threads: {threads}")));
        stage.upgrade().await;
        let what = format!("{sockets} sockets with {threads} threads");
        stage.until(&what, || (listening(proxy.port()) == sockets).then_some(())).await;
        stage
            .until("more requests", || (served.load(Ordering::Relaxed) > before + 50).then_some(()))
            .await;
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(stage.first_ended().await.success());
    let (_, config) = stage.ask("GET", "/v1/config", json!({})).await;
    assert_eq!(config["threads"], 1);
}

#[tokio::test]
async fn no_request_goes_by_an_older_table_in_the_old_process_either() {
    let shop = Shop::open().await;
    let stage = Stage::start(&shop.config()).await;
    let mut kept = begun(&stage).await;
    stage.upgrade().await;
    stage.cutover("green").await;
    let last = end_of(&mut kept).await;
    assert!(last.ends_with("green") && last.contains("connection: close"), "{last}");
}

#[tokio::test]
async fn a_tunnel_goes_on_in_the_old_process() {
    let tunnels = Backend::raw(|mut stream| async move {
        let mut buffer = vec![0; 1000];
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut buffer).await.unwrap();
            head.extend(&buffer[..read]);
        }
        let switch =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        stream.write_all(switch).await.unwrap();
        let (mut reads, mut writes) = stream.split();
        let _ = tokio::io::copy(&mut reads, &mut writes).await;
    });
    let shop = Shop { blue: tunnels.await, green: Backend::named("green").await };
    let mut stage = Stage::start(&shop.config()).await;
    let mut tunnel = TcpStream::connect(stage.proxy()).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    tunnel.write_all(request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(tunnel.read_buf(&mut head).await.unwrap() > 0);
    }
    stage.upgrade().await;
    stage.until_logged("leaves to another process", 1).await;
    let mut echo = [0; 5];
    for _ in 0..3 {
        tunnel.write_all(b"hello").await.unwrap();
        timeout(support::PATIENCE, tunnel.read_exact(&mut echo)).await.unwrap().unwrap();
    }
    assert!(stage.first.try_wait().unwrap().is_none(), "it waits for the tunnel");
    drop(tunnel);
    assert!(stage.first_ended().await.success());
}

#[tokio::test]
async fn the_state_moves_with_it_or_stays() {
    let shop = Shop::open().await;
    let mut stage =
        Stage::start(&shop.config_with("threads: 1\nstate: { directory: state }")).await;
    stage.cutover("green").await;
    let dies = script(&stage.path("dies"), "exit 7");
    let (status, _) = stage.ask("POST", "/v1/upgrade", json!({ "binary": dies })).await;
    assert_eq!(status, 409);
    stage.cutover("blue").await;
    stage.upgrade().await;
    stage.cutover("green").await;
    // With a change of the file in the same step.
    stage.write(&shop.config_with("threads: 2\nstate: { directory: state }"));
    stage.upgrade().await;
    stage.cutover("blue").await;
    let (status, revisions) = stage.ask("GET", "/v1/revisions", json!({})).await;
    let numbers: Vec<_> =
        revisions.as_array().unwrap().iter().map(|it| it["revision"].as_u64().unwrap()).collect();
    let newest = numbers[0];
    assert_eq!(status, 200, "{revisions}");
    assert!(numbers == (1..=newest).rev().collect::<Vec<_>>() && newest >= 5, "{numbers:?}");
    assert!(stage.first_ended().await.success());
}

#[tokio::test]
async fn history_and_audit_log_go_on_without_a_directory() {
    let shop = Shop::open().await;
    let mut stage = Stage::start(&shop.config()).await;
    stage.cutover("green").await;
    let second = stage.upgrade().await;
    stage.cutover("blue").await;
    assert!(stage.first_ended().await.success());
    stage.upgrade().await;
    stage.ended(second).await;
    let (status, said) = stage.ask("POST", "/v1/undo", json!({ "to_revision": 2 })).await;
    assert_eq!(status, 200, "{said}");
    assert!(stage.get("/").await.ends_with("green"));
    let (_, revisions) = stage.ask("GET", "/v1/revisions", json!({})).await;
    let numbers: Vec<_> = revisions.as_array().unwrap().iter().map(|it| &it["revision"]).collect();
    assert_eq!(numbers, [4, 3, 2, 1], "{revisions}");
    let (_, audit) = stage.ask("GET", "/v1/audit", json!({})).await;
    let entries = audit["entries"].as_array().unwrap();
    let made = entries.iter().filter(|entry| entry["event"] == "change.made");
    assert_eq!(made.map(|entry| &entry["revision"]).collect::<Vec<_>>(), [4, 3, 2], "{audit}");
    let ids: Vec<_> = entries.iter().map(|entry| entry["id"].as_u64().unwrap()).collect();
    assert!(ids.is_sorted_by(|newer, older| newer > older), "{ids:?}");
}

#[tokio::test]
async fn who_waits_waits_for_the_old_process_too_and_each_says_at_its_end_what_it_had() {
    let (blue, word) = Backend::waiting("blue").await;
    let shop = Shop { blue, green: Backend::named("green").await };
    let mut stage = Stage::start(&shop.config()).await;
    let mut slow = TcpStream::connect(stage.proxy()).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until("it is on its way", || shop.blue.count() == 1).await;
    let second = stage.upgrade().await;
    let body = json!({ "to": "green" });
    let path = "/v1/services/shop/cutover?wait=100ms";
    let (status, said) = stage.ask("POST", path, body.clone()).await;
    assert_eq!((status, &said["open"]), (504, &json!(1)), "{said}");
    let path = "/v1/services/shop/cutover?wait=1m";
    let waits = stage.ask("POST", path, body);
    let answers = async {
        word.notify_one();
        let mut answer = Vec::new();
        while !answer.ends_with(b"blue") {
            assert!(slow.read_buf(&mut answer).await.unwrap() > 0);
        }
    };
    let ((status, said), ()) = tokio::join!(waits, answers);
    assert_eq!(status, 200, "{said}");
    assert!(stage.first_ended().await.success());
    assert!(stage.get("/").await.ends_with("green"));
    stage.signal(second, Signal::TERM);
    stage.ended(second).await;
    let ledger = stage.logged("ledger");
    let of = |line: &serde_json::Value| {
        let count = |key: &str| line[key].as_u64().unwrap();
        (line["pool"].clone(), ["started", "finished", "cut", "open"].map(count))
    };
    let expected = [(json!("blue"), [1, 1, 0, 0]), (json!("green"), [1, 1, 0, 0])];
    assert_eq!(ledger.iter().map(of).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn the_admin_api_moves_with_its_unix_socket() {
    let shop = Shop::open().await;
    let config = shop.config().replace("127.0.0.2:0", "unix:a.sock");
    let mut stage = Stage::start(&config).await;
    assert!(stage.admin().ends_with("/a.sock"));
    let second = stage.upgrade().await;
    assert!(stage.first_ended().await.success());
    assert!(stage.path("a.sock").exists());
    assert_eq!(stage.ask("GET", "/readyz", json!({})).await.0, 200);
    stage.signal(second, Signal::TERM);
    stage.ended(second).await;
    assert!(!stage.path("a.sock").exists());
}

/// What the API says when it does not work, all of it in one text.
async fn refusal(stage: &Stage, body: serde_json::Value) -> (u16, String) {
    let (status, said) = stage.ask("POST", "/v1/upgrade", body).await;
    let errors = said["errors"].as_array().cloned().unwrap_or_default();
    let lines: Vec<_> = errors.iter().map(|it| it.as_str().unwrap()).collect();
    (status, format!("{}\n{}", said["detail"].as_str().unwrap(), lines.join("\n")))
}

fn script(path: &Path, text: &str) -> String {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn who_cannot_take_over_changes_nothing() {
    let shop = Shop::open().await;
    let mut stage = Stage::start(&shop.config()).await;
    let dies = script(&stage.path("dies"), "echo 'I am broken' >&2; exit 7");
    // It does not read all that is said to it, and takes its time to end.
    let unread = "head -c 1 >/dev/null; exec 0<&-; sleep 0.1; echo 'I am broken' >&2; exit 7";
    let dies_slowly = script(&stage.path("dies-slowly"), unread);
    let sleeps = script(&stage.path("sleeps"), "exec sleep 1000");
    let talks =
        script(&stage.path("talks"), "printf '\\000\\000\\000\\004true' >&0; exec sleep 1000");
    let none = json!({ "binary": stage.path("none") });

    let (status, said) = refusal(&stage, none).await;
    assert!(status == 422 && said.contains("no such file"), "{status} {said}");
    let (status, said) = refusal(&stage, json!({ "binary": "crossfade" })).await;
    assert!(status == 422 && said.contains("absolute path"), "{status} {said}");
    let (status, said) = refusal(&stage, json!({ "within": "never" })).await;
    assert!(status == 422 && said.contains("`never`"), "{status} {said}");

    for binary in [dies, dies_slowly] {
        let (status, said) = refusal(&stage, json!({ "binary": binary })).await;
        assert!(status == 409 && said.contains("exit status: 7"), "{status} {said}");
        assert!(said.ends_with("I am broken"), "{said}");
    }
    let (status, said) = refusal(&stage, json!({ "binary": sleeps, "within": "100ms" })).await;
    assert!(status == 409 && said.contains("was not ready within 100ms"), "{status} {said}");
    let (status, said) = refusal(&stage, json!({ "binary": talks })).await;
    assert!(status == 409 && said.contains("was ended"), "{status} {said}");

    // A pool without a backend that is well, and more patience with it than with the upgrade.
    let checked = "health_check: { path: / }\n    pools:";
    // It has more threads than there are sockets, but no connection comes to what nobody accepts from.
    let more = "threads: 8\nstartup: { wait: 1m }";
    let ill = shop.config().replace("pools:", checked).replace("threads: 2", more);
    let alive = shop.blue.address.to_string();
    stage.write(&ill.replace(&alive, &support::dead_address().to_string()));
    let clients = async {
        stage.until_logged("newcomer not proven yet", 1).await;
        for _ in 0..50 {
            assert!(stage.get("/").await.contains("200 OK"));
        }
    };
    let refused = refusal(&stage, json!({ "within": "2s" }));
    let ((status, said), ()) = tokio::join!(refused, clients);
    assert!(status == 409 && said.contains("not ready within 2s"), "{status} {said}");
    assert!(said.contains("newcomer not proven yet"), "{said}");

    stage.write("listeners: [{ address: nowhere }]\n");
    let (status, said) = refusal(&stage, json!({})).await;
    assert!(status == 409 && said.contains("exit status: 2"), "{status} {said}");
    assert!(said.contains("c.yaml:1:"), "{said}");

    assert!(stage.first.try_wait().unwrap().is_none());
    for pid in stage.successors() {
        stage.ended(pid).await;
    }
    assert!(stage.get("/").await.contains("200 OK"));
    stage.cutover("green").await;
    stage.write(&shop.config());
    stage.upgrade().await;
    assert!(stage.get("/").await.ends_with("green"));
    assert!(stage.first_ended().await.success());
}

#[tokio::test]
async fn one_upgrade_at_a_time_and_a_signal_ends_both() {
    let shop = Shop::open().await;
    let mut stage = Stage::start(&shop.config()).await;
    let sleeps = script(&stage.path("sleeps"), "exec sleep 1000");
    let body = json!({ "binary": sleeps });
    let asking = async {
        let stream = TcpStream::connect(stage.admin()).await.unwrap();
        stage::ask_on(stream, &stage.admin(), "POST", "/v1/upgrade", body).await
    };
    let rest = async {
        stage.until_logged("a new process was started to take over", 1).await;
        let (status, said) = refusal(&stage, json!({})).await;
        assert!(status == 409 && said.contains("another upgrade is under way"), "{status} {said}");
        assert_eq!(stage.ask("GET", "/readyz", json!({})).await.0, 200);
        stage.signal(stage.first.id(), Signal::TERM);
    };
    let ((status, said), ()) = tokio::join!(asking, rest);
    assert!(status == 409 && said["detail"] == "crossfade is shutting down", "{status} {said}");
    assert!(stage.first_ended().await.success());
    stage.ended(stage.successors()[0]).await;
}

#[tokio::test]
async fn a_signal_does_it_too_and_the_command_says_what_happened() {
    let shop = Shop::open().await;
    let mut stage = Stage::start(&shop.config()).await;
    let admin = stage.admin();
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(stage::BINARY);
        command.args(["--admin", &admin, "upgrade"]).args(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    };
    stage.signal(stage.first.id(), Signal::USR2);
    stage.until_logged("another process has taken over", 1).await;
    assert!(stage.first_ended().await.success());

    let dies = script(&stage.path("dies"), "echo 'I am broken' >&2; exit 7");
    let ran = run(&[&dies, "--within", "30s"]).await;
    let said = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(said.contains("exit status: 7") && said.contains("I am broken"), "{said}");
    let ran = run(&[]).await;
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(String::from_utf8(ran.stdout).unwrap().contains("has taken over"));
    assert!(stage.get("/").await.ends_with("blue"));
}

#[tokio::test]
async fn when_the_new_process_dies_later_the_old_one_tells_it() {
    let tunnels = Backend::raw(|mut stream| async move {
        let mut buffer = vec![0; 1000];
        let _ = stream.read(&mut buffer).await;
        let switch =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        stream.write_all(switch).await.unwrap();
        let _ = stream.read(&mut buffer).await;
    });
    let shop = Shop { blue: tunnels.await, green: Backend::named("green").await };
    let mut stage = Stage::start(&shop.config()).await;
    let mut tunnel = TcpStream::connect(stage.proxy()).await.unwrap();
    tunnel
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")
        .await
        .unwrap();
    assert!(tunnel.read(&mut [0; 1000]).await.unwrap() > 0);
    let second = stage.upgrade().await;
    stage.signal(second, Signal::KILL);
    stage.ended(second).await;
    drop(tunnel);
    assert_eq!(stage.first_ended().await.code(), Some(1));
}
