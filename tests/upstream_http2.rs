//! Backends that speak HTTP/2, and what becomes of requests when they do otherwise than they should.

#![allow(unreachable_pub)]

mod support;

use bytes::Bytes;
use crossfade::{
    control::Command,
    live::{Fault, Reason},
    spec::{PoolProtocol, Spec},
};
use futures_util::future::join_all;
use h2::Reason as Code;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::{Backend, Client, PATIENCE, Proxy, frames, full, get, pool, post, spec, text, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    sync::{Notify, watch},
    time::timeout,
};

async fn proxy(backend: &Backend, change: impl FnOnce(&mut Spec)) -> Proxy {
    let mut pool = pool("v1", 1, &[backend.spec_address()]);
    pool.protocol = PoolProtocol::H2;
    let mut spec = spec(&[("blue", pool)]);
    change(&mut spec);
    Proxy::start(spec).await
}

fn failures(proxy: &Proxy, fault: Fault, reason: Reason) -> u64 {
    proxy.live.pools()[0].stats.totals().failures[fault as usize][reason as usize]
}

/// A backend that gives back the bodies it gets.
async fn returning() -> Backend {
    Backend::http2(100, |request| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(body))
    })
    .await
}

fn ok() -> Response<()> {
    Response::new(())
}

#[tokio::test]
async fn fields_bodies_and_trailers_pass_both_ways() {
    let backend = Backend::http2(100, |request| async move {
        let (head, body) = request.into_parts();
        assert_eq!(head.version, Version::HTTP_2);
        assert_eq!(head.uri.authority().unwrap(), "shop.example.com");
        assert_eq!(head.uri.path_and_query().unwrap(), "/a?b");
        assert_eq!(head.headers["te"], "trailers");
        assert_eq!(head.headers["x-forwarded-for"], "127.0.0.1");
        assert_eq!(head.headers["x-forwarded-host"], "shop.example.com");
        assert!(!head.headers.contains_key("host"));
        let body = body.collect().await.unwrap();
        let sum = body.trailers().unwrap()["x-sum"].clone();
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), sum)]);
        let answer = vec![Frame::data(body.to_bytes()), Frame::trailers(trailers)];
        let mut response = Response::new(frames(answer));
        response.headers_mut().insert("x-kept", HeaderValue::from_static("1"));
        response
    })
    .await;
    let proxy = proxy(&backend, |_| {}).await;
    let mut client = proxy.h2().await;
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
    let body =
        vec![Frame::data("hello ".into()), Frame::data("world".into()), Frame::trailers(trailers)];
    let reply =
        client.send(post("/a?b").header("te", "trailers").body(frames(body)).unwrap()).await;
    assert_eq!((reply.status, reply.text()), (200, "hello world"));
    assert_eq!(reply.headers["x-kept"], "1");
    assert_eq!(reply.trailers.unwrap()["x-sum"], "7");
    until("nothing is in flight", || proxy.open() == 0).await;
}

#[tokio::test]
async fn large_bodies_pass_both_ways() {
    let backend = returning().await;
    let proxy = proxy(&backend, |_| {}).await;
    let body: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    let mut client = proxy.h2().await;
    let reply = client.send(post("/").body(full(body.clone())).unwrap()).await;
    assert!(reply.body == body);
    assert_eq!(reply.headers["content-length"], "3000000");
}

#[tokio::test]
async fn requests_share_a_connection_and_the_backend_says_how_many() {
    let (release, released) = watch::channel(false);
    let backend = Backend::http2(5, move |_| {
        let mut released = released.clone();
        async move {
            released.wait_for(|released| *released).await.unwrap();
            text("ok")
        }
    })
    .await;
    let proxy = proxy(&backend, |_| {}).await;
    let asked: Vec<_> = (0..20)
        .map(|_| async {
            let mut client = proxy.h2().await;
            client.get("/").await.status
        })
        .collect();
    let all = async {
        until("all have come", || backend.count() == 20).await;
        assert_eq!(backend.connections.load(Ordering::SeqCst), 4);
        release.send_replace(true);
    };
    let (statuses, ()) = tokio::join!(join_all(asked), all);
    assert_eq!(statuses, [200; 20]);
    let mut client = proxy.h2().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(backend.connections.load(Ordering::SeqCst), 4, "they are used again");
}

#[tokio::test]
async fn what_was_refused_is_sent_again_whatever_the_method() {
    let asked = Arc::new(AtomicUsize::new(0));
    let backend = {
        let asked = asked.clone();
        Backend::bare_http2(move |_, mut respond| {
            let asked = asked.clone();
            async move {
                if asked.fetch_add(1, Ordering::SeqCst) % 2 == 1 {
                    return respond.send_reset(Code::REFUSED_STREAM);
                }
                respond.send_response(ok(), true).unwrap();
            }
        })
        .await
    };
    let proxy = proxy(&backend, |_| {}).await;
    let mut client = proxy.h2().await;
    for _ in 0..10 {
        let reply = client.send(post("/").body(full("x")).unwrap()).await;
        assert_eq!(reply.status, 200);
    }
    assert!(asked.load(Ordering::SeqCst) >= 19);
}

#[tokio::test]
async fn what_a_goaway_leaves_out_is_sent_again_and_what_it_names_is_finished() {
    let (release, released) = watch::channel(false);
    let served = Arc::new(AtomicUsize::new(0));
    let backend = {
        let served = served.clone();
        Backend::raw(move |stream| {
            let (mut released, served) = (released.clone(), served.clone());
            async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let is_first = served.fetch_add(1, Ordering::SeqCst) == 0;
                    if !is_first {
                        respond.send_response(ok(), true).unwrap();
                        continue;
                    }
                    connection.graceful_shutdown();
                    let mut released = released.clone();
                    tokio::spawn(async move {
                        released.wait_for(|released| *released).await.unwrap();
                        respond.send_response(ok(), true).unwrap();
                    });
                }
                drop(released.wait_for(|released| *released).await);
            }
        })
        .await
    };
    let proxy = proxy(&backend, |_| {}).await;
    let first = async {
        let mut client = proxy.h2().await;
        client.send(post("/").body(full("x")).unwrap()).await.status
    };
    let others = async {
        until("the first is there", || served.load(Ordering::SeqCst) == 1).await;
        let mut client = proxy.h2().await;
        for _ in 0..5 {
            let reply = client.send(post("/").body(full("x")).unwrap()).await;
            assert_eq!(reply.status, 200);
        }
        release.send_replace(true);
    };
    let (status, ()) = tokio::join!(first, others);
    assert_eq!(status, 200);
    assert_eq!(served.load(Ordering::SeqCst), 6, "nothing is sent twice");
}

#[tokio::test]
async fn what_may_have_been_acted_on_is_sent_again_only_if_it_may_be() {
    let connections = Arc::new(AtomicUsize::new(0));
    let asked = Arc::new(AtomicUsize::new(0));
    let backend = {
        let (connections, asked) = (connections.clone(), asked.clone());
        Backend::raw(move |stream| {
            let number = connections.fetch_add(1, Ordering::SeqCst);
            let asked = asked.clone();
            async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut count = 0;
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    asked.fetch_add(1, Ordering::SeqCst);
                    count += 1;
                    if number % 2 == 0 && count == 2 {
                        // The connection breaks without a word.
                        return;
                    }
                    respond.send_response(ok(), true).unwrap();
                }
            }
        })
        .await
    };
    let proxy = proxy(&backend, |spec| spec.services["shop"].retries.attempts = 1).await;
    let mut client = proxy.h2().await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(client.get("/").await.status, 200, "replayed on a fresh connection");
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let reply = client.send(post("/").body(full("x")).unwrap()).await;
    assert_eq!(reply.status, 200);
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_response_that_breaks_off_is_seen_to() {
    let (release, released) = watch::channel(false);
    let backend = Backend::bare_http2(move |_, mut respond| {
        let mut released = released.clone();
        async move {
            let mut body = respond.send_response(ok(), false).unwrap();
            body.send_data("half".into(), false).unwrap();
            released.wait_for(|released| *released).await.unwrap();
            body.send_reset(Code::INTERNAL_ERROR);
        }
    })
    .await;
    let proxy = proxy(&backend, |_| {}).await;
    let mut client = proxy.h2().await;
    let response = client.head(get("/").body(full("")).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    release.send_replace(true);
    assert!(response.into_body().collect().await.is_err());
    until("it is counted", || failures(&proxy, Fault::Upstream, Reason::UpstreamReset) == 1).await;
    until("nothing is in flight", || proxy.open() == 0).await;
}

#[tokio::test]
async fn a_reset_instead_of_a_response_is_a_502() {
    let backend =
        Backend::bare_http2(
            |_, mut respond| async move { respond.send_reset(Code::INTERNAL_ERROR) },
        )
        .await;
    let proxy = proxy(&backend, |_| {}).await;
    let reply = proxy.h2().await.get("/").await;
    assert_eq!(reply.status, 502);
    assert_eq!(reply.headers["x-crossfade-error"], "upstream_reset");
}

#[tokio::test]
async fn a_backend_that_speaks_something_else_is_a_502() {
    let backend = Backend::named("one").await;
    let proxy = proxy(&backend, |spec| {
        spec.services["shop"].timeouts.connect = Duration::from_millis(500);
    })
    .await;
    let reply = proxy.h2().await.get("/").await;
    assert_eq!(reply.status, 502);
    assert_eq!(reply.headers["x-crossfade-error"], "connect_failed");
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_back_and_no_other() {
    let (gone, mut is_gone) = watch::channel(0);
    let gone = Arc::new(gone);
    let asked = Arc::new(AtomicUsize::new(0));
    let came = asked.clone();
    let backend = Backend::bare_http2(move |request, mut respond| {
        let gone = gone.clone();
        came.fetch_add(1, Ordering::SeqCst);
        async move {
            if request.uri().path() == "/x" {
                respond.send_response(ok(), true).unwrap();
                return;
            }
            let code = std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
            assert_eq!(code, Code::CANCEL);
            gone.send_modify(|gone| *gone += 1);
        }
    })
    .await;
    let proxy = proxy(&backend, |_| {}).await;
    let mut leaving = proxy.h2().await;
    let stalled = tokio::spawn(async move { leaving.get("/stall").await });
    until("the backend has it", || asked.load(Ordering::SeqCst) == 1).await;
    stalled.abort();
    timeout(PATIENCE, is_gone.wait_for(|gone| *gone == 1)).await.unwrap().unwrap();
    until("nothing is in flight", || proxy.open() == 0).await;
    assert_eq!(proxy.h2().await.get("/x").await.status, 200);
    assert_eq!(
        backend.connections.load(Ordering::SeqCst),
        1,
        "the connection is as good as before"
    );
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time_and_with_its_backend() {
    let ended = Arc::new(AtomicUsize::new(0));
    let backend = {
        let ended = ended.clone();
        Backend::raw(move |stream| {
            let ended = ended.clone();
            async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    respond.send_response(ok(), true).unwrap();
                }
                ended.fetch_add(1, Ordering::SeqCst);
            }
        })
        .await
    };
    let proxy = proxy(&backend, |spec| {
        spec.services["shop"].timeouts.upstream_idle = Duration::from_millis(100);
    })
    .await;
    assert_eq!(proxy.h2().await.get("/").await.status, 200);
    until("it has idled", || ended.load(Ordering::SeqCst) == 1).await;
    assert_eq!(proxy.h2().await.get("/").await.status, 200);
    let other = Backend::named("other").await;
    let mut next = spec(&[("blue", pool("v1", 1, &[other.spec_address()]))]);
    next.services["shop"].timeouts.upstream_idle = Duration::from_secs(3600);
    proxy.apply(Command::Replace { spec: Box::new(next) }).await.unwrap();
    until("its backend has left", || ended.load(Ordering::SeqCst) == 2).await;
}

/// What a backend says that RFC 9113 does not let it say.
#[tokio::test]
async fn malformed_responses_are_a_502_and_reach_nobody() {
    let heads: [fn(&mut HeaderMap); 4] = [
        |fields| drop(fields.insert("connection", HeaderValue::from_static("close"))),
        |fields| drop(fields.insert("transfer-encoding", HeaderValue::from_static("chunked"))),
        |fields| drop(fields.insert("content-length", HeaderValue::from_static("x"))),
        |fields| drop(fields.insert("content-length", HeaderValue::from_static("5"))),
    ];
    for (number, head) in heads.into_iter().enumerate() {
        let backend = raw_head(head).await;
        let proxy = proxy(&backend, |spec| spec.services["shop"].retries.attempts = 1).await;
        let reply = proxy.h2().await.get("/").await;
        assert_eq!(reply.status, 502, "{number}");
        assert_eq!(reply.headers["x-crossfade-error"], "bad_response", "{number}");
        until("nothing is in flight", || proxy.open() == 0).await;
    }
}

/// Answers with frames of its own making: the library would not write such a head.
async fn raw_head(change: fn(&mut HeaderMap)) -> Backend {
    Backend::raw(move |mut stream| async move {
        let mut fields = HeaderMap::new();
        change(&mut fields);
        let mut block = vec![0x88];
        for (name, value) in &fields {
            block.extend([0, name.as_str().len() as u8]);
            block.extend(name.as_str().bytes());
            block.push(value.len() as u8);
            block.extend(value.as_bytes());
        }
        let mut frame = vec![0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1];
        frame.extend(block);
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut seen = Vec::new();
        // Until the request is there: a HEADERS frame that ends stream and block.
        while !seen.windows(6).any(|it| it == [1, 5, 0, 0, 0, 1]) {
            if stream.read_buf(&mut seen).await.unwrap() == 0 {
                return;
            }
        }
        stream.write_all(&frame).await.unwrap();
        drop(stream.read_to_end(&mut seen).await);
    })
    .await
}

#[tokio::test]
async fn interim_responses_pass_and_are_bounded() {
    let backend = Backend::bare_http2(|request, mut respond| async move {
        let count = if request.uri().path() == "/few" { 3 } else { 30 };
        for _ in 0..count {
            let mut hint = Response::new(());
            *hint.status_mut() = StatusCode::EARLY_HINTS;
            if respond.send_informational(hint).is_err() {
                return;
            }
        }
        drop(respond.send_response(ok(), true));
    })
    .await;
    let proxy = proxy(&backend, |spec| spec.services["shop"].retries.attempts = 1).await;
    let stream = proxy.connect().await;
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request =
        |path: &str| http::Request::get(format!("http://shop.example.com{path}")).body(()).unwrap();
    let (mut response, _) = sender.send_request(request("/few"), true).unwrap();
    for _ in 0..3 {
        let hint = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        assert_eq!(hint.unwrap().unwrap().status(), 103);
    }
    assert_eq!(response.await.unwrap().status(), 200);
    let (response, _) = sender.send_request(request("/many"), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["x-crossfade-error"], "bad_response");
}

#[tokio::test]
async fn a_connection_of_which_nothing_is_heard_is_not_used_again() {
    let connections = Arc::new(AtomicUsize::new(0));
    let backend = {
        let connections = connections.clone();
        Backend::raw(move |stream| {
            let number = connections.fetch_add(1, Ordering::SeqCst);
            async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut count = 0;
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    count += 1;
                    if number == 0 && count == 2 {
                        // Open, and dead.
                        pending::<()>().await;
                    }
                    respond.send_response(ok(), true).unwrap();
                }
            }
        })
        .await
    };
    let proxy = proxy(&backend, |spec| {
        spec.services["shop"].timeouts.response = Duration::from_secs(1);
        spec.services["shop"].retries.attempts = 1;
    })
    .await;
    let mut client: Client = proxy.h2().await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(client.get("/").await.status, 504);
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

/// A backend whose first connection is good for one request, and then open, and dead.
async fn dying(connections: &Arc<AtomicUsize>) -> Backend {
    let connections = connections.clone();
    Backend::raw(move |stream| {
        let is_first = connections.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let mut count = 0;
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                count += 1;
                if is_first && count == 2 {
                    pending::<()>().await;
                }
                drop(respond.send_response(ok(), true));
            }
        }
    })
    .await
}

async fn impatient(backend: &Backend) -> Proxy {
    proxy(backend, |spec| {
        let timeouts = &mut spec.services["shop"].timeouts;
        timeouts.response = Duration::from_secs(3600);
        timeouts.ping = Duration::from_millis(500);
    })
    .await
}

/// A dead connection is noticed, which takes as long as a silence and a wait for an answer.
async fn notices(method: &str, status: u16) {
    let connections = Arc::default();
    let backend = dying(&connections).await;
    let proxy = impatient(&backend).await;
    let mut client: Client = proxy.h2().await;
    assert_eq!(client.get("/").await.status, 200);
    let request = http::Request::builder().method(method).uri("/").body(full("")).unwrap();
    let reply = timeout(PATIENCE, client.send(request)).await.expect("it is noticed");
    assert_eq!(reply.status, status, "{method}");
    if status == 502 {
        assert_eq!(reply.headers["x-crossfade-error"], "upstream_reset");
        assert_eq!(failures(&proxy, Fault::Upstream, Reason::UpstreamReset), 1);
    }
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_dead_connection_is_noticed_long_before_the_response_is_late() {
    notices("GET", 200).await;
    notices("POST", 502).await;
}

#[tokio::test]
async fn a_backend_that_is_asked_and_answers_may_take_its_time() {
    const PING: [u8; 9] = [0, 0, 8, 6, 0, 0, 0, 0, 0];
    let (answered, goes_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signs = (answered.clone(), goes_on.clone());
    let backend = Backend::raw(move |mut stream| {
        let (answered, goes_on) = signs.clone();
        async move {
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            let mut heard = Vec::new();
            let asked = loop {
                assert!(stream.read_buf(&mut heard).await.unwrap() > 0, "it is not given up");
                let at = heard.windows(PING.len()).position(|bytes| bytes == PING);
                if let Some(asked) = at.and_then(|at| heard.get(at + 9..at + 17)) {
                    break asked.to_vec();
                }
            };
            stream.write_all(&[&[0, 0, 8, 6, 1, 0, 0, 0, 0], &asked[..]].concat()).await.unwrap();
            answered.notify_one();
            goes_on.notified().await;
            // It is not asked without end: gRPC's servers do not like that.
            stream.write_all(&[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88]).await.unwrap();
            while stream.read_buf(&mut heard).await.is_ok_and(|read| read > 0) {}
            assert_eq!(heard.windows(PING.len()).filter(|bytes| *bytes == PING).count(), 1);
        }
    })
    .await;
    let proxy = impatient(&backend).await;
    let mut client: Client = proxy.h2().await;
    let asking = tokio::spawn(async move { client.get("/").await.status });
    answered.notified().await;
    // In the meantime it would have been given up.
    notices("GET", 200).await;
    goes_on.notify_one();
    assert_eq!(asking.await.unwrap(), 200);
}

/// Sends back method, path and body, and the sum that came in the trailers.
async fn echo() -> Backend {
    Backend::http2(100, |request| async move {
        let (head, body) = request.into_parts();
        assert_eq!(head.uri.authority().unwrap(), "a");
        for gone in ["connection", "transfer-encoding", "upgrade", "keep-alive", "host"] {
            assert!(!head.headers.contains_key(gone), "{gone}");
        }
        let Ok(body) = body.collect().await else { return text("cut") };
        let sum = body.trailers().and_then(|trailers| trailers.get("x-sum").cloned());
        let told = format!("{} {} ", head.method, head.uri.path());
        let data = Bytes::from([told.as_bytes(), &body.to_bytes()].concat());
        match sum {
            Some(sum) => {
                let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), sum)]);
                Response::new(frames(vec![Frame::data(data), Frame::trailers(trailers)]))
            }
            None => Response::new(full(data)),
        }
    })
    .await
}

#[tokio::test]
async fn clients_of_http1_reach_it_as_well() {
    let backend = echo().await;
    let proxy = proxy(&backend, |_| {}).await;
    let requests = "GET /1 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\
        POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
        POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\
        Connection: te\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 7\r\nHost: b\r\n\r\n\
        HEAD /4 HTTP/1.1\r\nHost: a\r\n\r\n\
        GET /5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let replies = proxy.raw(requests).await;
    let bodies: Vec<&str> = replies.split("HTTP/1.1 200 OK\r\n").skip(1).collect();
    assert_eq!(bodies.len(), 5, "{replies}");
    assert!(bodies[0].contains("content-length: 7\r\n") && bodies[0].ends_with("\r\n\r\nGET /1 "));
    assert!(bodies[1].ends_with("\r\n\r\nPOST /2 hello"));
    assert!(bodies[2].contains("transfer-encoding: chunked\r\n"), "{replies}");
    assert!(bodies[2].ends_with("e\r\nPOST /3 hello!\r\n0\r\nx-sum: 7\r\n\r\n"), "{replies}");
    assert!(bodies[3].contains("content-length: 8\r\n") && bodies[3].ends_with("\r\n\r\n"));
    assert!(bodies[4].contains("connection: close\r\n") && bodies[4].ends_with("GET /5 "));
    let totals = proxy.live.pools()[0].stats.totals();
    let ok = crossfade::live::code_index(200);
    assert_eq!(totals.requests.iter().map(|method| method[ok]).sum::<u64>(), 5);
    until("nothing is in flight", || proxy.open() == 0).await;
}

#[tokio::test]
async fn large_bodies_of_http1_pass_both_ways() {
    let backend = returning().await;
    let proxy = proxy(&backend, |_| {}).await;
    let body: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    let mut client = proxy.h1().await;
    for _ in 0..2 {
        let reply = client.send(post("/").body(full(body.clone())).unwrap()).await;
        assert!(reply.body == body);
        let pieces = body.chunks(100_000).map(|piece| Frame::data(piece.to_vec().into())).collect();
        let reply = client.send(post("/").body(frames(pieces)).unwrap()).await;
        assert!(reply.body == body);
    }
}

#[tokio::test]
async fn what_is_malformed_in_a_body_of_http1_is_cut_at_the_backend() {
    let (cut, mut is_cut) = watch::channel(false);
    let cut = Arc::new(cut);
    let backend = Backend::http2(100, move |request| {
        let cut = cut.clone();
        async move {
            if request.into_body().collect().await.is_err() {
                cut.send_replace(true);
            }
            text("ok")
        }
    })
    .await;
    let proxy = proxy(&backend, |_| {}).await;
    let reply = proxy
        .raw("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n")
        .await;
    assert!(reply.starts_with("HTTP/1.1 400 "), "{reply}");
    assert!(
        reply.contains("x-crossfade-error: bad_request\r\n") && reply.contains("connection: close")
    );
    timeout(PATIENCE, is_cut.wait_for(|cut| *cut)).await.unwrap().unwrap();
    until("nothing is in flight", || proxy.open() == 0).await;
}

#[tokio::test]
async fn interim_responses_reach_clients_of_http1() {
    let backend = Backend::bare_http2(|mut request, mut respond| async move {
        let mut go_on = Response::new(());
        *go_on.status_mut() = StatusCode::CONTINUE;
        respond.send_informational(go_on).unwrap();
        let body = request.body_mut().data().await.unwrap().unwrap();
        let mut stream = respond.send_response(ok(), false).unwrap();
        stream.send_data(body, true).unwrap();
    })
    .await;
    let proxy = proxy(&backend, |_| {}).await;
    let mut stream = proxy.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\
        Connection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
    }
    assert!(seen.starts_with(b"HTTP/1.1 100 Continue\r\n"));
    stream.write_all(b"hello").await.unwrap();
    let mut reply = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut reply)).await.unwrap().unwrap();
    let reply = String::from_utf8(reply).unwrap();
    assert!(
        reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.ends_with("hello\r\n0\r\n\r\n"),
        "{reply}"
    );
}

#[tokio::test]
async fn a_client_of_http1_that_does_not_read_gives_a_silent_backend_no_more_time() {
    let (gone, mut is_gone) = watch::channel(false);
    let gone = Arc::new(gone);
    let backend = Backend::bare_http2(move |_, mut respond| {
        let gone = gone.clone();
        async move {
            for _ in 0..16 {
                let mut hint = Response::new(());
                *hint.status_mut() = StatusCode::EARLY_HINTS;
                let link = HeaderValue::try_from("x".repeat(15 << 10)).unwrap();
                hint.headers_mut().insert("link", link);
                respond.send_informational(hint).unwrap();
            }
            std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
            gone.send_replace(true);
        }
    })
    .await;
    let proxy = proxy(&backend, |spec| {
        spec.services["shop"].timeouts.response = Duration::from_millis(300);
    })
    .await;
    let socket = TcpSocket::new_v4().unwrap();
    // More is on its way to it than it takes, and small segments keep the proxy's buffer small too.
    socket.set_recv_buffer_size(4096).unwrap();
    socket2::SockRef::from(&socket).set_tcp_mss(536).unwrap();
    let mut stream = socket.connect(proxy.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    timeout(PATIENCE, is_gone.wait_for(|gone| *gone)).await.unwrap().unwrap();
    until("nothing is in flight", || proxy.open() == 0).await;
    assert_eq!(failures(&proxy, Fault::Upstream, Reason::ResponseTimeout), 1);
    let mut reply = String::new();
    while !reply.contains("response_timeout") {
        let mut piece = [0; 4096];
        let read = timeout(PATIENCE, stream.read(&mut piece)).await.unwrap().unwrap();
        assert!(read > 0, "{reply}");
        reply.push_str(std::str::from_utf8(&piece[..read]).unwrap());
    }
}

#[tokio::test]
async fn a_client_of_http1_that_leaves_takes_its_request_back() {
    let (gone, mut is_gone) = watch::channel(0);
    let gone = Arc::new(gone);
    let asked = Arc::new(AtomicUsize::new(0));
    let came = asked.clone();
    let backend = Backend::bare_http2(move |_, mut respond| {
        let gone = gone.clone();
        came.fetch_add(1, Ordering::SeqCst);
        async move {
            let code = std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
            assert_eq!(code, Code::CANCEL);
            gone.send_modify(|gone| *gone += 1);
        }
    })
    .await;
    let proxy = proxy(&backend, |_| {}).await;
    let mut stream = proxy.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until("the backend has it", || asked.load(Ordering::SeqCst) == 1).await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    timeout(PATIENCE, is_gone.wait_for(|gone| *gone == 1)).await.unwrap().unwrap();
    until("nothing is in flight", || proxy.open() == 0).await;
}

#[tokio::test]
async fn a_response_that_breaks_off_is_seen_to_by_clients_of_http1() {
    let (release, released) = watch::channel(0);
    let asked = Arc::new(AtomicUsize::new(0));
    let backend = Backend::bare_http2(move |_, mut respond| {
        let mut released = released.clone();
        let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            let mut body = respond.send_response(ok(), false).unwrap();
            body.send_data("half".into(), false).unwrap();
            released.wait_for(|released| *released >= number).await.unwrap();
            body.send_reset(Code::INTERNAL_ERROR);
        }
    })
    .await;
    let proxy = proxy(&backend, |_| {}).await;
    let mut client = proxy.h1().await;
    let response = client.head(get("/").body(full("")).unwrap()).await.unwrap();
    release.send_replace(1);
    assert!(response.into_body().collect().await.is_err());
    let mut old = proxy.connect().await;
    old.write_all(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
    let mut reply = Vec::new();
    while !reply.ends_with(b"half") {
        assert!(old.read_buf(&mut reply).await.unwrap() > 0);
    }
    release.send_replace(2);
    let ended = timeout(PATIENCE, old.read_to_end(&mut reply)).await.unwrap();
    assert!(ended.is_err(), "the end of the connection would be the end of the message");
    until("it is counted", || failures(&proxy, Fault::Upstream, Reason::UpstreamReset) == 2).await;
}

#[tokio::test]
async fn refusals_of_http1_say_why() {
    let backend = Backend::named("one").await;
    let proxy = proxy(&backend, |spec| {
        spec.services["shop"].timeouts.connect = Duration::from_millis(300);
    })
    .await;
    let reply = proxy.h1().await.get("/").await;
    assert_eq!(reply.status, 502);
    assert_eq!(reply.headers["x-crossfade-error"], "connect_failed");
}
