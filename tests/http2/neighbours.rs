//! Section 8.1.1: what is wrong with a request, a response or trailers is an error of its stream. Others of the connection
//! go on, and so do the tables of HPACK, whatever was put into them beside what is wrong.

use super::{
    case::{Case, Sees, Step, case},
    frame::*,
    hpack::Block,
    peer::Peer,
    support::{self, Backend, Proxy, full, pool, until},
};
use crossfade::{
    live::{Fault, Reason, code_index},
    spec::{BackendAddress, PoolProtocol},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::io::AsyncWriteExt;

/// Fields by which a head of either kind, or trailers, are malformed.
const BAD: [(&str, &str, &str); 11] = [
    ("capitals", "X-B", "1"),
    ("a colon", "x:b", "1"),
    ("no name", "", "1"),
    ("a blank in a name", "x b", "1"),
    ("CR LF", "x-b", "a\r\nb"),
    ("NUL", "x-b", "a\0b"),
    ("a blank at the end", "x-b", "a "),
    ("a field of the connection", "connection", "close"),
    ("a coding", "transfer-encoding", "chunked"),
    ("an unknown pseudo-header", ":b", "1"),
    ("a pseudo-header behind a field", ":path", "/"),
];

const WHY: &str = "section 8.1.1: an error of the stream; section 4.3: the tables still count";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut with = |what: &str, spoil: &dyn Fn(Block) -> Block, sees: Sees| {
        let bad = spoil(Block::get("/y").indexed("x-a", "1"));
        cases.push(
            case(format!("{what}, and neighbours"), WHY)
                .sends(&[begin(1, Block::post("/x")), data(1, "he")])
                .waits(Step::AwaitBackend)
                .sends(&[
                    ask(3, bad),
                    ask(5, Block::get("/z").indexed("x-c", "3").reference(63)),
                    last_data(1, "llo"),
                    ask(7, Block::get("/z").reference(62)),
                ])
                .answers(1, 200)
                .sees(sees)
                .answers(5, 200)
                .answers(7, 200)
                .forwards("POST /x")
                .forwards("GET /z")
                .forwards("GET /z"),
        );
    };
    for (what, name, value) in BAD {
        with(what, &|block| block.field(name, value), Sees::Malformed(3));
    }
    let too_large = || Sees::Answer { stream: 3, status: 431, error: Some("headers_too_large") };
    with("too many", &|b| (0..100).fold(b, |block, _| block.field("x-b", "1")), too_large());
    with(
        "too much",
        &|b| {
            (0..30)
                .fold(b.indexed("b", "x".repeat(3000)), |b, _| b.reference(62))
                .indexed("x-a", "1")
        },
        too_large(),
    );
    cases.extend(tables());
    cases.extend(pieces());
    cases
}

fn tables() -> Vec<Case> {
    let bad = |stream: u32, block: Block| ask(stream, block.field("X", "1"));
    vec![
        case("a field in the table behind what is malformed", WHY)
            .sends(&[
                bad(1, Block::get("/x").indexed("x-a", "1")),
                ask(3, Block::get("/y").reference(62)),
            ])
            .malformed()
            .answers(3, 200)
            .forwards("GET /y")
            .with("x-a", "1"),
        case("what is malformed in the table", "whoever refers to it is malformed too")
            .sends(&[
                ask(1, Block::get("/x").indexed("x-a", "1\r\nx-b: 2").indexed("x-c", "3")),
                ask(3, Block::get("/y").reference(63)),
                ask(5, Block::get("/z").reference(62)),
            ])
            .malformed()
            .sees(Sees::Malformed(3))
            .answers(5, 200)
            .forwards("GET /z")
            .with("x-c", "3"),
        case("a name in the table behind what is malformed", WHY)
            .sends(&[
                bad(1, Block::get("/x").indexed("x-a", "1")),
                ask(3, Block::get("/y").bytes([0x0f, 62 - 15, 1, b'2'])),
            ])
            .malformed()
            .answers(3, 200)
            .forwards("GET /y")
            .with("x-a", "2"),
        case("another size of the table behind what is malformed", "RFC 7541 section 6.3")
            .sends(&[
                bad(1, Block::get("/x").indexed("x-a", "1")),
                ask(3, Block::new().bytes([0x20, 0x3f, 0xe1, 0x1f]).bytes(Block::get("/stall").0)),
                ask(5, Block::get("/z").reference(62)),
            ])
            .goaway(&[COMPRESSION_ERROR])
            .forwards_maybe(),
        case("Huffman behind what is malformed", "RFC 7541 section 5.2")
            .sends(&[
                bad(1, Block::get("/x")),
                ask(3, Block::get("/y").bytes([0x40, 0x83, 0xf2, 0xb0, 0xff, 0x81, 0x1f])),
                ask(5, Block::get("/z").reference(62)),
            ])
            .malformed()
            .answers(3, 200)
            .answers(5, 200)
            .forwards("GET /y")
            .forwards("GET /z")
            .with("x-a", "a"),
        case("a large head behind what is malformed", "section 4.3: it takes several frames")
            .sends(&[bad(1, Block::get("/x"))])
            .sends(&pieces_of(3, &Block::get("/y").field("x-a", "x".repeat(50_000)), 16 << 10))
            .malformed()
            .answers(3, 200)
            .forwards("GET /y")
            .with("x-a", "x".repeat(50_000)),
        case("trailers behind what is malformed", WHY)
            .sends(&[
                bad(1, Block::get("/x").indexed("x-sum", "1")),
                begin(3, Block::post("/y").field("trailer", "x-sum")),
                data(3, "hello"),
                ask(3, Block::new().reference(62)),
            ])
            .malformed()
            .answers(3, 200)
            .forwards("POST /y")
            .trails("x-sum"),
        case("malformed trailers, and neighbours", WHY)
            .sends(&[begin(1, Block::post("/x")), data(1, "hello")])
            .waits(Step::AwaitBackend)
            .sends(&[
                ask(1, Block::new().indexed("x-a", "1").field("X", "1")),
                ask(3, Block::get("/y").reference(62)),
            ])
            .sees(Sees::Reset(1, &[PROTOCOL_ERROR]))
            .answers(3, 200)
            .forwards("GET /y")
            .may_cut(),
    ]
}

/// A block in frames of so many bytes.
fn pieces_of(stream: u32, block: &Block, bytes: usize) -> Vec<Vec<u8>> {
    let count = block.0.chunks(bytes).count();
    let piece = |(at, piece): (usize, &[u8])| {
        let (kind, first) = if at == 0 { (HEADERS, END_STREAM) } else { (CONTINUATION, 0) };
        let end = if at + 1 == count { END_HEADERS } else { 0 };
        frame(kind, first | end, stream, piece)
    };
    block.0.chunks(bytes).enumerate().map(piece).collect()
}

fn pieces() -> Vec<Case> {
    let bad = || Block::get("/x").indexed("x-a", "1").field("x-b", "a\nb");
    let good = || ask(3, Block::get("/y").reference(62));
    let mut cases = vec![
        case("a malformed head in tiny frames", WHY)
            .sends(&pieces_of(1, &bad(), 3))
            .sends(&[good()]),
        case("a malformed head byte by byte", WHY).drips(&[ask(1, bad()), good()]),
        case("a malformed head in tiny frames, byte by byte", WHY)
            .drips(&pieces_of(1, &bad(), 7))
            .drips(&[good()]),
        case("a malformed head with padding and priority", WHY).sends(&[
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | PADDED | PRIORITIZED,
                1,
                [&[9, 0, 0, 0, 5, 1][..], &bad().0, &[0; 9]].concat(),
            ),
            good(),
        ]),
        case("a stream that depends on itself, and its table", "RFC 7540 section 5.3.1").sends(&[
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | PRIORITIZED,
                1,
                [&[0, 0, 0, 1, 1][..], &Block::get("/x").indexed("x-a", "1").0].concat(),
            ),
            good(),
        ]),
    ];
    cases = cases
        .into_iter()
        .map(|case| case.malformed().answers(3, 200).forwards("GET /y").with("x-a", "1"))
        .collect();
    let whole = Block::get("/x").field("x-a", "1");
    cases.extend(
        [
            case("a good head in tiny frames", "section 4.3").sends(&pieces_of(1, &whole, 3)),
            case("a good head in tiny frames, byte by byte", "section 4.3")
                .drips(&pieces_of(1, &whole, 7)),
            case("a good head in frames with padding, byte by byte", "section 6.2").drips(&[
                frame(
                    HEADERS,
                    END_STREAM | PADDED | PRIORITIZED,
                    1,
                    [&[9, 0, 0, 0, 5, 1][..], &whole.0[..20], &[0; 9]].concat(),
                ),
                frame(CONTINUATION, END_HEADERS, 1, &whole.0[20..]),
            ]),
        ]
        .map(|case| case.answers(1, 200).forwards("GET /x").with("x-a", "1")),
    );
    cases
}

/// Whatever is refused without a word is counted as what it is.
#[tokio::test]
async fn what_is_malformed_is_counted() {
    let backend = Backend::start(|_| async { http::Response::new(full("ok")) }).await;
    let address = BackendAddress::Socket(backend.address);
    let proxy = Proxy::start(support::spec(&[("blue", pool("v1", 1, &[address]))])).await;
    let mut peer = Peer::connect(proxy.address).await;
    for (nth, (_, name, value)) in (0..).zip(BAD) {
        peer.send(ask(2 * nth + 1, Block::get("/x").field("a", "b").field(name, value))).await;
    }
    let all = |peer: &Peer| {
        let streams = peer.streams.values();
        streams.filter(|stream| stream.reset == Some(PROTOCOL_ERROR)).count() == BAD.len()
    };
    peer.until("all are reset", all).await.unwrap();
    let stats = &proxy.live.unrouted.stats;
    let is_counted = || {
        let totals = stats.totals();
        let failures = totals.failures[Fault::Downstream as usize][Reason::BadRequest as usize];
        let requests: u64 = totals.requests.iter().map(|method| method[code_index(400)]).sum();
        (failures, requests) == (BAD.len() as u64, BAD.len() as u64)
    };
    until("they are counted", is_counted).await;
    assert_eq!((peer.goaway, backend.count()), (None, 0));
}

/// What a backend says of one request.
enum Says {
    Head(Block),
    Trailers(Block),
}

fn answers() -> Vec<Says> {
    let status = |status: &str| Block::new().field(":status", status);
    let mut answers: Vec<_> = BAD
        .iter()
        .flat_map(|(_, name, value)| {
            [
                Says::Head(status("200").indexed("x-a", "1").field(name, value)),
                Says::Trailers(Block::new().indexed("x-a", "1").field(name, value)),
            ]
        })
        .collect();
    answers.extend([
        Says::Head(Block::new().indexed("x-a", "1")),
        Says::Head(status("200").field(":status", "200").indexed("x-a", "1")),
        Says::Head(status("20").indexed("x-a", "1")),
        Says::Head(status("200").field(":path", "/").indexed("x-a", "1")),
        Says::Head((0..1001).fold(status("200"), |b, _| b.field("b", "")).indexed("x-a", "1")),
        Says::Trailers(status("200").indexed("x-a", "1")),
    ]);
    answers
}

/// A bad answer of a backend is one, and those of its other requests are good.
#[tokio::test]
async fn bad_answers_have_good_neighbours() {
    let connections = Arc::new(AtomicUsize::new(0));
    let answers = Arc::new(answers());
    let count = answers.len();
    let opened = connections.clone();
    let says = answers.clone();
    let backend = Backend::raw(move |mut socket| {
        opened.fetch_add(1, Ordering::SeqCst);
        let says = says.clone();
        async move {
            let mut bytes = Vec::new();
            socket.write_all(&settings(&[])).await.unwrap();
            let mut asked = Vec::new();
            let mut says = says.iter();
            while let Some(stream) = super::backends::asked(&mut socket, &mut bytes).await {
                asked.push(stream);
                // Two at a time: a bad answer, and a good one that refers to what the bad one has put into the table.
                let [bad, good] = asked[..] else { continue };
                let ok = || Block::new().field(":status", "200");
                let frames = match says.next() {
                    Some(Says::Head(block)) => begin(bad, block.clone()),
                    Some(Says::Trailers(block)) => {
                        [begin(bad, ok()), data(bad, "o"), ask(bad, block.clone())].concat()
                    }
                    None => Vec::new(),
                };
                let frames = [frames, begin(good, ok().reference(62)), last_data(good, "ok")];
                socket.write_all(&frames.concat()).await.unwrap();
                asked.clear();
            }
        }
    })
    .await;
    let mut pool = pool("v1", 1, &[backend.spec_address()]);
    pool.protocol = PoolProtocol::H2;
    let mut spec = support::spec(&[("blue", pool)]);
    spec.services["shop"].retries.attempts = 1;
    let proxy = Proxy::start(spec).await;
    let mut peer = Peer::connect(proxy.address).await;
    for (nth, says) in (0..).zip(answers.iter()) {
        let (bad, good) = (4 * nth + 1, 4 * nth + 3);
        peer.send([ask(bad, Block::post("/x")), ask(good, Block::post("/x"))].concat()).await;
        let over = |peer: &Peer| {
            let is_over = |id| peer.streams.get(id).is_some_and(|stream| stream.is_over());
            [bad, good].iter().all(is_over)
        };
        peer.until("both are answered", over).await.unwrap();
        let stream = &peer.streams[&bad];
        match says {
            Says::Head(_) => {
                assert_eq!((stream.status, stream.reset), (Some(502), None), "{nth}");
                assert_eq!(stream.field("x-crossfade-error"), Some("bad_response"));
            }
            Says::Trailers(_) => assert!(stream.reset.is_some() && !stream.ended, "{nth}"),
        }
        let stream = &peer.streams[&good];
        assert_eq!((stream.status, &stream.body[..]), (Some(200), &b"ok"[..]), "{nth}");
        assert_eq!(stream.field("x-a"), Some("1"));
    }
    assert_eq!((connections.load(Ordering::SeqCst), peer.goaway), (1, None), "{count}");
    until("nothing is in flight", || proxy.open() == 0).await;
}
