//! A client of HTTP/2 that plays the scripts of one of HTTP/1: what these say as text becomes streams.

use super::{
    board::Board,
    case::{End, Step},
    message::{Fields, Framing, Got, complaint},
    wire::Next,
};
use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request, Response};
use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
};

pub struct Client {
    sender: SendRequest<Bytes>,
    driver: JoinHandle<()>,
    board: Board,
    exchange: Option<Exchange>,
}

/// A request and its response.
struct Exchange {
    response: ResponseFuture,
    is_head: bool,
    body: Option<mpsc::UnboundedSender<Piece>>,
    sending: Option<AbortHandle>,
    /// What of the body is still to be said.
    rest: Framing,
}

/// Who sends the rest has no use for it any more: the stream is reset.
impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(sending) = &self.sending {
            sending.abort();
        }
    }
}

/// Of a body.
enum Piece {
    Data(Bytes),
    /// So many bytes of filler.
    Filler(u64),
    /// When the client has as many bytes of the answer's.
    After(usize, Bytes),
    End,
}

impl Client {
    pub async fn new(stream: TcpStream, board: &Board) -> Self {
        stream.set_nodelay(true).expect("a socket");
        let (sender, connection) =
            h2::client::handshake(stream).await.expect("the proxy speaks HTTP/2");
        let driver = tokio::spawn(async move {
            // How it ended is told to the streams.
            let _ = connection.await;
        });
        Self { sender, driver, board: board.clone(), exchange: None }
    }

    /// # Errors
    /// With what should not have happened.
    pub async fn play(&mut self, step: &Step) -> Result<Next, String> {
        match step {
            Step::Say(bytes) => self.say(bytes).await?,
            Step::SayAfter(body_bytes, bytes) => {
                let piece = Bytes::copy_from_slice(bytes);
                self.body(Piece::After(*body_bytes, piece), bytes.len() as u64)?;
            }
            Step::Pour(bytes) => self.body(Piece::Filler(*bytes), *bytes)?,
            Step::Stuck => self.board.stuck().await,
            Step::Until(mark) => self.board.until(|state| state.marks.contains(mark)).await,
            Step::Played(scripts) => self.board.until(|state| state.played >= *scripts).await,
            Step::Interim(status) => {
                let found = self.interim().await?;
                if found != *status {
                    return Err(format!("interim {found}"));
                }
            }
            Step::Get(replies) => {
                let got = self.response().await?;
                if let Some(complaint) = complaint(&got, replies) {
                    return Err(complaint);
                }
            }
            Step::Hears(_) => {
                let exchange = self.exchange.as_mut().ok_or("no request")?;
                (&mut exchange.response).await.map_err(|error| error.to_string())?;
            }
            // The stream is reset, and the connection goes on.
            Step::Reset => self.exchange = None,
            Step::Close => {
                self.driver.abort();
                return Ok(Next::Over);
            }
            other => return Err(format!("{other:?} is nothing that a client of HTTP/2 does")),
        }
        Ok(Next::Step)
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let is_head = |(head, _): &(&str, &str)| head.contains(" HTTP/1.1");
        let Some((head, rest)) = text.split_once("\r\n\r\n").filter(is_head) else {
            return self.say_body(bytes);
        };
        let (request, framing) = request(head)?;
        let has_body = !matches!(framing, Framing::None | Framing::Length(0));
        let is_head = request.method() == "HEAD";
        let mut sender = self.sender.clone().ready().await.map_err(|error| error.to_string())?;
        let (response, stream) =
            sender.send_request(request, !has_body).map_err(|error| error.to_string())?;
        let (body, pieces) = mpsc::unbounded_channel();
        let board = self.board.clone();
        let sending = has_body.then(|| tokio::spawn(send(stream, pieces, board)).abort_handle());
        let body = has_body.then_some(body);
        self.exchange = Some(Exchange { response, is_head, body, sending, rest: framing });
        self.say_body(rest.as_bytes())
    }

    fn say_body(&mut self, bytes: &[u8]) -> Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        let rest = self.exchange.as_ref().map(|exchange| exchange.rest);
        if rest != Some(Framing::Chunked) {
            return self.body(Piece::Data(Bytes::copy_from_slice(bytes)), bytes.len() as u64);
        }
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let size = std::str::from_utf8(&rest[..end]).map_err(|error| error.to_string())?.trim();
            let size = usize::from_str_radix(size, 16).map_err(|error| error.to_string())?;
            if size == 0 {
                return self.body(Piece::End, 0);
            }
            let data = Bytes::copy_from_slice(&rest[end + 1..][..size]);
            self.body(Piece::Data(data), 0)?;
            rest = &rest[end + 1 + size + 2..];
        }
        Ok(())
    }

    /// Says the next piece of a body, which has so many bytes of those that were announced.
    fn body(&mut self, piece: Piece, bytes: u64) -> Result<(), String> {
        let exchange = self.exchange.as_mut().ok_or("no request")?;
        let Some(body) = &exchange.body else { return Err("more than was announced".into()) };
        let mut is_last = matches!(piece, Piece::End);
        // Who sends it may be gone, as the other side has.
        let _ = body.send(piece);
        if let Framing::Length(left) = &mut exchange.rest {
            let bytes = usize::try_from(bytes).map_err(|error| error.to_string())?;
            *left = left.checked_sub(bytes).ok_or("more than was announced")?;
            is_last = *left == 0;
            if is_last {
                let _ = body.send(Piece::End);
            }
        }
        if is_last {
            exchange.body = None;
        }
        Ok(())
    }

    async fn interim(&mut self) -> Result<u16, String> {
        let response = &mut self.exchange.as_mut().ok_or("no request")?.response;
        let told = poll_fn(|cx| response.poll_informational(cx)).await;
        let told = told.ok_or("no informational response")?.map_err(|error| error.to_string())?;
        self.board.change(|state| state.interims += 1);
        Ok(told.status().as_u16())
    }

    /// A final response, or what came of it.
    async fn response(&mut self) -> Result<Got, String> {
        let exchange = self.exchange.as_mut().ok_or("no request")?;
        let mut got = Got { is_head: exchange.is_head, ..Got::default() };
        let board = &self.board;
        let response = &mut exchange.response;
        let head = poll_fn(|cx| poll_head(response, cx, &mut got, board)).await;
        let ended = match head {
            Ok(response) => {
                board.change(|state| state.heads += 1);
                let (head, body) = response.into_parts();
                (got.status, got.fields) = (head.status.as_u16(), fields(&head.headers));
                receive(body, &mut got, board).await
            }
            Err(error) => Err(error),
        };
        got.end = Some(if ended.is_ok() { End::Kept } else { End::Cut });
        Ok(got)
    }
}

fn poll_head(
    response: &mut ResponseFuture,
    cx: &mut Context<'_>,
    got: &mut Got,
    board: &Board,
) -> Poll<Result<Response<RecvStream>, h2::Error>> {
    while let Poll::Ready(Some(Ok(told))) = response.poll_informational(cx) {
        got.interims.push(told.status().as_u16());
        got.interim_fields.append(&mut fields(told.headers()));
        board.change(|state| state.interims += 1);
    }
    Pin::new(response).poll(cx)
}

async fn receive(mut body: RecvStream, got: &mut Got, board: &Board) -> Result<(), h2::Error> {
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        got.body.extend_from_slice(&data);
        board.change(|state| state.body_bytes += data.len());
    }
    if let Some(trailers) = body.trailers().await? {
        got.trailers = fields(&trailers);
    }
    Ok(())
}

/// Sends a body piece by piece, as the other side takes it.
async fn send(
    mut stream: SendStream<Bytes>,
    mut pieces: mpsc::UnboundedReceiver<Piece>,
    board: Board,
) {
    while let Some(piece) = pieces.recv().await {
        let sent = match piece {
            Piece::Data(data) => send_data(&mut stream, data).await,
            Piece::After(body_bytes, data) => {
                board.until(|state| state.body_bytes >= body_bytes).await;
                send_data(&mut stream, data).await
            }
            Piece::Filler(bytes) => fill(&mut stream, bytes, &board).await,
            Piece::End => {
                // That the other side wants no more is seen in what it answers.
                let _ = stream.send_data(Bytes::new(), true);
                return;
            }
        };
        if sent.is_none() {
            break;
        }
    }
    // Whoever has not said all of it says no more; the other side must not take it for an end.
    let _ = poll_fn(|cx| stream.poll_reset(cx)).await;
}

async fn fill(stream: &mut SendStream<Bytes>, bytes: u64, board: &Board) -> Option<()> {
    let filler = Bytes::from_static(&[b'x'; 16384]);
    let mut left = bytes;
    while left > 0 {
        let size = filler.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        send_data(stream, filler.slice(..size)).await?;
        left -= size as u64;
        board.change(|state| state.poured += size as u64);
    }
    Some(())
}

/// `None` when the other side wants no more.
async fn send_data(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Option<()> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await?.ok()?;
        stream.send_data(data.split_to(room.min(data.len())), false).ok()?;
    }
    Some(())
}

/// The same request, and how its body is framed in HTTP/1.
fn request(head: &str) -> Result<(Request<()>, Framing), String> {
    let mut lines = head.split("\r\n");
    let words: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return Err(format!("{words:?}")) };
    let mut framing = Framing::None;
    let mut authority = "";
    let mut request = Request::builder().method(method);
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or_else(|| line.to_owned())?;
        match name {
            "host" => authority = value,
            "connection" => {}
            "transfer-encoding" => framing = Framing::Chunked,
            _ => request = request.header(name, value),
        }
        if name == "content-length" {
            framing = Framing::Length(value.parse().map_err(|_| value.to_owned())?);
        }
    }
    let request = request.uri(format!("http://{authority}{target}")).body(());
    Ok((request.map_err(|error| error.to_string())?, framing))
}

fn fields(headers: &HeaderMap) -> Fields {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect()
}
