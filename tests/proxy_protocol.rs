//! The PROXY header before a client's first byte, on real sockets and both engines.

mod support;

use crossfade::{
    live::{Fault, Reason},
    spec::{Engine, ProxyProtocol},
};
use std::time::Duration;
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
    spec.listeners[0].timeouts.headers = Duration::from_millis(300);
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
