//! A reader of messages that forgives nothing.

use super::{
    super::{
        board::Board,
        case::End,
        message::{Asked, Fields, Framing, Got, Stop, framing, is_token},
    },
    Peer,
};
use std::io;
use tokio::io::AsyncReadExt;

/// Bytes that one read may bring.
const AT_ONCE: usize = 64 << 10;

impl Peer {
    pub(super) async fn fill(&mut self) -> Result<(), Stop> {
        self.ahead.reserve(AT_ONCE);
        match self.read.read_buf(&mut self.ahead).await {
            Ok(0) => Err(Stop::Ended),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(Stop::Reset),
            Err(error) => Err(Stop::Malformed(error.to_string())),
        }
    }

    pub(super) async fn take(&mut self, bytes: usize) -> Result<Vec<u8>, Stop> {
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

    pub(super) async fn ask(&mut self) -> Result<(), Stop> {
        self.ask_head().await?;
        self.ask_rest().await
    }

    pub(super) async fn ask_head(&mut self) -> Result<(), Stop> {
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

    pub(super) async fn ask_rest(&mut self) -> Result<(), Stop> {
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

    pub(super) async fn response_head(&mut self) -> Result<(u16, Fields), Stop> {
        let line = self.line().await?;
        let status = line
            .strip_prefix("HTTP/1.1 ")
            // To an HTTP/1.0 client either version is right (RFC 9110 section 2.5).
            .or_else(|| line.strip_prefix("HTTP/1.0 ").filter(|_| self.is_http10))
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
            got.interim_fields.append(&mut got.fields);
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
