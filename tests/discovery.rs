//! Names stand for the addresses that DNS has for them, now and later, and nothing is lost on the way.

#[path = "support/mod.rs"]
mod support;

#[path = "support/admin.rs"]
mod api;

#[path = "support/dns.rs"]
mod dns;

use api::Api;
use crossfade::{
    control::{Command, Lookups, NameStatus},
    live::Phase,
    spec::{BackendAddress, Engine, Families, Resolver, Spec, UnhealthyPool},
};
use dns::{Dns, Says, cname, ip, srv};
use hickory_proto::{op::ResponseCode, rr::RecordType};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::*;
use tokio::net::TcpListener;

/// Backends on several addresses of this machine, all at one port.
async fn neighbours(addresses: &[&'static str]) -> (u16, Vec<Backend>) {
    'ports: loop {
        let first = TcpListener::bind((addresses[0], 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![first];
        for address in &addresses[1..] {
            match TcpListener::bind((*address, port)).await {
                Ok(listener) => listeners.push(listener),
                Err(_) => continue 'ports,
            }
        }
        let mut backends = Vec::new();
        for (listener, &name) in listeners.into_iter().zip(addresses) {
            backends.push(Backend::start_on(listener, move |_| async move { text(name) }).await);
        }
        return (port, backends);
    }
}

/// Asks `dns` again and again, and believes at once that a name has no addresses.
fn asking(dns: &Dns) -> Resolver {
    Resolver {
        nameservers: vec![dns.address],
        timeout: Duration::from_secs(1),
        attempts: 1,
        min_ttl: Duration::from_millis(5),
        max_ttl: Duration::from_millis(20),
        hold: Duration::ZERO,
        ..Resolver::default()
    }
}

fn shop(dns: &Dns, name: &str) -> Spec {
    let address: BackendAddress = name.parse().unwrap();
    Spec { resolver: asking(dns), ..spec(&[("blue", pool("v1", 1, &[address]))]) }
}

fn status(proxy: &Proxy) -> NameStatus {
    proxy.handle.view().names[0].clone()
}

fn addresses(proxy: &Proxy) -> Vec<String> {
    status(proxy).addresses.iter().map(|address| address.ip().to_string()).collect()
}

/// Waits until the name stands for these.
async fn stands_for(proxy: &Proxy, expected: &[&str]) {
    until(&format!("{expected:?}"), || addresses(proxy) == expected).await;
}

/// Who answers, of many requests.
async fn answers(proxy: &Proxy) -> HashSet<String> {
    let mut client = proxy.h1().await;
    let mut answers = HashSet::new();
    for _ in 0..40 {
        answers.insert(client.get("/").await.text().to_owned());
    }
    answers
}

fn all(names: &[&str]) -> HashSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn addresses_come_and_go() {
    for engine in [Engine::Native, Engine::Hyper] {
        let dns = Dns::start().await;
        let (port, _backends) = neighbours(&["127.0.0.1", "127.0.0.2", "127.0.0.3"]).await;
        dns.has("shop.test.", &["127.0.0.1", "127.0.0.2"]);
        let spec = Spec { engine, ..shop(&dns, &format!("dns:shop.test:{port}")) };
        let proxy = Proxy::start(spec).await;
        proxy.ready().await;
        let revision = proxy.handle.view().revision;
        stands_for(&proxy, &["127.0.0.1", "127.0.0.2"]).await;
        assert_eq!(answers(&proxy).await, all(&["127.0.0.1", "127.0.0.2"]));
        // Nobody is at 0.0.0.0 or in a group.
        dns.has("shop.test.", &["0.0.0.0", "127.0.0.2", "224.0.0.1", "127.0.0.3"]);
        stands_for(&proxy, &["127.0.0.2", "127.0.0.3"]).await;
        assert_eq!(answers(&proxy).await, all(&["127.0.0.2", "127.0.0.3"]));
        until("what left has drained", || proxy.handle.view().drains.is_empty()).await;
        assert_eq!(proxy.handle.view().revision, revision, "nobody desired anything else");
    }
}

#[tokio::test]
async fn what_is_in_flight_is_not_cut_when_its_address_leaves() {
    let dns = Dns::start().await;
    let (waiting, word) = Backend::waiting("old").await;
    let port = waiting.address.port();
    let listener = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let _new = Backend::start_on(listener, |_| async { text("new") }).await;
    dns.has("shop.test.", &["127.0.0.1"]);
    let proxy = Proxy::start(shop(&dns, &format!("dns:shop.test:{port}"))).await;
    proxy.ready().await;
    let mut client = proxy.h1().await;
    let first = tokio::spawn(async move { client.get("/").await });
    until("it is in flight", || waiting.count() == 1).await;
    dns.has("shop.test.", &["127.0.0.2"]);
    stands_for(&proxy, &["127.0.0.2"]).await;
    until("the old one drains", || proxy.handle.view().drains.len() == 1).await;
    assert_eq!(answers(&proxy).await, all(&["new"]));
    word.notify_waiters();
    assert_eq!(first.await.unwrap().text(), "old");
    until("it has drained", || proxy.handle.view().drains.is_empty()).await;
}

#[tokio::test]
async fn as_long_as_nobody_knows_the_last_addresses_stay() {
    let dns = Dns::start().await;
    let (port, _backends) = neighbours(&["127.0.0.1"]).await;
    dns.has("shop.test.", &["127.0.0.1"]);
    let api = Api::start(shop(&dns, &format!("dns:shop.test:{port}"))).await;
    let proxy = &api.proxy;
    proxy.ready().await;
    let failures = [
        Says::Code(ResponseCode::ServFail),
        Says::Code(ResponseCode::Refused),
        Says::OverTcp(1, Vec::new()),
        Says::Silence,
    ];
    for says in &failures[..] {
        dns.fails("shop.test.", says);
        // No answer at all over TCP either.
        if matches!(says, Says::OverTcp(..)) {
            continue;
        }
        let before = status(proxy).lookups.failed;
        until("it fails", || status(proxy).lookups.failed > before + 1).await;
        assert_eq!(addresses(proxy), ["127.0.0.1"]);
        assert_eq!(answers(proxy).await, all(&["127.0.0.1"]));
        let shown = api.get("/v1/status").await.json();
        assert!(shown["names"][0]["error"].is_string(), "{shown}");
        assert_eq!(shown["names"][0]["addresses"][0], format!("127.0.0.1:{port}"));
        let backend = &shown["services"][0]["pools"][0]["backends"][0];
        assert_eq!(backend["source"], format!("dns:shop.test:{port}"));
        dns.has("shop.test.", &["127.0.0.1"]);
        until("it is well again", || status(proxy).error.is_none()).await;
    }
    let page = api.get("/metrics").await.text;
    let name = format!("name=\"dns:shop.test:{port}\"");
    assert!(page.contains(&format!("crossfade_dns_addresses{{{name}}} 1")), "{page}");
    let failed = format!("crossfade_dns_lookups_total{{{name},result=\"failed\"}} ");
    let (_, rest) = page.split_once(&failed).unwrap();
    assert_ne!(rest.lines().next(), Some("0"));

    // One family cannot be told: what is known of it stays.
    dns.says("shop.test.", RecordType::A, Says::Code(ResponseCode::ServFail));
    dns.says("shop.test.", RecordType::AAAA, Says::Records(0, vec![ip("::1")]));
    stands_for(proxy, &["127.0.0.1", "::1"]).await;
    dns.says("shop.test.", RecordType::A, Says::Records(0, Vec::new()));
    stands_for(proxy, &["::1"]).await;
}

#[tokio::test]
async fn a_name_that_is_no_more_is_believed_after_a_while() {
    let dns = Dns::start().await;
    let (port, _backends) = neighbours(&["127.0.0.1"]).await;
    dns.has("shop.test.", &["127.0.0.1"]);
    let mut spec = shop(&dns, &format!("dns:shop.test:{port}"));
    spec.resolver.hold = Duration::from_secs(3600);
    let proxy = Proxy::start(spec.clone()).await;
    proxy.ready().await;
    dns.forgets("shop.test.");
    until("there is no such name", || status(&proxy).lookups.empty > 2).await;
    assert_eq!(answers(&proxy).await, all(&["127.0.0.1"]));
    spec.resolver.hold = Duration::ZERO;
    proxy.apply(Command::Replace { spec: Box::new(spec) }).await.unwrap();
    stands_for(&proxy, &[]).await;
    let reply = proxy.h1().await.get("/").await;
    assert_eq!(
        (reply.status, &reply.headers["x-crossfade-error"]),
        (503, &"no_backend".parse().unwrap())
    );
    dns.has("shop.test.", &["127.0.0.1"]);
    stands_for(&proxy, &["127.0.0.1"]).await;
    assert_eq!(proxy.h1().await.get("/").await.status, 200);
}

#[tokio::test]
async fn until_the_first_answer_there_is_no_backend() {
    let dns = Dns::start().await;
    let (port, _backends) = neighbours(&["127.0.0.1"]).await;
    dns.fails("shop.test.", &Says::Code(ResponseCode::ServFail));
    let mut spec = shop(&dns, &format!("dns:shop.test:{port}"));
    spec.startup_wait = Duration::from_secs(3600);
    let proxy = Proxy::start(spec).await;
    until("it has failed", || status(&proxy).lookups.failed > 1).await;
    assert_eq!(proxy.live.lifecycle.phase(), Phase::Starting);
    let reply = proxy.h1().await.get("/").await;
    assert_eq!(
        (reply.status, &reply.headers["x-crossfade-error"]),
        (503, &"no_backend".parse().unwrap())
    );
    assert!(reply.headers.contains_key("retry-after"));
    dns.has("shop.test.", &["127.0.0.1"]);
    proxy.ready().await;
    assert_eq!(proxy.h1().await.get("/").await.text(), "127.0.0.1");
}

#[tokio::test]
async fn long_answers_come_over_tcp_and_there_is_a_limit() {
    let dns = Dns::start().await;
    let many: Vec<_> =
        (0..500).map(|n| ip(&format!("127.9.{}.{}", n / 250, n % 250 + 1))).collect();
    dns.says("shop.test.", RecordType::A, Says::OverTcp(1, many));
    dns.says("shop.test.", RecordType::AAAA, Says::Records(1, Vec::new()));
    let mut spec = shop(&dns, "dns:shop.test:1");
    spec.resolver.max_addresses = 300;
    let proxy = Proxy::start(spec).await;
    until("they are found", || addresses(&proxy).len() == 300).await;
    assert!(dns.asked_over_tcp() > 0);
    assert_eq!(addresses(&proxy)[0], "127.9.0.1");
}

#[tokio::test]
async fn aliases_lead_to_addresses() {
    let dns = Dns::start().await;
    let (port, _backends) = neighbours(&["127.0.0.1"]).await;
    let records = vec![cname("other.test."), cname("third.test."), ip("127.0.0.1")];
    dns.says("shop.test.", RecordType::A, Says::Records(0, records));
    let mut spec = shop(&dns, &format!("dns:shop.test:{port}"));
    spec.resolver.families = Families::V4;
    let proxy = Proxy::start(spec).await;
    proxy.ready().await;
    assert_eq!(answers(&proxy).await, all(&["127.0.0.1"]));
    let Lookups { empty, failed, .. } = status(&proxy).lookups;
    assert_eq!((empty, failed), (0, 0), "nobody asked for IPv6");
}

#[tokio::test]
async fn records_of_services_have_ports_and_weights() {
    let dns = Dns::start().await;
    let (one, other, backup) = (
        Backend::named("one").await,
        Backend::named("other").await,
        Backend::named("backup").await,
    );
    let records = |first: u16| {
        vec![
            srv(first, 3, one.address.port(), "a.test."),
            srv(10, 1, other.address.port(), "b.test."),
            srv(20, 9, backup.address.port(), "a.test."),
            srv(0, 9, 9, "nobody.test."),
            srv(0, 9, 9, "."),
        ]
    };
    dns.says("_http._tcp.test.", RecordType::SRV, Says::Records(0, records(10)));
    dns.has("a.test.", &["127.0.0.1"]);
    dns.has("b.test.", &["127.0.0.1"]);
    let mut spec = shop(&dns, "srv:_http._tcp.test");
    spec.services["shop"].balance = crossfade::spec::Balance::RoundRobin;
    let proxy = Proxy::start(spec).await;
    proxy.ready().await;
    assert_eq!(answers(&proxy).await, all(&["one", "other"]));
    assert_eq!((one.count(), other.count()), (30, 10), "3 to 1");
    assert_eq!(status(&proxy).error, None);
    // What has the lowest number takes all, as long as it has addresses.
    dns.says("_http._tcp.test.", RecordType::SRV, Says::Records(0, records(5)));
    until("one is alone", || addresses(&proxy).len() == 1).await;
    assert_eq!(answers(&proxy).await, all(&["one"]));
    // A target that nobody can tell of keeps what it had.
    dns.fails("a.test.", &Says::Code(ResponseCode::ServFail));
    until("it fails", || status(&proxy).error.is_some()).await;
    assert_eq!(answers(&proxy).await, all(&["one"]));
    dns.says("_http._tcp.test.", RecordType::SRV, Says::Records(0, vec![srv(0, 0, 0, ".")]));
    stands_for(&proxy, &[]).await;
}

#[tokio::test]
async fn a_name_is_drained_and_removed_as_one() {
    let dns = Dns::start().await;
    let (port, _backends) = neighbours(&["127.0.0.1", "127.0.0.2"]).await;
    dns.has("shop.test.", &["127.0.0.1", "127.0.0.2"]);
    let name: BackendAddress = format!("dns:shop.test:{port}").parse().unwrap();
    let mut spec = shop(&dns, &name.to_string());
    spec.services["shop"].unhealthy_pool = UnhealthyPool::Fail;
    let proxy = Proxy::start(spec).await;
    proxy.ready().await;
    assert_eq!(answers(&proxy).await.len(), 2);
    let (service, pool) = ("shop".into(), Some("blue".into()));
    let drain = Command::Drain { service, pool, backends: vec![name.clone()] };
    let receipt = proxy.apply(drain.clone()).await.unwrap();
    assert_eq!(receipt.leaving.len(), 2);
    assert_eq!(proxy.h1().await.get("/").await.status, 503);
    assert_eq!(proxy.apply(drain).await.unwrap().leaving.len(), 2, "who asks again can wait too");
    let (service, pool) = ("shop".into(), Some("blue".into()));
    let undrain = Command::Undrain { service, pool, backends: vec![name.clone()] };
    proxy.apply(undrain).await.unwrap();
    assert_eq!(answers(&proxy).await.len(), 2);
    let (service, pool) = ("shop".into(), Some("blue".into()));
    let backends = vec!["127.0.0.1:1".parse().unwrap()];
    assert!(proxy.apply(Command::Drain { service, pool, backends }).await.is_err());
}

#[tokio::test]
async fn the_systems_file_of_hosts_is_read() {
    let (port, _backends) = neighbours(&["127.0.0.1"]).await;
    let dns = Dns::start().await;
    let mut spec = shop(&dns, &format!("dns:localhost:{port}"));
    spec.resolver = Resolver { families: Families::V4, ..Resolver::default() };
    let proxy = Proxy::start(spec).await;
    proxy.ready().await;
    assert_eq!(answers(&proxy).await, all(&["127.0.0.1"]));
    assert_eq!(dns.asked(), 0);
}

#[tokio::test]
async fn under_load_nothing_is_lost_while_addresses_change() {
    let dns = Dns::start().await;
    let names = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
    let (port, backends) = neighbours(&names).await;
    dns.has("shop.test.", &names[..1]);
    let mut spec = shop(&dns, &format!("dns:shop.test:{port}"));
    spec.services["shop"].health_check = Some(health_check());
    // Whatever is not answered well shall be seen.
    spec.services["shop"].retries.attempts = 1;
    let proxy = Proxy::start(spec).await;
    proxy.ready().await;
    let (done, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for n in 0..6 {
        let (done, good) = (done.clone(), good.clone());
        let mut client = if n % 2 == 0 { proxy.h1().await } else { proxy.h2().await };
        clients.push(tokio::spawn(async move {
            while !done.load(Ordering::SeqCst) {
                let reply = client.get("/").await;
                assert_eq!(reply.status, 200, "{reply:?}");
                good.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    for round in 0..30 {
        // One at a time, so each change replaces all that there was.
        let next = names[(round + 1) % names.len()];
        dns.has("shop.test.", &[next]);
        stands_for(&proxy, &[next]).await;
        let served = good.load(Ordering::SeqCst);
        until("it goes on", || good.load(Ordering::SeqCst) > served + 50).await;
    }
    done.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert!(backends.iter().all(|backend| backend.count() > 0));
}
