//! Floods: frames that are cheap to send and dear to take, and peers that take nothing. Each must come to an end of
//! its own making, leave nothing in flight, and not keep another client from being served.

use super::{
    frame::*,
    hpack::Block,
    peer::Peer,
    support::{self, Backend, Proxy, full, pool, text, until},
};
use crossfade::{
    live::{Fault, Reason},
    spec::{BackendAddress, Spec},
};
use std::{future::pending, time::Duration};

/// A backend that answers at `/x`, never at `/stall`, and at length at `/large`.
async fn backend() -> Backend {
    Backend::start(|request| async move {
        match request.uri().path() {
            "/stall" => pending().await,
            "/large" => text(vec![7u8; 4 << 20]),
            _ => http::Response::new(full("ok")),
        }
    })
    .await
}

async fn proxy(backend: &Backend, change: impl FnOnce(&mut Spec)) -> Proxy {
    let address = BackendAddress::Socket(backend.address);
    let mut spec = support::spec(&[("blue", pool("v1", 1, &[address]))]);
    change(&mut spec);
    Proxy::start(spec).await
}

/// Sends `flood` until the proxy has had enough; what it then says.
async fn enough(proxy: &Proxy, flood: &[u8]) -> Option<u32> {
    let mut peer = Peer::connect(proxy.address).await;
    peer.until("the proxy speaks", |peer| peer.settings_acked > 0).await.unwrap();
    peer.send_all(flood).await;
    peer.until("the proxy has had enough", |peer| peer.goaway.is_some()).await.unwrap();
    peer.until("the end", |peer| peer.closed).await.unwrap();
    peer.goaway
}

async fn is_served(proxy: &Proxy) {
    let mut peer = Peer::connect(proxy.address).await;
    peer.send(ask(1, Block::get("/x"))).await;
    let answered = |peer: &Peer| peer.streams.get(&1).is_some_and(|stream| stream.ended);
    peer.until("a good client's answer", answered).await.unwrap();
    assert_eq!(peer.streams[&1].status, Some(200));
}

/// `count` times what `frames` says for the next stream.
fn many(count: u32, frames: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(|n| frames(2 * n + 1)).collect()
}

#[tokio::test]
async fn floods_of_frames_end_in_a_call_for_calm() {
    let backend = backend().await;
    let proxy = proxy(&backend, |_| {}).await;
    let opened = begin(1, Block::post("/stall"));
    let behind = |frames: Vec<u8>| [opened.clone(), frames].concat();
    let stalled = || ask(1, Block::get("/stall"));
    let floods = [
        ("pings", frame(PING, 0, 0, [0; 8]).repeat(20_000)),
        ("acknowledged pings", frame(PING, ACK, 0, [0; 8]).repeat(20_000)),
        ("empty SETTINGS", settings(&[]).repeat(5000)),
        ("SETTINGS", settings(&[(3, 10), (4, 70_000)]).repeat(5000)),
        ("settings in one frame", settings(&[(0x99, 1); 2700])),
        ("priorities", frame(PRIORITY, 0, 5, [0, 0, 0, 1, 1]).repeat(20_000)),
        ("unknown frames", frame(0xfa, 0, 0, b"x").repeat(20_000)),
        ("window updates", behind(window(1, 1).repeat(20_000))),
        ("empty DATA", behind(data(1, "").repeat(5000))),
        ("DATA of padding", behind(frame(DATA, PADDED, 1, [0; 1]).repeat(5000))),
        ("DATA in tiny pieces that nobody takes", behind(data(1, "x").repeat(60_000))),
        (
            "empty CONTINUATION",
            [frame(HEADERS, 0, 1, b""), frame(CONTINUATION, 0, 1, b"").repeat(5000)].concat(),
        ),
        ("tiny CONTINUATION", {
            let head = frame(HEADERS, 0, 1, Block::get("/x").0);
            let piece = Block::new().field("a", "b").0;
            [head, frame(CONTINUATION, 0, 1, piece).repeat(5000)].concat()
        }),
        (
            "rapid resets",
            many(5000, |stream| [ask(stream, Block::get("/stall")), reset(stream, 8)].concat()),
        ),
        (
            "rapid resets of bodies",
            many(5000, |stream| {
                [begin(stream, Block::post("/stall")), data(stream, "x"), reset(stream, 8)].concat()
            }),
        ),
        ("resets of one stream", [stalled(), reset(1, 8).repeat(5000)].concat()),
        (
            "windows that overflow",
            many(5000, |stream| {
                [ask(stream, Block::get("/stall")), window(stream, (1 << 31) - 1)].concat()
            }),
        ),
        (
            "lengths that lie",
            many(5000, |stream| {
                let head = Block::post("/stall").field("content-length", "1");
                [begin(stream, head), last_data(stream, "too much")].concat()
            }),
        ),
        (
            "fields of the connection",
            many(5000, |stream| ask(stream, Block::get("/stall").field("connection", "close"))),
        ),
        ("streams beyond the limit", many(5000, |stream| ask(stream, Block::get("/stall")))),
    ];
    for (what, flood) in floods {
        assert_eq!(enough(&proxy, &flood).await, Some(ENHANCE_YOUR_CALM), "{what}");
        until(what, || proxy.open() == 0).await;
        is_served(&proxy).await;
    }
}

/// Every reset request is counted as what it is, and its backend is let go.
#[tokio::test]
async fn what_is_reset_is_cancelled_and_counted() {
    let backend = backend().await;
    let proxy = proxy(&backend, |spec| spec.listeners[0].limits.http2_resets = 1000).await;
    let mut peer = Peer::connect(proxy.address).await;
    for n in 0..50 {
        peer.send(ask(2 * n + 1, Block::get("/stall"))).await;
    }
    until("all are in flight", || proxy.open() == 50).await;
    for n in 0..50 {
        peer.send(reset(2 * n + 1, 8)).await;
    }
    until("all are let go", || proxy.open() == 0).await;
    let totals = proxy.live.pools()[0].stats.totals();
    let code = crossfade::live::code_index(499);
    assert_eq!(totals.requests.iter().map(|method| method[code]).sum::<u64>(), 50);
}

/// A client that cancels some of what it asks, as browsers do, is no flood.
#[tokio::test]
async fn a_client_that_cancels_now_and_then_goes_on() {
    let backend = backend().await;
    let proxy = proxy(&backend, |_| {}).await;
    let mut peer = Peer::connect(proxy.address).await;
    for round in 0..200u32 {
        let first = 20 * round + 1;
        let streams = (0..10).map(|n| first + 2 * n);
        for stream in streams.clone() {
            let path = if stream % 4 == 1 { "/x" } else { "/stall" };
            peer.send([ask(stream, Block::get(path)), window(0, 10)].concat()).await;
        }
        for stream in streams.clone().filter(|stream| stream % 4 != 1) {
            peer.send(reset(stream, 8)).await;
        }
        for stream in streams.filter(|stream| stream % 4 == 1) {
            let answered =
                |peer: &Peer| peer.streams.get(&stream).is_some_and(|stream| stream.ended);
            peer.until("an answer", answered).await.unwrap();
        }
    }
    assert_eq!(peer.goaway, None);
}

/// Heads are kept while their requests wait; who has many large ones gets no more of them, and others do.
#[tokio::test]
async fn large_heads_that_wait_are_limited() {
    let backend = backend().await;
    let proxy = proxy(&backend, |spec| spec.listeners[0].limits.http2_heads = 128 << 10).await;
    let mut peer = Peer::connect(proxy.address).await;
    let large = || Block::get("/stall").field("a", "x".repeat(15 << 10));
    for n in 0..20 {
        peer.send(ask(2 * n + 1, large())).await;
    }
    let refused = |peer: &Peer| {
        let streams = peer.streams.values();
        streams.filter(|stream| stream.reset == Some(REFUSED_STREAM)).count()
    };
    peer.until("some are refused", |peer| refused(peer) == 12).await.unwrap();
    until("the others wait", || proxy.open() == 8).await;
    let totals = proxy.live.unrouted.stats.totals();
    assert_eq!(totals.failures[Fault::Proxy as usize][Reason::Overloaded as usize], 12);
    let mut other = Peer::connect(proxy.address).await;
    other.send(ask(1, large())).await;
    until("another client may have its share", || proxy.open() == 9).await;
    is_served(&proxy).await;
    for n in 0..8 {
        peer.send(reset(2 * n + 1, 8)).await;
    }
    until("they are let go", || proxy.open() == 1).await;
    peer.send(ask(41, large())).await;
    until("there is room again", || proxy.open() == 2).await;
    assert_eq!((refused(&peer), peer.goaway), (12, None));
}

/// A client that opens no window, and a proxy that soon loses patience with it.
async fn unread() -> (Backend, Proxy, Peer) {
    let backend = backend().await;
    let proxy = proxy(&backend, |spec| {
        spec.services["shop"].timeouts.body = Duration::from_millis(300);
    })
    .await;
    let mut peer = Peer::connect(proxy.address).await;
    peer.reads_on = false;
    (backend, proxy, peer)
}

#[tokio::test]
async fn windows_that_are_never_opened_cost_no_more_than_a_timeout() {
    let (_backend, proxy, mut peer) = unread().await;
    peer.send(settings(&[(4, 0)])).await;
    for n in 0..20 {
        peer.send(ask(2 * n + 1, Block::get("/large"))).await;
    }
    let all_reset = |peer: &Peer| {
        peer.streams.len() == 20 && peer.streams.values().all(|stream| stream.reset.is_some())
    };
    peer.until("every stream is reset", all_reset).await.unwrap();
    until("nothing is in flight", || proxy.open() == 0).await;
    // The connection is as good as any.
    peer.send([settings(&[(4, 1000)]), ask(99, Block::get("/x"))].concat()).await;
    let answered = |peer: &Peer| peer.streams.get(&99).is_some_and(|stream| stream.ended);
    peer.until("an answer", answered).await.unwrap();
}

/// One byte of a window at a time is no progress worth a backend.
#[tokio::test]
async fn windows_that_drip_are_given_up() {
    let (_backend, proxy, mut peer) = unread().await;
    peer.send([settings(&[(4, 0)]), ask(1, Block::get("/large"))].concat()).await;
    let mut seen = 0;
    loop {
        peer.send(window(1, 1)).await;
        let more = |peer: &Peer| {
            peer.streams.get(&1).is_some_and(|s| s.reset.is_some() || s.body.len() > seen)
        };
        peer.until("a byte or the end", more).await.unwrap();
        if peer.streams[&1].reset.is_some() {
            break;
        }
        seen = peer.streams[&1].body.len();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until("nothing is in flight", || proxy.open() == 0).await;
}

#[tokio::test]
async fn a_client_that_takes_no_bytes_at_all_is_closed() {
    let backend = backend().await;
    let proxy = proxy(&backend, |spec| {
        let timeouts = &mut spec.listeners[0].timeouts;
        timeouts.body = Duration::from_secs(1);
        timeouts.headers = Duration::from_secs(1);
    })
    .await;
    let mut peer = Peer::connect(proxy.address).await;
    peer.send([window(0, 1 << 30), settings(&[(4, 1 << 30)])].concat()).await;
    for n in 0..10 {
        peer.send(ask(2 * n + 1, Block::get("/large"))).await;
    }
    let bound = proxy.live.published.read(|snapshot| snapshot.listeners[0].bound.clone());
    until("requests are in flight", || backend.count() == 10).await;
    until("it is closed", || bound.connections() == (0, 0) && proxy.open() == 0).await;
}

/// A client that waits in silence is asked whether it is there, and let go if it does not say so.
#[tokio::test]
async fn a_client_that_is_gone_without_a_word_is_found() {
    let backend = backend().await;
    let proxy = proxy(&backend, |spec| {
        let timeouts = &mut spec.listeners[0].timeouts;
        timeouts.keep_alive = Duration::from_millis(200);
        timeouts.headers = Duration::from_secs(2);
    })
    .await;
    let mut there = Peer::connect(proxy.address).await;
    there.send(ask(1, Block::get("/stall"))).await;
    let mut gone = Peer::connect(proxy.address).await;
    gone.answers_pings = false;
    gone.send(ask(1, Block::get("/stall"))).await;
    let (found, goes_on) = tokio::join!(
        gone.until("it is asked, and let go", |peer| peer.pings > 0 && peer.closed),
        there.until("the other one is asked again", |peer| peer.pings > 5),
    );
    found.and(goes_on).unwrap();
    assert!(gone.pings > 0 && gone.closed && !there.closed);
    until("its request is let go", || proxy.open() == 1).await;
}

#[tokio::test]
async fn what_is_begun_and_not_ended_is_closed_in_time() {
    let backend = backend().await;
    let proxy = proxy(&backend, |spec| {
        spec.listeners[0].timeouts.headers = Duration::from_millis(400);
    })
    .await;
    let block = Block::get("/x").0;
    let beginnings = [
        ("nothing but a preface", Vec::new()),
        ("a header block", frame(HEADERS, END_STREAM, 1, &block)),
        ("a frame's header", ask(1, Block::get("/x"))[..5].to_vec()),
        ("a frame", ask(1, Block::get("/x"))[..20].to_vec()),
        (
            "a header block while a request is in flight",
            [ask(1, Block::get("/stall")), frame(HEADERS, END_STREAM, 3, &block)].concat(),
        ),
    ];
    for (what, beginning) in beginnings {
        let mut peer = Peer::connect(proxy.address).await;
        peer.send(beginning).await;
        peer.until(what, |peer| peer.closed).await.unwrap();
        assert!(peer.closed, "{what}");
        until(what, || proxy.open() == 0).await;
    }
}

#[tokio::test]
async fn idle_connections_are_counted_and_let_go() {
    let backend = backend().await;
    let proxy = proxy(&backend, |spec| {
        spec.listeners[0].timeouts.headers = Duration::from_millis(1500);
    })
    .await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(Peer::connect(proxy.address).await);
    }
    let bound = proxy.live.published.read(|snapshot| snapshot.listeners[0].bound.clone());
    until("all are counted", || bound.connections().1 == 200).await;
    is_served(&proxy).await;
    until("all are let go", || bound.connections() == (0, 0)).await;
}
