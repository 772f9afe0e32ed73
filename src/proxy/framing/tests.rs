//! RFC 9112 section 6, sentence by sentence as far as a sentence speaks of where a message ends. What of it
//! needs bytes on a wire (that a body is read to its end, that a cut one is seen to be cut) is in tests/.

use super::*;

#[derive(Clone, Copy)]
enum Line {
    Length(&'static str),
    Coding(&'static str),
}
use Line::{Coding, Length as Declared};

fn framing(lines: &[Line]) -> Framing {
    let mut framing = Framing::default();
    for line in lines {
        match line {
            Declared(value) => framing.content_length(value.as_bytes()),
            Coding(value) => framing.transfer_encoding(value.as_bytes()),
        }
    }
    framing
}

fn request(lines: &[Line]) -> Result<Length, Ambiguous> {
    framing(lines).of_request(1)
}

fn response(status: u16, lines: &[Line]) -> Result<Length, Ambiguous> {
    framing(lines).of_response(1, status, false)
}

const REFUSED: Result<Length, Ambiguous> = Err(Ambiguous);

// Section 6: a body is signalled by Content-Length or Transfer-Encoding; in a request by nothing else.

#[test]
fn s6_a_request_has_a_body_if_and_only_if_a_field_says_so() {
    assert_eq!(request(&[]), Ok(Length::Exact(0)));
    assert_eq!(request(&[Declared("7")]), Ok(Length::Exact(7)));
    assert_eq!(request(&[Coding("chunked")]), Ok(Length::Chunked));
}

#[test]
fn s6_a_responses_body_depends_on_the_request_and_the_status() {
    assert_eq!(response(200, &[Declared("7")]), Ok(Length::Exact(7)));
    assert_eq!(framing(&[Declared("7")]).of_response(1, 200, true), Ok(Length::Exact(0)));
    assert_eq!(response(304, &[Declared("7")]), Ok(Length::Exact(0)));
}

// Section 6.1, Transfer-Encoding.

#[test]
fn s6_1_the_name_of_a_coding_has_any_case() {
    for name in ["chunked", "Chunked", "CHUNKED", " chunked ", "\tchunked"] {
        assert_eq!(request(&[Coding(name)]), Ok(Length::Chunked), "{name:?}");
    }
}

#[test]
fn s6_1_chunked_is_applied_once() {
    for lines in [
        &[Coding("chunked, chunked")][..],
        &[Coding("chunked"), Coding("chunked")],
        &[Coding("chunked"), Coding("")],
    ] {
        assert_eq!(request(lines), REFUSED);
        assert_eq!(response(200, lines), REFUSED);
    }
}

#[test]
fn s6_1_chunked_is_the_last_coding_of_a_request() {
    assert_eq!(request(&[Coding("chunked, gzip")]), REFUSED);
    assert_eq!(request(&[Coding("gzip")]), REFUSED);
    assert_eq!(request(&[Coding("identity")]), REFUSED);
}

#[test]
fn s6_1_a_coding_that_is_not_known_is_refused() {
    // Also those under chunked: what the backend understood of them would not be what was judged.
    for value in [
        "gzip, chunked",
        "xchunked",
        "chunkedx",
        "chunked;q=1",
        ",chunked",
        "chunked,",
        "\x0bchunked",
        "chunked\0",
        "\"chunked\"",
        "chunked identity",
        "",
    ] {
        assert_eq!(request(&[Coding(value)]), REFUSED, "{value:?}");
        assert_eq!(response(200, &[Coding(value)]), REFUSED, "{value:?}");
    }
}

#[test]
fn s6_1_codings_are_of_http_1_1() {
    let coded = framing(&[Coding("chunked")]);
    assert_eq!(coded.of_request(0), REFUSED);
    assert_eq!(coded.of_response(0, 200, false), REFUSED);
}

#[test]
fn s6_1_a_length_beside_a_coding_is_refused() {
    for lines in [
        [Declared("3"), Coding("chunked")],
        [Coding("chunked"), Declared("3")],
        [Coding("chunked"), Declared("0")],
    ] {
        assert_eq!(request(&lines), REFUSED);
        assert_eq!(response(200, &lines), REFUSED);
    }
}

#[test]
fn s6_1_a_response_to_head_may_tell_the_coding_that_a_get_would_have() {
    assert_eq!(framing(&[Coding("chunked")]).of_response(1, 200, true), Ok(Length::Exact(0)));
    assert_eq!(response(304, &[Coding("chunked")]), Ok(Length::Exact(0)));
}

// Section 6.2, Content-Length (and RFC 9110 section 8.6).

#[test]
fn s6_2_a_length_is_a_decimal_number() {
    for value in
        ["", " ", "+5", "-5", "0x5", "5 5", "5;", "five", "5.0", "1e3", "\u{665}", "5\0", "\x0b5"]
    {
        assert_eq!(request(&[Declared(value)]), REFUSED, "{value:?}");
        assert_eq!(response(200, &[Declared(value)]), REFUSED, "{value:?}");
    }
    assert_eq!(request(&[Declared("0005")]), Ok(Length::Exact(5)));
}

#[test]
fn s6_2_a_number_that_is_too_large_does_not_overflow() {
    assert_eq!(request(&[Declared("18446744073709551615")]), Ok(Length::Exact(u64::MAX)));
    assert_eq!(request(&[Declared("18446744073709551616")]), REFUSED);
    assert_eq!(request(&[Declared("99999999999999999999")]), REFUSED);
    assert_eq!(request(&[Declared("000000000000000000005")]), REFUSED);
}

// Section 6.3, Message Body Length, by its rules.

#[test]
fn s6_3_rule_1_head_204_and_304_end_with_their_head() {
    for lines in [&[][..], &[Declared("9")], &[Coding("chunked")]] {
        assert_eq!(framing(lines).of_response(1, 200, true), Ok(Length::Exact(0)));
        assert_eq!(response(204, lines), Ok(Length::Exact(0)));
        assert_eq!(response(304, lines), Ok(Length::Exact(0)));
    }
}

#[test]
fn s6_3_rule_1_does_not_excuse_ambiguity() {
    let lines = [Declared("1"), Declared("2")];
    assert_eq!(framing(&lines).of_response(1, 200, true), REFUSED);
    assert_eq!(response(204, &lines), REFUSED);
    assert_eq!(response(304, &[Declared("1"), Coding("chunked")]), REFUSED);
}

#[test]
fn s6_3_rule_4_a_coded_body_ends_with_its_chunks() {
    assert_eq!(request(&[Coding("chunked")]), Ok(Length::Chunked));
    assert_eq!(response(200, &[Coding("chunked")]), Ok(Length::Chunked));
}

#[test]
fn s6_3_rule_5_an_invalid_length_cannot_be_recovered_from() {
    for lines in [
        &[Declared("5, 6")][..],
        &[Declared("5"), Declared("6")],
        &[Declared("5,")],
        &[Declared(",5")],
        &[Declared("5"), Declared("")],
        &[Declared(""), Declared("5")],
    ] {
        assert_eq!(request(lines), REFUSED);
        assert_eq!(response(200, lines), REFUSED);
    }
}

#[test]
fn s6_3_rule_5_the_same_number_again_is_that_number() {
    for lines in [&[Declared("5, 5")][..], &[Declared("5"), Declared("5")], &[Declared("5,05 , 5")]]
    {
        assert_eq!(request(lines), Ok(Length::Exact(5)));
        assert_eq!(framing(lines).declared(), Some(5));
    }
}

#[test]
fn s6_3_rule_6_a_valid_length_is_the_length() {
    assert_eq!(request(&[Declared("5")]), Ok(Length::Exact(5)));
    assert_eq!(framing(&[Declared("5")]).of_request(0), Ok(Length::Exact(5)));
    assert_eq!(response(200, &[Declared("5")]), Ok(Length::Exact(5)));
}

#[test]
fn s6_3_rule_7_a_request_without_either_has_none() {
    assert_eq!(request(&[]), Ok(Length::Exact(0)));
    assert_eq!(framing(&[]).of_request(0), Ok(Length::Exact(0)));
}

#[test]
fn s6_3_rule_8_a_response_without_either_ends_with_the_connection() {
    assert_eq!(response(200, &[]), Ok(Length::UntilClose));
    assert_eq!(framing(&[]).of_response(0, 404, false), Ok(Length::UntilClose));
}
