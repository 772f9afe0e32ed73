use super::{
    frames::{ACK, END_HEADERS, END_STREAM},
    kind::*,
    *,
};
use proptest::prelude::*;

const PREFACE: &[u8] = super::super::server::PREFACE;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const LIMITS: Limits = Limits { bytes: 1000, fields: 10 };

impl Guard {
    fn server(resets: u32) -> Self {
        Self::new(Side::Server, resets, LIMITS, 0)
    }

    /// What the library gets to see of these bytes.
    fn lets_through(&mut self, bytes: &[u8], now: u64) -> Vec<u8> {
        let mut instead = Vec::new();
        let passed = self.take_in(bytes, now, &mut instead);
        [&bytes[..passed], &instead].concat()
    }
}

fn begun(resets: u32) -> Guard {
    let mut guard = Guard::server(resets);
    let beginning = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    assert_eq!(guard.lets_through(&beginning, 0), beginning);
    guard
}

/// Of how many of these frames the guard has enough.
fn enough(guard: &mut Guard, frame: &[u8], now: u64) -> usize {
    (0..100_000).take_while(|_| guard.lets_through(frame, now) == frame).count()
}

#[test]
fn frames_that_bring_nothing_are_counted() {
    let cases = [
        (frame(PING, 0, 0, &[0; 8]), 1),
        (frame(PRIORITY, 0, 1, &[0; 5]), 1),
        (frame(0xfa, 0, 0, &[]), 1),
        (frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), 1),
        (frame(SETTINGS, 0, 0, &[]), DEAR),
        (frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]), DEAR + 1),
        (frame(DATA, 0, 1, &[]), DEAR),
    ];
    for (frame, price) in cases {
        let mut guard = begun(10);
        let count = enough(&mut guard, &frame, 0);
        // The first SETTINGS has had its price.
        assert_eq!(count as u32, (CHATTER - DEAR) / price, "{frame:?}");
        assert_eq!(guard.verdict(), Some(Reason::ENHANCE_YOUR_CALM));
    }
}

#[test]
fn time_and_traffic_fill_a_budget_up() {
    let ping = frame(PING, 0, 0, &[0; 8]);
    let mut guard = begun(10);
    for second in 0..100 {
        for _ in 0..CHATTER / 10 {
            assert_eq!(guard.lets_through(&ping, second * 1000), ping);
        }
    }
    let data = frame(DATA, 0, 1, &[7; 100]);
    let mut guard = begun(10);
    for _ in 0..100_000 {
        guard.lets_through(&data, 0);
        guard.lets_through(&ping, 0);
    }
    assert_eq!(guard.verdict(), None);
}

#[test]
fn resets_are_counted_whoever_sends_them() {
    let reset = frame(RST_STREAM, 0, 1, &8u32.to_be_bytes());
    let mut guard = begun(10);
    assert_eq!(enough(&mut guard, &reset, 0), 10);
    let mut guard = begun(10);
    for sent in 0..10 {
        assert_eq!(guard.verdict(), None, "{sent}");
        guard.take_out(&reset, 0);
    }
    guard.take_out(&reset, 0);
    assert_eq!(guard.verdict(), Some(Reason::ENHANCE_YOUR_CALM));
    let ping = frame(PING, 0, 0, &[0; 8]);
    assert_eq!(guard.lets_through(&ping, 0), ping, "who asks looks at the verdict");
}

#[test]
fn answers_make_up_for_resets_and_an_unwanted_body_is_no_reset() {
    let reset = frame(RST_STREAM, 0, 1, &8u32.to_be_bytes());
    let answer = frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0x88]);
    let unwanted = frame(RST_STREAM, 0, 1, &0u32.to_be_bytes());
    let mut guard = begun(10);
    for _ in 0..1000 {
        guard.take_out(&answer, 0);
        guard.take_out(&unwanted, 0);
        guard.lets_through(&reset, 0);
    }
    assert_eq!(guard.verdict(), None);
}

#[test]
fn a_client_pays_for_no_resets_to_its_backend() {
    let mut guard = Guard::new(Side::Client, 1, LIMITS, 0);
    let reset = frame(RST_STREAM, 0, 1, &8u32.to_be_bytes());
    guard.take_out(PREFACE, 0);
    for _ in 0..100 {
        guard.take_out(&reset, 0);
    }
    assert_eq!(guard.verdict(), None);
}

#[test]
fn what_has_begun_is_owed_until_it_is_whole() {
    let block = [
        frame(HEADERS, 0, 1, &[0x82]),
        frame(CONTINUATION, 0, 1, &[0x86]),
        frame(CONTINUATION, END_HEADERS, 1, &[0x84]),
    ];
    let mut guard = begun(10);
    assert_eq!(guard.owes_since(), None);
    guard.lets_through(&block[0][..3], 5);
    assert_eq!(guard.owes_since(), Some(5), "a frame's header");
    guard.lets_through(&block[0][3..], 6);
    guard.lets_through(&block[1], 7);
    assert_eq!(guard.owes_since(), Some(5), "its first byte counts, however many come");
    guard.lets_through(&block[2], 8);
    assert_eq!(guard.owes_since(), None);
    guard.lets_through(&frame(DATA, 0, 1, &[7; 100])[..20], 9);
    assert_eq!(guard.owes_since(), None, "bodies have deadlines of their own");
}

#[test]
fn an_acknowledgement_is_no_first_frame() {
    let mut guard = Guard::server(10);
    let beginning = [PREFACE, &frame(SETTINGS, ACK, 0, &[])].concat();
    assert_eq!(guard.lets_through(&beginning, 0), PREFACE);
    assert_eq!(guard.verdict(), Some(Reason::PROTOCOL_ERROR));
}

/// A field that says all of itself; `first` is 0x40 for one that goes into the table.
fn literal(first: u8, name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
    [vec![first], text(name), text(value)].concat()
}

const GET: &[u8] = b"\x82\x86\x84\x01\x01a";
const ENDS: u8 = END_STREAM | END_HEADERS;

fn ask(stream: u32, more: &[u8]) -> Vec<u8> {
    frame(HEADERS, ENDS, stream, &[GET, more].concat())
}

/// The block of the one frame that is let through.
fn block(shown: &[u8]) -> Vec<u8> {
    let header = Header::of(shown.first_chunk().unwrap());
    assert_eq!((header.kind, header.len), (HEADERS, shown.len() - 9), "{shown:?}");
    shown[9..].to_vec()
}

#[test]
fn good_blocks_pass_as_they_came_until_one_does_not() {
    let mut guard = begun(10);
    let kept = literal(0x40, "x-a", "1");
    let first = [ask(1, &kept), frame(DATA, 0, 9, b"x"), ask(3, &[0xbe])].concat();
    let mut instead = Vec::new();
    assert_eq!(guard.take_in(&first, 0, &mut instead), first.len());
    assert!(instead.is_empty(), "nothing was copied");
    let bad = ask(5, &[literal(0x40, "x-b", "2"), literal(0, "X", "")].concat());
    let shown = block(&guard.lets_through(&bad, 0));
    assert!(String::from_utf8_lossy(&shown).contains(MALFORMED));
    assert!(!String::from_utf8_lossy(&shown).contains("x-b"));
    let anew = block(&guard.lets_through(&ask(7, &[0xbe, 0xbf]), 0));
    let whole = [
        literal(0, ":method", "GET"),
        literal(0, ":scheme", "http"),
        literal(0, ":path", "/"),
        literal(0, ":authority", "a"),
        literal(0, "x-b", "2"),
        literal(0, "x-a", "1"),
    ];
    assert_eq!(anew, whole.concat());
    assert_eq!(guard.verdict(), None);
}

#[test]
fn what_is_too_large_keeps_its_method() {
    let mut guard = begun(10);
    for (more, method) in [
        (literal(0, "x-a", "").repeat(11), "GET"),
        (literal(0, "x-a", &"y".repeat(100)).repeat(8), "GET"),
    ] {
        let shown = block(&guard.lets_through(&ask(1 + 2 * more.len() as u32, &more), 0));
        let text = String::from_utf8_lossy(&shown).into_owned();
        assert!(text.contains(TOO_LARGE) && text.contains(method), "{text}");
    }
    let huge = literal(0x40, "x-a", &"y".repeat(100));
    let bomb = [huge, vec![0xbe; 70]].concat();
    assert_eq!(guard.lets_through(&ask(9999, &bomb), 0), b"");
    assert_eq!(guard.verdict(), Some(Reason::ENHANCE_YOUR_CALM));
}

#[test]
fn a_block_that_never_ends_is_kept_up_to_a_limit() {
    let mut guard = begun(10);
    let most = 2 * LIMITS.bytes + LARGEST_FRAME;
    let first = frame(HEADERS, 0, 1, &[0; LARGEST_FRAME]);
    assert_eq!(guard.lets_through(&first, 0), b"");
    let rest = frame(CONTINUATION, 0, 1, &vec![0; most - LARGEST_FRAME]);
    assert_eq!((guard.lets_through(&rest, 0), guard.verdict()), (vec![], None));
    guard.lets_through(&frame(CONTINUATION, 0, 1, &[0]), 0);
    assert_eq!(guard.verdict(), Some(Reason::ENHANCE_YOUR_CALM));
}

#[test]
fn a_block_is_judged_by_where_it_stands() {
    let trailers = |stream, more: &[u8]| frame(HEADERS, ENDS, stream, more);
    let is_failed = |shown: &[u8]| block(shown) == literal(0, "connection", "");
    let opened = |guard: &mut Guard| {
        let begin = frame(HEADERS, END_HEADERS, 1, GET);
        assert_eq!(guard.lets_through(&begin, 0), begin);
    };
    for (bad, is_bad) in [
        (trailers(1, &literal(0, "x-a", "1")), false),
        (trailers(1, &[]), false),
        (trailers(1, &[0x84]), true),
        (frame(HEADERS, END_HEADERS, 1, &literal(0, "x-a", "1")), true),
    ] {
        let mut guard = begun(10);
        opened(&mut guard);
        let shown = guard.lets_through(&bad, 0);
        assert_eq!((is_failed(&shown), shown == bad), (is_bad, !is_bad), "{bad:?}");
    }
    for over in [
        frame(DATA, END_STREAM, 1, b""),
        frame(RST_STREAM, 0, 1, &8u32.to_be_bytes()),
        trailers(1, &[]),
    ] {
        let mut guard = begun(10);
        opened(&mut guard);
        guard.lets_through(&over, 0);
        assert!(guard.blocks.is_idle());
        let late = ask(1, &[]);
        assert_eq!(guard.lets_through(&late, 0), late, "the library knows what that is");
    }
}

#[test]
fn responses_are_judged_by_where_they_stand() {
    let answer = |flags, more: &[u8]| frame(HEADERS, flags | END_HEADERS, 1, more);
    let early = literal(0, ":status", "103");
    let is_failed = |shown: &[u8]| block(shown) == literal(0, "connection", "");
    let cases: [(&[Vec<u8>], bool); 9] = [
        (&[answer(END_STREAM, &[0x88])], false),
        (&[answer(0, &early), answer(0, &early), answer(0, &[0x88])], false),
        (&[answer(0, &[0x88]), answer(END_STREAM, &[])], false),
        (&[answer(0, &[])], true),
        (&[answer(0, &[0x88, 0x84])], true),
        (&[answer(END_STREAM, &early)], true),
        (&[answer(0, &[0x88]), answer(END_STREAM, &[0x88])], true),
        (&[answer(0, &[0x88]), answer(0, &literal(0, "x-a", "1"))], true),
        (&[answer(0, &early), answer(0, &literal(0, "x-a", "1"))], true),
    ];
    for (answers, is_bad) in cases {
        let mut guard = Guard::new(Side::Client, 0, LIMITS, 0);
        guard.take_out(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &ask(1, &[])].concat(), 0);
        guard.lets_through(&frame(SETTINGS, 0, 0, &[]), 0);
        let (last, before) = answers.split_last().unwrap();
        for answer in before {
            assert_eq!(&guard.lets_through(answer, 0), answer);
        }
        assert_eq!(is_failed(&guard.lets_through(last, 0)), is_bad, "{answers:?}");
        guard.take_out(&frame(RST_STREAM, 0, 1, &8u32.to_be_bytes()), 0);
        assert!(guard.blocks.is_idle());
    }
}

fn some_frame() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(vec![DATA, HEADERS, RST_STREAM, SETTINGS, PING, 0xfa]);
    (kinds, any::<u8>(), 0u32..6, prop::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
}

/// The same frames, with what only frames of header blocks have left out: a block that was cut comes without.
fn plain(bytes: &[u8]) -> Vec<u8> {
    let Some(mut rest) = bytes.strip_prefix(PREFACE) else { return bytes.to_vec() };
    let mut out = Vec::new();
    while let Some(head) = rest.first_chunk::<9>() {
        let header = Header::of(head);
        let payload = &rest[9..rest.len().min(9 + header.len)];
        let (range, _) = match header.kind {
            HEADERS => blocks::within(&header, payload).unwrap(),
            _ => (0..payload.len(), true),
        };
        let flags = if header.is_of_a_block() { END_STREAM | END_HEADERS } else { 0xff };
        out.extend([header.kind, header.flags & flags]);
        out.extend(header.stream.to_be_bytes());
        out.extend(&payload[range]);
        rest = &rest[9 + payload.len()..];
    }
    out.extend(rest);
    out
}

proptest! {
    /// However the bytes come in pieces, the guard believes the same ones and comes to the same verdict.
    #[test]
    fn pieces_make_no_difference(
        frames in prop::collection::vec(some_frame(), 0..20),
        cuts in prop::collection::vec(1usize..50, 1..40),
    ) {
        let bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frames.concat()].concat();
        let mut whole = Guard::server(3);
        let believed = whole.lets_through(&bytes, 0);
        let mut pieces = Guard::server(3);
        let (mut rest, mut sum) = (&bytes[..], Vec::new());
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            sum.extend(pieces.lets_through(piece, 0));
            rest = after;
            if rest.is_empty() || pieces.verdict().is_some() {
                break;
            }
        }
        prop_assert_eq!(whole.verdict(), pieces.verdict());
        prop_assert_eq!(plain(&believed), plain(&sum));
    }

    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        let mut guard = begun(3);
        guard.lets_through(&bytes, u64::MAX);
        guard.take_out(&bytes, u64::MAX);
    }
}
