//! Backends that break the rules of HTTP/2, frame by frame. Whatever they do, a client sees 502 or an answer that is
//! visibly cut, never another one's or a whole one that is not, and the next request is answered.

use super::{
    frame::*,
    hpack::Block,
    peer::Peer,
    support::{Backend, PATIENCE, Proxy, pool, spec, until},
};
use crossfade::spec::PoolProtocol;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// What becomes of the request that meets it.
#[derive(Debug, PartialEq)]
enum End {
    /// 502.
    Bad,
    /// The head has gone through before it could be known; the client sees that something is missing.
    Cut,
    /// A good answer.
    Good,
    Other(String),
}

struct Case {
    name: &'static str,
    /// What follows the backend's SETTINGS, once it has been asked on a stream.
    says: fn(u32) -> Vec<u8>,
    /// It closes the connection behind it.
    closes: bool,
    end: End,
}

const fn case(name: &'static str, end: End, says: fn(u32) -> Vec<u8>) -> Case {
    Case { name, says, closes: false, end }
}

const fn closes(name: &'static str, end: End, says: fn(u32) -> Vec<u8>) -> Case {
    Case { name, says, closes: true, end }
}

fn status(status: &str) -> Block {
    Block::new().field(":status", status)
}

fn head(stream: u32, block: Block) -> Vec<u8> {
    begin(stream, block)
}

fn ok(stream: u32) -> Vec<u8> {
    head(stream, status("200"))
}

fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
}

use End::{Bad, Cut, Good};

static CASES: &[Case] = &[
    case("a good answer", Good, |n| [ok(n), last_data(n, "ok")].concat()),
    // HPACK and header blocks
    case("HPACK: an index of nothing", Bad, |n| head(n, Block::new().reference(200))),
    case("HPACK: index 0", Bad, |n| head(n, Block::new().reference(0))),
    case("HPACK: a number without end", Bad, |n| head(n, Block::new().bytes([0xff; 20]))),
    case("HPACK: a string that is cut", Bad, |n| head(n, Block::new().bytes([0, 10, b'a']))),
    case("HPACK: a table larger than allowed", Bad, |n| {
        head(n, Block::new().bytes([0x3f, 0xe1, 0xff, 0x03]).field(":status", "200"))
    }),
    case("HPACK: Huffman that ends in the middle", Bad, |n| {
        head(n, status("200").bytes([0, 1, b'a', 0x81, 0x00]))
    }),
    case("CONTINUATION without HEADERS", Bad, |n| {
        frame(CONTINUATION, END_HEADERS, n, status("200").0)
    }),
    case("a block that PING interrupts", Bad, |n| {
        [frame(HEADERS, 0, n, status("200").0), frame(PING, 0, 0, [0; 8])].concat()
    }),
    case("a block that goes on elsewhere", Bad, |n| {
        [frame(HEADERS, 0, n, status("200").0), frame(CONTINUATION, END_HEADERS, n + 2, b"")]
            .concat()
    }),
    case("CONTINUATION without end", Bad, |n| {
        let more = frame(CONTINUATION, 0, n, Block::new().field("a", "b").0);
        [frame(HEADERS, 0, n, status("200").0), more.repeat(10_000)].concat()
    }),
    case("empty CONTINUATION without end", Bad, |n| {
        [frame(HEADERS, 0, n, b""), frame(CONTINUATION, 0, n, b"").repeat(10_000)].concat()
    }),
    case("an HPACK bomb", Bad, |n| {
        let mut bomb = status("200").indexed("a", "x".repeat(3000));
        for _ in 0..12_000 {
            bomb = bomb.reference(62);
        }
        head(n, bomb)
    }),
    // Responses
    case("no :status", Bad, |n| head(n, Block::new().field("a", "b"))),
    case("two :status", Bad, |n| head(n, status("200").field(":status", "404"))),
    case(":status behind a field", Bad, |n| {
        head(n, Block::new().field("a", "b").field(":status", "200"))
    }),
    case("a :status of two digits", Bad, |n| head(n, status("20"))),
    case("a :status of four digits", Bad, |n| head(n, status("2000"))),
    case("a :status that is none", Bad, |n| head(n, status("+20"))),
    case("101", Bad, |n| head(n, status("101"))),
    case("a request's pseudo-headers", Bad, |n| {
        [head(n, status("200").field(":path", "/")), last_data(n, "ok")].concat()
    }),
    case("an unknown pseudo-header", Bad, |n| head(n, status("200").field(":a", "b"))),
    case("a field of the connection", Bad, |n| head(n, status("200").field("connection", "close"))),
    case("Transfer-Encoding", Bad, |n| {
        head(n, status("200").field("transfer-encoding", "chunked"))
    }),
    case("more fields than anybody needs", Bad, |n| {
        head(n, (0..1001).fold(status("200"), |block, _| block.field("a", "b")))
    }),
    case("a field larger than anybody needs", Bad, |n| {
        let block = status("200").field("a", "x".repeat(300 << 10)).0;
        let pieces: Vec<_> = block.chunks(16 << 10).collect();
        let (last, pieces) = pieces.split_last().unwrap();
        let mut frames = frame(HEADERS, 0, n, pieces[0]);
        frames.extend(pieces[1..].iter().flat_map(|piece| frame(CONTINUATION, 0, n, piece)));
        [frames, frame(CONTINUATION, END_HEADERS, n, last)].concat()
    }),
    case("a name in capitals", Bad, |n| head(n, status("200").field("A", "b"))),
    case("a name with a colon", Bad, |n| head(n, status("200").field("a:b", "c"))),
    case("CR LF in a value", Bad, |n| head(n, status("200").field("a", "b\r\nc: d"))),
    case("NUL in a value", Bad, |n| head(n, status("200").field("a", "b\0c"))),
    case("1xx that ends the stream", Bad, |n| ask(n, status("103"))),
    case("1xx without end", Bad, |n| head(n, status("103")).repeat(1000)),
    case("1xx and nothing else", Bad, |n| [head(n, status("100")), reset(n, 0)].concat()),
    case("DATA before HEADERS", Bad, |n| last_data(n, "ok")),
    case("DATA behind 1xx", Bad, |n| [head(n, status("103")), last_data(n, "ok")].concat()),
    // Lengths
    case("a length that is none", Bad, |n| head(n, status("200").field("content-length", "1x"))),
    case("two lengths", Bad, |n| {
        head(n, status("200").field("content-length", "1").field("content-length", "2"))
    }),
    case("a length of nothing", Bad, |n| ask(n, status("200").field("content-length", "5"))),
    case("less than the length", Cut, |n| {
        [head(n, status("200").field("content-length", "5")), last_data(n, "ok")].concat()
    }),
    case("more than the length", Cut, |n| {
        [head(n, status("200").field("content-length", "1")), last_data(n, "ok")].concat()
    }),
    // Trailers
    case("trailers with a pseudo-header", Cut, |n| {
        [ok(n), data(n, "ok"), ask(n, Block::new().field(":status", "200"))].concat()
    }),
    case("trailers that do not end the stream", Cut, |n| {
        [ok(n), data(n, "o"), head(n, Block::new().field("a", "b"))].concat()
    }),
    case("trailers with CR LF", Cut, |n| {
        [ok(n), data(n, "o"), ask(n, Block::new().field("a", "b\r\nc: d"))].concat()
    }),
    case("trailers of the connection", Cut, |n| {
        [ok(n), data(n, "o"), ask(n, Block::new().field("connection", "close"))].concat()
    }),
    // Frames
    case("a frame that is too large", Cut, |n| {
        [ok(n), frame(DATA, 0, n, vec![0; 20_000])].concat()
    }),
    case("padding beyond the frame", Cut, |n| [ok(n), frame(DATA, PADDED, n, [9, 0])].concat()),
    case("DATA on stream 0", Cut, |n| [ok(n), data(0, "x")].concat()),
    case("HEADERS on stream 0", Cut, |n| [ok(n), head(0, status("200"))].concat()),
    case("a stream that nobody asked for", Cut, |n| [ok(n), data(n, "o"), ok(n + 2)].concat()),
    case("a stream of its own", Cut, |n| [ok(n), data(n, "o"), ok(2)].concat()),
    case("PUSH_PROMISE", Cut, |n| {
        let promised = [&[0, 0, 0, 2][..], &Block::get("/x").0].concat();
        [ok(n), frame(PUSH_PROMISE, END_HEADERS, n, promised)].concat()
    }),
    case("a setting out of range", Cut, |n| [ok(n), settings(&[(5, 1)])].concat()),
    case("a window that overflows", Cut, |n| [ok(n), window(0, (1 << 31) - 1)].concat()),
    case("a window of nothing", Cut, |n| [ok(n), window(n, 0)].concat()),
    case("more than the window", Cut, |n| {
        [ok(n), data(n, vec![b'x'; 16_384]).repeat(400)].concat()
    }),
    case("PING without end", Cut, |n| [ok(n), frame(PING, 0, 0, [0; 8]).repeat(20_000)].concat()),
    case("SETTINGS without end", Cut, |n| [ok(n), settings(&[(3, 9)]).repeat(5000)].concat()),
    case("empty DATA without end", Cut, |n| [ok(n), data(n, "").repeat(5000)].concat()),
    // Windows and settings that are allowed
    case("settings that close windows", Good, |n| {
        [settings(&[(4, 0), (3, 0)]), ok(n), last_data(n, "ok")].concat()
    }),
    // Ends
    case("RST_STREAM at once", Bad, |n| reset(n, 2)),
    case("RST_STREAM of no error before the head", Bad, |n| reset(n, 0)),
    case("RST_STREAM behind the head", Cut, |n| [ok(n), reset(n, 2)].concat()),
    case("RST_STREAM of no error within the body", Cut, |n| {
        [ok(n), data(n, "o"), reset(n, 0)].concat()
    }),
    case("RST_STREAM behind the end", Good, |n| [ok(n), last_data(n, "ok"), reset(n, 0)].concat()),
    case("HEADERS behind the end", Good, |n| [ok(n), last_data(n, "ok"), ok(n)].concat()),
    case("DATA behind the end", Good, |n| [ok(n), last_data(n, "ok"), data(n, "x")].concat()),
    closes("GOAWAY that names the request, and the end", Bad, |n| goaway(n, 0)),
    closes("GOAWAY that does not, and the end", Bad, |_| goaway(0, 0)),
    closes("GOAWAY with an error", Bad, |n| goaway(n, 2)),
    case("GOAWAY, then the answer", Good, |n| [goaway(n, 0), ok(n), last_data(n, "ok")].concat()),
    closes("GOAWAY within the body, and the end", Cut, |n| {
        [ok(n), data(n, "o"), goaway(n, 0)].concat()
    }),
    closes("the end at once", Bad, |_| Vec::new()),
    closes("the end within a frame's header", Bad, |n| ok(n)[..5].to_vec()),
    closes("the end within a block", Bad, |n| ok(n)[..11].to_vec()),
    closes("the end behind the head", Cut, ok),
    closes("the end within the body", Cut, |n| [ok(n), data(n, "o")].concat()),
    closes("HTTP/1.1", Bad, |_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()),
];

/// Reads frames until it is asked for something; the stream that it is asked on.
pub async fn asked(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<u32> {
    loop {
        if bytes.starts_with(PREFACE) {
            bytes.drain(..PREFACE.len());
        }
        while !bytes.starts_with(b"PRI")
            && let Some((frame, len)) = read(bytes)
        {
            bytes.drain(..len);
            if frame.kind == HEADERS {
                return Some(frame.stream);
            }
            if frame.kind == SETTINGS && !frame.has(ACK) {
                socket.write_all(&self::frame(SETTINGS, ACK, 0, b"")).await.ok()?;
            }
        }
        match socket.read_buf(bytes).await {
            Ok(read) if read > 0 => {}
            _ => return None,
        }
    }
}

/// A backend whose first connection plays the case, and whose others are good.
async fn backend(case: &'static Case) -> Backend {
    let connections = Arc::new(AtomicUsize::new(0));
    Backend::raw(move |mut socket| {
        let mut plays = connections.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            let mut bytes = Vec::new();
            if socket.write_all(&settings(&[])).await.is_err() {
                return;
            }
            while let Some(stream) = asked(&mut socket, &mut bytes).await {
                let says = if std::mem::take(&mut plays) {
                    (case.says)(stream)
                } else {
                    [ok(stream), last_data(stream, "ok")].concat()
                };
                // The proxy need not take all of it.
                let taken = socket.write_all(&says).await;
                if case.closes || taken.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

async fn proxy(backend: &Backend) -> Proxy {
    let mut pool = pool("v1", 1, &[backend.spec_address()]);
    pool.protocol = PoolProtocol::H2;
    let mut spec = spec(&[("blue", pool)]);
    let service = &mut spec.services["shop"];
    service.retries.attempts = 1;
    service.timeouts.response = Duration::from_secs(5);
    service.timeouts.body = Duration::from_secs(5);
    Proxy::start(spec).await
}

/// What a client of HTTP/1 sees.
async fn over_http1(proxy: &Proxy) -> End {
    let mut socket = proxy.connect().await;
    let request = b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    socket.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("an end");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let mut answer = &answer[..];
    while answer.starts_with("HTTP/1.1 1") {
        answer = answer.split_once("\r\n\r\n").map_or("", |(_, rest)| rest);
    }
    if answer.starts_with("HTTP/1.1 502 ") {
        return Bad;
    }
    if !answer.starts_with("HTTP/1.1 200 ") {
        return End::Other(answer.into());
    }
    let is_whole = answer.ends_with("\r\n\r\n2\r\nok\r\n0\r\n\r\n") && read.is_ok();
    let claims_to_be = answer.ends_with("0\r\n\r\n");
    assert_eq!(is_whole, claims_to_be, "{answer}");
    if is_whole { Good } else { Cut }
}

async fn over_http2(proxy: &Proxy) -> End {
    let mut peer = Peer::connect(proxy.address).await;
    peer.send(ask(1, Block::post("/x"))).await;
    let is_over = |peer: &Peer| peer.streams.get(&1).is_some_and(|stream| stream.is_over());
    peer.until("an end", is_over).await.unwrap();
    let stream = &peer.streams[&1];
    match (stream.status, stream.reset) {
        (Some(502), None) => Bad,
        (Some(200), None) if stream.body == b"ok" => Good,
        // What was not on its way yet is taken back.
        (Some(200) | None, Some(_)) => Cut,
        _ => End::Other(format!("{stream:?}")),
    }
}

#[tokio::test]
async fn backends_that_break_the_rules_harm_nobody_else() {
    let mut wrong = Vec::new();
    for case in CASES {
        for is_http2 in [false, true] {
            let backend = backend(case).await;
            let proxy = proxy(&backend).await;
            let end = if is_http2 { over_http2(&proxy).await } else { over_http1(&proxy).await };
            if end != case.end {
                wrong.push((case.name, is_http2, end));
            }
            until(case.name, || proxy.open() == 0).await;
            // By either protocol.
            for next in [over_http1(&proxy).await, over_http2(&proxy).await] {
                if next != Good {
                    wrong.push((case.name, is_http2, next));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What stands above the last stream of a GOAWAY was not acted on (section 6.8): it is sent again, whatever the method.
#[tokio::test]
async fn what_a_backend_that_leaves_has_not_acted_on_is_sent_again() {
    for is_http2 in [false, true] {
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let backend = Backend::raw(move |mut socket| {
            let leaves = counted.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                let mut bytes = Vec::new();
                socket.write_all(&settings(&[])).await.unwrap();
                while let Some(stream) = asked(&mut socket, &mut bytes).await {
                    if leaves && stream > 1 {
                        drop(socket.write_all(&goaway(1, NO_ERROR)).await);
                        return;
                    }
                    let says = [ok(stream), last_data(stream, "ok")].concat();
                    socket.write_all(&says).await.unwrap();
                }
            }
        })
        .await;
        let proxy = proxy(&backend).await;
        for _ in 0..3 {
            let end = if is_http2 { over_http2(&proxy).await } else { over_http1(&proxy).await };
            assert_eq!(end, Good);
        }
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    }
}
