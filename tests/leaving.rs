//! What leaves is not cut short: the end of the process, a listener that is removed, slow readers.

mod support;

use crossfade::{
    control::Command,
    spec::{Listener, Spec},
};
use std::time::Duration;
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

async fn one(backend: &Backend) -> Spec {
    spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))])
}

/// An HTTP/2 client by hand, which says when it says what.
struct Frames(TcpStream);

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

impl Frames {
    async fn start(mut stream: TcpStream) -> Self {
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut frames = Self(stream);
        frames.send(SETTINGS, 0, 0, &[]).await;
        frames
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// `GET /` of `a`, from the static table (RFC 7541 appendix A).
    async fn get(&mut self, stream: u32) {
        self.send(HEADERS, 5, stream, &[0x82, 0x86, 0x84, 0x41, 1, b'a']).await;
    }

    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        timeout(PATIENCE, self.0.read_exact(&mut head)).await.expect("a frame or the end").ok()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; len];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    async fn find(&mut self, what: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if what(&frame) {
                return Some(frame);
            }
        }
    }
}

#[tokio::test]
async fn http2_ends_in_two_phases_and_loses_no_stream_to_a_slow_network() {
    let backend = Backend::named("blue").await;
    let proxy = Proxy::start(one(&backend).await).await;
    let mut client = Frames::start(proxy.connect().await).await;
    client.get(1).await;
    let answered = |id: u32| move |f: &Frame| f.stream == id && f.flags & 1 == 1;
    client.find(answered(1)).await.expect("an answer");
    // Quiet for longer than an idle connection is waited for when the process ends.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let draining = tokio::spawn(proxy.drain(PATIENCE));
    let first = client.find(|f| f.kind == GOAWAY).await.expect("a warning");
    assert_eq!(first.payload[..4], 0x7fff_ffffu32.to_be_bytes(), "all streams are still taken");
    let ping = client.find(|f| f.kind == PING).await.expect("a ping");
    // What the client sent before the warning reached it.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    client.get(3).await;
    client.find(answered(3)).await.expect("an answer to what was sent before the warning came");
    client.send(PING, 1, 0, &ping.payload).await;
    let last = client.find(|f| f.kind == GOAWAY).await.expect("the last word");
    assert_eq!(last.payload[..4], 3u32.to_be_bytes());
    assert!(draining.await.unwrap());
}

#[tokio::test]
async fn the_end_of_an_answer_reaches_a_slow_reader_although_the_process_ends() {
    const LEN: usize = 30_000_000;
    let backend = Backend::start(|_| async { text(vec![7u8; LEN]) }).await;
    let proxy = Proxy::start(one(&backend).await).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(proxy.address).await.unwrap();
    client.write_all(HEAD).await.unwrap();
    // Read until the proxy has handed over the last piece: what is left waits in its buffers.
    let mut read = 0;
    let mut buffer = vec![0; 16384];
    until("the answer begins", || proxy.open() == 1).await;
    while proxy.open() > 0 {
        read += client.read(&mut buffer).await.unwrap();
    }
    let draining = tokio::spawn(proxy.drain(PATIENCE));
    // It stands still for longer than an idle connection is waited for.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    loop {
        match client.read(&mut buffer).await.unwrap() {
            0 => break,
            n => read += n,
        }
    }
    assert!(read > LEN, "{} bytes are missing", LEN - read);
    assert!(draining.await.unwrap());
}

#[tokio::test]
async fn a_connection_without_a_request_does_not_hold_the_process() {
    let backend = Backend::named("blue").await;
    let mut spec = one(&backend).await;
    spec.listeners[0].timeouts.headers = Duration::from_secs(3600);
    let proxy = Proxy::start(spec).await;
    let silent = proxy.connect().await;
    until("it is accepted", || {
        proxy.live.published.read(|s| s.listeners[0].bound.connections().0) == 1
    })
    .await;
    assert!(timeout(PATIENCE, proxy.drain(PATIENCE * 2)).await.expect("an end"));
    drop(silent);
}

#[tokio::test]
async fn connections_of_a_listener_that_is_removed_are_asked_to_end() {
    let backend = Backend::named("blue").await;
    let mut with_both = one(&backend).await;
    with_both.listeners.push(Listener::new("127.0.0.2:0".parse().unwrap()));
    let mut with_one = with_both.clone();
    with_one.listeners.remove(0);
    let proxy = Proxy::start(with_both).await;
    let (mut h1, mut idle) = (proxy.h1().await, proxy.connect().await);
    assert_eq!(h1.get("/").await.text(), "blue");
    let mut h2 = Frames::start(proxy.connect().await).await;
    h2.get(1).await;
    h2.find(|f| f.kind == DATA).await.expect("an answer");
    idle.write_all(HEAD).await.unwrap();
    assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);

    proxy.apply(Command::Replace { spec: Box::new(with_one) }).await.unwrap();
    // Its next answer tells the client to go; one that asks for nothing is closed after a while.
    let is_told =
        async { while h1.get("/").await.headers.get("connection").is_none_or(|c| c != "close") {} };
    timeout(PATIENCE, is_told).await.expect("connection: close");
    h2.find(|f| f.kind == GOAWAY).await.expect("a warning");
    let mut rest = Vec::new();
    timeout(PATIENCE, idle.read_to_end(&mut rest)).await.expect("closed").unwrap();
    let refused = || std::net::TcpStream::connect(proxy.address).is_err();
    until("nobody listens there any more", refused).await;
}

#[tokio::test]
async fn an_http2_client_that_reads_nothing_any_more_is_closed() {
    let backend = Backend::start(|_| async { text(vec![7u8; 5_000_000]) }).await;
    let mut spec = one(&backend).await;
    spec.services["shop"].timeouts.body = Duration::from_millis(200);
    let timeouts = &mut spec.listeners[0].timeouts;
    timeouts.headers = Duration::from_millis(400);
    timeouts.keep_alive = Duration::from_millis(400);
    timeouts.body = Duration::from_millis(200);
    let proxy = Proxy::start(spec).await;
    let mut client = Frames::start(proxy.connect().await).await;
    // No window is ever opened: first the stream is given up, then the connection.
    client.get(1).await;
    let bound = proxy.live.published.read(|s| s.listeners[0].bound.clone());
    let pools = proxy.live.pools();
    let recorded = || pools[0].stats.totals().requests.iter().flatten().sum::<u64>();
    until("it is closed", || recorded() == 1 && bound.connections() == (0, 0)).await;
    assert_eq!(proxy.open(), 0);
}
