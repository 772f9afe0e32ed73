//! Certificates that are ordered, from pebble where it is installed.

use crate::{api::Api, pebble::*, stage::*, support::*};
use crossfade::{
    control::{Command, Issuance},
    live::{ChallengeHandshakes, Challenges, HandshakeFailure},
    net,
    spec::{AcmeChallenge, ClientAuth, Engine, ListenerTls, Spec},
};
use rustls::sign::SingleCertAndKey;
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

async fn ask(proxy: &Proxy, pebble: &Pebble, host: &str) -> Reply {
    let stream = shake(proxy, &pebble.client().await, host).await.unwrap();
    let request = http::Request::get("/").header("host", host).body(full("")).unwrap();
    h1(stream).await.send(request).await
}

async fn in_the_clear(ports: Ports, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", ports.http)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut reply)).await.unwrap().unwrap();
    reply
}

fn load(spec: &Spec) -> Command {
    Command::Replace { spec: Box::new(spec.clone()) }
}

#[tokio::test]
async fn certificates_are_issued_by_http() {
    for engine in ENGINES {
        let (ports, state) = (Ports::free(), tempfile::tempdir().unwrap());
        let Some(pebble) = Pebble::start(ports, Ca::new(), YEAR).await else { return };
        let backend = Backend::named("blue").await;
        let acme = acme(&pebble.ca, ports, state.path(), &[&["a.example", "b.example"]]);
        let mut spec = acme_spec(&backend, engine, ports, acme);
        // What proves a name is not redirected.
        spec.listeners[1].redirect_https = true;
        let proxy = Proxy::start(spec).await;
        ordered(&proxy, "a.example", 1, 0).await;
        for host in ["a.example", "b.example"] {
            let reply = ask(&proxy, &pebble, host).await;
            assert_eq!((reply.status, reply.text()), (200, "blue"));
        }
        let view = proxy.handle.view();
        assert_eq!(view.revision, 1, "no change of the spec");
        assert_eq!(view.orders[0].error, None);
        assert!(view.orders[0].next < view.orders[0].not_after.unwrap());
        assert!(proxy.live.published.read(|snapshot| snapshot.challenges.is_empty()));
        let request = "GET /.well-known/acme-challenge/x HTTP/1.0\r\nHost: a.example\r\n\r\n";
        let reply = in_the_clear(ports, request).await;
        assert!(reply.contains(" 308 "), "{reply}");

        let folder = fs::read_dir(state.path()).unwrap().next().unwrap().unwrap().path();
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
        files.sort_by_key(|file| file.file_name());
        let names: Vec<_> = files.iter().map(|file| file.file_name()).collect();
        assert_eq!(names, ["a.example.pem", "account.json"]);
        for file in &files {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}

/// Also where clients must show a certificate, which no issuer has.
#[tokio::test]
async fn certificates_are_issued_by_tls() {
    for engine in ENGINES {
        let (ports, state) = (Ports::free(), tempfile::tempdir().unwrap());
        let Some(pebble) = Pebble::start(ports, Ca::new(), YEAR).await else { return };
        let backend = Backend::named("blue").await;
        let mut acme = acme(&pebble.ca, ports, state.path(), &[&["a.example"], &["b.example"]]);
        acme.challenge = AcmeChallenge::TlsAlpn01;
        let mut spec = acme_spec(&backend, engine, ports, acme);
        spec.listeners.truncate(1);
        let clients = Ca::new();
        let auth = ClientAuth { ca: clients.authority(), required: true };
        spec.listeners[0].tls.as_mut().unwrap().client_auth = Some(auth);
        let proxy = Proxy::start(spec).await;
        for host in ["a.example", "b.example"] {
            ordered(&proxy, host, 1, 0).await;
        }
        let client = pebble.client().await;
        let mut stream = shake(&proxy, &client, "b.example").await.unwrap();
        assert_eq!(shown_names(&stream), "DNSName(b.example)");
        let (_, ended) = exchange(&mut stream, "GET / HTTP/1.1\r\nHost: b.example\r\n\r\n").await;
        assert!(ended.unwrap_err().to_string().contains("CertificateRequired"));

        // Once all is proven nothing of it is left.
        let mut config = rustls::ClientConfig::clone(&client);
        config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
        let refused = shake(&proxy, &Arc::new(config), "b.example").await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    }
}

#[tokio::test]
async fn a_restart_finds_what_was_issued_and_needs_nobody() {
    let (ports, state) = (Ports::free(), tempfile::tempdir().unwrap());
    let Some(pebble) = Pebble::start(ports, Ca::new(), YEAR).await else { return };
    let backend = Backend::named("blue").await;
    let acme = acme(&pebble.ca, ports, state.path(), &[&["a.example"]]);
    let spec = acme_spec(&backend, Engine::Native, ports, acme);
    let proxy = Proxy::start(spec.clone()).await;
    ordered(&proxy, "a.example", 1, 0).await;
    let client = pebble.client().await;
    let before = shown(&proxy);
    drop((proxy, pebble));

    let proxy = Proxy::start(spec).await;
    let stream = shake(&proxy, &client, "a.example").await.unwrap();
    assert_eq!(shown_names(&stream), "DNSName(a.example)");
    assert!(shown(&proxy)[0].says_the_same(&before[0]));
    // It is not due.
    ordered(&proxy, "a.example", 0, 0).await;
}

#[tokio::test]
async fn certificates_are_renewed_and_open_connections_stay() {
    const GOOD_FOR: u64 = 9;
    let (ports, state) = (Ports::free(), tempfile::tempdir().unwrap());
    let Some(pebble) = Pebble::start(ports, Ca::new(), GOOD_FOR).await else { return };
    let backend = Backend::named("blue").await;
    let mut acme = acme(&pebble.ca, ports, state.path(), &[&["a.example"]]);
    // As soon as it may be.
    acme.renew_before = Some(Duration::from_secs(GOOD_FOR));
    let proxy = Proxy::start(acme_spec(&backend, Engine::Native, ports, acme)).await;
    ordered(&proxy, "a.example", 1, 0).await;
    let before = shown(&proxy);
    let stream = shake(&proxy, &pebble.client().await, "a.example").await.unwrap();
    let mut open = h1(stream).await;
    let request = || http::Request::get("/").header("host", "a.example").body(full("")).unwrap();
    assert_eq!(open.send(request()).await.status, 200);
    ordered(&proxy, "a.example", 2, 0).await;
    assert!(!shown(&proxy)[0].says_the_same(&before[0]));
    assert_eq!(open.send(request()).await.status, 200);
    assert_eq!(ask(&proxy, &pebble, "a.example").await.status, 200);
}

#[tokio::test]
async fn what_cannot_be_proven_is_told_and_all_else_goes_on() {
    let (ports, state) = (Ports::free(), tempfile::tempdir().unwrap());
    let elsewhere = Ports { http: Ports::free().http, ..ports };
    let Some(pebble) = Pebble::start(elsewhere, Ca::new(), YEAR).await else { return };
    let backend = Backend::named("blue").await;
    let wanted = acme(&pebble.ca, ports, state.path(), &[&["a.example"]]);
    let spec = acme_spec(&backend, Engine::Native, ports, wanted);
    let proxy = Proxy::start(spec.clone()).await;
    ordered(&proxy, "a.example", 0, 1).await;
    let order = proxy.handle.view().orders[0].clone();
    let error = order.error.unwrap();
    assert!(error.starts_with("a.example: ") && error.contains("connect"), "{error}");
    assert!(order.not_after.is_none());
    let wait = order.next.duration_since(jiff::Timestamp::now());
    assert!(wait.as_secs() > 60, "the issuer has its limits: {wait}");

    let shaken = shake(&proxy, &pebble.client().await, "a.example").await;
    shaken.expect_err("there is nothing to show");
    let failed = || proxy.live.published.read(|s| s.listeners[0].bound.failed_handshakes());
    until("it is counted", || failed()[HandshakeFailure::Unissued as usize] == 1).await;
    let reply = in_the_clear(ports, "GET / HTTP/1.0\r\nHost: a.example\r\n\r\n").await;
    assert!(reply.ends_with("blue"), "{reply}");

    // Who is started again and again asks no more often.
    drop(proxy);
    let proxy = Proxy::start(spec.clone()).await;
    let known = proxy.handle.view().orders[0].clone();
    assert_eq!((known.next.as_second(), known.error), (order.next.as_second(), Some(error)));

    // Whoever mends it does not have to wait.
    let ca = pebble.end();
    let Some(pebble) = Pebble::start(ports, ca, YEAR).await else { return };
    let mut mended = spec;
    mended.acme.as_mut().unwrap().contacts.clear();
    proxy.apply(load(&mended)).await.unwrap();
    // The account is another issuer's now.
    ordered(&proxy, "a.example", 1, 0).await;
    assert_eq!(ask(&proxy, &pebble, "a.example").await.status, 200);
}

#[tokio::test]
async fn without_an_issuer_what_there_is_is_served_until_it_is_back() {
    let (ports, state) = (Ports::free(), tempfile::tempdir().unwrap());
    let backend = Backend::named("blue").await;
    let ca = Ca::new();
    let wanted = acme(&ca, ports, state.path(), &[&["a.example"]]);
    let api = Api::start(acme_spec(&backend, Engine::Native, ports, wanted)).await;
    let proxy = &api.proxy;
    ordered(proxy, "a.example", 0, 1).await;
    let reply = in_the_clear(ports, "GET / HTTP/1.0\r\nHost: a.example\r\n\r\n").await;
    assert!(reply.ends_with("blue"), "{reply}");
    let order = api.get("/v1/status").await.json()["acme"][0].clone();
    assert_eq!(order["hosts"], json!(["a.example"]));
    assert_eq!(order["not_after"], Value::Null);
    let error = order["error"].as_str().unwrap();
    assert!(error.contains("127.0.0.1: no connection"), "{error}");
    let has_line = async |start: &str| {
        let page = api.get("/metrics").await.text;
        assert!(page.lines().any(|line| line.starts_with(start)), "no {start} in {page}");
    };
    has_line("crossfade_acme_failing{name=\"a.example\"} 1").await;
    has_line("crossfade_acme_orders_total{name=\"a.example\",outcome=\"failed\"} 1").await;

    let Some(pebble) = Pebble::start(ports, ca, YEAR).await else { return };
    // The issuer may have started too slowly for the second try, too.
    issued(proxy, "a.example").await;
    assert_eq!(ask(proxy, &pebble, "a.example").await.status, 200);
    let status = api.get("/v1/status").await.json();
    assert_eq!(status["acme"][0]["error"], Value::Null);
    let shown = &status["listeners"][0]["certificates"][0];
    assert_eq!(shown["names"], json!(["a.example"]));
    assert!(shown["cert"].as_str().unwrap().ends_with("/a.example.pem"));
    has_line("crossfade_acme_failing{name=\"a.example\"} 0").await;
    has_line("crossfade_acme_next_order_timestamp_seconds{name=\"a.example\"} ").await;
    has_line("crossfade_certificate_expiry_timestamp_seconds{listener=").await;
}

#[tokio::test]
async fn names_come_and_go_with_the_spec() {
    let (ports, state) = (Ports::free(), tempfile::tempdir().unwrap());
    let Some(pebble) = Pebble::start(ports, Ca::new(), YEAR).await else { return };
    let backend = Backend::named("blue").await;
    let wanted = acme(&pebble.ca, ports, state.path(), &[&["a.example"]]);
    let mut spec = acme_spec(&backend, Engine::Native, ports, wanted);
    let proxy = Proxy::start(spec.clone()).await;
    ordered(&proxy, "a.example", 1, 0).await;
    let first = shown(&proxy);

    let hosts = |spec: &mut Spec, names: &[&str]| {
        let hosts = names.iter().map(|name| vec![(*name).into()]).collect();
        spec.acme.as_mut().unwrap().hosts = hosts;
    };
    // An issuer that has forgotten everybody.
    let ca = pebble.end();
    let Some(pebble) = Pebble::start(ports, ca, YEAR).await else { return };
    hosts(&mut spec, &["b.example", "a.example"]);
    proxy.apply(load(&spec)).await.unwrap();
    ordered(&proxy, "b.example", 1, 0).await;
    // The first one is still good.
    ordered(&proxy, "a.example", 1, 0).await;
    assert!(shown(&proxy)[1].says_the_same(&first[0]));
    assert_eq!(ask(&proxy, &pebble, "b.example").await.status, 200);

    hosts(&mut spec, &["b.example"]);
    proxy.apply(load(&spec)).await.unwrap();
    until("one certificate", || shown(&proxy).len() == 1).await;
    spec.acme = None;
    spec.listeners.remove(0);
    proxy.apply(load(&spec)).await.unwrap();
    until("no certificate", || proxy.handle.view().orders.is_empty()).await;
}

/// An issuer that accepts connections and says nothing.
#[tokio::test]
async fn who_is_asked_to_end_does_not_wait_for_an_issuer() {
    let (ports, state) = (Ports::free(), tempfile::tempdir().unwrap());
    let issuer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = Backend::named("blue").await;
    let mut wanted = acme(&Ca::new(), ports, state.path(), &[&["a.example"]]);
    wanted.directory = format!("https://{}/dir", issuer.local_addr().unwrap()).into();
    let proxy = Proxy::start(acme_spec(&backend, Engine::Native, ports, wanted)).await;
    let (_order, _) = issuer.accept().await.unwrap();
    assert!(proxy.drain(PATIENCE).await);
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0, "nothing half done is left");
}

/// No issuer is needed to see what a proxy says while names are being proven.
#[tokio::test]
async fn tokens_are_answered_before_all_else_and_nothing_else_is() {
    for engine in ENGINES {
        let (ports, state) = (Ports::free(), tempfile::tempdir().unwrap());
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend =
            Backend::start(|request| async move { text(request.uri().to_string()) }).await;
        let mut wanted = acme(&Ca::new(), ports, state.path(), &[&["a.example"]]);
        wanted.directory = format!("https://{}/dir", silent.local_addr().unwrap()).into();
        let mut spec = acme_spec(&backend, engine, ports, wanted);
        spec.listeners.swap(0, 1);
        let proxy = Proxy::start(spec).await;
        let challenges = Challenges::by_http([("token".to_owned(), "token.print".to_owned())]);
        let issuance = Issuance { challenges: Arc::new(challenges), ..Issuance::default() };
        // Opened before: they see it too.
        let mut clients = [proxy.h1().await, proxy.h2().await];
        proxy.handle.issue(issuance).await.unwrap();
        for client in &mut clients {
            const TOKEN: &str = "/.well-known/acme-challenge/token";
            for path in [TOKEN, "/.well-known/acme-challenge/token?x"] {
                let reply = client.get(path).await;
                assert_eq!((reply.status, reply.text()), (200, "token.print"));
                assert_eq!(reply.headers["content-type"], "application/octet-stream");
            }
            let head = http::Request::head(TOKEN).header("host", "a.example");
            let reply = client.send(head.body(full("")).unwrap()).await;
            assert_eq!((reply.status, reply.text()), (200, ""));
            assert_eq!(reply.headers["content-length"], "11");
            let reply = client.send(post(TOKEN).body(full("")).unwrap()).await;
            assert!(reply.text().ends_with(TOKEN), "{reply:?}");
            for path in ["/.well-known/acme-challenge/other", "/.well-known/acme-challenge/", "/"] {
                assert!(client.get(path).await.text().ends_with(path), "{path}");
            }
        }
        proxy.handle.issue(Issuance::default()).await.unwrap();
        for client in &mut clients {
            let path = "/.well-known/acme-challenge/token";
            assert!(client.get(path).await.text().ends_with(path));
        }
    }
}

#[tokio::test]
async fn an_issuer_may_say_anything() {
    const LATER: &str = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 99999999999999999999\r\n\
                         content-length: 2\r\n\r\n{}";
    let endless =
        format!("HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n{}", "x".repeat(2 << 20));
    let elsewhere = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\
                     {\"newNonce\":\"http://127.0.0.1:1/\",\"newAccount\":\"x\",\"newOrder\":\"\"}";
    for (answer, says) in [
        ("", "no HTTP response"),
        ("\0\0\0\0\n\n", "no HTTP response"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[", "no whole answer"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", "JSON"),
        ("HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", "JSON"),
        (&endless, "no whole answer: length limit exceeded"),
        (elsewhere, "`http://127.0.0.1:1/` is not by https"),
        (LATER, "JSON"),
    ] {
        let (ports, state) = (Ports::free(), tempfile::tempdir().unwrap());
        let (ca, answer) = (Ca::new(), answer.to_owned());
        let (said, wait) = (answer.clone(), answer == LATER);
        let issuer =
            tls_backend(server_config(&ca.issue(&["127.0.0.1"]), None), move |mut stream| {
                let answer = answer.clone();
                async move {
                    let _ = stream.read(&mut [0; 4096]).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.shutdown().await;
                }
            });
        let issuer = issuer.await;
        let backend = Backend::named("blue").await;
        let mut wanted = acme(&ca, ports, state.path(), &[&["a.example"]]);
        wanted.directory = format!("https://{}/dir", issuer.address).into();
        let proxy = Proxy::start(acme_spec(&backend, Engine::Native, ports, wanted)).await;
        ordered(&proxy, "a.example", 0, 1).await;
        let order = proxy.handle.view().orders[0].clone();
        let error = order.error.unwrap();
        assert!(error.contains(says), "{:.80}: {error}", said);
        let pause = order.next.duration_since(jiff::Timestamp::now());
        assert_eq!(pause.as_hours() >= 23, wait, "{pause}");
        assert!(pause.as_hours() <= 24 && order.next.subsec_nanosecond() == 0, "{pause}");
    }
}

#[tokio::test]
async fn a_handshake_that_proves_a_name_is_asked_for_by_nothing_else() {
    let ca = Ca::new();
    let backend = Backend::named("blue").await;
    let tls = ListenerTls::new(vec![ca.issue(&["a.example", "b.example"]).named("a")]);
    let proxy = Proxy::start(tls_spec(&backend, Engine::Native, tls)).await;
    let proof = ca.issue(&["a.example"]).named("proof").pair.certified.clone();
    let config = net::challenge_config(Arc::new(SingleCertAndKey::from(proof))).unwrap();
    let handshakes =
        ChallengeHandshakes { config: Arc::new(config), names: vec!["a.example".into()] };
    let challenges = Arc::new(Challenges::by_tls(handshakes));
    proxy.handle.issue(Issuance { challenges, ..Issuance::default() }).await.unwrap();
    let shaken = async |alpn: &[&str], host: &str| {
        shake(&proxy, &Arc::new(client_config(&ca, alpn, None)), host).await
    };

    let mut proven = shaken(&["acme-tls/1"], "A.Example").await.unwrap();
    assert_eq!(shown_names(&proven), "DNSName(a.example)");
    let (said, ended) = exchange(&mut proven, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
    assert_eq!(said, "", "nothing is said there");
    drop(ended);
    for alpn in [&["http/1.1"][..], &["acme-tls/1", "http/1.1"], &[]] {
        let mut client = shaken(alpn, "a.example").await.unwrap();
        assert_eq!(shown_names(&client), "DNSName(a.example),DNSName(b.example)");
        let (said, _) = exchange(&mut client, "GET / HTTP/1.0\r\nHost: a.example\r\n\r\n").await;
        assert!(said.ends_with("blue"), "{said}");
    }
    let refused = shaken(&["acme-tls/1"], "b.example").await.unwrap_err().to_string();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    assert!(proxy.raw("GET / HTTP/1.1\r\n\r\n").await.contains("this port speaks HTTPS only"));
}
