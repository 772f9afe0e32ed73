//! One side of a connection, which plays its script step by step.

mod reading;

use super::{
    board::Board,
    case::Step,
    message::{Framing, Stop, complaint},
};
use socket2::SockRef;
use std::{future::pending, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

/// Between two bytes of a side that is slow.
const DRIP: Duration = Duration::from_millis(10);

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
            Step::Stuck => self.board.stuck().await,
            Step::SayAfter(body_bytes, bytes) => {
                let mut write = self.writer().await;
                let (board, body_bytes, bytes) = (self.board.clone(), *body_bytes, bytes.clone());
                self.pouring = Some(tokio::spawn(async move {
                    board.until(|state| state.body_bytes >= body_bytes).await;
                    // That the other side has gone is seen in what it got.
                    let _ = write.write_all(&bytes).await;
                    write
                }));
            }
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
            Step::Gone => {
                while self.fill().await.is_ok() {
                    self.ahead.clear();
                }
                return Ok(Next::Over);
            }
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
                if let Some(complaint) = complaint(&got, replies) {
                    return Err(complaint);
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
}
