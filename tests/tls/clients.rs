//! Certificates of clients.

use crate::{stage::*, support::*};
use crossfade::{
    control::Command,
    spec::{ClientAuth, Engine, ListenerTls},
};
use http_body_util::BodyExt;
use rustls::HandshakeKind;
use std::sync::Arc;

/// Answers with the fields that it got.
async fn mirror() -> Backend {
    Backend::start(|request| async move {
        let (head, body) = request.into_parts();
        let _ = body.collect().await;
        let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            format!("{name}: {}\n", value.to_str().unwrap())
        };
        text(head.headers.iter().map(line).collect::<String>())
    })
    .await
}

fn tls(ca: &Ca, clients: &Ca, required: bool) -> ListenerTls {
    let mut tls = ListenerTls::new(vec![ca.issue(&["a.example"]).named("a")]);
    tls.client_auth = Some(ClientAuth { ca: clients.authority(), required });
    tls
}

async fn ask(client: &mut Client) -> Reply {
    let request = http::Request::get("/")
        .header("host", "a.example")
        .header("x-forwarded-client-cert", "Hash=made up")
        .header("x_forwarded_client-cert", "Hash=made up");
    client.send(request.body(full("")).unwrap()).await
}

#[tokio::test]
async fn who_a_client_is_goes_to_the_backend_and_nobody_can_make_it_up() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let backend = mirror().await;
    let shown = clients.issue_client("cart");
    for engine in ENGINES {
        for trusted in [false, true] {
            let mut spec = tls_spec(&backend, engine, tls(&ca, &clients, false));
            if trusted {
                spec.listeners[0].trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
            }
            let proxy = Proxy::start(spec).await;
            for alpn in ["http/1.1", "h2"] {
                for shown in [None, Some(&shown)] {
                    let config = Arc::new(client_config(&ca, &[alpn], shown));
                    let stream = shake(&proxy, &config, "a.example").await.unwrap();
                    let mut client = match alpn {
                        "h2" => h2(stream, &proxy).await,
                        _ => h1(stream).await,
                    };
                    let reply = ask(&mut client).await;
                    let said = reply.text();
                    assert!(!said.contains("made up"), "{said}");
                    assert!(said.contains("x-forwarded-proto: https\n"), "{said}");
                    let lines: Vec<_> =
                        said.lines().filter(|line| line.contains("client-cert")).collect();
                    match shown {
                        None => assert_eq!(lines, [""; 0]),
                        Some(_) => {
                            let [line] = lines[..] else { panic!("{said}") };
                            let end = ";Subject=\"CN=cart\";URI=spiffe://test/cart";
                            assert!(line.starts_with("x-forwarded-client-cert: Hash="), "{line}");
                            assert!(line.ends_with(end), "{line}");
                        }
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn the_field_is_removed_where_nobody_shows_certificates() {
    let backend = mirror().await;
    for engine in ENGINES {
        let mut spec = spec(&[("blue", pool("v1", 100, &[backend.spec_address()]))]);
        spec.engine = engine;
        let proxy = Proxy::start(spec).await;
        for mut client in [proxy.h1().await, proxy.h2().await] {
            let reply = ask(&mut client).await;
            assert_eq!(reply.status, 200);
            assert!(!reply.text().contains("made up"), "{}", reply.text());
        }
        let named = "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Forwarded-Client-Cert\r\n\r\n";
        assert!(proxy.raw(named).await.starts_with("HTTP/1.1 400 "));
    }
}

async fn is_let_in(proxy: &Proxy, ca: &Ca, shown: Option<&Pem>) -> bool {
    let config = Arc::new(client_config(ca, &[], shown));
    // With TLS 1.3 a client learns that it was refused after it is done itself.
    let Ok(mut stream) = shake(proxy, &config, "a.example").await else { return false };
    use tokio::io::AsyncWriteExt;
    if stream.write_all(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n").await.is_err() {
        return false;
    }
    let mut reply = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut reply).await;
    reply.starts_with(b"HTTP/1.1 200 ")
}

#[tokio::test]
async fn required_is_required_and_bad_is_bad() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let backend = mirror().await;
    let good = clients.issue_client("cart");
    let strange = Ca::new().issue_client("cart");
    let expired = clients.issue_expired(&["old"]);
    for (required, without) in [(true, false), (false, true)] {
        let spec = tls_spec(&backend, Engine::Native, tls(&ca, &clients, required));
        let proxy = Proxy::start(spec).await;
        assert!(is_let_in(&proxy, &ca, Some(&good)).await);
        assert_eq!(is_let_in(&proxy, &ca, None).await, without);
        assert!(!is_let_in(&proxy, &ca, Some(&strange)).await);
        assert!(!is_let_in(&proxy, &ca, Some(&expired)).await);
        let failed = || proxy.live.published.read(|s| s.listeners[0].bound.failed_handshakes());
        let expected =
            if required { [0, 0, 0, 0, 1, 2, 0, 0, 0] } else { [0, 0, 0, 0, 0, 2, 0, 0, 0] };
        until("they are counted", || failed() == expected).await;
    }
}

/// A session that is resumed is not asked for a certificate: so none may outlive the trust.
#[tokio::test]
async fn other_authorities_end_the_sessions_of_before() {
    let (ca, clients, others) = (Ca::new(), Ca::new(), Ca::new());
    let backend = mirror().await;
    let before = tls_spec(&backend, Engine::Native, tls(&ca, &clients, true));
    let proxy = Proxy::start(before.clone()).await;
    let shown = clients.issue_client("cart");
    let config = Arc::new(client_config(&ca, &["http/1.1"], Some(&shown)));
    let ask_once = async || {
        let stream = shake(&proxy, &config, "a.example").await.ok()?;
        let kind = stream.get_ref().1.handshake_kind();
        let request = http::Request::get("/").header("host", "a.example");
        let reply = h1(stream).await.try_send(request.body(full("")).unwrap()).await.ok()?;
        assert_eq!(reply.status, 200);
        kind
    };
    assert_eq!(ask_once().await, Some(HandshakeKind::Full));
    assert_eq!(ask_once().await, Some(HandshakeKind::Resumed));
    let mut after = before.clone();
    let auth = after.listeners[0].tls.as_mut().unwrap().client_auth.as_mut().unwrap();
    auth.ca = others.authority();
    assert!(after == before, "the same file");
    proxy.apply(Command::Replace { spec: Box::new(after) }).await.unwrap();
    assert_eq!(ask_once().await, None);
}
