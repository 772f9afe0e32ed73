//! Sections 3.4, 4 and 6: the preface, and frames taken one by one.

use super::{
    case::{Case, Sees, case},
    frame::*,
    hpack::Block,
};

pub fn cases() -> Vec<Case> {
    [preface(), sizes(), blocks(), compression(), settings_frames(), others()]
        .into_iter()
        .flatten()
        .collect()
}

fn preface() -> Vec<Case> {
    let whole = [PREFACE, &settings(&[]), &ask(1, Block::get("/x"))].concat();
    let behind = |frame: Vec<u8>| vec![[PREFACE, &frame].concat()];
    const WHY: &str = "section 3.4: the preface is followed by a SETTINGS frame";
    vec![
        case("a request in one breath with the preface", "section 3.4: clients need not wait")
            .raw()
            .sends(std::slice::from_ref(&whole))
            .answers(1, 200)
            .forwards("GET /x"),
        case("a request byte by byte", "section 4: frames are not packets")
            .raw()
            .drips(&[whole])
            .answers(1, 200)
            .forwards("GET /x"),
        case("HEADERS before SETTINGS", WHY)
            .raw()
            .sends(&behind(ask(1, Block::get("/x"))))
            .goaway(&[PROTOCOL_ERROR]),
        case("a PING before SETTINGS", WHY)
            .raw()
            .sends(&behind(frame(PING, 0, 0, [0; 8])))
            .goaway(&[PROTOCOL_ERROR]),
        case("an acknowledgement before SETTINGS", WHY)
            .raw()
            .sends(&behind(frame(SETTINGS, ACK, 0, b"")))
            .goaway(&[PROTOCOL_ERROR]),
    ]
}

fn sizes() -> Vec<Case> {
    const TOO_LARGE: &str = "section 4.2: larger than SETTINGS_MAX_FRAME_SIZE";
    let large = vec![0; (16 << 10) + 1];
    let fixed = |name: &str, kind: u8, stream: u32, lens: &[usize]| {
        let of = |len: &usize| {
            case(format!("{name} of {len} bytes"), "section 6: FRAME_SIZE_ERROR")
                .sends(&[ask(1, Block::get("/stall")), frame(kind, 0, stream, vec![1; *len])])
                .goaway(&[FRAME_SIZE_ERROR])
                .forwards_maybe()
        };
        lens.iter().map(of).collect::<Vec<_>>()
    };
    let mut cases = vec![
        case("DATA of the largest size", "section 4.2")
            .sends(&[begin(1, Block::post("/x")), last_data(1, vec![7; 16 << 10])])
            .answers(1, 200)
            .forwards("POST /x"),
        case("DATA above the largest size", TOO_LARGE)
            .sends(&[begin(1, Block::post("/x")), data(1, &large)])
            .goaway(&[FRAME_SIZE_ERROR])
            .may_cut(),
        case("HEADERS above the largest size", TOO_LARGE)
            .sends(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, &large)])
            .goaway(&[FRAME_SIZE_ERROR]),
        case("an unknown frame above the largest size", TOO_LARGE)
            .sends(&[frame(0xfa, 0, 0, &large)])
            .goaway(&[FRAME_SIZE_ERROR]),
        case("an acknowledgement of SETTINGS with a payload", "section 6.5")
            .sends(&[frame(SETTINGS, ACK, 0, [0; 6])])
            .goaway(&[FRAME_SIZE_ERROR]),
    ];
    cases.extend(fixed("a PING", PING, 0, &[0, 7, 9]));
    cases.extend(fixed("a RST_STREAM", RST_STREAM, 1, &[0, 3, 5]));
    cases.extend(fixed("a WINDOW_UPDATE", WINDOW_UPDATE, 0, &[0, 3, 5]));
    cases.extend(fixed("a WINDOW_UPDATE of a stream", WINDOW_UPDATE, 1, &[3, 5]));
    cases.extend(fixed("a PRIORITY", PRIORITY, 3, &[0, 4, 6]));
    cases.extend(fixed("SETTINGS", SETTINGS, 0, &[1, 5, 7]));
    cases.extend(fixed("a GOAWAY", GOAWAY, 0, &[0, 7]));
    cases
}

fn blocks() -> Vec<Case> {
    let block = Block::get("/x").0;
    let (first, rest) = block.split_at(10);
    let (second, third) = rest.split_at(5);
    let opened = frame(HEADERS, END_STREAM, 1, first);
    let between = |name: &str, other: Vec<u8>| {
        case(format!("{name} within a header block"), "section 6.10: only CONTINUATION may follow")
            .sends(&[opened.clone(), other, frame(CONTINUATION, END_HEADERS, 1, rest)])
            .goaway(&[PROTOCOL_ERROR])
    };
    vec![
        case("a header block in three frames", "section 4.3")
            .sends(&[
                opened.clone(),
                frame(CONTINUATION, 0, 1, second),
                frame(CONTINUATION, END_HEADERS, 1, third),
            ])
            .answers(1, 200)
            .forwards("GET /x"),
        case("a header block with an empty frame in it", "section 6.10 allows it, a few times")
            .sends(&[
                opened.clone(),
                frame(CONTINUATION, 0, 1, b""),
                frame(CONTINUATION, END_HEADERS, 1, rest),
            ])
            .answers(1, 200)
            .forwards("GET /x"),
        case("a header block whose HEADERS is empty", "section 4.3")
            .sends(&[
                frame(HEADERS, END_STREAM, 1, b""),
                frame(CONTINUATION, END_HEADERS, 1, &block),
            ])
            .answers(1, 200)
            .forwards("GET /x"),
        between("a PING", frame(PING, 0, 0, [0; 8])),
        between("SETTINGS", settings(&[])),
        between("DATA", data(1, "x")),
        between("another stream's HEADERS", ask(3, Block::get("/y"))),
        between("a PRIORITY", frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1])),
        between("a WINDOW_UPDATE", window(0, 1)),
        between("a RST_STREAM", reset(1, 8)),
        between("an unknown frame", frame(0xfa, 0, 1, b"x")),
        between("another stream's CONTINUATION", frame(CONTINUATION, 0, 3, b"")),
        case("CONTINUATION without a header block", "section 6.10")
            .sends(&[frame(CONTINUATION, END_HEADERS, 1, &block)])
            .goaway(&[PROTOCOL_ERROR]),
        case("CONTINUATION behind a whole header block", "section 6.10")
            .sends(&[begin(1, Block::post("/x")), frame(CONTINUATION, END_HEADERS, 1, &block)])
            .goaway(&[PROTOCOL_ERROR])
            .may_cut(),
    ]
}

fn compression() -> Vec<Case> {
    const CODES: &[u32] = &[COMPRESSION_ERROR];
    let broken = |name: &str, bytes: &[u8]| {
        case(name, "section 4.3 and RFC 7541: a block that cannot be decoded ends the connection")
            .sends(&[ask(1, Block::get("/x").bytes(bytes))])
            .goaway(CODES)
    };
    vec![
        broken("index 0", &[0x80]),
        broken("an index beyond the tables", &[0xff, 0x80, 0x01]),
        broken("a name at an index beyond the tables", &[0x7f, 0x80, 0x01, 1, b'x']),
        broken("an integer that never ends", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        broken("a text longer than the block", &[0, 5, b'a']),
        broken("a field without its value", &[0, 1, b'a']),
        broken("Huffman code with the end of string", &[0, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]),
        broken("Huffman code with zeros as padding", &[0, 1, b'a', 0x81, 0x1c & 0xf8]),
        broken("Huffman code with a whole byte of padding", &[0, 1, b'a', 0x82, 0x1f, 0xff]),
        broken("a new table size behind the first field", &[0x20]),
        case("a table size above what was offered", "RFC 7541 section 6.3")
            .sends(&[ask(1, Block::new().bytes([0x3f, 0xe2, 0x1f]).bytes(Block::get("/x").0))])
            .goaway(CODES),
        case("a table size of zero", "RFC 7541 section 6.3: allowed at the beginning")
            .sends(&[ask(1, Block::new().bytes([0x20]).bytes(Block::get("/x").0))])
            .answers(1, 200)
            .forwards("GET /x"),
        case("fields of the dynamic table", "RFC 7541 section 2.3.2: it outlives a request")
            .sends(&[
                ask(1, Block::get("/x").indexed("x-a", "1")),
                ask(3, Block::get("/y").reference(62)),
            ])
            .answers(1, 200)
            .answers(3, 200)
            .forwards("GET /x")
            .forwards("GET /y")
            .with("x-a", "1"),
        case(
            "a table that a malformed request has changed",
            "section 8.1.1: the table still counts",
        )
        .sends(&[
            ask(1, Block::get("/x").field("connection", "close").indexed("x-a", "1")),
            ask(3, Block::get("/y").reference(62)),
        ])
        .malformed()
        .answers(3, 200)
        .forwards("GET /y")
        .with("x-a", "1"),
        case("pseudo-headers of the static table", "RFC 7541 appendix A")
            .sends(&[ask(
                1,
                Block::new().reference(2).reference(6).reference(4).field(":authority", "a"),
            )])
            .answers(1, 200)
            .forwards("GET /"),
    ]
}

fn settings_frames() -> Vec<Case> {
    let wrong = |name: &str, value: (u16, u32), code: &'static [u32]| {
        case(name, "section 6.5.2").sends(&[settings(&[value])]).goaway(code)
    };
    vec![
        wrong("ENABLE_PUSH of 2", (2, 2), &[PROTOCOL_ERROR]),
        wrong("INITIAL_WINDOW_SIZE of 2^31", (4, 1 << 31), &[FLOW_CONTROL_ERROR]),
        wrong("MAX_FRAME_SIZE of 16,383", (5, (1 << 14) - 1), &[PROTOCOL_ERROR]),
        wrong("MAX_FRAME_SIZE of 2^24", (5, 1 << 24), &[PROTOCOL_ERROR]),
        wrong("ENABLE_CONNECT_PROTOCOL of 2", (8, 2), &[PROTOCOL_ERROR]),
        case("a bad setting behind good ones", "section 6.5.3: all are processed in order")
            .sends(&[settings(&[(3, 100), (4, 70_000), (5, 1)])])
            .goaway(&[PROTOCOL_ERROR]),
        case("unknown settings", "section 6.5.2: ignored")
            .sends(&[settings(&[(0x99, 1), (0xffff, u32::MAX)]), ask(1, Block::get("/x"))])
            .answers(1, 200)
            .forwards("GET /x"),
        case("all settings at their limits", "section 6.5.2")
            .sends(&[
                settings(&[
                    (1, 0),
                    (2, 0),
                    (3, 0),
                    (4, (1 << 31) - 1),
                    (5, (1 << 24) - 1),
                    (6, 1000),
                ]),
                ask(1, Block::get("/x")),
            ])
            .answers(1, 200)
            .forwards("GET /x"),
        case("SETTINGS on a stream", "section 6.5")
            .sends(&[frame(SETTINGS, 0, 1, b"")])
            .goaway(&[PROTOCOL_ERROR]),
    ]
}

fn others() -> Vec<Case> {
    vec![
        case("a ping", "section 6.7")
            .sends(&[frame(PING, 0, 0, b"01234567")])
            .sees(Sees::Pong(b"01234567")),
        case("a ping with unknown flags", "section 4.1: unknown flags are ignored")
            .sends(&[frame(PING, 0xfe, 0, b"01234567")])
            .sees(Sees::Pong(b"01234567")),
        case("the answer to no ping", "section 6.7: nothing is answered to an answer")
            .sends(&[frame(PING, ACK, 0, b"01234567"), ask(1, Block::get("/x"))])
            .answers(1, 200)
            .forwards("GET /x"),
        case("a ping on a stream", "section 6.7")
            .sends(&[frame(PING, 0, 1, [0; 8])])
            .goaway(&[PROTOCOL_ERROR]),
        case("a GOAWAY on a stream", "section 6.8")
            .sends(&[frame(GOAWAY, 0, 1, [0; 8])])
            .goaway(&[PROTOCOL_ERROR]),
        case("PUSH_PROMISE of a client", "section 8.4: clients cannot push")
            .sends(&[
                ask(1, Block::get("/stall")),
                frame(
                    PUSH_PROMISE,
                    END_HEADERS,
                    1,
                    [&[0, 0, 0, 2][..], &Block::get("/p").0].concat(),
                ),
            ])
            .goaway(&[PROTOCOL_ERROR])
            .forwards_maybe(),
        case("unknown frames", "section 4.1: ignored, whatever they are about")
            .sends(&[
                frame(0xfa, 0xff, 0, b"x"),
                frame(0xfb, 0, 1, b""),
                ask(1, Block::get("/x")),
                frame(0xfc, 0, 0x7fff_ffff, [0; 100]),
            ])
            .answers(1, 200)
            .forwards("GET /x"),
        case("the reserved bit of a stream's number", "section 4.1: ignored")
            .sends(&[frame(PING, 0, 1 << 31, b"01234567"), ask(1 | 1 << 31, Block::get("/x"))])
            .sees(Sees::Pong(b"01234567"))
            .answers(1, 200)
            .forwards("GET /x"),
        case("a window update of 0", "section 6.9; an error of a stream may end the connection")
            .sends(&[ask(1, Block::get("/stall")), window(1, 0)])
            .goaway(&[PROTOCOL_ERROR])
            .forwards_maybe(),
        case("a window update of 0 for the connection", "section 6.9")
            .sends(&[window(0, 0)])
            .goaway(&[PROTOCOL_ERROR]),
        case("a window of the connection above 2^31 - 1", "section 6.9.1")
            .sends(&[window(0, (1 << 31) - 1)])
            .goaway(&[FLOW_CONTROL_ERROR]),
        case("a window of a stream above 2^31 - 1", "section 6.9.1")
            .sends(&[ask(1, Block::get("/stall")), window(1, (1 << 31) - 1)])
            .sees(Sees::ResetOrGoaway(1, &[FLOW_CONTROL_ERROR]))
            .forwards_maybe(),
        case("a setting that takes a window above 2^31 - 1", "section 6.9.2")
            .sends(&[
                ask(1, Block::get("/stall")),
                window(1, (1 << 31) - 1 - 65_535),
                settings(&[(4, 70_000)]),
            ])
            .goaway(&[FLOW_CONTROL_ERROR])
            .forwards_maybe(),
        case("priorities", "section 6.3: allowed in any state, and without effect")
            .sends(&[
                frame(PRIORITY, 0, 1, [0, 0, 0, 3, 1]),
                ask(1, Block::get("/x")),
                frame(PRIORITY, 0, 1, [0x80, 0, 0, 0, 255]),
                frame(PRIORITY, 0, 99, [0, 0, 0, 1, 1]),
            ])
            .answers(1, 200)
            .forwards("GET /x"),
    ]
}
