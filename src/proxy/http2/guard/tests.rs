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

fn begun(resets: u32) -> Guard {
    let mut guard = Guard::new(Side::Server, resets, 0);
    let beginning = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    assert_eq!(guard.take_in(&beginning, 0), beginning.len());
    guard
}

/// Of how many of these frames the guard has enough.
fn enough(guard: &mut Guard, frame: &[u8], now: u64) -> usize {
    (0..100_000).take_while(|_| guard.take_in(frame, now) == frame.len()).count()
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
            assert_eq!(guard.take_in(&ping, second * 1000), ping.len());
        }
    }
    let data = frame(DATA, 0, 1, &[7; 100]);
    let mut guard = begun(10);
    for _ in 0..100_000 {
        guard.take_in(&data, 0);
        guard.take_in(&ping, 0);
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
    assert_eq!(guard.take_in(&frame(PING, 0, 0, &[0; 8]), 0), 17, "who asks looks at the verdict");
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
        guard.take_in(&reset, 0);
    }
    assert_eq!(guard.verdict(), None);
}

#[test]
fn a_client_pays_for_no_resets_to_its_backend() {
    let mut guard = Guard::new(Side::Client, 1, 0);
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
    guard.take_in(&block[0][..3], 5);
    assert_eq!(guard.owes_since(), Some(5), "a frame's header");
    guard.take_in(&block[0][3..], 6);
    guard.take_in(&block[1], 7);
    assert_eq!(guard.owes_since(), Some(5), "its first byte counts, however many come");
    guard.take_in(&block[2], 8);
    assert_eq!(guard.owes_since(), None);
    guard.take_in(&frame(DATA, 0, 1, &[7; 100])[..20], 9);
    assert_eq!(guard.owes_since(), None, "bodies have deadlines of their own");
}

#[test]
fn an_acknowledgement_is_no_first_frame() {
    let mut guard = Guard::new(Side::Server, 10, 0);
    let beginning = [PREFACE, &frame(SETTINGS, ACK, 0, &[])].concat();
    assert_eq!(guard.take_in(&beginning, 0), PREFACE.len());
    assert_eq!(guard.verdict(), Some(Reason::PROTOCOL_ERROR));
}

fn some_frame() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(vec![DATA, HEADERS, RST_STREAM, SETTINGS, PING, 0xfa]);
    (kinds, any::<u8>(), 0u32..6, prop::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
}

proptest! {
    /// However the bytes come in pieces, the guard believes the same ones and comes to the same verdict.
    #[test]
    fn pieces_make_no_difference(
        frames in prop::collection::vec(some_frame(), 0..20),
        cuts in prop::collection::vec(1usize..50, 1..40),
    ) {
        let bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frames.concat()].concat();
        let mut whole = Guard::new(Side::Server, 3, 0);
        let believed = whole.take_in(&bytes, 0);
        let mut pieces = Guard::new(Side::Server, 3, 0);
        let (mut rest, mut sum) = (&bytes[..], 0);
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            sum += pieces.take_in(piece, 0);
            rest = after;
            if rest.is_empty() || pieces.verdict().is_some() {
                break;
            }
        }
        prop_assert_eq!(whole.verdict(), pieces.verdict());
        // A header in pieces has been let through in part before it is known.
        prop_assert!(sum >= believed && sum < believed + 9, "{} {}", sum, believed);
    }

    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        let mut guard = begun(3);
        guard.take_in(&bytes, u64::MAX);
        guard.take_out(&bytes, u64::MAX);
    }
}
