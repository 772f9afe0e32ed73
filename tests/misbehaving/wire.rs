//! One side of a connection: raw bytes, and a reader of messages that forgives nothing.

use super::{
    board::Board,
    case::{End, Reply, Step},
};
use socket2::SockRef;
use std::{future::pending, io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

/// Between two bytes of a side that is slow.
const DRIP: Duration = Duration::from_millis(10);

/// Why no more can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    Ended,
    Reset,
    Malformed(String),
}

/// A field section, names in lower case.
type Fields = Vec<(String, String)>;

/// A response as it came.
#[derive(Debug, Default)]
pub struct Got {
    pub interims: Vec<u16>,
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// To HEAD.
    pub is_head: bool,
    pub end: Option<End>,
}

/// A request as far as it came.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
    pub whole: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
    None,
}

pub struct Peer {
    read: OwnedReadHalf,
    write: Option<OwnedWriteHalf>,
    pouring: Option<JoinHandle<OwnedWriteHalf>>,
    /// Read and not yet understood.
    ahead: Vec<u8>,
    board: Board,
    /// Which of the backend's connections this is.
    index: Option<usize>,
    /// Of the request whose head was read.
    rest: Framing,
    /// The last request was HEAD.
    is_head: bool,
    is_http10: bool,
}

/// Whether a script goes on.
pub enum Next {
    Step,
    Over,
}

impl Peer {
    pub fn new(stream: TcpStream, board: &Board, index: Option<usize>) -> Self {
        stream.set_nodelay(true).expect("a socket");
        let (read, write) = stream.into_split();
        Self {
            read,
            write: Some(write),
            pouring: None,
            ahead: Vec::new(),
            board: board.clone(),
            index,
            rest: Framing::None,
            is_head: false,
            is_http10: false,
        }
    }

    /// # Errors
    /// With what should not have happened.
    pub async fn play(&mut self, step: &Step) -> Result<Next, String> {
        match step {
            Step::Say(bytes) => {
                self.note_request(bytes);
                self.write(bytes).await;
            }
            Step::Bytewise(bytes) => {
                self.note_request(bytes);
                for byte in &bytes[..] {
                    self.write(&[*byte]).await;
                }
            }
            Step::Pour(bytes) => self.pour(*bytes).await,
            Step::Hear(bytes) => {
                let heard = self.take(bytes.len()).await.map_err(|stop| format!("{stop:?}"))?;
                if heard[..] != bytes[..] {
                    return Err(format!("heard {:?}", String::from_utf8_lossy(&heard)));
                }
            }
            Step::Hears(bytes) => {
                self.take(*bytes).await.map_err(|stop| format!("{stop:?}"))?;
            }
            Step::Drip => {
                let mut write = self.writer().await;
                while write.write_all(b"a").await.is_ok() {
                    tokio::time::sleep(DRIP).await;
                }
                self.write = Some(write);
            }
            Step::HearEnd => match self.fill().await {
                Err(Stop::Ended) if self.ahead.is_empty() => {}
                other => return Err(format!("no clean end: {other:?} {:?}", self.ahead())),
            },
            Step::Gone => while self.fill().await.is_ok() {},
            Step::HalfClose => {
                let mut write = self.writer().await;
                // The other side may be gone.
                let _ = write.shutdown().await;
                self.write = Some(write);
            }
            Step::Close => {
                self.close().await;
                return Ok(Next::Over);
            }
            Step::Reset => {
                SockRef::from(self.read.as_ref()).set_linger(Some(Duration::ZERO)).expect("linger");
                self.close().await;
                return Ok(Next::Over);
            }
            Step::Mark(mark) => self.board.mark(mark),
            Step::Until(mark) => self.board.until(|state| state.marks.contains(mark)).await,
            Step::Played(scripts) => self.board.until(|state| state.played >= *scripts).await,
            Step::ClientHas(bytes) => {
                self.board.until(|state| state.heads > 0 && state.body_bytes >= *bytes).await;
            }
            Step::ClientHasInterims(interims) => {
                self.board.until(|state| state.interims >= *interims).await;
            }
            Step::Ask => self.ask().await.map_err(|stop| format!("no whole request: {stop:?}"))?,
            Step::Head => self.ask_head().await.map_err(|stop| format!("no request: {stop:?}"))?,
            Step::Rest => self.ask_rest().await.map_err(|stop| format!("no body: {stop:?}"))?,
            Step::Stall => return Ok(Next::Over),
            Step::Interim(status) => {
                let (found, _) = self.response_head().await.map_err(|stop| format!("{stop:?}"))?;
                if found != *status {
                    return Err(format!("interim {found}"));
                }
            }
            Step::Get(replies) => {
                let got = self.response().await.map_err(|stop| format!("{stop:?}"))?;
                let wrongs: Vec<_> =
                    replies.iter().map_while(|reply| difference(&got, reply)).collect();
                if wrongs.len() == replies.len() {
                    let lines = lines(&got).join(" | ");
                    let body = String::from_utf8_lossy(&got.body);
                    return Err(format!(
                        "{}\n    got: {:?} {} [{lines}] {:.200?}, {} bytes, {:?}",
                        wrongs.join(" / "),
                        got.interims,
                        got.status,
                        body,
                        got.body.len(),
                        got.end,
                    ));
                }
            }
        }
        Ok(Next::Step)
    }

    /// Keeps the connection open and does nothing.
    pub async fn hold(self) {
        let _self = self;
        pending::<()>().await;
    }

    fn ahead(&self) -> String {
        String::from_utf8_lossy(&self.ahead).into_owned()
    }

    fn note_request(&mut self, bytes: &[u8]) {
        if self.index.is_none() {
            self.is_head = bytes.starts_with(b"HEAD ");
            let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
            self.is_http10 = line.ends_with(b"HTTP/1.0");
        }
    }

    /// Whatever is poured has been.
    async fn writer(&mut self) -> OwnedWriteHalf {
        if let Some(pouring) = self.pouring.take() {
            return pouring.await.expect("pouring does not panic");
        }
        self.write.take().expect("a writer")
    }

    async fn write(&mut self, bytes: &[u8]) {
        let mut write = self.writer().await;
        // That the other side has gone is seen in what it got.
        let _ = write.write_all(bytes).await;
        self.write = Some(write);
    }

    async fn pour(&mut self, bytes: u64) {
        let mut write = self.writer().await;
        let board = self.board.clone();
        self.pouring = Some(tokio::spawn(async move {
            let filler = [b'x'; 16384];
            let mut left = bytes;
            while left > 0 {
                let piece = filler.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                match write.write(&filler[..piece]).await {
                    Ok(written) if written > 0 => {
                        left -= written as u64;
                        board.change(|state| state.poured += written as u64);
                    }
                    _ => break,
                }
            }
            write
        }));
    }

    async fn close(&mut self) {
        if let Some(pouring) = self.pouring.take() {
            pouring.abort();
        }
        // Dropping the halves apart would say FIN before RST.
        if let Some(write) = self.write.take() {
            write.forget();
        }
    }

    async fn fill(&mut self) -> Result<(), Stop> {
        match self.read.read_buf(&mut self.ahead).await {
            Ok(0) => Err(Stop::Ended),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(Stop::Reset),
            Err(error) => Err(Stop::Malformed(error.to_string())),
        }
    }

    async fn take(&mut self, bytes: usize) -> Result<Vec<u8>, Stop> {
        while self.ahead.len() < bytes {
            self.fill().await?;
        }
        Ok(self.ahead.drain(..bytes).collect())
    }

    /// A line without its CRLF.
    async fn line(&mut self) -> Result<String, Stop> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.ahead[searched..].iter().position(|byte| *byte == b'\n') {
                let at = searched + at;
                let line: Vec<u8> = self.ahead.drain(..=at).collect();
                let text = String::from_utf8_lossy(&line).into_owned();
                return match text.strip_suffix("\r\n") {
                    Some(text) if !text.contains(['\r', '\0']) => Ok(text.to_owned()),
                    _ => Err(Stop::Malformed(text)),
                };
            }
            searched = self.ahead.len();
            self.fill().await?;
        }
    }

    /// Lines up to the empty one.
    async fn fields(&mut self) -> Result<Fields, Stop> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(fields);
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(Stop::Malformed(line));
            };
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(Stop::Malformed(line));
            }
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Data of the message goes through `part`, as it comes.
    async fn content(
        &mut self,
        framing: Framing,
        mut part: impl FnMut(&Board, &[u8]),
    ) -> Result<Fields, Stop> {
        let board = self.board.clone();
        match framing {
            Framing::None => Ok(Vec::new()),
            Framing::Length(length) => {
                self.data(length, |bytes| part(&board, bytes)).await.map(|()| Vec::new())
            }
            Framing::Close => loop {
                part(&board, &std::mem::take(&mut self.ahead));
                match self.fill().await {
                    Ok(()) => {}
                    Err(Stop::Ended) => return Ok(Vec::new()),
                    Err(stop) => return Err(stop),
                }
            },
            Framing::Chunked => loop {
                let line = self.line().await?;
                let size = usize::from_str_radix(&line, 16)
                    .map_err(|_| Stop::Malformed(format!("chunk {line:?}")))?;
                if size == 0 {
                    return self.fields().await;
                }
                self.data(size, |bytes| part(&board, bytes)).await?;
                let end = self.take(2).await?;
                if end != b"\r\n" {
                    return Err(Stop::Malformed(format!("after a chunk: {end:?}")));
                }
            },
        }
    }

    async fn data(&mut self, length: usize, mut part: impl FnMut(&[u8])) -> Result<(), Stop> {
        let mut left = length;
        loop {
            let now = left.min(self.ahead.len());
            part(&self.ahead[..now]);
            self.ahead.drain(..now);
            left -= now;
            if left == 0 {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    async fn ask(&mut self) -> Result<(), Stop> {
        self.ask_head().await?;
        self.ask_rest().await
    }

    async fn ask_head(&mut self) -> Result<(), Stop> {
        let line = self.line().await?;
        let words: Vec<_> = line.split(' ').collect();
        let [method, target, "HTTP/1.1"] = words[..] else { return Err(Stop::Malformed(line)) };
        let asked = Asked { method: method.into(), target: target.into(), ..Asked::default() };
        let index = self.index.expect("a backend's connection");
        let fields = self.fields().await?;
        self.board.change(|state| state.seen[index].push(asked));
        self.rest = framing(&fields)?.unwrap_or(Framing::None);
        Ok(())
    }

    async fn ask_rest(&mut self) -> Result<(), Stop> {
        let index = self.index.expect("a backend's connection");
        let framing = std::mem::replace(&mut self.rest, Framing::None);
        let keep = |board: &Board, bytes: &[u8]| {
            board.change(|state| {
                state.seen[index].last_mut().expect("its head").body.extend_from_slice(bytes);
            });
        };
        self.content(framing, keep).await?;
        self.board.change(|state| {
            if let Some(asked) = state.seen[index].last_mut() {
                asked.whole = true;
            }
        });
        Ok(())
    }

    /// Answers every request with its target until the other side goes.
    ///
    /// # Errors
    /// When what comes is no request.
    pub async fn serve(&mut self) -> Result<(), String> {
        let index = self.index.expect("a backend's connection");
        loop {
            let asked = match self.ask_rest().await {
                Ok(()) => self.ask().await,
                Err(stop) => Err(stop),
            };
            match asked {
                Ok(()) => {}
                Err(Stop::Malformed(what)) => return Err(format!("malformed request: {what}")),
                Err(_) => return Ok(()),
            }
            let asked =
                self.board.look(|state| state.seen[index].last().expect("a request").clone());
            let (length, body) = (asked.target.len(), &asked.target[..]);
            let body = if asked.method == "HEAD" { "" } else { body };
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
            self.write(answer.as_bytes()).await;
        }
    }

    async fn response_head(&mut self) -> Result<(u16, Fields), Stop> {
        let line = self.line().await?;
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .or_else(|| line.strip_prefix("HTTP/1.0 "))
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .ok_or(Stop::Malformed(line))?;
        let fields = self.fields().await?;
        match (100..200).contains(&status) {
            true => self.board.change(|state| state.interims += 1),
            false => self.board.change(|state| state.heads += 1),
        }
        Ok((status, fields))
    }

    /// A final response, or what came of it.
    ///
    /// # Errors
    /// When it is malformed; that it ends early is in `Got::end`.
    pub async fn response(&mut self) -> Result<Got, Stop> {
        let mut got = Got { is_head: self.is_head, ..Got::default() };
        match self.try_response(&mut got).await {
            Ok(()) => {}
            Err(Stop::Malformed(what)) => return Err(Stop::Malformed(what)),
            Err(stop) => {
                let is_open_ended = got.status > 0 && self.framing_of(&got)? == Framing::Close;
                got.end = Some(match (stop, is_open_ended) {
                    (Stop::Reset, true) => End::Reset,
                    _ => End::Cut,
                });
            }
        }
        Ok(got)
    }

    async fn try_response(&mut self, got: &mut Got) -> Result<(), Stop> {
        loop {
            (got.status, got.fields) = match self.response_head().await {
                Ok(head) => head,
                Err(stop) => {
                    got.status = 0;
                    return Err(stop);
                }
            };
            if got.status == 101 || got.status >= 200 {
                break;
            }
            got.interims.push(got.status);
        }
        if got.status == 101 {
            got.end = Some(End::Tunnel);
            return Ok(());
        }
        let framing = self.framing_of(got)?;
        let body = &mut got.body;
        got.trailers = self
            .content(framing, |board, bytes| {
                body.extend_from_slice(bytes);
                board.change(|state| state.body_bytes += bytes.len());
            })
            .await?;
        let is_last = framing == Framing::Close || self.is_last(&got.fields);
        if !is_last {
            got.end = Some(End::Kept);
            return Ok(());
        }
        // After an upload that nobody read, the close may be a reset.
        while self.fill().await.is_ok() {}
        if !self.ahead.is_empty() {
            return Err(Stop::Malformed(format!("after the last response: {}", self.ahead())));
        }
        got.end = Some(End::Closed);
        Ok(())
    }

    fn is_last(&self, fields: &Fields) -> bool {
        let option = |option: &str| {
            fields.iter().filter(|(name, _)| name == "connection").any(|(_, value)| {
                value.split(',').any(|known| known.trim().eq_ignore_ascii_case(option))
            })
        };
        option("close") || (self.is_http10 && !option("keep-alive"))
    }

    fn framing_of(&self, got: &Got) -> Result<Framing, Stop> {
        let is_bodiless = self.is_head || matches!(got.status, 204 | 304);
        if is_bodiless {
            return Ok(Framing::None);
        }
        Ok(framing(&got.fields)?.unwrap_or(Framing::Close))
    }

    /// # Errors
    /// When there is more than what was asked for.
    pub fn is_quiet(&self) -> Result<(), String> {
        match self.ahead.is_empty() {
            true => Ok(()),
            false => Err(format!("bytes that nobody asked for: {}", self.ahead())),
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn framing(fields: &Fields) -> Result<Option<Framing>, Stop> {
    let all = |wanted: &str| -> Vec<&str> {
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| &value[..]).collect()
    };
    match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Ok(None),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = length.parse().map_err(|_| Stop::Malformed((*length).into()))?;
            Ok(Some(Framing::Length(length)))
        }
        ([list], []) if list.contains(", ") => {
            let mut lengths = list.split(", ").map(str::parse);
            match (lengths.next(), lengths.next()) {
                (Some(Ok(length)), Some(Ok(same))) if length == same => {
                    Ok(Some(Framing::Length(length)))
                }
                _ => Err(Stop::Malformed((*list).into())),
            }
        }
        ([], ["chunked"]) => Ok(Some(Framing::Chunked)),
        (lengths, codings) => {
            Err(Stop::Malformed(format!("lengths {lengths:?}, codings {codings:?}")))
        }
    }
}

fn lines(got: &Got) -> Vec<String> {
    let fields = got.fields.iter().map(|(name, value)| format!("{name}: {value}"));
    let trailers = got.trailers.iter().map(|(name, value)| format!("trailer {name}: {value}"));
    fields.chain(trailers).collect()
}

/// What is not as it must be.
fn difference(got: &Got, reply: &Reply) -> Option<String> {
    let wrong = |what: String| Some(what);
    if got.status != reply.status {
        return wrong(format!("status {}, not {}", got.status, reply.status));
    }
    if got.interims != reply.interims {
        return wrong(format!("interims {:?}, not {:?}", got.interims, reply.interims));
    }
    let end = got.end.expect("it has come to an end");
    let is_end = match reply.end {
        End::Whole => matches!(end, End::Kept | End::Closed),
        expected => end == expected,
    };
    if !is_end {
        return wrong(format!("end {end:?}, not {:?}", reply.end));
    }
    let lines = lines(got);
    let error = lines.iter().find_map(|line| line.strip_prefix("x-crossfade-error: "));
    if error != reply.error {
        return wrong(format!("error {error:?}, not {:?}", reply.error));
    }
    let is_body = match (reply.error, reply.end) {
        (Some(reason), _) => got.is_head || got.body.starts_with(reason.as_bytes()),
        (None, End::Cut | End::Reset) => reply.body.starts_with(&got.body),
        (None, _) => got.body[..] == reply.body[..],
    };
    if !is_body {
        return wrong(format!("body, not {:.100?}", String::from_utf8_lossy(&reply.body)));
    }
    if let Some(line) = reply.has.iter().find(|wanted| !lines.iter().any(|line| line == *wanted)) {
        return wrong(format!("no {line:?}"));
    }
    let lacked = |line: &&String| reply.lacks.iter().any(|begin| line.starts_with(begin));
    lines.iter().find(lacked).and_then(|line| wrong(format!("has {line:?}")))
}
