//! What routes change in requests and responses, and which pins they may use: on real sockets, both engines
//! and both protocols.

mod support;

use crossfade::{
    config,
    spec::{Engine, PoolProtocol, Spec},
};
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::path::Path;
use support::*;

/// Answers with what it got: method, target and fields. `x-say` in the request names fields to answer with.
async fn mirror() -> Backend {
    Backend::start(mirrored).await
}

async fn mirrored(request: http::Request<hyper::body::Incoming>) -> http::Response<Body> {
    let (head, body) = request.into_parts();
    let mut said = format!("{} {}\n", head.method, head.uri);
    let mut reply = http::Response::builder();
    for (name, value) in &head.headers {
        let value = value.to_str().unwrap();
        said.push_str(&format!("{name}: {value}\n"));
        if name == "x-say" {
            let (name, value) = value.split_once('=').unwrap();
            reply = reply.header(name, value);
        }
    }
    let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
    for (name, value) in &trailers {
        said.push_str(&format!("trailer {name}: {}\n", value.to_str().unwrap()));
    }
    reply.body(full(said)).unwrap()
}

/// A proxy with these routes and pins, whose service `shop` has the pools `blue` and `green` (weight 0).
async fn proxy(engine: Engine, backend: &Backend, pins: &str, routes: &str) -> Proxy {
    Proxy::start(desired(engine, backend, pins, routes)).await
}

fn desired(engine: Engine, backend: &Backend, pins: &str, routes: &str) -> Spec {
    let address = backend.address;
    let text = format!(
        "threads: 1\n\
         listeners: [{{ address: 127.0.0.1:0, trusted_proxies: [127.0.0.1] }}]\n\
         services:\n  shop:\n    expose_version: true\n    pins: {pins}\n    pools:\n      \
         blue: {{ weight: 1, backends: [{address}] }}\n      \
         green: {{ weight: 0, backends: [{address}] }}\n\
         routes: {routes}\n"
    );
    let outcome = config::parse(&text, Path::new("test"), config::Surroundings::of_clients());
    let errors: Vec<String> = outcome.errors.iter().map(ToString::to_string).collect();
    let mut spec = outcome.spec.unwrap_or_else(|| panic!("{errors:#?}\n{text}"));
    spec.engine = engine;
    spec
}

/// The engines, and the clients of each.
async fn clients(proxy: &Proxy) -> [Client; 2] {
    [proxy.h1().await, proxy.h2().await]
}

const ENGINES: [Engine; 2] = [Engine::Native, Engine::Hyper];

#[tokio::test]
async fn a_prefix_is_rewritten_and_the_rest_of_the_target_is_not() {
    let backend = mirror().await;
    let routes = "[{ match: { path_prefix: /shop/ }, service: shop, rewrite: { prefix: / } },
                   { match: { path_prefix: /old }, service: shop, rewrite: { prefix: /new/v2/ } },
                   { service: shop }]";
    for engine in ENGINES {
        let proxy = proxy(engine, &backend, "[]", routes).await;
        for mut client in clients(&proxy).await {
            for (asked, sent) in [
                ("/shop", "/"),
                ("/shop/", "/"),
                ("/shop?a=/shop", "/?a=/shop"),
                ("/shop/a%20b/c;d?x=%2F", "/a%20b/c;d?x=%2F"),
                ("/shop/a//b", "/a//b"),
                ("/old", "/new/v2"),
                ("/old/a/?", "/new/v2/a/?"),
                ("/old//a", "/new/v2//a"),
                ("/shops", "/shops"),
                ("/x/shop/a", "/x/shop/a"),
            ] {
                let reply = client.get(asked).await;
                let expected = format!("GET {sent}\n");
                assert!(reply.text().starts_with(&expected), "{asked}: {}", reply.text());
            }
            let reply = client.get("/shop//evil.example").await;
            assert_eq!(
                (reply.status, &reply.headers["x-crossfade-error"]),
                (400, &"bad_request".parse().unwrap())
            );
        }
    }
}

#[tokio::test]
async fn headers_of_requests_are_set_added_and_removed() {
    let backend = mirror().await;
    let routes = "[{ match: { path_prefix: /a }, service: shop, request_headers: {
                     set: { X-Team: shop }, add: { x-tag: edge }, remove: [x-debug, cookie] } },
                   { service: shop }]";
    for engine in ENGINES {
        let proxy = proxy(engine, &backend, "[]", routes).await;
        for mut client in clients(&proxy).await {
            let mut ask = async |path: &str| {
                let request = get(path)
                    .header("x-team", "admin")
                    .header("X_Team", "root")
                    .header("x-team", "again")
                    .header("x-tag", "mine")
                    .header("x-debug", "1")
                    .header("x_debug", "2")
                    .header("cookie", "a=1")
                    .header("cookie", "b=2")
                    .header("x-kept", "yes");
                client.send(request.body(full("")).unwrap()).await.text().to_owned()
            };
            let said = ask("/a").await;
            assert_eq!(values(&said, "x-team"), ["shop"], "{said}");
            assert_eq!(values(&said, "x_team"), [""; 0], "{said}");
            assert_eq!(values(&said, "x-tag"), ["mine", "edge"], "{said}");
            assert_eq!(values(&said, "x-kept"), ["yes"], "{said}");
            for removed in ["x-debug", "x_debug", "cookie"] {
                assert_eq!(values(&said, removed), [""; 0], "{said}");
            }
            let said = ask("/b").await;
            assert_eq!(values(&said, "x-team"), ["admin", "again"], "{said}");
            assert_eq!(values(&said, "x-debug"), ["1"], "{said}");
            assert_eq!(values(&said, "cookie").join("; "), "a=1; b=2", "{said}");
        }
        // Nor can it come in by a trailer.
        let coded = "POST /a HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\
                     connection: close\r\n\r\n0\r\nx-team: root\r\n\r\n";
        if engine == Engine::Native {
            let said = proxy.raw(coded).await;
            assert_eq!(values(&said, "trailer x-team"), [""; 0], "{said}");
            let said = proxy.raw(coded.replace("/a", "/b")).await;
            assert_eq!(values(&said, "trailer x-team"), ["root"], "{said}");
        }
        // What a client's `Connection` names stays behind, but not what the route says.
        let reply = proxy
            .raw("GET /a HTTP/1.1\r\nhost: a\r\nx-team: x\r\nconnection: close, x-team, x-tag\r\n\r\n")
            .await;
        assert_eq!(values(&reply, "x-team"), ["shop"], "{reply}");
        assert_eq!(values(&reply, "x-tag"), ["edge"], "{reply}");
    }
}

#[tokio::test]
async fn headers_of_responses_are_set_added_and_removed() {
    let backend = mirror().await;
    let routes = "[{ match: { path_prefix: /a }, service: shop, response_headers: {
                     set: { x-frame-options: DENY }, add: { vary: origin }, remove: [server] } },
                   { service: shop }]";
    for engine in ENGINES {
        let proxy = proxy(engine, &backend, "[]", routes).await;
        for mut client in clients(&proxy).await {
            for (path, is_changed) in [("/a", true), ("/b", false), ("/a/c", true)] {
                let request = get(path)
                    .header("x-say", "X-Frame-Options=ALLOW")
                    .header("x-say", "vary=accept")
                    .header("x-say", "server=secret");
                let reply = client.send(request.body(full("")).unwrap()).await;
                let all = |name| -> Vec<_> {
                    reply.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect()
                };
                let (frame, vary, server) = match is_changed {
                    true => (&["DENY"][..], &["accept", "origin"][..], &[][..]),
                    false => (&["ALLOW"][..], &["accept"][..], &["secret"][..]),
                };
                assert_eq!(all("x-frame-options"), frame, "{engine:?} {path}");
                assert_eq!(all("vary"), vary, "{engine:?} {path}");
                assert_eq!(all("server"), server, "{engine:?} {path}");
                assert_eq!(all("x-crossfade-version"), ["blue"]);
                assert_eq!(all("date").len(), 1);
            }
        }
    }
}

#[tokio::test]
async fn a_redirect_needs_no_service_and_leads_nowhere_else() {
    let backend = mirror().await;
    let routes = "[{ match: { hosts: [old.example.com] },
                     redirect: { url: \"https://new.example.com{path}{query}\", code: 308 } },
                   { match: { path_prefix: /moved }, redirect: { url: /new } },
                   { match: { path_prefix: /up },
                     redirect: { url: \"https://{host}:8443{path}{query}\", code: 301 } },
                   { service: shop }]";
    for engine in ENGINES {
        let proxy = proxy(engine, &backend, "[]", routes).await;
        for mut client in clients(&proxy).await {
            for (host, path, status, location) in [
                ("old.example.com", "/a%2Fb?c=d", 308, "https://new.example.com/a%2Fb?c=d"),
                ("OLD.example.com:80", "/", 308, "https://new.example.com/"),
                ("old.example.com", "//evil.example", 308, "https://new.example.com//evil.example"),
                ("shop", "/moved/x?y", 302, "/new"),
                ("Shop:8080", "/up/x?y", 301, "https://shop:8443/up/x?y"),
            ] {
                let request = http::Request::get(path).header("host", host);
                let reply = client.send(request.body(full("")).unwrap()).await;
                assert_eq!(reply.status, status, "{path}");
                assert_eq!(reply.headers["location"], location);
                assert!(!reply.headers.contains_key("x-crossfade-error"));
                assert!(reply.body.is_empty());
            }
        }
        // Nobody can be sent to the host of a request that names none.
        let reply = proxy.raw("GET /up HTTP/1.0\r\n\r\n").await;
        assert!(reply.contains(" 400 Bad Request\r\n"), "{reply}");
        let reply =
            proxy.raw("POST /moved HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nab").await;
        assert!(reply.starts_with("HTTP/1.1 302"), "{reply}");
        // The connection goes on.
        let reply = proxy
            .raw(
                "GET /moved HTTP/1.1\r\nhost: a\r\n\r\n\
                 GET /moved HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            )
            .await;
        assert_eq!(reply.matches("HTTP/1.1 302 Found\r\n").count(), 2, "{reply}");
        let replies = proxy.live.unrouted.stats.totals();
        assert!(replies.failures.iter().flatten().sum::<u64>() == 1, "only the one without a host");
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn a_route_has_timeouts_and_limits_of_its_own() {
    let backend = Backend::start(|request| async move {
        if request.uri().path().ends_with("/hang") {
            std::future::pending().await
        }
        text("ok")
    })
    .await;
    let routes = "[{ match: { path_prefix: /quick }, service: shop, timeouts: { response: 1s } },
                   { match: { path_prefix: /slight }, service: shop, limits: { body_bytes: 4 } },
                   { service: shop }]";
    for engine in ENGINES {
        let proxy = proxy(engine, &backend, "[]", routes).await;
        for mut client in clients(&proxy).await {
            let late = client.get("/quick/hang").await;
            assert_eq!(late.status, 504);
            assert_eq!(late.headers["x-crossfade-error"], "response_timeout");
        }
        for mut client in clients(&proxy).await {
            assert_eq!(client.get("/quick/x").await.status, 200);
            let mut post = async |path: &str| {
                client.send(post(path).body(full("12345")).unwrap()).await.status
            };
            assert_eq!(post("/other").await, 200);
            assert_eq!(post("/slight").await, 413);
        }
    }
}

#[tokio::test]
async fn a_limited_pin_serves_its_networks_and_is_kept_from_others() {
    let backend = mirror().await;
    let pins = "[{ headers: { canary: true }, from: [10.0.0.0/8], pool: green },
                 { cookies: { beta: { present: true } }, from: [10.0.0.0/8], pool: green }]";
    for engine in ENGINES {
        let proxy = proxy(engine, &backend, pins, "[{ service: shop }]").await;
        for mut client in clients(&proxy).await {
            let mut ask = async |from: &str, name: &str, value: &str| {
                let request = get("/").header("x-forwarded-for", from).header(name, value);
                let reply = client.send(request.body(full("")).unwrap()).await;
                let pool = reply.headers["x-crossfade-version"].to_str().unwrap().to_owned();
                (pool, values(reply.text(), name).join("|"))
            };
            let (inside, outside) = ("10.1.2.3", "192.0.2.1");
            let told = |pool: &str, value: &str| (pool.to_owned(), value.to_owned());
            assert_eq!(ask(inside, "canary", "true").await, told("green", "true"));
            assert_eq!(ask(outside, "canary", "true").await, told("blue", ""));
            assert_eq!(ask(outside, "canary", "maybe").await, told("blue", "maybe"));
            let cookies = "a=1; beta=x; b=2";
            assert_eq!(ask(inside, "cookie", cookies).await, told("green", cookies));
            assert_eq!(ask(outside, "cookie", cookies).await, told("blue", "a=1; b=2"));
            assert_eq!(ask(outside, "cookie", "beta=x").await, told("blue", ""));
            assert_eq!(ask(outside, "cookie", "a=beta").await, told("blue", "a=beta"));
        }
        // Of a request that is otherwise sent byte for byte.
        let plain = "GET / HTTP/1.1\r\nhost: a\r\ncanary: true\r\nx: y\r\n\r\n\
                     GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let said = proxy.raw(plain).await;
        assert!(!said.contains("canary") && said.contains("x: y\n"), "{said}");
        let denied: Vec<u64> =
            proxy.live.pools().iter().map(|pool| pool.stats.totals().pins_denied).collect();
        assert_eq!(denied, [0, 7], "of blue and green");
    }
}

#[tokio::test]
async fn backends_that_speak_http2_are_no_exception() {
    let backend = Backend::http2(100, mirrored).await;
    let routes = "[{ match: { path_prefix: /shop }, service: shop, rewrite: { prefix: /x },
                     request_headers: { set: { x-team: shop }, remove: [x-debug] },
                     response_headers: { set: { x-frame-options: DENY } } },
                   { match: { path_prefix: /moved }, redirect: { url: /new } },
                   { service: shop }]";
    let pins = "[{ headers: { canary: true }, from: [10.0.0.0/8], pool: green }]";
    for engine in ENGINES {
        let mut spec = desired(engine, &backend, pins, routes);
        for pool in spec.services["shop"].pools.values_mut() {
            pool.protocol = PoolProtocol::H2;
        }
        let proxy = Proxy::start(spec).await;
        for mut client in clients(&proxy).await {
            let mut ask = async |path: &str| {
                let trailers = [("x-team", "root"), ("x-sum", "7")]
                    .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
                let trailers = http::HeaderMap::from_iter(trailers);
                let body = frames(vec![Frame::data("a".into()), Frame::trailers(trailers)]);
                let request = post(path)
                    .header("x-team", "admin")
                    .header("x-debug", "1")
                    .header("canary", "true")
                    .header("x-say", "x-frame-options=ALLOW")
                    .header("trailer", "x-team, x-sum")
                    .header(
                        "x-forwarded-for",
                        if path == "/in" { "10.1.1.1" } else { "192.0.2.1" },
                    );
                let reply = client.send(request.body(body).unwrap()).await;
                let field = |name: &str| {
                    let value = reply.headers.get(name).map(|value| value.to_str().unwrap());
                    value.unwrap_or_default().to_owned()
                };
                let fields = (field("x-frame-options"), field("x-crossfade-version"));
                (fields, reply.text().to_owned())
            };
            let ((frame, version), said) = ask("/shop/a?b").await;
            assert_eq!((&*frame, &*version), ("DENY", "blue"), "{said}");
            assert!(said.lines().next().unwrap().ends_with("/x/a?b"), "{said}");
            assert_eq!(values(&said, "x-team"), ["shop"], "{said}");
            for gone in ["x-debug", "canary", "trailer x-team", "trailer x-sum"] {
                assert_eq!(values(&said, gone), [""; 0], "{said}");
            }
            let ((frame, version), said) = ask("/in").await;
            assert_eq!((&*frame, &*version), ("ALLOW", "green"), "{said}");
            assert_eq!(values(&said, "x-team"), ["admin"], "{said}");
            assert_eq!(values(&said, "canary"), ["true"], "{said}");
            assert_eq!(values(&said, "trailer x-sum"), ["7"], "{said}");
            let moved = client.get("/moved").await;
            assert_eq!((moved.status, &moved.headers["location"]), (302, &"/new".parse().unwrap()));
            // A call is no exception either: it was not refused.
            let call = post("/moved").header("content-type", "application/grpc");
            let moved = client.send(call.body(full("")).unwrap()).await;
            assert_eq!((moved.status, moved.headers.contains_key("grpc-status")), (302, false));
        }
        if engine == Engine::Native {
            // Nor what `Connection` names.
            let named = "POST /in HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\
                         connection: close, x-sum\r\n\r\n0\r\nx-sum: 7\r\n\r\n";
            let said = proxy.raw(named).await;
            assert!(said.starts_with("HTTP/1.1 200") && !said.contains("x-sum"), "{said}");
            let said = proxy.raw(named.replace(", x-sum", "")).await;
            assert_eq!(values(&said, "trailer x-sum"), ["7"], "{said}");
        }
    }
}

/// The values of a field in what a backend has said of its request.
fn values<'a>(said: &'a str, name: &str) -> Vec<&'a str> {
    let lines = said.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(known, _)| *known == name).map(|(_, value)| value).collect()
}
