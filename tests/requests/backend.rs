//! A backend that writes down every byte it gets. What it answers, the target says:
//! `/early` answers before the body has come, `/stall` never, `/switch` with 101 and then echoes;
//! everything else with 200 and the target as its body, so that an answer shows whose it is.

use crate::wire::{self, Message, Read};
use std::{collections::HashMap, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// The target of the requests that tell how far the proxy is; they are not written down.
pub const FENCE: &str = "/~fence";

pub struct Backend {
    pub address: SocketAddr,
    log: Arc<watch::Sender<Log>>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
pub struct Log {
    pub messages: Vec<Message>,
    /// Beginnings of messages whose connection then ended.
    pub cut: Vec<Vec<u8>>,
    /// What no strict reader takes.
    pub wrong: Vec<String>,
    /// Beginnings of messages, by connection.
    pending: HashMap<usize, Vec<u8>>,
}

impl Log {
    /// Some head is there, and its body is not.
    fn awaits_body(&self) -> bool {
        self.pending.values().any(|bytes| wire::head(bytes).is_some())
    }
}

impl Backend {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(watch::Sender::new(Log::default()));
        let shared = log.clone();
        let accepting = tokio::spawn(async move {
            for index in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Connection { index, log: shared.clone() }));
            }
        });
        Self { address, log, accepting }
    }

    pub async fn awaits_body(&self) {
        self.log.subscribe().wait_for(Log::awaits_body).await.unwrap();
    }

    pub async fn has_messages(&self, count: usize) {
        self.log.subscribe().wait_for(|log| log.messages.len() >= count).await.unwrap();
    }

    /// What has come since the last time, once no message is half there.
    pub async fn take(&self) -> Log {
        let mut log = self.log.subscribe();
        log.wait_for(|log| log.pending.is_empty()).await.unwrap();
        let mut taken = Log::default();
        self.log.send_modify(|log| std::mem::swap(log, &mut taken));
        taken
    }

    /// What has come since the last time, with what is half there.
    pub fn take_unfinished(&self) -> Vec<Vec<u8>> {
        self.log.borrow().pending.values().cloned().collect()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Connection {
    index: usize,
    log: Arc<watch::Sender<Log>>,
}

async fn serve(mut stream: TcpStream, connection: Connection) {
    let mut bytes = Vec::new();
    let mut early = false;
    loop {
        match wire::request(&bytes) {
            Read::Whole(message, len) => {
                bytes.drain(..len);
                let (behaviour, answer) = (Behaviour::of(&message), answer(&message));
                let is_fence = message.target() == FENCE.as_bytes();
                connection.note(&bytes, |log| {
                    if !is_fence {
                        log.messages.push(message);
                    }
                });
                match behaviour {
                    Behaviour::Stall => {}
                    Behaviour::Switch => return echo(stream).await,
                    Behaviour::Early if early => {}
                    _ => drop(stream.write_all(&answer).await),
                }
                early = false;
                continue;
            }
            Read::Wrong(why) => {
                let what = format!("{why} in {}", bytes.escape_ascii());
                return connection.note(&[], |log| log.wrong.push(what));
            }
            Read::UntilEnd(_) => unreachable!("no request ends with its connection"),
            Read::Partial => {}
        }
        if let Some(head) = wire::head(&bytes).filter(|_| !early) {
            if Behaviour::of(&head) == Behaviour::Early {
                early = true;
                drop(stream.write_all(&answer(&head)).await);
            } else if head.value("expect").is_some() {
                // Once is enough, and what was not to be answered early is not.
                early = true;
                drop(stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await);
            }
        }
        connection.note(&bytes, |_| {});
        match stream.read_buf(&mut bytes).await {
            Ok(read) if read > 0 => {}
            _ => {
                let cut = std::mem::take(&mut bytes);
                return connection.note(&[], |log| {
                    if !cut.is_empty() {
                        log.cut.push(cut);
                    }
                });
            }
        }
    }
}

impl Connection {
    fn note(&self, pending: &[u8], change: impl FnOnce(&mut Log)) {
        self.log.send_modify(|log| {
            change(log);
            match pending {
                [] => log.pending.remove(&self.index),
                some => log.pending.insert(self.index, some.to_vec()),
            };
        });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Answer,
    Early,
    Stall,
    Switch,
}

impl Behaviour {
    fn of(message: &Message) -> Self {
        let path = message.target().split(|byte| *byte == b'?').next().unwrap_or_default();
        match path {
            b"/early" => Self::Early,
            b"/stall" => Self::Stall,
            b"/switch" => Self::Switch,
            _ => Self::Answer,
        }
    }
}

fn answer(message: &Message) -> Vec<u8> {
    let target = message.target();
    let mut answer =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", target.len()).into_bytes();
    if !message.start.starts_with(b"HEAD ") {
        answer.extend_from_slice(target);
    }
    answer
}

/// Switches protocols and sends back what comes.
async fn echo(mut stream: TcpStream) {
    let head =
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    if stream.write_all(head).await.is_ok() {
        let (mut read, mut write) = stream.split();
        drop(tokio::io::copy(&mut read, &mut write).await);
        drop(write.shutdown().await);
    }
}
