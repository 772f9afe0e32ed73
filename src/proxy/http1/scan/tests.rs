use super::*;
use proptest::prelude::*;
use std::fmt::Debug;

const LIMITS: ScanLimits = ScanLimits { bytes: 1024, fields: 10, target: 256 };

/// A head as a reader wants it: `(start line's parts, fields, length)`.
type Read = Result<Option<(Vec<String>, Vec<(String, String)>, usize)>, ScanError>;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn fields_of(lines: &[Line], bytes: &[u8]) -> Vec<(String, String)> {
    lines
        .iter()
        .map(|line| {
            assert_eq!(line.known, Known::of(line.name.of(bytes)));
            (text(line.name.of(bytes)), text(line.value.of(bytes)))
        })
        .collect()
}

/// Lets the scan see `bytes` up to each of `cuts`, then all.
fn read_request(bytes: &[u8], cuts: &[usize], limits: &ScanLimits) -> Read {
    let mut scan = RequestScan::default();
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        let seen = &bytes[..cut];
        if scan.scan(seen, limits)? {
            let parts = [text(scan.method.of(seen)), text(scan.target.of(seen))];
            let parts = parts.into_iter().chain([scan.minor.to_string()]).collect();
            return Ok(Some((parts, fields_of(&scan.lines, seen), scan.len)));
        }
    }
    Ok(None)
}

fn read_response(bytes: &[u8], cuts: &[usize], limits: &ScanLimits) -> Read {
    let mut scan = ResponseScan::default();
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        let seen = &bytes[..cut];
        if scan.scan(seen, limits)? {
            let parts =
                vec![scan.minor.to_string(), scan.status.to_string(), text(scan.reason.of(seen))];
            return Ok(Some((parts, fields_of(&scan.lines, seen), scan.len)));
        }
    }
    Ok(None)
}

fn request(bytes: impl AsRef<[u8]>) -> Read {
    read_request(bytes.as_ref(), &[], &LIMITS)
}

fn response(bytes: impl AsRef<[u8]>) -> Read {
    read_response(bytes.as_ref(), &[], &LIMITS)
}

#[track_caller]
fn assert_request(bytes: impl AsRef<[u8]>, parts: [&str; 3], fields: &[(&str, &str)]) {
    assert_head(request(&bytes), parts, fields);
}

#[track_caller]
fn assert_response(bytes: impl AsRef<[u8]>, parts: [&str; 3], fields: &[(&str, &str)]) {
    assert_head(response(&bytes), parts, fields);
}

#[track_caller]
fn assert_head(read: Read, parts: [&str; 3], fields: &[(&str, &str)]) {
    let (found_parts, found_fields, _) = read.expect("well-formed").expect("complete");
    assert_eq!(found_parts, parts);
    let found_fields: Vec<_> =
        found_fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(found_fields, fields);
}

#[track_caller]
fn assert_refused<B: AsRef<[u8]> + Debug>(read: fn(B) -> Read, cases: impl IntoIterator<Item = B>) {
    for case in cases {
        let shown = format!("{case:?}");
        assert_eq!(read(case), Err(ScanError::Malformed), "{shown}");
    }
}

fn with_field(line: &[u8]) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: a\r\n", line, b"\r\nX: y\r\n\r\n"].concat()
}

// RFC 9112 section 3: request-line = method SP request-target SP HTTP-version
#[test]
fn a_request_has_method_target_and_version() {
    assert_request("GET / HTTP/1.1\r\n\r\n", ["GET", "/", "1"], &[]);
    assert_request("M-SEARCH * HTTP/1.0\r\n\r\n", ["M-SEARCH", "*", "0"], &[]);
    assert_request(
        "PATCH http://a:8/b?c=%20;d HTTP/1.1\r\nHost: a\r\n\r\n",
        ["PATCH", "http://a:8/b?c=%20;d", "1"],
        &[("Host", "a")],
    );
}

// RFC 9112 section 3: single spaces and nothing around them
#[test]
fn other_white_space_in_a_request_line_is_refused() {
    assert_refused(
        request,
        [
            "GET  / HTTP/1.1\r\n\r\n",
            "GET /  HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1 \r\n\r\n",
            " GET / HTTP/1.1\r\n\r\n",
            "GET\t/ HTTP/1.1\r\n\r\n",
            "GET /\tHTTP/1.1\r\n\r\n",
            "GET /a b HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\x0b\r\n\r\n",
            " / HTTP/1.1\r\n\r\n",
        ],
    );
}

// RFC 9112 section 2.3, and section 3: there is no request line without a version
#[test]
fn a_request_of_another_version_is_refused() {
    for version in ["HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.10", "HTTP/01.1", "X"] {
        assert_refused(request, [format!("GET / {version}\r\n\r\n")]);
    }
    assert_refused(request, ["GET /\r\n", "GET / \r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]);
}

// RFC 9110 section 9.1: a method is a token
#[test]
fn a_method_is_a_token() {
    for byte in 0..=255u8 {
        let bytes = [b"G", &[byte][..], b"T / HTTP/1.1\r\n\r\n"].concat();
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        assert_eq!(request(&bytes).is_ok(), is_token, "{byte:#x}");
    }
}

// RFC 9112 section 3.2, RFC 3986 section 2
#[test]
fn a_target_is_visible_ascii_or_utf8() {
    for byte in 0..0x80u8 {
        let bytes = [b"GET /", &[byte][..], b"t HTTP/1.1\r\n\r\n"].concat();
        let is_target = (b'!'..=b'~').contains(&byte) && !b"#<>\\".contains(&byte);
        assert_eq!(request(&bytes).is_ok(), is_target, "{byte:#x}");
    }
    assert_request("GET /ä€𝄞 HTTP/1.1\r\n\r\n", ["GET", "/ä€𝄞", "1"], &[]);
    let cut = b"GET /long-enough-for-words-\xe2\x82 HTTP/1.1\r\n\r\n";
    assert_refused(request, [cut.as_slice(), b"GET /\xff HTTP/1.1\r\n\r\n"]);
}

// RFC 9112 section 2.2: a server SHOULD ignore at least one empty line before the request line
#[test]
fn one_empty_line_before_a_request_is_skipped() {
    assert_request("\r\nGET / HTTP/1.1\r\n\r\n", ["GET", "/", "1"], &[]);
    let read = request("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET").expect("well-formed");
    assert_eq!(read.expect("complete").2, 29, "the empty line counts");
    assert_refused(
        request,
        [
            "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "\nGET / HTTP/1.1\r\n\r\n",
            "\rGET / HTTP/1.1\r\n\r\n",
            "\r\n GET / HTTP/1.1\r\n\r\n",
        ],
    );
}

// RFC 9112 section 2.2: a bare CR is invalid; a bare LF MAY be forgiven, and is not
#[test]
fn lines_end_with_crlf_only() {
    let good = "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    for (at, _) in good.match_indices("\r\n") {
        for bad in ["\n", "\r", "\n\r", "\r\r\n", "\n\n", "\0\n"] {
            let bytes = format!("{}{bad}{}G", &good[..at], &good[at + 2..]);
            assert_refused(request, [bytes]);
        }
    }
}

// RFC 9112 section 2.2: no white space between start line and first field; section 5.2: obs-fold
#[test]
fn a_line_that_begins_with_white_space_is_refused() {
    for line in [" X: y", "\tX: y", " folded", "\tfolded", " ", "\t"] {
        assert_refused(request, [with_field(line.as_bytes())]);
        assert_refused(request, [format!("GET / HTTP/1.1\r\n{line}\r\n\r\n")]);
        assert_refused(response, [format!("HTTP/1.1 200 OK\r\nA: b\r\n{line}\r\n\r\n")]);
    }
}

// RFC 9112 section 5.1: no white space between name and colon; RFC 9110 section 5.1: a name is a token
#[test]
fn a_field_name_is_a_token_before_a_colon() {
    for byte in (0..=255u8).filter(|byte| *byte != b':') {
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        // Names are known by their beginnings too.
        for beginning in [&b"a"[..], b"x-forwarded-", b"X_Forwarded-f", b"x-request_i", b"content-"]
        {
            let bytes = with_field(&[beginning, &[byte], b"b: c"].concat());
            assert_eq!(request(&bytes).is_ok(), is_token, "{byte:#x} behind {beginning:?}");
            let bytes = [b"HTTP/1.1 200 a\r\n", beginning, &[byte], b"b: c\r\n\r\n"].concat();
            assert_eq!(response(&bytes).is_ok(), is_token, "{byte:#x} behind {beginning:?}");
        }
    }
    let bad = ["Host : a", "Host\t: a", ": a", ":", "Host", "Host a", "(x): y", "a\u{e9}: b"];
    assert_refused(request, bad.map(|line| with_field(line.as_bytes())));
}

// RFC 9110 section 5.5: CR, LF and NUL are dangerous, other controls invalid
#[test]
fn a_value_holds_text_only() {
    for byte in 0..=255u8 {
        let bytes = with_field(&[b"a: 12345", &[byte][..], b"6789012"].concat());
        let is_text = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        assert_eq!(request(&bytes).is_ok(), is_text, "{byte:#x}");
        let bytes = [b"HTTP/1.1 200 a", &[byte][..], b"b\r\n\r\n"].concat();
        assert_eq!(response(&bytes).is_ok(), is_text, "{byte:#x}");
    }
}

// RFC 9112 section 5.1: white space around a value is not part of it
#[test]
fn white_space_around_a_value_is_no_part_of_it() {
    assert_request(
        "GET / HTTP/1.1\r\nA: b\r\nC:d\r\nE: \t f \t g\t \r\nH:\r\nI: \t \r\nJ:::\r\n\r\n",
        ["GET", "/", "1"],
        &[("A", "b"), ("C", "d"), ("E", "f \t g"), ("H", ""), ("I", ""), ("J", "::")],
    );
}

// RFC 9112 section 4: status-line = HTTP-version SP status-code SP [ reason-phrase ]
#[test]
fn a_response_has_version_status_and_reason() {
    assert_response("HTTP/1.1 200 OK\r\nA: b\r\n\r\n", ["1", "200", "OK"], &[("A", "b")]);
    assert_response("HTTP/1.0 404 Not \t Found\r\n\r\n", ["0", "404", "Not \t Found"], &[]);
    assert_response("HTTP/1.1 999 \r\n\r\n", ["1", "999", ""], &[]);
    assert_response("HTTP/1.1 100\r\n\r\n", ["1", "100", ""], &[]);
    assert_response(b"HTTP/1.1 200 \xe9\r\n\r\n", ["1", "200", "\u{fffd}"], &[]);
}

#[test]
fn another_status_line_is_refused() {
    let lines = [
        "HTTP/1.1 099 X",
        "HTTP/1.1 000 X",
        "HTTP/1.1 20 X",
        "HTTP/1.1 2000 X",
        "HTTP/1.1 2 0 X",
        "HTTP/1.1 +20 X",
        "HTTP/1.1  200 X",
        "HTTP/1.1\t200 X",
        "HTTP/1.1 200\tX",
        "HTTP/1.1 ",
        "HTTP/1.1",
        "HTTP/1.2 200 X",
        "HTTP/2 200 X",
        "HTTP/2.0 200 X",
        "http/1.1 200 X",
        "ICY 200 OK",
        " HTTP/1.1 200 X",
        "\r\nHTTP/1.1 200 X",
        "HTTP/1.1 200 X\0",
        "HTTP/1.1 200 X\rY",
    ];
    assert_refused(response, lines.map(|line| format!("{line}\r\n\r\n")));
    assert_refused(response, ["HTTP/1.1 200 OK\n\r\n", "HTTP/1.1 200\n\r\n"]);
}

#[test]
fn nothing_behind_the_empty_line_is_looked_at() {
    let read = request("GET / HTTP/1.1\r\n\r\n\0\n\0").expect("well-formed").expect("complete");
    assert_eq!(read.2, 18);
    let read = response("HTTP/1.1 200 OK\r\n\r\n\0").expect("well-formed").expect("complete");
    assert_eq!(read.2, 19);
}

#[test]
fn what_may_become_a_head_is_not_refused() {
    let whole = "\r\nGET /ä HTTP/1.0\r\nA: b\r\n\r\n";
    for cut in 0..whole.len() {
        assert_eq!(request(&whole.as_bytes()[..cut]), Ok(None), "{cut}");
    }
    let whole = "HTTP/1.0 200 OK\r\nA: b\r\n\r\n";
    for cut in 0..whole.len() {
        assert_eq!(response(&whole[..cut]), Ok(None), "{cut}");
    }
}

#[test]
fn a_target_has_a_limit() {
    let of = |length: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(length - 1));
    assert!(request(of(256)).is_ok_and(|read| read.is_some()));
    assert_eq!(request(of(257)), Err(ScanError::TargetTooLong));
    let unfinished = of(257);
    assert_eq!(request(&unfinished[..262]), Err(ScanError::TargetTooLong), "before its end");
}

#[test]
fn a_head_has_a_limit_in_bytes() {
    let of = |length: usize| {
        let rest = "GET / HTTP/1.1\r\nA: \r\n\r\n";
        format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(length - rest.len()))
    };
    let read = request(of(1024)).expect("as long as it may be").expect("complete");
    assert_eq!(read.2, 1024);
    assert_eq!(request(of(1025)), Err(ScanError::TooLarge));
    let unfinished = of(2000);
    assert_eq!(request(&unfinished[..1024]), Ok(None));
    assert_eq!(request(&unfinished[..1025]), Err(ScanError::TooLarge), "before its end");
    let followed = of(1000) + &"x".repeat(1000);
    assert!(request(followed).is_ok_and(|read| read.is_some()), "what follows does not count");

    let endless = "HTTP/1.1 200 ".to_owned() + &"a".repeat(1100);
    assert_eq!(response(endless), Err(ScanError::TooLarge));
}

// The whole request line is too long for the head's limit: 414 as well (RFC 9112 section 3)
#[test]
fn a_request_line_has_the_limit_of_the_head() {
    let limits = ScanLimits { target: 10_000, ..LIMITS };
    for start in ["GET /", "G"] {
        let bytes = start.to_owned() + &"a".repeat(1100);
        let read = read_request(bytes.as_bytes(), &[], &limits);
        assert_eq!(read, Err(ScanError::TargetTooLong));
    }
}

#[test]
fn a_head_has_a_limit_in_fields() {
    let of = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a:\r\n".repeat(count));
    assert!(response(of(10)).is_ok_and(|read| read.is_some()));
    assert_eq!(response(of(11)), Err(ScanError::TooMany));
}

#[test]
fn a_cleared_scan_reads_the_next_head_and_keeps_its_memory() {
    let mut scan = RequestScan::default();
    let first = b"POST /a HTTP/1.0\r\nA: b\r\nC: d\r\n\r\n";
    assert_eq!(scan.scan(first, &LIMITS), Ok(true));
    assert_eq!(scan.scan(first, &LIMITS), Ok(true), "asked again it says the same");
    assert_eq!((scan.len, scan.lines.len()), (first.len(), 2));
    let memory = scan.lines.as_ptr();
    scan.clear();
    let second = b"GET / HTTP/1.1\r\nE: f\r\n\r\n";
    assert_eq!(scan.scan(&second[..20], &LIMITS), Ok(false));
    assert_eq!(scan.scan(second, &LIMITS), Ok(true));
    assert_eq!((scan.minor, scan.method.of(second)), (1, b"GET".as_slice()));
    assert_eq!(fields_of(&scan.lines, second), [("E".to_owned(), "f".to_owned())]);
    assert_eq!(scan.lines.as_ptr(), memory);
}

#[test]
fn a_span_of_other_bytes_is_harmless() {
    assert_eq!(Span::new(2, 4).of(b"abcd"), b"cd");
    assert_eq!(Span::new(2, 4).of(b"abc"), b"");
    assert_eq!(Span::default().of(b""), b"");
}

/// Pieces of heads, good and bad, in any order.
fn almost_a_head() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"GET "[..],
        b"/",
        b"/index.html?q=1",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 204\r\n",
        b"GET / HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"X: y\r\n",
        b"X:\t y \r\n",
        b"long-name-of-a-field: and a value of some length that takes many words\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b" ",
        b":",
        b"\t",
        b"\0",
        b"\x7f",
        b"\xc3\xa4",
        b"\xff",
        b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ]);
    let good = prop::sample::select(vec![&b""[..], b"GET / HTTP/1.1\r\n", b"HTTP/1.0 200 O\r\n"]);
    (good, prop::collection::vec(piece, 0..12))
        .prop_map(|(start, pieces)| [start, &pieces.concat()].concat())
}

fn small_limits() -> impl Strategy<Value = ScanLimits> {
    (0..200usize, 0..4usize, 0..40usize).prop_map(|(bytes, fields, target)| ScanLimits {
        bytes,
        fields,
        target,
    })
}

/// Reads at once and in pieces. Of a line without its end pieces may leave open what is wrong; one LF
/// settles it.
fn agree(
    read: fn(&[u8], &[usize], &ScanLimits) -> Read,
    bytes: &[u8],
    cuts: &[usize],
    limits: &ScanLimits,
) -> Result<(), TestCaseError> {
    let whole = read(bytes, &[], limits);
    let mut pieces = read(bytes, cuts, limits);
    if whole.is_err() && pieces == Ok(None) {
        let with_end = [bytes, b"\n"].concat();
        let cuts: Vec<_> = cuts.iter().copied().chain([bytes.len()]).collect();
        pieces = read(&with_end, &cuts, limits);
    }
    prop_assert_eq!(whole, pieces);
    Ok(())
}

proptest! {
    #[test]
    fn how_a_head_is_cut_makes_no_difference(
        bytes in almost_a_head(),
        mut cuts in prop::collection::vec(0..400usize, 0..6),
        limits in prop_oneof![Just(LIMITS), small_limits()],
    ) {
        cuts.retain(|cut| *cut <= bytes.len());
        cuts.sort_unstable();
        agree(read_request, &bytes, &cuts, &limits)?;
        agree(read_response, &bytes, &cuts, &limits)?;
        let every: Vec<_> = (0..bytes.len()).collect();
        agree(read_request, &bytes, &every, &limits)?;
        agree(read_response, &bytes, &every, &limits)?;
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), limits in small_limits()) {
        let _ = read_request(&bytes, &[], &limits);
        let _ = read_response(&bytes, &[], &limits);
    }

    /// What has been read can be written down again: no byte of a head is in two places or in none.
    #[test]
    fn a_head_that_is_read_is_the_one_that_was_written(
        method in "[!#-'*+.^-z|~-]{1,12}",
        target in "[!\"$-;=?-\\[\\]-~]{1,40}|/[a-zä-€]{1,20}",
        minor in 0..=1u8,
        fields in prop::collection::vec(
            ("[!#-'*+.0-9^-z|~-]{1,20}", "([!-~ä]([ -~\té]{0,40}[!-~])?)?", "[ \t]{0,3}"),
            0..8,
        ),
    ) {
        let mut bytes = format!("{method} {target} HTTP/1.{minor}\r\n");
        for (name, value, space) in &fields {
            bytes += &format!("{name}:{space}{value}{space}\r\n");
        }
        bytes += "\r\n";
        let fields = fields.into_iter().map(|(name, value, _)| (name, value)).collect();
        let expected = (vec![method, target, minor.to_string()], fields, bytes.len());
        prop_assert_eq!(request(&bytes), Ok(Some(expected)));
    }
}
