//! Tunnels end in good order when their backend drains: one after the other, and a WebSocket with a word.

mod support;

use crossfade::{
    control::Command,
    spec::{Engine, Spec},
};
use std::time::Duration;
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

/// A Close frame that says 1001 (RFC 6455 section 7.4.1).
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// What a test lets its backend say.
type Words = mpsc::UnboundedSender<Vec<u8>>;

/// A backend that switches to `protocol`, says what it is told to and repeats what it hears.
async fn backend(protocol: &'static str) -> (Backend, mpsc::UnboundedReceiver<Words>) {
    let (tunnels, opened) = mpsc::unbounded_channel();
    let backend = Backend::raw(move |mut stream| {
        let tunnels = tunnels.clone();
        async move {
            let mut request = [0; 4096];
            if stream.read(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let (words, mut told) = mpsc::unbounded_channel::<Vec<u8>>();
            let _ = tunnels.send(words);
            let mut heard = [0; 4096];
            loop {
                tokio::select! {
                    Some(word) = told.recv() => stream.write_all(&word).await.unwrap(),
                    read = stream.read(&mut heard) => match read {
                        Ok(read) if read > 0 => stream.write_all(&heard[..read]).await.unwrap(),
                        _ => return,
                    }
                }
            }
        }
    })
    .await;
    (backend, opened)
}

async fn open(proxy: &Proxy, protocol: &str) -> TcpStream {
    let mut client = proxy.connect().await;
    let request =
        format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: {protocol}\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    client
}

/// Everything that comes until the end.
async fn rest(client: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, client.read_to_end(&mut rest)).await.expect("it ends");
    read.unwrap();
    rest
}

async fn two_pools(backend: &Backend, other: &Backend, engine: Engine, drain: Duration) -> Spec {
    let blue = pool("v1", 1, &[backend.spec_address()]);
    let green = pool("v2", 0, &[other.spec_address()]);
    let mut spec = spec(&[("blue", blue), ("green", green)]);
    spec.engine = engine;
    spec.services["shop"].timeouts.drain = drain;
    spec
}

fn drain_blue() -> Command {
    Command::Drain { service: "shop".into(), pool: Some("blue".into()), backends: vec![] }
}

const ENGINES: [Engine; 2] = [Engine::Native, Engine::Hyper];

#[tokio::test]
async fn a_websocket_is_told_goodbye_behind_the_frame_that_is_on_its_way() {
    for engine in ENGINES {
        let (blue, mut opened) = backend("websocket").await;
        let green = Backend::named("green").await;
        let drain = Duration::from_secs(4);
        let proxy = Proxy::start(two_pools(&blue, &green, engine, drain).await).await;
        let mut client = open(&proxy, "WebSocket").await;
        let words = opened.recv().await.unwrap();
        words.send(b"\x82\x04ab".to_vec()).unwrap();
        let mut begun = [0; 4];
        client.read_exact(&mut begun).await.unwrap();
        proxy.weights(&[("blue", 0), ("green", 1)]).await;
        proxy.apply(drain_blue()).await.unwrap();
        // Whenever its turn comes, nothing is said within the frame.
        let mut early = [0; 1];
        let looked = timeout(drain * 5 / 8, client.read(&mut early)).await;
        assert!(looked.is_err(), "{engine:?}: {looked:?} {early:?}");
        words.send(b"cd\x82\x01x".to_vec()).unwrap();
        let rest = rest(&mut client).await;
        assert_eq!(rest, [b"cd", &GOING_AWAY[..]].concat(), "{engine:?}");
        client.write_all(b"\x88\x82\0\0\0\0\x03\xe9").await.unwrap();
        drop(client);
        until("the tunnel has ended", || proxy.open() == 0).await;
        let pools = proxy.live.pools();
        assert_eq!(pools.iter().map(|pool| pool.tally().cut).sum::<u64>(), 0);
    }
}

#[tokio::test]
async fn silent_websockets_are_told_and_their_answers_still_reach_the_backend() {
    for engine in ENGINES {
        let (blue, mut opened) = backend("websocket").await;
        let green = Backend::named("green").await;
        let spec = two_pools(&blue, &green, engine, Duration::from_secs(4)).await;
        let proxy = Proxy::start(spec).await;
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(open(&proxy, "websocket").await);
            opened.recv().await.unwrap();
        }
        proxy.weights(&[("blue", 0), ("green", 1)]).await;
        proxy.apply(drain_blue()).await.unwrap();
        for client in &mut clients {
            assert_eq!(rest(client).await, GOING_AWAY, "{engine:?}");
        }
        assert_eq!(proxy.open(), 5, "their clients may still answer");
        clients.clear();
        until("the tunnels have ended", || proxy.open() == 0).await;
        let pools = proxy.live.pools();
        assert_eq!(pools.iter().map(|pool| pool.tally().cut).sum::<u64>(), 0);
        assert_eq!(pools.iter().map(|pool| pool.tally().told).sum::<u64>(), 5);
    }
}

#[tokio::test]
async fn other_tunnels_of_a_backend_that_drains_are_closed_on_both_sides() {
    for engine in ENGINES {
        let (blue, mut opened) = backend("echo").await;
        let green = Backend::named("green").await;
        let spec = two_pools(&blue, &green, engine, Duration::from_secs(4)).await;
        let proxy = Proxy::start(spec).await;
        let mut client = open(&proxy, "echo").await;
        let words = opened.recv().await.unwrap();
        proxy.weights(&[("blue", 0), ("green", 1)]).await;
        proxy.apply(drain_blue()).await.unwrap();
        assert_eq!(rest(&mut client).await, b"", "{engine:?}");
        until("the backend sees it", || words.is_closed()).await;
        until("the tunnel has ended", || proxy.open() == 0).await;
        let pools = proxy.live.pools();
        assert_eq!(pools.iter().map(|pool| pool.tally().cut).sum::<u64>(), 0);
    }
}

#[tokio::test]
async fn a_change_of_the_table_does_not_touch_a_tunnel_to_a_backend_that_stays() {
    let (blue, mut opened) = backend("websocket").await;
    let green = Backend::named("green").await;
    let spec = two_pools(&blue, &green, Engine::Native, Duration::from_millis(50)).await;
    let proxy = Proxy::start(spec).await;
    let mut client = open(&proxy, "websocket").await;
    let words = opened.recv().await.unwrap();
    proxy.weights(&[("blue", 0), ("green", 1)]).await;
    proxy.weights(&[("blue", 1), ("green", 3)]).await;
    // Longer than a drain would take.
    tokio::time::sleep(Duration::from_millis(200)).await;
    words.send(b"\x82\x01a".to_vec()).unwrap();
    let mut frame = [0; 3];
    client.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame, *b"\x82\x01a");
}

#[tokio::test]
async fn the_end_of_the_process_is_said_too() {
    let (blue, mut opened) = backend("websocket").await;
    let spec = spec(&[("blue", pool("v1", 1, &[blue.spec_address()]))]);
    let proxy = Proxy::start(spec).await;
    let mut client = open(&proxy, "websocket").await;
    opened.recv().await.unwrap();
    let hears = tokio::spawn(async move { rest(&mut client).await });
    assert!(proxy.drain(Duration::from_secs(4)).await, "nothing was cut");
    assert_eq!(hears.await.unwrap(), GOING_AWAY);
}
