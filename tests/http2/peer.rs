//! A client that sends what it is told and keeps book of what comes back.

use super::{
    frame::{self, Frame},
    hpack::Reader,
};
use std::{collections::BTreeMap, io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpStream,
    time::timeout,
};

/// What has not happened by then never will.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// What has come on a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream {
    /// Of interim responses.
    pub interim: Vec<u16>,
    pub status: Option<u16>,
    /// Of the final response.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    pub ended: bool,
    pub reset: Option<u32>,
}

impl Stream {
    pub fn is_over(&self) -> bool {
        self.ended || self.reset.is_some()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| &value[..])
    }
}

pub struct Peer {
    socket: TcpStream,
    bytes: Vec<u8>,
    reader: Reader,
    pub streams: BTreeMap<u32, Stream>,
    /// The code of the last GOAWAY that was not the polite one.
    pub goaway: Option<u32>,
    pub pongs: Vec<Vec<u8>>,
    /// Those that came, and whether they are answered.
    pub pings: u32,
    pub answers_pings: bool,
    pub settings_acked: u32,
    /// What the other side has set.
    pub settings: Vec<(u16, u32)>,
    /// The other side has closed.
    pub closed: bool,
    /// Window updates are sent for what comes.
    pub reads_on: bool,
}

impl Peer {
    /// Nothing has been said yet.
    pub async fn raw(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self {
            socket,
            bytes: Vec::new(),
            reader: Reader::default(),
            streams: BTreeMap::new(),
            goaway: None,
            pongs: Vec::new(),
            pings: 0,
            answers_pings: true,
            settings_acked: 0,
            settings: Vec::new(),
            closed: false,
            reads_on: true,
        }
    }

    pub async fn connect(address: SocketAddr) -> Self {
        let mut peer = Self::raw(address).await;
        peer.send([frame::PREFACE, &frame::settings(&[])].concat()).await;
        peer
    }

    /// What the other side does not take any more is not sent.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        drop(self.socket.write_all(bytes.as_ref()).await);
    }

    /// The same, as long as it is taken and nothing comes that ends the connection; false when it is not.
    pub async fn send_all(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() && !self.closed && self.goaway.is_none() {
            let ready = self.socket.ready(Interest::READABLE | Interest::WRITABLE).await.unwrap();
            if ready.is_readable() {
                self.take_what_is_there();
            }
            match self.socket.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.closed = true,
            }
        }
        rest.is_empty()
    }

    fn take_what_is_there(&mut self) {
        let mut scratch = [0; 16 << 10];
        loop {
            match self.socket.try_read(&mut scratch) {
                Ok(0) => return self.closed = true,
                Ok(read) => self.bytes.extend_from_slice(&scratch[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.closed = true,
            }
        }
        while let Some((frame, len)) = frame::read(&self.bytes) {
            self.bytes.drain(..len);
            self.note(&frame).unwrap();
        }
    }

    /// Until `done` says so or the other side has closed.
    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<(), String> {
        let waiting = async {
            while !done(self) && !self.closed {
                self.receive().await?;
            }
            Ok(())
        };
        match timeout(PATIENCE, waiting).await {
            Ok(done) => done,
            Err(_) => Err(format!("never: {what}; {}", self.seen())),
        }
    }

    pub fn seen(&self) -> String {
        format!("goaway {:?}, closed {}, {:?}", self.goaway, self.closed, self.streams)
    }

    async fn receive(&mut self) -> Result<(), String> {
        let frame = loop {
            if let Some((frame, len)) = frame::read(&self.bytes) {
                self.bytes.drain(..len);
                break frame;
            }
            match self.socket.read_buf(&mut self.bytes).await {
                Ok(read) if read > 0 => {}
                _ => {
                    self.closed = true;
                    return Ok(());
                }
            }
        };
        self.note(&frame)?;
        if frame.kind == frame::SETTINGS && !frame.has(frame::ACK) {
            self.send(frame::frame(frame::SETTINGS, frame::ACK, 0, b"")).await;
        }
        if frame.kind == frame::PING && !frame.has(frame::ACK) && self.answers_pings {
            self.send(frame::frame(frame::PING, frame::ACK, 0, &frame.payload)).await;
        }
        if frame.kind == frame::DATA && self.reads_on && !frame.payload.is_empty() {
            let len = frame.payload.len() as u32;
            self.send(frame::window(0, len)).await;
            if !frame.has(frame::END_STREAM) {
                self.send(frame::window(frame.stream, len)).await;
            }
        }
        Ok(())
    }

    fn note(&mut self, frame: &Frame) -> Result<(), String> {
        match frame.kind {
            frame::HEADERS => {
                if !frame.has(frame::END_HEADERS) {
                    return Err("a header block in pieces".into());
                }
                let fields = self.reader.read(&frame.payload)?;
                let stream = self.streams.entry(frame.stream).or_default();
                stream.ended |= frame.has(frame::END_STREAM);
                match fields.first() {
                    Some((name, status)) if name == ":status" => {
                        let status = status.parse().map_err(|_| "no status")?;
                        if (100..200).contains(&status) {
                            stream.interim.push(status);
                        } else if stream.status.replace(status).is_some() {
                            return Err(format!("two responses on {}", frame.stream));
                        } else {
                            stream.fields = fields[1..].to_vec();
                        }
                    }
                    _ => stream.trailers = fields,
                }
            }
            frame::DATA => {
                let stream = self.streams.entry(frame.stream).or_default();
                if stream.status.is_none() || stream.ended {
                    return Err(format!("DATA where none may be on {}", frame.stream));
                }
                stream.body.extend_from_slice(&frame.payload);
                stream.ended |= frame.has(frame::END_STREAM);
            }
            frame::RST_STREAM => {
                let stream = self.streams.entry(frame.stream).or_default();
                stream.reset = Some(frame.code());
            }
            frame::GOAWAY if frame.code() != frame::NO_ERROR => self.goaway = Some(frame.code()),
            frame::SETTINGS if frame.has(frame::ACK) => self.settings_acked += 1,
            frame::SETTINGS => self.settings.extend(frame.payload.chunks_exact(6).map(|setting| {
                let id = u16::from_be_bytes([setting[0], setting[1]]);
                let value = [setting[2], setting[3], setting[4], setting[5]];
                (id, u32::from_be_bytes(value))
            })),
            frame::PING if !frame.has(frame::ACK) => self.pings += 1,
            frame::PING if frame.has(frame::ACK) => self.pongs.push(frame.payload.clone()),
            _ => {}
        }
        Ok(())
    }
}
