//! Sections 8.1 and 8.1.1: bodies, their lengths, trailers.

use super::{
    case::{Case, Sees, Step, case},
    frame::*,
    hpack::Block,
};

pub fn cases() -> Vec<Case> {
    [lengths(), trailers(), whole()].into_iter().flatten().collect()
}

const ERROR: &[u32] = &[PROTOCOL_ERROR];

fn post(length: &str) -> Block {
    Block::post("/x").field("content-length", length)
}

fn lengths() -> Vec<Case> {
    const WHY: &str = "section 8.1.1: DATA that does not add up to content-length, H2.CL";
    let mut cases = vec![
        case("a length that is true", "section 8.1.1")
            .sends(&[begin(1, post("5")), last_data(1, "hello")])
            .answers(1, 200)
            .forwards("POST /x")
            .with("content-length", "5"),
        case("a length that is true, in pieces", "section 8.1.1")
            .sends(&[
                begin(1, post("5")),
                data(1, "he"),
                data(1, ""),
                data(1, "llo"),
                last_data(1, ""),
            ])
            .answers(1, 200)
            .forwards("POST /x")
            .with("content-length", "5"),
        case("no length", "section 8.1.1: HTTP/1 gets chunks")
            .sends(&[begin(1, Block::post("/x")), last_data(1, "hello")])
            .answers(1, 200)
            .forwards("POST /x")
            .with("transfer-encoding", "chunked")
            .without("content-length"),
        case("no body and no length", "section 8.1")
            .sends(&[ask(1, Block::get("/x"))])
            .answers(1, 200)
            .forwards("GET /x")
            .without("transfer-encoding"),
        case("a body of a GET", "RFC 9110 section 9.3.1: allowed")
            .sends(&[begin(1, Block::get("/x")), last_data(1, "hello")])
            .answers(1, 200)
            .forwards("GET /x"),
        case("a length of 0 and no DATA", "section 8.1.1")
            .sends(&[ask(1, post("0"))])
            .answers(1, 200)
            .forwards("POST /x"),
        case("a length and no DATA", WHY).sends(&[ask(1, post("5"))]).malformed(),
        case("less than the length", WHY)
            .sends(&[begin(1, post("5")), last_data(1, "hell")])
            .sees(Sees::Reset(1, ERROR))
            .may_cut(),
        case("more than the length", WHY)
            .sends(&[begin(1, post("5")), last_data(1, "hello!")])
            .sees(Sees::Reset(1, ERROR))
            .may_cut(),
        case("a request behind the length", WHY)
            .sends(&[begin(1, post("0")), last_data(1, "GET /y HTTP/1.1\r\nhost: a\r\n\r\n")])
            .sees(Sees::Reset(1, ERROR))
            .may_cut(),
        case("a request behind the length, later", WHY)
            .sends(&[begin(1, post("5")), data(1, "hello")])
            .waits(Step::AwaitAnswer(1))
            .sends(&[last_data(1, "GET /y HTTP/1.1\r\nhost: a\r\n\r\n")])
            .answers(1, 200)
            .forwards("POST /x"),
        case("less than the length, with trailers", WHY)
            .sends(&[
                begin(1, post("5")),
                data(1, "hell"),
                ask(1, Block::new().field("x-sum", "1")),
            ])
            .sees(Sees::Reset(1, ERROR))
            .may_cut(),
        case("the same length twice", "RFC 9110 section 8.6: the same number is the same number")
            .sends(&[begin(1, post("5").field("content-length", "5")), last_data(1, "hello")])
            .answers(1, 200)
            .forwards("POST /x")
            .with("content-length", "5"),
        case("two lengths", WHY)
            .sends(&[begin(1, post("5").field("content-length", "6")), last_data(1, "hello")])
            .malformed(),
    ];
    for length in
        ["+5", "-5", "0x5", "5,6", "5 5", "", " ", "5.0", "five", "99999999999999999999999"]
    {
        cases.push(
            case(format!("the length {length:?}"), "RFC 9110 section 8.6: digits")
                .sends(&[begin(1, post(length)), last_data(1, "hello")])
                .malformed(),
        );
    }
    cases
}

fn trailers() -> Vec<Case> {
    let asked = |trailers: Block| {
        vec![
            begin(1, Block::post("/x").field("trailer", "x-sum")),
            data(1, "hello"),
            ask(1, trailers),
        ]
    };
    const WHY: &str = "section 8.1: trailers are fields and end the stream";
    vec![
        case("trailers", "section 8.1")
            .sends(&asked(Block::new().field("x-sum", "1")))
            .answers(1, 200)
            .forwards("POST /x"),
        case("trailers that do not end the stream", WHY)
            .sends(&[
                begin(1, Block::post("/x")),
                data(1, "hello"),
                begin(1, Block::new().field("x-sum", "1")),
            ])
            .sees(Sees::Reset(1, ERROR))
            .may_cut(),
        case("a pseudo-header in trailers", "section 8.1: there is none")
            .sends(&asked(Block::new().field(":path", "/y").field("x-sum", "1")))
            .sees(Sees::Reset(1, ERROR))
            .may_cut(),
        case("a status in trailers", "section 8.1")
            .sends(&asked(Block::new().field(":status", "200")))
            .sees(Sees::Reset(1, ERROR))
            .may_cut(),
        case("too many trailers", "limits.header_count")
            .sends(&asked((0..101).fold(Block::new(), |block, _| block.field("x-a", "1"))))
            .sees(Sees::Reset(1, ERROR))
            .may_cut(),
        case("capitals in trailers", "section 8.2.1")
            .sends(&asked(Block::new().field("X-Sum", "1")))
            .sees(Sees::Reset(1, ERROR))
            .may_cut(),
        case("CR LF in trailers", "section 8.2.1")
            .sends(&asked(Block::new().field("x-sum", "1\r\nx-b: 2")))
            .sees(Sees::Reset(1, ERROR))
            .may_cut(),
        case("a field of the connection in trailers", "section 8.2.2")
            .sends(&asked(Block::new().field("connection", "close")))
            .sees(Sees::Reset(1, ERROR))
            .may_cut(),
        case("fields in trailers that frame or route", "RFC 9110 section 6.5.1: they stay behind")
            .sends(&[
                begin(
                    1,
                    Block::post("/x")
                        .field("trailer", "x-sum, host, content-length, x-forwarded-for"),
                ),
                data(1, "hello"),
                ask(
                    1,
                    Block::new()
                        .field("host", "b")
                        .field("content-length", "7")
                        .field("x-forwarded-for", "1.2.3.4")
                        .field("x-sum", "1"),
                ),
            ])
            .answers(1, 200)
            .forwards("POST /x")
            .trails("x-sum"),
        case("trailers without a body", "section 8.1")
            .sends(&[begin(1, Block::post("/x")), ask(1, Block::new().field("x-sum", "1"))])
            .answers(1, 200)
            .forwards("POST /x"),
    ]
}

fn whole() -> Vec<Case> {
    let pieces = 64;
    let mut large = vec![begin(1, Block::post("/x").field("content-length", "65535"))];
    large.extend((1..pieces).map(|_| data(1, [b'a'; 1024])));
    large.push(last_data(1, [b'a'; 1023]));
    vec![
        case("a body of as much as a window takes", "section 6.9.2")
            .sends(&large)
            .answers(1, 200)
            .forwards("POST /x")
            .with("content-length", "65535"),
        case("Expect: 100-continue", "RFC 9110 section 10.1.1: from end to end")
            .sends(&[begin(1, post("5").field("expect", "100-continue"))])
            .waits(Step::AwaitInterim(1))
            .sends(&[last_data(1, "hello")])
            .answers(1, 200)
            .forwards("POST /x")
            .with("expect", "100-continue"),
        case("an expectation that nobody meets", "RFC 9110 section 10.1.1")
            .sends(&[begin(1, post("5").field("expect", "soon")), last_data(1, "hello")])
            .refuses(417, "expectation"),
        case("HEAD", "RFC 9110 section 9.3.2: no DATA, whatever the length")
            .sends(&[ask(1, Block::request("HEAD", "/x"))])
            .answers(1, 200)
            .forwards("HEAD /x")
            .body(""),
        case("an answer before the body", "section 8.1: the client learns that no more is wanted")
            .sends(&[begin(1, Block::post("/early")), data(1, "hello")])
            .waits(Step::AwaitAnswer(1))
            .answers(1, 200)
            .may_cut(),
        case("a tiny window", "section 6.9: DATA as it is let")
            .sends(&[settings(&[(4, 1)]), ask(1, Block::get("/abcdefgh"))])
            .answers(1, 200)
            .forwards("GET /abcdefgh")
            .body("/abcdefgh"),
        case("a window that opens late", "section 6.9.2")
            .sends(&[settings(&[(4, 0)]), ask(1, Block::get("/abc"))])
            .waits(Step::AwaitAnswer(1))
            .sends(&[window(1, 2), settings(&[(4, 100)])])
            .answers(1, 200)
            .forwards("GET /abc")
            .body("/abc"),
    ]
}
