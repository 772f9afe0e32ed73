//! From HTTP to HTTPS.

use crate::{stage::*, support::*};
use crossfade::spec::{Listener, ListenerTls};

#[tokio::test]
async fn clients_in_the_clear_are_sent_to_https() {
    let ca = Ca::new();
    let backend = Backend::named("blue").await;
    for engine in ENGINES {
        let tls = ListenerTls::new(vec![ca.issue(&["a.example"]).named("a")]);
        let mut spec = tls_spec(&backend, engine, tls);
        let mut clear = Listener::new("127.0.0.1:0".parse().unwrap());
        clear.redirect_https = true;
        spec.listeners.insert(0, clear);
        let proxy = Proxy::start(spec).await;
        let before = backend.count();
        let port = proxy.live.published.read(|s| s.listeners[1].bound.address.port());
        for mut client in [proxy.h1().await, proxy.h2().await] {
            for (host, location) in [
                ("a.example", "https://a.example/x/y?q=1".to_owned()),
                ("a.example:8080", format!("https://a.example:{port}/x/y?q=1")),
            ] {
                let ask = || http::Request::get("/x/y?q=1").header("host", host);
                let reply = client.send(ask().body(full("")).unwrap()).await;
                assert_eq!(reply.status, 308);
                assert_eq!(reply.headers["location"], location);
                assert!(!reply.headers.contains_key("x-crossfade-error"));
                // Nobody here is trusted to say so.
                let told = ask().header("x-forwarded-proto", "https").body(full("")).unwrap();
                assert_eq!(client.send(told).await.status, 308);
            }
        }
        assert_eq!(&proxy.raw("GET / HTTP/1.0\r\n\r\n").await[9..12], "400");
        assert_eq!(backend.count(), before);
    }
}

#[tokio::test]
async fn who_speaks_https_to_a_trusted_proxy_is_served() {
    let backend = Backend::named("blue").await;
    for engine in ENGINES {
        let mut spec = spec(&[("blue", pool("v1", 100, &[backend.spec_address()]))]);
        spec.engine = engine;
        spec.listeners[0].redirect_https = true;
        spec.listeners[0].trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        let proxy = Proxy::start(spec).await;
        let mut client = proxy.h1().await;
        for (proto, status) in [("https", 200), ("http", 308)] {
            let request = get("/").header("x-forwarded-proto", proto).body(full("")).unwrap();
            assert_eq!(client.send(request).await.status, status);
        }
    }
}
