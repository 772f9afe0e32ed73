//! 421: what was asked for by TLS and by HTTP does not belong together.

use crate::{stage::*, support::*};
use crossfade::spec::ListenerTls;
use std::sync::Arc;

#[tokio::test]
async fn the_certificate_asked_for_must_be_for_the_host() {
    let ca = Ca::new();
    let backend = Backend::named("blue").await;
    let tls = || {
        ListenerTls::new(vec![
            ca.issue(&["first.example", "127.0.0.1"]).named("first"),
            ca.issue(&["shop.example", "*.shop.example"]).named("shop"),
        ])
    };
    for engine in ENGINES {
        let proxy = Proxy::start(tls_spec(&backend, engine, tls())).await;
        for alpn in ["http/1.1", "h2"] {
            let config = Arc::new(client_config(&ca, &[alpn], None));
            let mut asked = 0;
            for (name, host, status) in [
                ("shop.example", "shop.example", 200),
                ("shop.example", "SHOP.example:8443", 200),
                ("shop.example", "a.shop.example", 200),
                ("shop.example", "first.example", 421),
                ("shop.example", "b.a.shop.example", 421),
                ("shop.example", "127.0.0.1", 421),
                ("first.example", "127.0.0.1:443", 200),
                ("first.example", "shop.example", 421),
                // An address is not asked for by TLS.
                ("127.0.0.1", "shop.example", 200),
                ("127.0.0.1", "anything", 200),
            ] {
                let stream = shake(&proxy, &config, name).await.unwrap();
                let mut client = match alpn {
                    "h2" => h2(stream, &proxy).await,
                    _ => h1(stream).await,
                };
                let before = backend.count();
                let ask = |host| http::Request::get("/").header("host", host).body(full(""));
                let reply = client.send(ask(host).unwrap()).await;
                assert_eq!(reply.status, status, "{engine:?} {alpn} {name} {host}");
                if status == 421 {
                    asked += 1;
                    assert_eq!(reply.headers["x-crossfade-error"], "misdirected");
                    assert_eq!(backend.count(), before, "no byte of it reaches a backend");
                    // The connection is as good as before (RFC 9110 section 15.5.20).
                    let reply = client.send(ask(name).unwrap()).await;
                    assert_eq!(reply.status, 200, "{engine:?} {alpn} {name}");
                }
            }
            assert_eq!(asked, 4);
        }
    }
}

#[tokio::test]
async fn a_request_without_a_host_is_for_nobody_else() {
    let ca = Ca::new();
    let backend = Backend::named("blue").await;
    for engine in ENGINES {
        let tls = ListenerTls::new(vec![ca.issue(&["shop.example"]).named("shop")]);
        let proxy = Proxy::start(tls_spec(&backend, engine, tls)).await;
        let config = Arc::new(client_config(&ca, &[], None));
        for (request, status) in [
            ("GET / HTTP/1.0\r\n\r\n", "200"),
            ("GET https://other.example/ HTTP/1.0\r\n\r\n", "421"),
            ("GET https://other.example/ HTTP/1.0\r\nHost: shop.example\r\n\r\n", "421"),
            ("GET https://shop.example/ HTTP/1.0\r\n\r\n", "200"),
        ] {
            let mut stream = shake(&proxy, &config, "shop.example").await.unwrap();
            let (reply, _) = exchange(&mut stream, request).await;
            assert_eq!(&reply[9..12], status, "{request}");
        }
    }
}
