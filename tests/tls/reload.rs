//! Certificates that are renewed.

use crate::{stage::*, support::*};
use crossfade::{
    control::Command,
    spec::{Engine, ListenerTls},
};
use rustls::HandshakeKind;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// The same file, but for what it says.
fn renewed(spec: &crossfade::spec::Spec, pem: &Pem) -> Command {
    let mut spec = spec.clone();
    spec.listeners[0].tls.as_mut().unwrap().certificates[0].pair = pem.named("x").pair;
    Command::Load { file: Box::new(spec) }
}

/// Clients shake hands all the time, some with sessions of before, while certificates come and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_handshake_fails_while_certificates_are_renewed() {
    const RENEWALS: usize = 50;
    let ca = Ca::new();
    let backend = Backend::named("blue").await;
    let tls = ListenerTls::new(vec![ca.issue(&["a.example"]).named("a")]);
    let mut spec = tls_spec(&backend, Engine::Native, tls);
    spec.threads = std::num::NonZeroUsize::new(2);
    let proxy = Arc::new(Proxy::start(spec.clone()).await);
    let done = Arc::new(AtomicBool::new(false));
    let (served, resumed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let (proxy, done) = (proxy.clone(), done.clone());
            let (served, resumed) = (served.clone(), resumed.clone());
            let mut config = client_config(&ca, &["http/1.1"], None);
            if number % 2 == 0 {
                config.resumption = rustls::client::Resumption::disabled();
            }
            let config = Arc::new(config);
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let stream = shake(&proxy, &config, "a.example").await.expect("a handshake");
                    let kind = stream.get_ref().1.handshake_kind();
                    resumed.fetch_add(
                        usize::from(kind == Some(HandshakeKind::Resumed)),
                        Ordering::Relaxed,
                    );
                    let mut client = h1(stream).await;
                    for _ in 0..3 {
                        let request = http::Request::get("/").header("host", "a.example");
                        let reply = client.send(request.body(full("")).unwrap()).await;
                        assert_eq!(reply.status, 200);
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for round in 0..RENEWALS {
        let before = served.load(Ordering::Relaxed);
        let receipt = proxy.apply(renewed(&spec, &ca.issue(&["a.example"]))).await.unwrap();
        assert_eq!(receipt.revision, Some(1), "no change of the spec");
        until("clients are served", || served.load(Ordering::Relaxed) > before + 3).await;
        assert!(clients.iter().all(|client| !client.is_finished()), "round {round}");
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no handshake and no request has failed");
    }
    assert!(resumed.load(Ordering::Relaxed) > 0, "sessions outlive a renewal");
}

#[tokio::test]
async fn new_handshakes_get_the_new_certificate_and_open_connections_stay() {
    let ca = Ca::new();
    let backend = Backend::named("blue").await;
    for engine in ENGINES {
        let tls = ListenerTls::new(vec![ca.issue(&["a.example", "old.example"]).named("a")]);
        let spec = tls_spec(&backend, engine, tls);
        let proxy = Proxy::start(spec.clone()).await;
        let config = Arc::new(client_config(&ca, &[], None));
        let stream = shake(&proxy, &config, "a.example").await.unwrap();
        assert_eq!(shown_names(&stream), "DNSName(a.example),DNSName(old.example)");
        let mut open = h1(stream).await;
        let ask = |host| http::Request::get("/").header("host", host).body(full("")).unwrap();
        assert_eq!(open.send(ask("a.example")).await.status, 200);

        proxy.apply(renewed(&spec, &ca.issue(&["a.example", "new.example"]))).await.unwrap();
        assert_eq!(open.send(ask("old.example")).await.status, 200, "what was agreed on holds");
        let fresh = Arc::new(client_config(&ca, &[], None));
        let stream = shake(&proxy, &fresh, "a.example").await.unwrap();
        assert_eq!(shown_names(&stream), "DNSName(a.example),DNSName(new.example)");
    }
}

#[tokio::test]
async fn a_listener_that_turns_to_tls_leaves_open_connections_alone() {
    let ca = Ca::new();
    let backend = Backend::named("blue").await;
    let tls = ListenerTls::new(vec![ca.issue(&["a.example"]).named("a")]);
    let with = tls_spec(&backend, Engine::Native, tls);
    let mut without = with.clone();
    without.listeners[0].tls = None;
    let proxy = Proxy::start(without.clone()).await;
    let mut clear = proxy.h1().await;
    assert_eq!(clear.get("/").await.status, 200);
    proxy.apply(Command::Replace { spec: Box::new(with) }).await.unwrap();
    // Accepting follows a publish by a turn of its own.
    let config = Arc::new(client_config(&ca, &[], None));
    let mut shaken = shake(&proxy, &config, "a.example").await;
    while shaken.is_err() {
        shaken = shake(&proxy, &config, "a.example").await;
    }
    let request = "GET / HTTP/1.0\r\nHost: a.example\r\n\r\n";
    let (reply, _) = exchange(&mut shaken.unwrap(), request).await;
    assert!(reply.ends_with("blue"), "{reply}");
    assert_eq!(clear.get("/").await.status, 200);
}
