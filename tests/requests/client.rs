//! A client that plays the script of a case and writes down what it gets.

use crate::{
    backend::{Backend, FENCE},
    case::{Act, End, Expectation},
    transport::{Line, Reading, Writing},
    wire::{self, Message, Read},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
    time::timeout,
};

/// What has not come by then does not come.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// What the client got.
#[derive(Debug)]
pub struct Outcome {
    pub replies: Vec<Message>,
    pub end: Option<End>,
    /// What came that is no response.
    pub rest: Vec<u8>,
    /// It ended with a reset, which can cost a client the answer that it has not read.
    pub reset: bool,
}

#[derive(Debug, Default)]
struct Inbox {
    bytes: Vec<u8>,
    ended: bool,
    reset: bool,
}

struct Client<'a> {
    inbox: Arc<watch::Sender<Inbox>>,
    write: Option<Writing>,
    socket: socket2::Socket,
    reading: tokio::task::JoinHandle<()>,
    expected: &'a Expectation,
}

/// A connection that asks how far the proxy is.
pub struct Fence(Line);

impl Fence {
    pub fn new(line: Line) -> Self {
        Self(line)
    }

    /// Returns when the proxy has answered, and so has seen everything that was sent before: it has one
    /// thread, which takes up what came in the order in which it came.
    pub async fn pass(&mut self) -> Result<(), String> {
        self.0.write.write_all(fence().as_bytes()).await.map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        loop {
            match wire::response(&bytes, false) {
                Read::Whole(message, len) if is_fence(&message) && len == bytes.len() => {
                    return Ok(());
                }
                Read::Partial => {}
                _ => return Err(format!("a good request was answered {}", bytes.escape_ascii())),
            }
            match timeout(PATIENCE, self.0.read.read_buf(&mut bytes)).await {
                Ok(Ok(read)) if read > 0 => {}
                other => return Err(format!("a good request was not answered: {other:?}")),
            }
        }
    }
}

fn fence() -> String {
    format!("GET {FENCE} HTTP/1.1\r\nhost: fence\r\n\r\n")
}

fn is_fence(reply: &Message) -> bool {
    reply.status() == 200 && reply.body == FENCE.as_bytes()
}

/// Plays `script`; `expected` says how long to wait for what.
pub async fn play(
    line: Line,
    script: &[Act],
    expected: &Expectation,
    fence: &mut Fence,
    backend: &Backend,
) -> Result<Outcome, String> {
    let Line { read, write, socket } = line;
    let inbox = Arc::new(watch::Sender::new(Inbox::default()));
    let reading = tokio::spawn(receive(read, inbox.clone()));
    let mut client = Client { inbox, write: Some(write), socket, reading, expected };
    let mut awaited = 0;
    for act in script {
        match act {
            // What a proxy that has closed does not take is no matter: what it answered is.
            Act::Send(bytes) => drop(client.send(bytes).await),
            Act::AwaitReply => {
                awaited += 1;
                client.replies(awaited).await?;
            }
            Act::AwaitBackend => {
                let waiting = timeout(PATIENCE, backend.awaits_body()).await;
                waiting.map_err(|_| "the backend never got the head of a request".to_owned())?;
            }
            Act::AwaitMessages => {
                let waiting =
                    timeout(PATIENCE, backend.has_messages(expected.messages.len())).await;
                waiting.map_err(|_| {
                    "the backend never got as many messages as it should".to_owned()
                })?;
            }
            Act::Settle => fence.pass().await?,
            Act::HalfClose => {
                if let Some(write) = &mut client.write {
                    drop(write.shutdown().await);
                }
            }
            Act::Leave => return Ok(client.leave(false).await),
            Act::Reset => return Ok(client.leave(true).await),
        }
    }
    client.finish().await
}

async fn receive(mut read: Reading, inbox: Arc<watch::Sender<Inbox>>) {
    let mut buffer = vec![0; 16384];
    loop {
        match read.read(&mut buffer).await {
            Ok(len) if len > 0 => {
                inbox.send_modify(|inbox| inbox.bytes.extend_from_slice(&buffer[..len]));
            }
            end => {
                return inbox.send_modify(|inbox| {
                    inbox.ended = true;
                    inbox.reset = end.is_err();
                });
            }
        }
    }
}

impl Client<'_> {
    async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.write {
            Some(write) => write.write_all(bytes).await,
            None => Ok(()),
        }
    }

    /// Waits for so many responses or the end.
    async fn replies(&self, count: usize) -> Result<(), String> {
        self.until(|replies| replies.len() >= count).await
    }

    /// Patience counts from the last bytes: many replies may take long on a busy machine.
    async fn until(&self, is_enough: impl Fn(&[Message]) -> bool) -> Result<(), String> {
        let mut inbox = self.inbox.subscribe();
        let is_over = |inbox: &Inbox| inbox.ended || is_enough(&self.parse(inbox).0);
        while !is_over(&inbox.borrow_and_update()) {
            if timeout(PATIENCE, inbox.changed()).await.is_err() {
                return Err(format!("no reply and no end came; {}", self.so_far()));
            }
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Outcome, String> {
        match self.expected.end {
            End::Open => {
                let sure = self.expected.replies.iter().filter(|reply| !reply.optional).count();
                self.replies(sure).await?;
                drop(self.send(fence().as_bytes()).await);
                self.until(|replies| replies.last().is_some_and(is_fence)).await?;
            }
            End::Closed | End::Gone => {
                if self.expected.closes_at_once() {
                    self.replies(self.expected.replies.len()).await?;
                    // Whoever answers this has not closed.
                    drop(self.send(fence().as_bytes()).await);
                    self.until(|replies| replies.last().is_some_and(is_fence)).await?;
                } else {
                    self.until(|_| false).await?;
                }
            }
        }
        let inbox = self.inbox.borrow();
        let (mut replies, rest) = self.parse(&inbox);
        let is_open = !inbox.ended && replies.last().is_some_and(is_fence);
        if is_open {
            replies.pop();
        }
        let end = if is_open { End::Open } else { End::Closed };
        Ok(Outcome { replies, end: Some(end), rest, reset: inbox.reset })
    }

    async fn leave(mut self, reset: bool) -> Outcome {
        self.reading.abort();
        if let Some(write) = self.write.take() {
            if reset {
                // No time to linger: RFC 9293's RST instead of its FIN.
                drop(self.socket.set_linger(Some(Duration::ZERO)));
            }
            drop(write);
        }
        // Both halves must be gone for the socket to be.
        drop((&mut self.reading).await);
        Outcome { replies: Vec::new(), end: Some(End::Gone), rest: Vec::new(), reset: false }
    }

    fn so_far(&self) -> String {
        format!("so far came {:?}", crate::text::show(&self.inbox.borrow().bytes))
    }

    /// The responses in these bytes, and what is left.
    fn parse(&self, inbox: &Inbox) -> (Vec<Message>, Vec<u8>) {
        let mut replies: Vec<Message> = Vec::new();
        let mut rest = &inbox.bytes[..];
        loop {
            let expected = self.expected.replies.get(replies.len());
            let answers_head = expected.is_some_and(|reply| reply.bodyless);
            let switched = replies.last().is_some_and(|reply| reply.status() == 101);
            match wire::response(rest, answers_head) {
                Read::Whole(reply, len) if !switched => {
                    replies.push(reply);
                    rest = &rest[len..];
                }
                Read::UntilEnd(reply) if !switched && inbox.ended => {
                    replies.push(reply);
                    return (replies, Vec::new());
                }
                _ => return (replies, rest.to_vec()),
            }
        }
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
