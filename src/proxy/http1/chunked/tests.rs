use super::*;
use proptest::prelude::*;

/// Data, what was left, and the trailers.
#[derive(Debug, PartialEq)]
struct Body {
    data: Vec<u8>,
    rest: Vec<u8>,
    trailers: Vec<(String, String)>,
}

/// Decodes in pieces that end at `cuts` and at the end. `None`: it had no end.
fn decode(bytes: &[u8], cuts: &[usize]) -> Result<Option<Body>, Malformed> {
    let mut decoder = Chunked::default();
    let mut data = Vec::new();
    let mut from = 0;
    for to in cuts.iter().copied().chain([bytes.len()]) {
        let mut piece = bytes[from..to].to_vec();
        let decoded = decoder.decode(&mut piece)?;
        assert!(decoded.data <= decoded.read && decoded.read <= piece.len());
        assert!(decoded.end || decoded.read == piece.len(), "all is read unless it ended");
        data.extend_from_slice(&piece[..decoded.data]);
        if decoded.end {
            let (lines, raw) = decoder.trailers();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let trailers = lines
                .iter()
                .map(|line| (text(line.name.of(raw)), text(line.value.of(raw))))
                .collect();
            let rest = bytes[from + decoded.read..].to_vec();
            return Ok(Some(Body { data, rest, trailers }));
        }
        from = to;
    }
    Ok(None)
}

#[track_caller]
fn assert_body(bytes: impl AsRef<[u8]>, data: impl AsRef<[u8]>, rest: &str) {
    let body = decode(bytes.as_ref(), &[]).expect("well-formed").expect("complete");
    assert_eq!((body.data.as_slice(), body.rest.as_slice()), (data.as_ref(), rest.as_bytes()));
}

#[track_caller]
fn assert_malformed(bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    assert_eq!(decode(bytes, &[]), Err(Malformed), "{:?}", String::from_utf8_lossy(bytes));
}

// RFC 9112 section 7.1: chunked-body = *chunk last-chunk trailer-section CRLF
#[test]
fn data_is_taken_out_of_its_chunks() {
    assert_body("0\r\n\r\n", "", "");
    assert_body("3\r\nabc\r\n0\r\n\r\n", "abc", "");
    assert_body("1\r\na\r\nB\r\n0123456789a\r\n00\r\n\r\n", "a0123456789a", "");
    assert_body(
        "00000000000000aA\r\n".to_owned() + &"x".repeat(0xaa) + "\r\n0\r\n\r\n",
        "x".repeat(0xaa),
        "",
    );
    assert_body("4\r\n\r\n0\r\r\n0\r\n\r\n", "\r\n0\r", "");
}

#[test]
fn what_follows_the_body_is_not_read() {
    assert_body("1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n", "a", "GET / HTTP/1.1\r\n");
    assert_body("0\r\nA: b\r\n\r\n\r\nGET", "", "\r\nGET");
}

#[test]
fn an_ended_body_reads_nothing_more() {
    let mut decoder = Chunked::default();
    let end = Decoded { data: 0, read: 5, end: true };
    assert_eq!(decoder.decode(&mut b"0\r\n\r\n".to_vec()), Ok(end));
    assert_eq!(decoder.decode(&mut b"0\r\n\r\n".to_vec()), Ok(Decoded { read: 0, ..end }));
    decoder.clear();
    assert_eq!(decoder.decode(&mut b"0\r\n\r\n".to_vec()), Ok(end));
}

// RFC 9112 section 7.1: chunk-size = 1*HEXDIG; a recipient MUST prevent integer overflow
#[test]
fn a_size_is_hex_digits() {
    for size in [
        "",
        "g",
        "-1",
        "+1",
        " 1",
        "\t1",
        "0x1",
        "1_0",
        "1h",
        "1.0",
        "１",
        "11111111111111111",
        "00000000000000000",
        "fffffffffffffffff",
        "\u{0}1",
        "1\u{0}",
        "1\"",
    ] {
        assert_malformed(format!("{size}\r\na\r\n0\r\n\r\n"));
    }
    let mut decoder = Chunked::default();
    let mut largest = b"ffffffffffffffff\r\nabc".to_vec();
    let decoded = Decoded { data: 3, read: 21, end: false };
    assert_eq!(decoder.decode(&mut largest), Ok(decoded), "2^64 - 1");
}

// RFC 9112 section 7.1: CRLF behind size and data, nothing else
#[test]
fn chunks_end_with_crlf_only() {
    let good = "2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n";
    assert_body(good, "abc", "");
    for (at, _) in good.match_indices("\r\n") {
        for bad in ["\n", "\r", "\n\r", "\r\r\n", "\n\n", "\0\n"] {
            assert_malformed([&good[..at], bad, &good[at + 2..], "x\n"].concat());
        }
    }
    for bad in ["2\r\nabc\r\n0\r\n\r\n", "2\r\nab0\r\n\r\n", "2\r\na\r\n0\r\n\r\n"] {
        assert_malformed(bad);
    }
}

// RFC 9112 section 7.1.1: chunk-ext = *( BWS ";" BWS chunk-ext-name ... ); unknown ones are ignored
#[test]
fn extensions_are_dropped() {
    for extension in [";a", ";a=b", ";a=\"b;c\"", " ;a", "\t ; a = b ;c", ";\u{e9}", ";", ";\t"] {
        assert_body(format!("1{extension}\r\na\r\n0{extension}\r\n\r\n"), "a", "");
    }
    for bad in
        [" ", "\t", " a", ";a\nb", ";a\rb", ";\"\n\"", ";\0", ";\u{7f}", "\u{b};", ",a", "=a"]
    {
        assert_malformed(format!("1{bad}\r\na\r\n0\r\n\r\n"));
    }
}

// RFC 9112 section 7.1.1: a server ought to limit the total length of chunk extensions
#[test]
fn a_chunks_first_line_has_a_limit() {
    let of = |length: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(length - 4));
    assert_body(of(1024), "a", "");
    assert_malformed(of(1025));
    assert_malformed("1;".to_owned() + &"x".repeat(1022));
}

#[test]
fn all_extensions_have_a_limit() {
    let of = |count: usize, data: &str| {
        let chunk = format!("{:x};{}\r\n{data}\r\n", data.len(), "x".repeat(999));
        chunk.repeat(count) + "0\r\n\r\n"
    };
    assert_body(of(16, "a"), "a".repeat(16), "");
    assert_malformed(of(17, "a"));
    let data = "a".repeat(1000);
    assert_body(of(100, &data), data.repeat(100), "");
    // A cleared decoder owes nothing to the body before.
    let mut decoder = Chunked::default();
    for _ in 0..2 {
        assert!(decoder.decode(&mut of(16, "a").into_bytes()).is_ok_and(|decoded| decoded.end));
        decoder.clear();
    }
}

// RFC 9112 section 7.1.2: trailer-section = *( field-line CRLF )
#[test]
fn trailers_are_fields() {
    let body = decode(b"1\r\na\r\n0\r\nA: b\r\nC:\t d \r\n\r\nX: y\r\n", &[]);
    let body = body.expect("well-formed").expect("complete");
    let expected = [("A", "b"), ("C", "d")].map(|(name, value)| (name.into(), value.into()));
    assert_eq!(body.trailers, expected);
    assert_eq!(body.rest, b"X: y\r\n");
    for bad in
        ["A b", "A : b", ": b", " A: b", "A: b\r\n c", "A: \0", "A: b\nC: d", "A: b\rC: d", "\n"]
    {
        assert_malformed(format!("0\r\n{bad}\r\n\r\n"));
    }
}

#[test]
fn trailers_have_limits() {
    let of = |bytes: usize| format!("0\r\nA: {}\r\n\r\n", "x".repeat(bytes - 7));
    assert_body(of(16 * 1024), "", "");
    assert_malformed(of(16 * 1024 + 1));
    assert_malformed("0\r\nA: ".to_owned() + &"x".repeat(17 * 1024));
    assert_body("0\r\n".to_owned() + &"a:\r\n".repeat(100) + "\r\n", "", "");
    assert_malformed("0\r\n".to_owned() + &"a:\r\n".repeat(101) + "\r\n");
}

#[test]
fn trailers_of_the_body_before_are_gone() {
    let mut decoder = Chunked::default();
    assert!(decoder.decode(&mut b"0\r\nA: b\r\n\r\n".to_vec()).is_ok_and(|decoded| decoded.end));
    assert_eq!(decoder.trailers().0.len(), 1);
    decoder.clear();
    assert!(decoder.decode(&mut b"0\r\n\r\n".to_vec()).is_ok_and(|decoded| decoded.end));
    assert_eq!(decoder.trailers(), (&[][..], &[][..]));
}

#[test]
fn a_body_without_its_end_is_open() {
    let whole = b"2;a\r\nab\r\n0\r\nA: b\r\n\r\n";
    for cut in 0..whole.len() {
        assert_eq!(decode(&whole[..cut], &[]), Ok(None), "{cut}");
    }
}

#[test]
fn sizes_are_written_in_hex() {
    for (size, line) in [(1, "1\r\n"), (0xf, "f\r\n"), (0x10, "10\r\n"), (0x1f00a, "1f00a\r\n")] {
        assert_eq!(SizeLine::new(size).as_bytes(), line.as_bytes());
    }
    assert_eq!(SizeLine::new(0).as_bytes(), b"0\r\n");
    let longest = format!("{:x}\r\n", usize::MAX);
    assert_eq!(SizeLine::new(usize::MAX).as_bytes(), longest.as_bytes());
}

/// Pieces of bodies, good and bad, in any order.
fn almost_a_body() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"3\r\nabc\r\n"[..],
        b"a;b=c\r\n0123456789\r\n",
        b"0\r\n",
        b"0;x\r\n",
        b"\r\n",
        b"A: b\r\n",
        b"A: b",
        b"\n",
        b"\r",
        b"1",
        b"f",
        b";",
        b" ",
        b"\0",
        b"0\r\n\r\n",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn how_a_body_is_cut_makes_no_difference(
        bytes in prop_oneof![almost_a_body(), prop::collection::vec(any::<u8>(), 0..100)],
        mut cuts in prop::collection::vec(0..200usize, 0..6),
    ) {
        cuts.retain(|cut| *cut <= bytes.len());
        cuts.sort_unstable();
        let whole = decode(&bytes, &[]);
        let every: Vec<_> = (0..bytes.len()).collect();
        for cuts in [&cuts, &every] {
            let mut pieces = decode(&bytes, cuts);
            if whole.is_err() && pieces == Ok(None) {
                // A trailer line that is wrong is judged when it ends, if not before.
                let with_end = [&bytes[..], b"\n"].concat();
                let cuts: Vec<_> = cuts.iter().copied().chain([bytes.len()]).collect();
                pieces = decode(&with_end, &cuts);
            }
            prop_assert_eq!(&whole, &pieces);
        }
    }

    #[test]
    fn what_is_encoded_is_decoded(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..70), 0..8),
        rest in prop::collection::vec(any::<u8>(), 0..20),
        cut in 0..600usize,
    ) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            bytes.extend_from_slice(SizeLine::new(chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(END);
        let length = bytes.len();
        bytes.extend_from_slice(&rest);
        let expected = Body { data: chunks.concat(), rest, trailers: Vec::new() };
        prop_assert_eq!(decode(&bytes, &[cut.min(length)]), Ok(Some(expected)));
    }
}
