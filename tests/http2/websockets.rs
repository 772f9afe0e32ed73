//! WebSockets on streams of HTTP/2 (RFC 8441), to backends that speak HTTP/1.1 or HTTP/2.

use super::{
    frame::*,
    hpack::Block,
    peer::Peer,
    support::{Backend, Proxy, pool, spec, until},
};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use bytes::Bytes;
use crossfade::{
    control::Command,
    spec::{Engine, PoolProtocol, Spec},
};
use http::{Method, Response, StatusCode};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

const GOING_AWAY: &[u8] = &[0x88, 2, 0x03, 0xe9];

fn connect(protocol: &str) -> Block {
    Block::new()
        .field(":method", "CONNECT")
        .field(":protocol", protocol)
        .field(":scheme", "http")
        .field(":path", "/chat?a=b")
        .field(":authority", "a")
        .field("sec-websocket-version", "13")
        .field("sec-websocket-key", "the client's, which means nothing")
        .field("sec-websocket-protocol", "chat")
        .field("origin", "http://a")
}

fn proof(key: &str) -> String {
    let all = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, all.as_bytes());
    let bits: String = digest.as_ref().iter().map(|byte| format!("{byte:08b}")).collect();
    let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: &str| {
        let value = usize::from_str_radix(&format!("{bits:0<6}"), 2).unwrap();
        digits.as_bytes()[value] as char
    };
    let text: String = (0..27).map(|at| digit(&bits[at * 6..bits.len().min(at * 6 + 6)])).collect();
    text + "="
}

/// Reads a request's head.
async fn asked(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// An HTTP/1.1 backend that answers what `answer` makes of the right proof, and then repeats what it hears. What it was
/// asked, and that the proxy has ended, it tells.
async fn backend(answer: fn(String) -> String) -> (Backend, mpsc::UnboundedReceiver<String>) {
    let (tell, told) = mpsc::unbounded_channel();
    let backend = Backend::raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            let head = asked(&mut stream).await;
            let Some(key) = field(&head, "sec-websocket-key") else {
                return stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                    .await
                    .unwrap();
            };
            stream.write_all(answer(proof(key)).as_bytes()).await.unwrap();
            tell.send(head).unwrap();
            let mut heard = [0; 4096];
            while let Ok(read) = stream.read(&mut heard).await
                && read > 0
            {
                stream.write_all(&heard[..read]).await.unwrap();
            }
            tell.send("the end".into()).unwrap();
        }
    })
    .await;
    (backend, told)
}

fn switched(proof: String) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-accept: {proof}\r\nsec-websocket-protocol: chat\r\n\r\n"
    )
}

fn one_pool(backend: &Backend) -> Spec {
    spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))])
}

async fn answered(peer: &mut Peer, stream: u32) {
    let is_answered = |peer: &Peer| {
        peer.streams.get(&stream).is_some_and(|stream| stream.status.is_some() || stream.is_over())
    };
    peer.until("an answer", is_answered).await.unwrap();
}

async fn hears(peer: &mut Peer, stream: u32, text: &[u8]) {
    let has_come = |peer: &Peer| peer.streams[&stream].body.ends_with(text);
    peer.until("what the other side says", has_come).await.unwrap();
}

#[tokio::test]
async fn a_websocket_passes_to_a_backend_that_speaks_http1() {
    let (backend, mut told) = backend(switched).await;
    let proxy = Proxy::start(one_pool(&backend)).await;
    let mut peer = Peer::connect(proxy.address).await;
    peer.until("settings", |peer| peer.settings.contains(&(8, 1))).await.unwrap();
    assert!(!peer.closed, "it is announced (section 3)");
    peer.send(begin(1, connect("websocket"))).await;
    answered(&mut peer, 1).await;
    let stream = peer.streams[&1].clone();
    assert_eq!((stream.status, stream.ended), (Some(200), false));
    assert_eq!(stream.field("sec-websocket-protocol"), Some("chat"));
    for of_http1 in ["sec-websocket-accept", "connection", "upgrade"] {
        assert_eq!(stream.field(of_http1), None);
    }
    let head = told.recv().await.unwrap();
    assert!(head.starts_with("GET /chat?a=b HTTP/1.1\r\nhost: a\r\n"), "{head}");
    assert_eq!(field(&head, "upgrade"), Some("websocket"));
    assert_eq!(field(&head, "sec-websocket-version"), Some("13"));
    assert_eq!(field(&head, "origin"), Some("http://a"));
    assert!(!head.contains("the client's"), "{head}");
    peer.send(data(1, "hello")).await;
    hears(&mut peer, 1, b"hello").await;
    // A tunnel beside requests and other tunnels.
    peer.send([ask(3, Block::get("/x")), begin(5, connect("WebSocket"))].concat()).await;
    answered(&mut peer, 3).await;
    answered(&mut peer, 5).await;
    assert_eq!((peer.streams[&3].status, peer.streams[&5].status), (Some(200), Some(200)));
    told.recv().await.unwrap();
    peer.send(data(5, vec![b'x'; 10_000])).await;
    hears(&mut peer, 5, &[b'x'; 10_000]).await;
    assert_eq!(proxy.open(), 2);
    // The client ends one and breaks the other off.
    peer.send(last_data(1, "bye")).await;
    peer.until("the end", |peer| peer.streams[&1].ended).await.unwrap();
    assert_eq!(peer.streams[&1].body, b"hellobye");
    peer.send(reset(5, 8)).await;
    for _ in 0..2 {
        assert_eq!(told.recv().await.unwrap(), "the end");
    }
    until("nothing is in flight", || proxy.open() == 0).await;
    peer.send(ask(7, Block::get("/x"))).await;
    answered(&mut peer, 7).await;
}

#[tokio::test]
async fn what_is_no_websocket_is_refused() {
    let unproven = |_| switched("AAAAAAAAAAAAAAAAAAAAAAAAAAA=".into());
    let other = |proof| switched(proof).replace("upgrade: websocket", "upgrade: foo");
    let plain = |_| "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned();
    let denied = |_| "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno".to_owned();
    let answers: [fn(String) -> String; 4] = [unproven, other, plain, denied];
    for (answer, status) in answers.into_iter().zip([502, 502, 502, 403]) {
        let (backend, _told) = backend(answer).await;
        let proxy = Proxy::start(one_pool(&backend)).await;
        let mut peer = Peer::connect(proxy.address).await;
        peer.send(begin(1, connect("websocket"))).await;
        peer.until("the end", |peer| peer.streams.get(&1).is_some_and(|it| it.ended))
            .await
            .unwrap();
        let stream = &peer.streams[&1];
        assert_eq!(stream.status, Some(status), "{stream:?}");
        let reason = (status == 502).then_some("bad_response");
        assert_eq!(stream.field("x-crossfade-error"), reason);
        until("nothing is in flight", || proxy.open() == 0).await;
    }
    let (backend, _told) = backend(switched).await;
    let proxy = Proxy::start(one_pool(&backend)).await;
    let mut peer = Peer::connect(proxy.address).await;
    peer.send(begin(1, connect("connect-udp"))).await;
    answered(&mut peer, 1).await;
    assert_eq!(peer.streams[&1].status, Some(501));
    let mut wrong = Block::get("/x");
    wrong = wrong.field(":protocol", "websocket");
    peer.send(ask(3, wrong)).await;
    answered(&mut peer, 3).await;
    assert_eq!(peer.streams[&3].reset, Some(PROTOCOL_ERROR), "only with CONNECT (section 4)");
}

#[tokio::test]
async fn a_websocket_is_told_goodbye_when_its_backend_drains() {
    let (blue, mut told) = backend(switched).await;
    let green = Backend::named("green").await;
    let pools = [
        ("blue", pool("v1", 1, &[blue.spec_address()])),
        ("green", pool("v2", 0, &[green.spec_address()])),
    ];
    let mut spec = spec(&pools);
    spec.services["shop"].timeouts.drain = Duration::from_secs(2);
    let proxy = Proxy::start(spec).await;
    let mut peer = Peer::connect(proxy.address).await;
    peer.send(begin(1, connect("websocket"))).await;
    answered(&mut peer, 1).await;
    told.recv().await.unwrap();
    peer.send(data(1, b"\x82\x02ab")).await;
    hears(&mut peer, 1, b"\x82\x02ab").await;
    proxy.weights(&[("blue", 0), ("green", 1)]).await;
    let drain =
        Command::Drain { service: "shop".into(), pool: Some("blue".into()), backends: vec![] };
    proxy.apply(drain).await.unwrap();
    peer.until("the end", |peer| peer.streams[&1].ended).await.unwrap();
    assert_eq!(peer.streams[&1].body, [b"\x82\x02ab", GOING_AWAY].concat());
    peer.send(last_data(1, b"\x88\x82\0\0\0\0\x03\xe9")).await;
    until("the tunnel has ended", || proxy.open() == 0).await;
    // The connection is none of the backend's business.
    peer.send(ask(3, Block::get("/x"))).await;
    answered(&mut peer, 3).await;
    assert_eq!(peer.streams[&3].status, Some(200));
}

/// A backend that speaks HTTP/2 and repeats what it hears on a stream that it was asked for a WebSocket on.
async fn http2_backend(announces: bool) -> Backend {
    Backend::raw(move |stream| async move {
        let mut builder = h2::server::Builder::new();
        if announces {
            builder.enable_connect_protocol();
        }
        let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                let (head, mut body) = request.into_parts();
                if head.method != Method::CONNECT {
                    return drop(respond.send_response(Response::new(()), true));
                }
                let protocol = head.extensions.get::<h2::ext::Protocol>().unwrap();
                let is_good = protocol.as_str() == "websocket"
                    && head.uri.path_and_query().unwrap() == "/chat?a=b"
                    && head.headers["sec-websocket-version"] == "13"
                    && !["connection", "upgrade", "sec-websocket-key"]
                        .iter()
                        .any(|name| head.headers.contains_key(*name));
                let mut response = Response::new(());
                response.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
                if !is_good {
                    *response.status_mut() = StatusCode::BAD_REQUEST;
                }
                let mut answer = respond.send_response(response, !is_good).unwrap();
                while let Some(Ok(data)) = body.data().await {
                    body.flow_control().release_capacity(data.len()).unwrap();
                    answer.send_data(data, false).unwrap();
                }
                drop(answer.send_data(Bytes::new(), true));
            });
        }
    })
    .await
}

async fn http2_proxy(announces: bool) -> (Proxy, Backend) {
    let backend = http2_backend(announces).await;
    let mut spec = one_pool(&backend);
    spec.services["shop"].pools["blue"].protocol = PoolProtocol::H2;
    (Proxy::start(spec).await, backend)
}

#[tokio::test]
async fn a_websocket_passes_to_a_backend_that_speaks_http2() {
    let (proxy, _backend) = http2_proxy(true).await;
    let mut peer = Peer::connect(proxy.address).await;
    peer.send(begin(1, connect("websocket"))).await;
    answered(&mut peer, 1).await;
    let stream = peer.streams[&1].clone();
    assert_eq!((stream.status, stream.field("sec-websocket-protocol")), (Some(200), Some("chat")));
    peer.send(data(1, "hello")).await;
    hears(&mut peer, 1, b"hello").await;
    peer.send(last_data(1, "bye")).await;
    peer.until("the end", |peer| peer.streams[&1].ended).await.unwrap();
    assert_eq!(peer.streams[&1].body, b"hellobye");
    until("nothing is in flight", || proxy.open() == 0).await;
}

/// What a client of HTTP/1.1 says for a WebSocket, with the example of RFC 6455 section 1.3.
const HANDSHAKE: &str = "GET /chat?a=b HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

async fn next(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut heard = vec![0; bytes];
    stream.read_exact(&mut heard).await.unwrap();
    heard
}

#[tokio::test]
async fn a_websocket_of_http1_passes_to_a_backend_that_speaks_http2() {
    for engine in [Engine::Native, Engine::Hyper] {
        let backend = http2_backend(true).await;
        let mut spec = Spec { engine, ..one_pool(&backend) };
        spec.services["shop"].pools["blue"].protocol = PoolProtocol::H2;
        let proxy = Proxy::start(spec).await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        // It does not wait for the answer.
        let ahead = b"\x82\x02ab";
        client.write_all(&[HANDSHAKE.as_bytes(), ahead].concat()).await.unwrap();
        let head = asked(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{engine:?} {head}");
        assert_eq!(field(&head, "sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        for (name, value) in [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-protocol", "chat"),
        ] {
            assert_eq!(field(&head, name), Some(value), "{engine:?} {head}");
        }
        for other in ["content-length", "transfer-encoding"] {
            assert_eq!(field(&head, other), None, "{engine:?} {head}");
        }
        assert_eq!(next(&mut client, 4).await, ahead);
        client.write_all(&[b'x'; 300_000]).await.unwrap();
        assert_eq!(next(&mut client, 300_000).await, [b'x'; 300_000]);
        assert_eq!(proxy.open(), 1);
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        until("nothing is in flight", || proxy.open() == 0).await;
    }
}

#[tokio::test]
async fn a_websocket_of_http1_is_told_goodbye_when_its_backend_drains() {
    let (proxy, _backend) = http2_proxy(true).await;
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    asked(&mut client).await;
    client.write_all(b"\x82\x02ab").await.unwrap();
    assert_eq!(next(&mut client, 4).await, b"\x82\x02ab");
    let drain =
        Command::Drain { service: "shop".into(), pool: Some("blue".into()), backends: vec![] };
    proxy.apply(drain).await.unwrap();
    assert_eq!(next(&mut client, 4).await, GOING_AWAY);
    client.write_all(b"\x88\x82\0\0\0\0\x03\xe9").await.unwrap();
    client.shutdown().await.unwrap();
    until("the tunnel has ended", || proxy.open() == 0).await;
}

#[tokio::test]
async fn what_a_backend_of_http2_says_instead_reaches_clients_of_http1() {
    for engine in [Engine::Native, Engine::Hyper] {
        for (announces, request, status) in [
            (true, HANDSHAKE.replace("13", "12"), "400 Bad Request"),
            (true, HANDSHAKE.replace("websocket", "foo"), "200 OK"),
            (true, HANDSHAKE.replace("GET", "POST"), "200 OK"),
            (false, HANDSHAKE.into(), "501 Not Implemented"),
            (false, HANDSHAKE.replace("websocket", "foo"), "200 OK"),
        ] {
            let backend = http2_backend(announces).await;
            let mut spec = Spec { engine, ..one_pool(&backend) };
            spec.services["shop"].pools["blue"].protocol = PoolProtocol::H2;
            let proxy = Proxy::start(spec).await;
            let mut client = TcpStream::connect(proxy.address).await.unwrap();
            client.write_all(request.as_bytes()).await.unwrap();
            let head = asked(&mut client).await;
            let case = format!("{engine:?} {announces} {request} {head}");
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{case}");
            let reason = status.starts_with("501").then_some("not_supported");
            assert_eq!(field(&head, "x-crossfade-error"), reason, "{case}");
            assert_eq!(field(&head, "upgrade"), None, "{case}");
            drop(client);
            until("nothing is in flight", || proxy.open() == 0).await;
        }
    }
}

#[tokio::test]
async fn a_backend_that_knows_no_websockets_is_not_asked_for_one() {
    let (proxy, _backend) = http2_proxy(false).await;
    let mut peer = Peer::connect(proxy.address).await;
    peer.send(begin(1, connect("websocket"))).await;
    answered(&mut peer, 1).await;
    assert_eq!(peer.streams[&1].status, Some(501), "{:?}", peer.streams[&1]);
    peer.send(ask(3, Block::get("/x"))).await;
    answered(&mut peer, 3).await;
    assert_eq!(peer.streams[&3].status, Some(200));
}
