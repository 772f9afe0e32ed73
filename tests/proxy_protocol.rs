//! The PROXY header before a client's first byte, and before the first to a backend, on real sockets and both
//! engines.

mod support;

use crossfade::{
    control::Command,
    live::{Fault, Reason},
    spec::{Engine, PoolProtocol, ProxyProtocol, ProxyVersion},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const ENGINES: [Engine; 2] = [Engine::Native, Engine::Hyper];

/// Answers with who asks, as the proxy says it.
async fn whoami() -> Backend {
    Backend::start(|request| async move {
        let told = |name| request.headers().get(name).map_or("-", |it| it.to_str().unwrap());
        text(format!("{} {}", told("x-forwarded-for"), told("x-forwarded-proto")))
    })
    .await
}

async fn proxy(engine: Engine, backend: &Backend, header: ProxyProtocol, trusted: &str) -> Proxy {
    let mut spec = spec(&[("blue", pool("v1", 100, &[backend.spec_address()]))]);
    spec.engine = engine;
    spec.listeners[0].proxy_protocol = header;
    spec.listeners[0].trusted_proxies = vec![trusted.parse().unwrap()];
    spec.listeners[0].timeouts.headers = Duration::from_secs(2);
    Proxy::start(spec).await
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

fn v2_tcp4() -> Vec<u8> {
    v2(0x21, 0x11, &[203, 0, 113, 7, 192, 0, 2, 1, 0x30, 0x39, 0, 80])
}

/// Connections that were turned away for this reason.
fn turned_away(proxy: &Proxy, reason: Reason) -> u64 {
    let totals = proxy.live.unrouted.stats.totals();
    totals.failures[Fault::Downstream as usize][reason as usize]
}

#[tokio::test]
async fn a_trusted_proxy_says_who_its_client_is() {
    let backend = whoami().await;
    let v6 =
        v2(0x21, 0x21, &[&[0x20, 1, 0x0d, 0xb8], &[0; 12][..], &[0; 16], &[1, 2, 0, 80]].concat());
    for engine in ENGINES {
        for header in [ProxyProtocol::Accept, ProxyProtocol::Require] {
            let proxy = proxy(engine, &backend, header, "127.0.0.0/8").await;
            for (header, client) in [
                (&b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 80\r\n"[..], "203.0.113.7"),
                (b"PROXY TCP6 2001:db8::7 ::1 12345 80\r\n", "2001:db8::7"),
                (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 12345 80\r\n", "203.0.113.7"),
                (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
                (&v2_tcp4(), "203.0.113.7"),
                (&v6, "2001:db8::"),
                (&v2(0x20, 0, b""), "127.0.0.1"),
                (&v2(0x21, 0x31, &[b'/'; 216]), "127.0.0.1"),
            ] {
                let reply = proxy.raw([header, GET.as_bytes()].concat()).await;
                let expected = format!("{client} http");
                assert!(reply.ends_with(&expected), "{engine:?} {header:?}: {reply}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_behind_it_is_a_stranger_unless_it_is_trusted_itself() {
    let backend = whoami().await;
    let lied = "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 10.9.9.9\r\n\
                x-forwarded-proto: https\r\nconnection: close\r\n\r\n";
    for engine in ENGINES {
        let proxy = proxy(engine, &backend, ProxyProtocol::Require, "127.0.0.0/8").await;
        let reply = proxy.raw(format!("PROXY TCP4 203.0.113.7 192.0.2.1 1 80\r\n{lied}")).await;
        assert!(reply.ends_with("203.0.113.7 http"), "{reply}");
        let reply = proxy.raw(format!("PROXY TCP4 127.0.0.9 192.0.2.1 1 80\r\n{lied}")).await;
        assert!(reply.ends_with("10.9.9.9, 127.0.0.9 https"), "{reply}");
    }
}

#[tokio::test]
async fn whatever_comes_behind_the_header_is_not_taken_with_it() {
    let backend = whoami().await;
    for engine in ENGINES {
        let proxy = proxy(engine, &backend, ProxyProtocol::Require, "127.0.0.0/8").await;
        for header in [v2_tcp4(), b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 80\r\n".to_vec()] {
            // Byte by byte, so that each beginning is met.
            let mut stream = proxy.connect().await;
            for byte in &header {
                stream.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            stream.write_all(GET.as_bytes()).await.unwrap();
            assert!(rest(&mut stream).await.ends_with("203.0.113.7 http"));
        }
        let mut client = proxy.h2_behind(&v2_tcp4()).await;
        assert_eq!(client.get("/").await.text(), "203.0.113.7 http");
    }
}

#[tokio::test]
async fn without_a_header_it_depends() {
    let backend = whoami().await;
    for engine in ENGINES {
        let accepts = proxy(engine, &backend, ProxyProtocol::Accept, "127.0.0.0/8").await;
        assert!(accepts.raw(GET).await.ends_with("127.0.0.1 http"));
        let mut client = accepts.h2().await;
        assert_eq!(client.get("/").await.text(), "127.0.0.1 http");
        assert_eq!(turned_away(&accepts, Reason::BadRequest), 0);

        let requires = proxy(engine, &backend, ProxyProtocol::Require, "127.0.0.0/8").await;
        assert_eq!(closed(&requires, GET.as_bytes()).await, "");
        until("it is counted", || turned_away(&requires, Reason::BadRequest) == 1).await;
    }
}

#[tokio::test]
async fn from_strangers_no_header_is_taken() {
    let backend = whoami().await;
    for engine in ENGINES {
        // It is no request, so it is answered like any other that is malformed.
        let header = b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 80\r\n";
        let accepts = proxy(engine, &backend, ProxyProtocol::Accept, "10.0.0.0/8").await;
        let reply = closed(&accepts, &[header, GET.as_bytes()].concat()).await;
        assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
        assert!(accepts.raw(GET).await.ends_with("127.0.0.1 http"));

        let requires = proxy(engine, &backend, ProxyProtocol::Require, "10.0.0.0/8").await;
        assert_eq!(closed(&requires, &[header, GET.as_bytes()].concat()).await, "");
        until("it is counted", || turned_away(&requires, Reason::BadRequest) == 1).await;
    }
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn a_header_that_is_malformed_or_late_ends_the_connection() {
    let backend = whoami().await;
    for engine in ENGINES {
        let proxy = proxy(engine, &backend, ProxyProtocol::Accept, "127.0.0.0/8").await;
        let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat();
        let bad = [
            &b"PROXY TCP4 203.0.113.7 192.0.2.1 12345\r\n"[..],
            b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 80\n",
            &long,
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x23, 0x11, &[0; 12]),
            &v2(0x21, 0x11, &[0; 5000]),
        ];
        for header in bad {
            let reply = closed(&proxy, &[header, GET.as_bytes()].concat()).await;
            assert_eq!(reply, "", "{engine:?} {header:?}");
        }
        until("they are counted", || turned_away(&proxy, Reason::BadRequest) == 6).await;
        for slow in [&b""[..], b"P", b"PROXY TCP4 203", &v2_tcp4()[..20]] {
            assert_eq!(closed(&proxy, slow).await, "", "{slow:?}");
        }
        until("they are counted", || turned_away(&proxy, Reason::RequestTimeout) == 4).await;
        // Who only looks whether somebody listens is nobody's fault.
        drop(proxy.connect().await);
        assert!(proxy.raw(GET).await.ends_with("127.0.0.1 http"));
        assert_eq!(turned_away(&proxy, Reason::BadRequest), 6);
    }
    assert_eq!(backend.count(), 2);
}

/// A backend that reads PROXY headers: answers with the one of the connection, and how many requests have come
/// on it.
struct Told {
    backend: Backend,
    headers: Arc<Mutex<Vec<String>>>,
    open: Arc<AtomicUsize>,
}

impl Told {
    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

async fn told() -> Told {
    let (headers, open) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (seen, counted) = (headers.clone(), open.clone());
    let backend = Backend::raw(move |mut stream| {
        let (seen, counted) = (seen.clone(), counted.clone());
        async move {
            counted.fetch_add(1, Ordering::SeqCst);
            answer_with_its_header(&mut stream, &seen).await;
            counted.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    Told { backend, headers, open }
}

async fn answer_with_its_header(stream: &mut TcpStream, seen: &Mutex<Vec<String>>) {
    let header = read_header(stream).await;
    seen.lock().unwrap().push(header.clone());
    for count in 1.. {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let body = format!("{header} {count}");
        let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// What a header says, in the words of version 1.
async fn read_header(stream: &mut TcpStream) -> String {
    let mut header = vec![0; 12];
    if stream.read_exact(&mut header).await.is_err() {
        return "none".into();
    }
    if header.starts_with(b"PROXY") {
        while !header.ends_with(b"\r\n") {
            header.push(stream.read_u8().await.unwrap());
        }
        return String::from_utf8(header).unwrap().trim_end().to_owned();
    }
    assert_eq!(header, b"\r\n\r\n\0\r\nQUIT\n");
    let mut rest = [0; 4];
    stream.read_exact(&mut rest).await.unwrap();
    let mut ends = vec![0; usize::from(u16::from_be_bytes([rest[2], rest[3]]))];
    stream.read_exact(&mut ends).await.unwrap();
    if rest[..2] == [0x20, 0] {
        return "PROXY UNKNOWN".into();
    }
    assert_eq!(rest[..2], [0x21, 0x11]);
    let ip = |at: usize| format!("{}.{}.{}.{}", ends[at], ends[at + 1], ends[at + 2], ends[at + 3]);
    let port = |at: usize| u16::from_be_bytes([ends[at], ends[at + 1]]);
    format!("PROXY TCP4 {} {} {} {}", ip(0), ip(4), port(8), port(10))
}

async fn announcing(engine: Engine, backend: &Backend, version: ProxyVersion) -> Proxy {
    let mut pool = pool("v1", 100, &[backend.spec_address()]);
    pool.proxy_protocol = Some(version);
    let mut spec = spec(&[("blue", pool)]);
    spec.engine = engine;
    Proxy::start(spec).await
}

#[tokio::test]
async fn a_backend_is_told_of_the_client_and_no_two_clients_share_a_connection() {
    for engine in ENGINES {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let told = told().await;
            let proxy = announcing(engine, &told.backend, version).await;
            let (host, port) = (proxy.address.ip(), proxy.address.port());
            let mut streams = [proxy.connect().await, proxy.connect().await];
            for round in 1..=2 {
                for stream in &mut streams {
                    let mine = stream.local_addr().unwrap();
                    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
                    let expected =
                        format!("PROXY TCP4 {} {host} {} {port} {round}", mine.ip(), mine.port());
                    let mut reply = String::new();
                    while !reply.ends_with(&expected) {
                        let mut buffer = [0; 1024];
                        let read =
                            timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
                        assert!(read > 0 && reply.len() < 1000, "{reply} is not {expected}");
                        reply.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
                    }
                }
            }
            let mut h2 = proxy.h2().await;
            assert!(h2.get("/").await.text().ends_with(" 1"), "a connection of its own");
            assert!(h2.get("/").await.text().ends_with(" 2"), "which is used again");
            assert_eq!(told.headers.lock().unwrap().len(), 3);
        }
    }
}

#[tokio::test]
async fn connections_of_http2_begin_with_it_too() {
    let headers: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = headers.clone();
    let backend = Backend::raw(move |mut stream| {
        let seen = seen.clone();
        async move {
            let header = read_header(&mut stream).await;
            seen.lock().unwrap().push(header);
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let _ = respond.send_response(http::Response::new(()), true);
            }
        }
    })
    .await;
    let mut pool = pool("v1", 100, &[backend.spec_address()]);
    pool.proxy_protocol = Some(ProxyVersion::V2);
    pool.protocol = PoolProtocol::H2;
    let proxy = Proxy::start(spec(&[("blue", pool)])).await;
    for mut client in [proxy.h1().await, proxy.h2().await] {
        for _ in 0..2 {
            assert_eq!(client.get("/").await.status, 200);
        }
    }
    let headers = headers.lock().unwrap();
    assert!(headers.len() == 2 && headers[0] != headers[1], "{headers:?}");
    assert!(
        headers.iter().all(|header| header.starts_with("PROXY TCP4 127.0.0.1 ")),
        "{headers:?}"
    );
}

#[tokio::test]
async fn what_a_client_has_for_itself_is_closed_with_it_and_with_its_backend() {
    for engine in ENGINES {
        let backend = told().await;
        let proxy = announcing(engine, &backend.backend, ProxyVersion::V2).await;
        let mut client = proxy.h1().await;
        client.get("/").await;
        assert_eq!(backend.open(), 1);
        drop(client);
        until("the connection of who has left is closed", || backend.open() == 0).await;

        let mut client = proxy.h1().await;
        client.get("/").await;
        assert_eq!(backend.open(), 1);
        let other = Backend::named("other").await;
        let pool = pool("v1", 100, &[other.spec_address()]);
        let (service, name) = ("shop".into(), "blue".into());
        proxy.apply(Command::PutPool { service, name, pool }).await.unwrap();
        until("the connections to a backend that has left are closed", || backend.open() == 0)
            .await;
        assert_eq!(client.get("/").await.text(), "other");
    }
}

#[tokio::test]
async fn another_version_is_another_connection_as_soon_as_the_change_is_answered() {
    for engine in ENGINES {
        let told = told().await;
        let proxy = announcing(engine, &told.backend, ProxyVersion::V1).await;
        let mut client = proxy.h1().await;
        for count in ["1", "2"] {
            assert!(client.get("/").await.text().ends_with(&format!(" {count}")));
        }
        let mut pool = pool("v1", 100, &[told.backend.spec_address()]);
        pool.proxy_protocol = Some(ProxyVersion::V2);
        let (service, name) = ("shop".into(), "blue".into());
        proxy.apply(Command::PutPool { service, name, pool }).await.unwrap();
        assert!(client.get("/").await.text().ends_with(" 1"), "a fresh connection");
        assert_eq!(told.headers.lock().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn probes_say_that_they_are_the_proxys_own() {
    let told = told().await;
    let mut blue = pool("v1", 100, &[told.backend.spec_address()]);
    blue.proxy_protocol = Some(ProxyVersion::V2);
    let mut desired = spec(&[("blue", blue)]);
    desired.services["shop"].health_check = Some(health_check());
    let proxy = Proxy::start(desired).await;
    proxy.ready().await;
    let headers = told.headers.lock().unwrap();
    assert!(!headers.is_empty() && headers.iter().all(|it| it == "PROXY UNKNOWN"), "{headers:?}");
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut reply = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut reply)).await.unwrap().unwrap();
    String::from_utf8_lossy(&reply).into_owned()
}

/// Sends bytes; what comes until the connection is closed, with a reset or without.
async fn closed(proxy: &Proxy, bytes: &[u8]) -> String {
    let mut stream = proxy.connect().await;
    stream.write_all(bytes).await.unwrap();
    let mut reply = Vec::new();
    let mut buffer = [0; 1024];
    let reading = async {
        while let Ok(read) = stream.read(&mut buffer).await
            && read > 0
        {
            reply.extend_from_slice(&buffer[..read]);
        }
    };
    timeout(PATIENCE, reading).await.expect("it is closed");
    String::from_utf8_lossy(&reply).into_owned()
}
