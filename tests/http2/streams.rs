//! Section 5: states, numbers and the number of streams.

use super::{
    case::{Case, Sees, Step, case},
    frame::*,
    hpack::Block,
    stage::MOST_STREAMS,
};

pub fn cases() -> Vec<Case> {
    [idle(), numbers(), closed(), limits(), padding()].into_iter().flatten().collect()
}

fn idle() -> Vec<Case> {
    let on_idle = |name: &str, frame: Vec<u8>| {
        case(format!("{name} on an idle stream"), "section 5.1: only HEADERS and PRIORITY may come")
            .sends(&[frame])
            .goaway(&[PROTOCOL_ERROR])
    };
    vec![
        on_idle("DATA", data(1, "x")),
        on_idle("a RST_STREAM", reset(1, 8)),
        on_idle("a WINDOW_UPDATE", window(1, 1)),
        on_idle("DATA that ends it", last_data(5, "")),
    ]
}

fn numbers() -> Vec<Case> {
    let on_zero = |name: &str, frame: Vec<u8>| {
        case(format!("{name} on stream 0"), "section 6: PROTOCOL_ERROR")
            .sends(&[frame])
            .goaway(&[PROTOCOL_ERROR])
    };
    vec![
        on_zero("DATA", data(0, "x")),
        on_zero("HEADERS", ask(0, Block::get("/x"))),
        on_zero("PRIORITY", frame(PRIORITY, 0, 0, [0, 0, 0, 1, 1])),
        on_zero("RST_STREAM", reset(0, 8)),
        on_zero("CONTINUATION", frame(CONTINUATION, END_HEADERS, 0, b"")),
        case("a stream with an even number", "section 5.1.1: clients open odd ones")
            .sends(&[ask(2, Block::get("/x"))])
            .goaway(&[PROTOCOL_ERROR]),
        case("a stream with a lower number than the last", "section 5.1.1")
            .sends(&[ask(5, Block::get("/x"))])
            .waits(Step::AwaitAnswer(5))
            .sends(&[ask(3, Block::get("/y"))])
            .goaway(&[PROTOCOL_ERROR, STREAM_CLOSED])
            .forwards("GET /x"),
        case("numbers with gaps", "section 5.1.1: the ones between are closed")
            .sends(&[ask(1, Block::get("/x")), ask(1001, Block::get("/y"))])
            .answers(1, 200)
            .answers(1001, 200)
            .forwards("GET /x")
            .forwards("GET /y"),
        case("a window update for a stream that was skipped", "section 5.1.1: it is closed")
            .sends(&[ask(5, Block::get("/x")), window(3, 1)])
            .answers(5, 200)
            .forwards("GET /x"),
    ]
}

fn closed() -> Vec<Case> {
    // An error of the connection where section 5.1 asks for one of the stream: section 5.4 allows it.
    const CODES: &[u32] = &[STREAM_CLOSED, PROTOCOL_ERROR];
    let stalled = || ask(1, Block::get("/stall"));
    vec![
        case("DATA behind the end of a request", "section 5.1, half-closed (remote)")
            .sends(&[stalled(), data(1, "x")])
            .sees(Sees::ResetOrGoaway(1, CODES))
            .forwards_maybe(),
        case("HEADERS behind the end of a request", "section 5.1, half-closed (remote)")
            .sends(&[stalled(), ask(1, Block::get("/y"))])
            .sees(Sees::ResetOrGoaway(1, CODES))
            .forwards_maybe(),
        case("a window update behind the end of a request", "section 5.1: allowed")
            .sends(&[ask(1, Block::get("/x")), window(1, 1)])
            .answers(1, 200)
            .forwards("GET /x"),
        case("HEADERS on a stream that was answered", "section 5.1, closed")
            .sends(&[ask(1, Block::get("/x"))])
            .waits(Step::AwaitAnswer(1))
            .sends(&[ask(1, Block::get("/y"))])
            .goaway(CODES)
            .forwards("GET /x"),
        case("a window update on a stream that was answered", "section 5.1: ignored for a while")
            .sends(&[ask(1, Block::get("/x"))])
            .waits(Step::AwaitAnswer(1))
            .sends(&[window(1, 1), reset(1, 8), ask(3, Block::get("/y"))])
            .answers(1, 200)
            .answers(3, 200)
            .forwards("GET /x")
            .forwards("GET /y"),
        case("DATA behind a reset", "section 5.1, closed")
            .sends(&[begin(1, Block::post("/x")), reset(1, 8), data(1, "x")])
            .sees(Sees::ResetOrGoaway(1, CODES))
            .may_cut(),
        case("HEADERS behind a reset", "section 5.1, closed")
            .sends(&[begin(1, Block::post("/x")), reset(1, 8), ask(1, Block::get("/y"))])
            .sees(Sees::ResetOrGoaway(1, CODES))
            .may_cut(),
        case("a request that is taken back", "section 5.4.2: its backend is let go, others go on")
            .sends(&[ask(1, Block::get("/stall"))])
            .waits(Step::AwaitMessages(1))
            .sends(&[reset(1, 8), ask(3, Block::get("/y"))])
            .answers(3, 200)
            .forwards("GET /stall")
            .forwards("GET /y"),
        case("a body that is taken back", "section 8.1.1: what is cut is not forwarded as whole")
            .sends(&[begin(1, Block::post("/x")), data(1, "hello")])
            .waits(Step::AwaitBackend)
            .sends(&[reset(1, 8), ask(3, Block::get("/y"))])
            .answers(3, 200)
            .forwards("GET /y")
            .may_cut(),
        case("a client that has said GOAWAY", "section 6.8: what it asked is answered")
            .sends(&[ask(1, Block::get("/x")), frame(GOAWAY, 0, 0, [0; 8])])
            .answers(1, 200)
            .forwards("GET /x")
            .ends_itself(),
    ]
}

fn limits() -> Vec<Case> {
    let streams = (0..=MOST_STREAMS).map(|n| 2 * n + 1);
    let last = 2 * MOST_STREAMS + 1;
    let asked: Vec<_> = streams.map(|stream| ask(stream, Block::get("/stall"))).collect();
    let mut too_many = case("more streams than were offered", "section 5.1.2")
        .sends(&asked)
        .sees(Sees::Reset(last, &[REFUSED_STREAM]))
        .waits(Step::AwaitMessages(MOST_STREAMS as usize));
    for stream in 0..MOST_STREAMS {
        too_many = too_many.sends(&[reset(2 * stream + 1, 8)]).forwards("GET /stall");
    }
    let mut cases = vec![too_many];
    let own = [0, 0, 0, 1, 1];
    cases.push(
        case("a stream that depends on itself", "RFC 7540 section 5.3.1")
            .sends(&[frame(
                HEADERS,
                END_HEADERS | END_STREAM | PRIORITIZED,
                1,
                [&own[..], &Block::get("/x").0].concat(),
            )])
            .sees(Sees::Reset(1, &[PROTOCOL_ERROR])),
    );
    cases.push(
        case("a priority in HEADERS", "section 6.2: without effect")
            .sends(&[frame(
                HEADERS,
                END_HEADERS | END_STREAM | PRIORITIZED,
                1,
                [&[0x80, 0, 0, 0, 9][..], &Block::get("/x").0].concat(),
            )])
            .answers(1, 200)
            .forwards("GET /x"),
    );
    cases
}

fn padding() -> Vec<Case> {
    let padded = |pad: u8, rest: &[u8], zeros: usize| [&[pad][..], rest, &vec![0; zeros]].concat();
    const WHY: &str =
        "sections 6.1 and 6.2: padding as long as the payload is an error of the connection";
    vec![
        case("HEADERS with padding", "section 6.2")
            .sends(&[frame(
                HEADERS,
                END_HEADERS | END_STREAM | PADDED,
                1,
                padded(20, &Block::get("/x").0, 20),
            )])
            .answers(1, 200)
            .forwards("GET /x"),
        case("DATA with padding", "section 6.1")
            .sends(&[
                begin(1, Block::post("/x")),
                frame(DATA, END_STREAM | PADDED, 1, padded(255, b"hello", 255)),
            ])
            .answers(1, 200)
            .forwards("POST /x"),
        case("DATA with more padding than payload", WHY)
            .sends(&[begin(1, Block::post("/x")), frame(DATA, PADDED, 1, [5, 1, 2, 3, 4])])
            .goaway(&[PROTOCOL_ERROR])
            .may_cut(),
        case("HEADERS with more padding than payload", WHY)
            .sends(&[frame(HEADERS, END_HEADERS | PADDED, 1, [200, 1, 2, 3])])
            .goaway(&[PROTOCOL_ERROR]),
        case("DATA that is padded and empty", "section 6.1: the byte of the length is missing")
            .sends(&[begin(1, Block::post("/x")), frame(DATA, PADDED, 1, b"")])
            .goaway(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR])
            .may_cut(),
    ]
}
