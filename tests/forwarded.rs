//! Who asks, as backends are told: behind trusted proxies, from strangers, over IPv4 and IPv6; on both engines
//! and both protocols.

mod support;

use crossfade::spec::{BackendAddress, Engine, FieldMatch, Match, Pin, Spec, ValueMatch};
use std::{net::SocketAddr, sync::Arc};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const ENGINES: [Engine; 2] = [Engine::Native, Engine::Hyper];

/// Answers with the fields that it got.
async fn mirror() -> Backend {
    Backend::start(|request| async move {
        let lines = request.headers().iter();
        let lines = lines.map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
        text(lines.collect::<String>())
    })
    .await
}

fn desired(engine: Engine, backend: BackendAddress, trusted: &[&str]) -> Spec {
    let mut spec = spec(&[("blue", pool("v1", 100, &[backend]))]);
    spec.engine = engine;
    spec.listeners[0].trusted_proxies = trusted.iter().map(|it| it.parse().unwrap()).collect();
    spec
}

/// The values of a field in what a backend has said of its request.
fn values<'a>(said: &'a str, name: &str) -> Vec<&'a str> {
    let lines = said.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(known, _)| *known == name).map(|(_, value)| value).collect()
}

#[tokio::test]
async fn what_strangers_say_of_themselves_is_dropped() {
    let backend = mirror().await;
    for engine in ENGINES {
        for (trusted, is_believed) in [(&[][..], false), (&["127.0.0.0/8"], true)] {
            let proxy = Proxy::start(desired(engine, backend.spec_address(), trusted)).await;
            for mut client in [proxy.h1().await, proxy.h2().await] {
                let request = get("/")
                    .header("x-forwarded-for", "203.0.113.9")
                    .header("X-Forwarded-Port", "8443")
                    .header("x_forwarded_port", "1")
                    .header("x_forwarded_for", "1.1.1.1")
                    .header("forwarded", "for=203.0.113.9")
                    .header("via", "1.0 somebody");
                let reply = client.send(request.body(full("")).unwrap()).await;
                let said = reply.text();
                let (user, port, forwarded) = match is_believed {
                    true => ("203.0.113.9, 127.0.0.1", &["8443"][..], &["for=203.0.113.9"][..]),
                    false => ("127.0.0.1", &[][..], &[][..]),
                };
                assert_eq!(values(said, "x-forwarded-for"), [user], "{said}");
                assert_eq!(values(said, "x-forwarded-port"), port, "{said}");
                assert_eq!(values(said, "forwarded"), forwarded, "{said}");
                assert_eq!(values(said, "via"), ["1.0 somebody"], "{said}");
                assert!(!said.contains("x_forwarded"), "{said}");
            }
        }
    }
}

#[tokio::test]
async fn forwarded_and_via_are_told_on_request_of_the_config() {
    let backend = mirror().await;
    for engine in ENGINES {
        let mut spec = desired(engine, backend.spec_address(), &[]);
        (spec.listeners[0].forwarded, spec.listeners[0].via) = (true, true);
        let proxy = Proxy::start(spec).await;
        let forwarded = "for=127.0.0.1;host=\"shop.example.com\";proto=http";
        for (mut client, version) in [(proxy.h1().await, "1.1"), (proxy.h2().await, "2.0")] {
            let reply = client.get("/").await;
            let said = reply.text();
            assert_eq!(values(said, "forwarded"), [forwarded], "{said}");
            assert_eq!(values(said, "via"), [format!("{version} crossfade")], "{said}");
        }
        let said = proxy.raw("GET / HTTP/1.0\r\nvia: 1.1 a, 1.1 b\r\n\r\n").await;
        assert_eq!(values(&said, "via"), ["1.1 a, 1.1 b", "1.0 crossfade"], "{said}");
        assert_eq!(values(&said, "forwarded"), ["for=127.0.0.1;proto=http"], "{said}");
    }
}

#[tokio::test]
async fn the_user_behind_several_proxies_is_the_last_who_is_none() {
    let backend = mirror().await;
    for engine in ENGINES {
        let mut spec = desired(engine, backend.spec_address(), &["127.0.0.0/8", "10.0.0.0/8"]);
        let shop = &mut spec.services["shop"];
        shop.expose_version = true;
        shop.pools.insert("green".into(), pool("v2", 0, &[backend.spec_address()]));
        let canary = FieldMatch { name: "canary".into(), value: ValueMatch::Present };
        shop.pins = vec![Pin {
            matches: Match { headers: vec![canary], ..Match::default() },
            from: vec!["203.0.113.0/24".parse().unwrap()],
            pool: "green".into(),
        }];
        let proxy = Proxy::start(spec).await;
        for mut client in [proxy.h1().await, proxy.h2().await] {
            for (told, pool) in [
                ("203.0.113.9", "v2"),
                ("203.0.113.9, 10.0.0.2", "v2"),
                ("203.0.113.9:1234, 10.0.0.2", "v2"),
                ("192.0.2.1, 203.0.113.9, 10.0.0.2, 127.0.0.3", "v2"),
                ("203.0.113.9, 192.0.2.1", "v1"),
                ("203.0.113.9, 192.0.2.1, 10.0.0.2", "v1"),
                ("203.0.113.9, unknown, 10.0.0.2", "v1"),
            ] {
                let request = get("/").header("canary", "1").header("x-forwarded-for", told);
                let reply = client.send(request.body(full("")).unwrap()).await;
                assert_eq!(reply.headers["x-crossfade-version"], pool, "{told}");
            }
        }
    }
}

#[tokio::test]
async fn clients_and_backends_may_speak_ipv6() {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(tokio::sync::Mutex::new(String::new()));
    let hears = heard.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            *hears.lock().await = String::from_utf8(request[..read].to_vec()).unwrap();
            let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(reply).await.unwrap();
        }
    });
    for engine in ENGINES {
        let backend: BackendAddress = address.to_string().parse().unwrap();
        let mut spec = desired(engine, backend, &["::1/128"]);
        spec.listeners[0].address = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0));
        spec.listeners[0].forwarded = true;
        let proxy = Proxy::start(spec).await;
        assert!(proxy.address.is_ipv6());
        let reply = proxy
            .raw(
                "GET http://[::1]:80/x HTTP/1.1\r\nhost: [::1]:80\r\nconnection: close\r\n\
                 x-forwarded-for: 2001:db8::9\r\n\r\n",
            )
            .await;
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
        let said = heard.lock().await.to_ascii_lowercase();
        assert!(said.starts_with("get /x http/1.1\r\n"), "{said}");
        assert_eq!(values(&said, "host"), ["[::1]:80"]);
        assert_eq!(values(&said, "x-forwarded-for"), ["2001:db8::9, ::1"]);
        let forwarded = "for=\"[::1]\";host=\"[::1]:80\";proto=http";
        assert_eq!(values(&said, "forwarded"), [forwarded]);
    }
}

#[tokio::test]
async fn a_request_without_a_trace_begins_one_where_that_is_wanted() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let backend = mirror().await;
    for engine in ENGINES {
        for starts in [false, true] {
            let mut spec = desired(engine, backend.spec_address(), &[]);
            spec.listeners[0].starts_traces = starts;
            let proxy = Proxy::start(spec).await;
            for mut client in [proxy.h1().await, proxy.h2().await] {
                for (given, is_kept) in [
                    (&[PARENT][..], true),
                    (&[PARENT, PARENT], false),
                    (&["00-x"], false),
                    (&[], false),
                ] {
                    let mut request = get("/").header("tracestate", "a=b");
                    for parent in given {
                        request = request.header("traceparent", *parent);
                    }
                    let reply = client.send(request.body(full("")).unwrap()).await;
                    let said = reply.text();
                    if is_kept || !starts {
                        assert_eq!(values(said, "traceparent"), given, "{engine:?} {said}");
                        assert_eq!(values(said, "tracestate"), ["a=b"], "{said}");
                    } else {
                        let id = values(said, "x-request-id")[0];
                        let new = format!("00-{id}-{}-01", &id[16..]);
                        assert_eq!(values(said, "traceparent"), [new], "{engine:?} {said}");
                        assert_eq!(values(said, "tracestate"), [""; 0], "{said}");
                    }
                }
                if starts {
                    let request = get("/").header("x-request-id", "mine").body(full("")).unwrap();
                    let reply = client.send(request).await;
                    let parent = values(reply.text(), "traceparent")[0].to_owned();
                    assert!(!parent.contains("00000000"), "{engine:?} {parent}");
                }
            }
        }
    }
}
