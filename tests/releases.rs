//! Splits, pins, cutovers and drains on real sockets.

mod support;

use bytes::Bytes;
use crossfade::{
    control::{ChangeError, Command, Ledger},
    live::Tally,
    spec::{FieldMatch, Match, Pin, Sticky, StickyKey, UnhealthyPool, ValueMatch},
};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, mpsc},
};

async fn two(blue: u64, green: u64) -> (Backend, Backend, crossfade::spec::Spec) {
    let (b, g) = (Backend::named("blue").await, Backend::named("green").await);
    let spec = spec(&[
        ("blue", pool("v1", blue, &[b.spec_address()])),
        ("green", pool("v2", green, &[g.spec_address()])),
    ]);
    (b, g, spec)
}

fn canary_pin() -> Pin {
    let canary = FieldMatch { name: "canary".into(), value: ValueMatch::Exact("true".into()) };
    let matches = Match { headers: vec![canary], ..Match::default() };
    Pin { matches, from: Vec::new(), pool: "green".into() }
}

#[tokio::test]
async fn every_window_of_a_thousand_is_within_three_of_the_weights() {
    for (blue, green) in [(95, 5), (333, 667), (999, 1)] {
        let (_b, _g, spec) = two(blue, green).await;
        let proxy = Proxy::start(spec).await;
        let mut client = proxy.h1().await;
        let mut greens = Vec::new();
        for _ in 0..3000 {
            greens.push(usize::from(client.get("/").await.text() == "green"));
        }
        let expected = 1000.0 * green as f64 / (blue + green) as f64;
        for window in greens.windows(1000) {
            let seen = window.iter().sum::<usize>() as f64;
            assert!((seen - expected).abs() <= 3.0, "{blue}/{green}: {seen}");
        }
    }
}

#[tokio::test]
async fn a_pin_reaches_its_pool_at_weight_zero() {
    let (_b, _g, mut spec) = two(100, 0).await;
    spec.services["shop"].pins = vec![canary_pin()];
    let proxy = Proxy::start(spec).await;
    for mut client in [proxy.h1().await, proxy.h2().await] {
        for _ in 0..20 {
            assert_eq!(client.get("/").await.text(), "blue");
            let request = get("/").header("canary", "true").body(full("")).unwrap();
            assert_eq!(client.send(request).await.text(), "green");
        }
        let not_quite = get("/").header("canary", "false").body(full("")).unwrap();
        assert_eq!(client.send(not_quite).await.text(), "blue");
    }
}

fn sticky(issue: bool) -> Sticky {
    let key = StickyKey::Cookie("user".into());
    let max_age = issue.then_some(Duration::from_secs(60));
    Sticky { key, issue, max_age, salt: None }
}

#[tokio::test]
async fn a_user_stays_and_a_raised_weight_only_adds() {
    let (_b, _g, mut spec) = two(90, 10).await;
    spec.services["shop"].sticky = Some(sticky(false));
    let (here, there) = (Proxy::start(spec.clone()).await, Proxy::start(spec).await);
    let (mut here_client, mut there_client) = (here.h1().await, there.h2().await);
    let mut greens = Vec::new();
    for user in 0..300 {
        let request =
            || get("/").header("cookie", format!("a=b; user=u{user}")).body(full("")).unwrap();
        let first = here_client.send(request()).await;
        assert_eq!(here_client.send(request()).await.text(), first.text());
        assert_eq!(there_client.send(request()).await.text(), first.text(), "all proxies agree");
        if first.text() == "green" {
            greens.push(user);
        }
    }
    assert!((5..70).contains(&greens.len()), "{}", greens.len());
    here.weights(&[("blue", 50), ("green", 50)]).await;
    let mut now = 0;
    for user in 0..300 {
        let request = get("/").header("cookie", format!("user=u{user}")).body(full("")).unwrap();
        let is_green = here_client.send(request).await.text() == "green";
        assert!(is_green || !greens.contains(&user), "user {user} was taken away");
        now += usize::from(is_green);
    }
    assert!((110..190).contains(&now), "{now}");
}

#[tokio::test]
async fn an_issued_cookie_leads_where_the_first_answer_came_from() {
    let (_b, _g, mut spec) = two(50, 50).await;
    spec.services["shop"].sticky = Some(sticky(true));
    let proxy = Proxy::start(spec).await;
    let mut client = proxy.h1().await;
    let mut seen = HashMap::new();
    for _ in 0..40 {
        let first = client.get("/").await;
        let cookie = first.headers["set-cookie"].to_str().unwrap().to_owned();
        for attribute in ["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Max-Age=60"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        assert!(!cookie.contains("Secure"), "over http a browser would drop it: {cookie}");
        let pair = cookie.split(';').next().unwrap();
        let again = client.send(get("/").header("cookie", pair).body(full("")).unwrap()).await;
        assert_eq!(again.text(), first.text());
        assert!(!again.headers.contains_key("set-cookie"));
        *seen.entry(first.text().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}

/// What one client saw: when each request was begun, and who answered.
type Seen = Arc<Mutex<Vec<(Instant, String)>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_cutovers_under_load_lose_nothing_and_none_comes_late() {
    let posts: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let mut backends = Vec::new();
    for name in ["blue", "green"] {
        let posts = posts.clone();
        backends.push(
            Backend::start(move |request| {
                let posts = posts.clone();
                async move {
                    if let Some(id) = request.headers().get("x-id") {
                        *posts.lock().unwrap().entry(id.to_str().unwrap().into()).or_insert(0) += 1;
                    }
                    let _ = request.into_body().collect().await;
                    text(name)
                }
            })
            .await,
        );
    }
    let mut spec = spec(&[
        ("blue", pool("v1", 100, &[backends[0].spec_address()])),
        ("green", pool("v2", 0, &[backends[1].spec_address()])),
    ]);
    spec.threads = std::num::NonZeroUsize::new(2);
    let proxy = Proxy::start(spec).await;
    // From `Instant` on, everything that begins is answered by the named one.
    let mut answered = vec![(Instant::now(), "blue")];
    let stop = Arc::new(AtomicBool::new(false));
    let (sent, seen): (Arc<AtomicUsize>, Seen) = Default::default();
    let mut clients = Vec::new();
    for number in 0..8 {
        let mut client = if number % 2 == 0 { proxy.h1().await } else { proxy.h2().await };
        let (stop, seen, sent) = (stop.clone(), seen.clone(), sent.clone());
        clients.push(tokio::spawn(async move {
            for round in 0.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let id = sent.fetch_add(1, Ordering::SeqCst).to_string();
                let request = match round % 3 {
                    0 => post("/").header("x-id", id).body(full("body")).unwrap(),
                    _ => get("/").body(full("")).unwrap(),
                };
                let began = Instant::now();
                let reply = client.send(request).await;
                assert_eq!(reply.status, 200, "{reply:?}");
                seen.lock().unwrap().push((began, reply.text().to_owned()));
            }
        }));
    }
    for round in 0..100 {
        let to = ["green", "blue"][round % 2];
        let before = seen.lock().unwrap().len();
        proxy.cutover(to).await;
        answered.push((Instant::now(), to));
        until("clients go on", || seen.lock().unwrap().len() > before + 20).await;
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let seen = seen.lock().unwrap();
    for (began, by) in seen.iter() {
        let after = answered.partition_point(|(at, _)| at <= began);
        // A request that overlaps the next cutover may be answered by either.
        let in_force = answered[after - 1].1;
        let next = answered.get(after).map_or(in_force, |(_, to)| to);
        assert!(by == in_force || by == next, "a late arrival");
    }
    assert!(posts.lock().unwrap().values().all(|times| *times == 1), "a POST was seen twice");
    assert!(seen.len() > 2000, "{}", seen.len());
}

/// Streams what is sent to the channel.
async fn streaming() -> (Backend, mpsc::UnboundedSender<&'static str>) {
    let (sender, receiver) = mpsc::unbounded_channel::<&'static str>();
    let receiver = Arc::new(tokio::sync::Mutex::new(Some(receiver)));
    let backend = Backend::start(move |request| {
        let receiver = receiver.clone();
        async move {
            if request.method() == http::Method::POST {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                return text(body);
            }
            let Some(receiver) = receiver.lock().await.take() else { return text("again") };
            let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
                let data = receiver.recv().await?;
                Some((Ok(Frame::data(Bytes::from(data))), receiver))
            });
            http::Response::new(StreamBody::new(frames).boxed_unsync_compat())
        }
    })
    .await;
    (backend, sender)
}

/// `BodyExt::boxed` asks for `Sync`, which a channel's stream is not.
trait BoxedCompat {
    fn boxed_unsync_compat(self) -> Body;
}

impl<S> BoxedCompat for StreamBody<S>
where
    S: futures_util::Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> + Send + 'static,
{
    fn boxed_unsync_compat(self) -> Body {
        let stream = Arc::new(Mutex::new(Box::pin(self)));
        let frames = futures_util::stream::poll_fn(move |cx| {
            use http_body::Body as _;
            stream.lock().unwrap().as_mut().poll_frame(cx)
        });
        StreamBody::new(frames).boxed()
    }
}

#[tokio::test]
async fn a_backend_that_leaves_finishes_its_download_and_its_upload() {
    let (old, feed) = streaming().await;
    let new = Backend::named("new").await;
    let proxy = Proxy::start(spec(&[("blue", pool("v1", 1, &[old.spec_address()]))])).await;
    let (mut downloader, mut uploader) = (proxy.h1().await, proxy.connect().await);
    let mut download = downloader.head(get("/").body(full("")).unwrap()).await.unwrap();
    uploader
        .write_all(
            b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 10\r\n\r\nhello",
        )
        .await
        .unwrap();
    until("both are in flight", || proxy.open() == 2).await;

    let shop = || "shop".into();
    let put = Command::PutBackend {
        service: shop(),
        pool: "blue".into(),
        address: new.spec_address(),
        backend: Default::default(),
    };
    assert!(proxy.apply(put).await.unwrap().created);
    let delete = Command::DeleteBackend {
        service: shop(),
        pool: "blue".into(),
        address: old.spec_address(),
    };
    let receipt = proxy.apply(delete).await.unwrap();
    assert_eq!(receipt.drains.len(), 1);
    assert_eq!(receipt.open(), 2);
    let in_flight = receipt.in_flight[0].in_flight;
    assert_eq!((in_flight.request, in_flight.stream), (1, 1), "counted by kind");
    let mut client = proxy.h1().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "new");
    }
    assert_eq!(proxy.handle.view().drains.len(), 1);

    feed.send("first").unwrap();
    uploader.write_all(b"world").await.unwrap();
    let mut reply = String::new();
    uploader.read_to_string(&mut reply).await.unwrap();
    assert!(reply.ends_with("helloworld"), "{reply}");
    feed.send("last").unwrap();
    drop(feed);
    let body = download.body_mut().collect().await.unwrap().to_bytes();
    assert_eq!(body, "firstlast");
    until("the drain is over", || proxy.handle.view().drains.is_empty()).await;
    assert_eq!(receipt.open(), 0);
    assert_eq!(receipt.leaving[0].cut_count(), 0);
}

#[tokio::test]
async fn what_outlasts_the_drain_is_cut_and_counted() {
    let (old, _feed) = streaming().await;
    let new = Backend::named("new").await;
    let mut spec = spec(&[("blue", pool("v1", 1, &[old.spec_address(), new.spec_address()]))]);
    spec.services["shop"].timeouts.drain = Duration::from_millis(100);
    spec.services["shop"].balance = crossfade::spec::Balance::RoundRobin;
    let proxy = Proxy::start(spec).await;
    let mut downloader = proxy.h1().await;
    // Round robin: one of the first two requests lands on the old one, whose answer does not end.
    let mut download = downloader.head(get("/").body(full("")).unwrap()).await.unwrap();
    if old.count() == 0 {
        download.body_mut().collect().await.unwrap();
        download = downloader.head(get("/").body(full("")).unwrap()).await.unwrap();
    }
    assert_eq!(old.count(), 1);
    let delete = Command::DeleteBackend {
        service: "shop".into(),
        pool: "blue".into(),
        address: old.spec_address(),
    };
    let receipt = proxy.apply(delete).await.unwrap();
    let before = receipt.in_flight[0].ledger();
    assert_eq!((receipt.in_flight[0].in_flight.stream, before.open), (1, 1));
    assert!(download.body_mut().collect().await.is_err(), "cut, and seen to be cut");
    until("the drain is over", || proxy.handle.view().drains.is_empty()).await;
    assert_eq!((receipt.open(), receipt.leaving[0].cut_count()), (0, 1));
    let Ledger { since, open } = receipt.in_flight[0].ledger();
    assert_eq!((since, open), (Tally { cut: 1, ..Tally::default() }, 0));
}

#[tokio::test]
async fn idle_connections_to_a_backend_that_leaves_are_closed_at_once() {
    let closed = Arc::new(Notify::new());
    let notify = closed.clone();
    let old = Backend::raw(move |mut stream| {
        let notify = notify.clone();
        async move {
            let mut request = [0; 1024];
            while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
            notify.notify_one();
        }
    })
    .await;
    let mut spec = spec(&[("blue", pool("v1", 1, &[old.spec_address()]))]);
    spec.services["shop"].timeouts.upstream_idle = Duration::from_secs(3600);
    let proxy = Proxy::start(spec).await;
    assert_eq!(proxy.h1().await.get("/").await.text(), "ok");
    let drain =
        Command::Drain { service: "shop".into(), pool: Some("blue".into()), backends: vec![] };
    proxy.apply(drain).await.unwrap();
    tokio::time::timeout(PATIENCE, closed.notified()).await.expect("closed");
    let reply = proxy.h1().await.get("/").await;
    assert_eq!((reply.status, &reply.headers["retry-after"]), (503, &"1".parse().unwrap()));
    let undrain =
        Command::Undrain { service: "shop".into(), pool: Some("blue".into()), backends: vec![] };
    proxy.apply(undrain).await.unwrap();
    assert_eq!(proxy.h1().await.get("/").await.text(), "ok");
}

#[tokio::test]
async fn a_cutover_to_a_dead_pool_is_refused_unless_forced() {
    let blue = Backend::named("blue").await;
    let mut spec = spec(&[
        ("blue", pool("v1", 100, &[blue.spec_address()])),
        ("green", pool("v2", 0, &[dead_address()])),
    ]);
    spec.services["shop"].health_check = Some(health_check());
    let proxy = Proxy::start(spec).await;
    proxy.ready().await;
    let cutover = || Command::Cutover { service: "shop".into(), to: "green".into() };
    let refused = proxy.apply(cutover()).await.err().expect("refused");
    assert!(matches!(refused, ChangeError::Conflict(_)), "{refused}");
    assert_eq!(proxy.h1().await.get("/").await.text(), "blue");
    let mut forced = change(cutover());
    forced.force = true;
    proxy.handle.apply(forced).await.unwrap();
}

#[tokio::test]
async fn the_share_of_a_dead_pool_goes_to_the_others_or_is_refused() {
    for fail in [false, true] {
        let (_blue, green, mut spec) = two(50, 50).await;
        let service = &mut spec.services["shop"];
        service.health_check = Some(health_check());
        if fail {
            service.unhealthy_pool = UnhealthyPool::Fail;
        }
        let proxy = Proxy::start(spec).await;
        proxy.ready().await;
        let pools = proxy.live.pools();
        green.kill();
        let dead = pools.iter().find(|pool| &*pool.name == "green").unwrap().backends();
        until("green is unhealthy", || !dead[0].health.is_available()).await;
        let mut client = proxy.h1().await;
        let mut codes = HashMap::new();
        for _ in 0..100 {
            *codes.entry(client.get("/").await.status).or_insert(0) += 1;
        }
        let refused = codes.get(&503).copied().unwrap_or(0);
        if fail {
            assert!((48..=52).contains(&refused), "{codes:?}");
        } else {
            assert_eq!(codes, HashMap::from([(200, 100)]));
        }
    }
}

#[tokio::test]
async fn a_backend_that_cannot_be_connected_to_is_left_out_until_it_can() {
    let alive = Backend::named("alive").await;
    let dead = dead_address();
    let proxy =
        Proxy::start(spec(&[("blue", pool("v1", 1, &[dead.clone(), alive.spec_address()]))])).await;
    let mut client = proxy.h1().await;
    let backends = proxy.live.pools()[0].backends();
    let ejected = backends.iter().find(|backend| backend.address == dead).unwrap();
    for _ in 0..60 {
        assert_eq!(client.get("/").await.status, 200, "a connect error is retried elsewhere");
    }
    assert!(!ejected.health.is_available());
    // It comes back by itself when something listens there.
    let listener = tokio::net::TcpListener::bind(dead.to_string()).await.unwrap();
    until("it is readmitted", || ejected.health.is_available()).await;
    drop(listener);
}

#[tokio::test]
async fn a_connection_that_the_backend_closed_costs_no_request_and_no_post_is_sent_twice() {
    let posts: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let seen = posts.clone();
    // Answers once on each connection, says nothing of closing, and closes.
    let backend = Backend::raw(move |mut stream| {
        let seen = seen.clone();
        async move {
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&request[..read]).into_owned();
            if let Some(id) = head.lines().find_map(|line| line.strip_prefix("x-id: ")) {
                *seen.lock().unwrap().entry(id.into()).or_insert(0) += 1;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let proxy = Proxy::start(spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))])).await;
    let mut client = proxy.h1().await;
    for id in 0..300 {
        let request = match id % 2 {
            0 => get("/").body(full("")).unwrap(),
            _ => post("/").header("x-id", format!("{id}")).body(full("x")).unwrap(),
        };
        let reply = client.send(request).await;
        // Between the look at an idle connection and the write a POST may still meet its end; that is told.
        assert!(reply.status == 200 || (id % 2 == 1 && reply.status == 502), "{id}: {reply:?}");
    }
    assert!(posts.lock().unwrap().values().all(|times| *times == 1), "a POST was sent twice");
}

#[tokio::test]
async fn draining_the_proxy_finishes_what_is_in_flight_and_says_close() {
    let (backend, feed) = streaming().await;
    let proxy = Proxy::start(spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))])).await;
    let address = proxy.address;
    let mut clients = [proxy.h1().await, proxy.h2().await];
    let mut download = clients[0].head(get("/").body(full("")).unwrap()).await.unwrap();
    assert_eq!(clients[1].get("/").await.text(), "again");
    let mut idle = proxy.h1().await;
    assert_eq!(idle.get("/").await.text(), "again");
    let draining = tokio::spawn(proxy.drain(PATIENCE));
    loop {
        // An idle connection is served once more, and told to go.
        match idle.try_send(get("/").body(full("")).unwrap()).await {
            Ok(reply) if reply.headers.get("connection").is_some_and(|c| c == "close") => break,
            Ok(reply) => assert_eq!(reply.text(), "again"),
            Err(error) => panic!("a request was lost: {error}"),
        }
    }
    feed.send("whole").unwrap();
    drop(feed);
    assert_eq!(download.body_mut().collect().await.unwrap().to_bytes(), "whole");
    assert!(draining.await.unwrap(), "nothing had to be cut");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_newcomer_that_comes_up_late_need_not_wait_for_the_interval() {
    let address = dead_address();
    let mut spec = spec(&[("blue", pool("v1", 1, std::slice::from_ref(&address)))]);
    let hour = Duration::from_secs(3600);
    spec.services["shop"].health_check =
        Some(crossfade::spec::HealthCheck { interval: hour, ..health_check() });
    let proxy = Proxy::start(spec).await;
    let backend = &proxy.live.pools()[0].backends()[0];
    assert_eq!(proxy.h1().await.get("/").await.status, 503);
    let listener = tokio::net::TcpListener::bind(address.to_string()).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    until("it is proven", || backend.health.is_available()).await;
    assert_eq!(proxy.h1().await.get("/").await.status, 200);
}
