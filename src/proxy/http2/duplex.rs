//! A stream of HTTP/2 as a stream of bytes, which is what a tunnel is made of (RFC 8441 section 5).

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The largest piece that is handed over at once.
const LARGEST_PIECE: usize = 16 << 10;

/// Dropping it before both sides have ended resets the stream.
pub(in crate::proxy) struct Duplex {
    send: SendStream<Bytes>,
    recv: RecvStream,
    /// What has come and was not read.
    piece: Bytes,
    has_ended: bool,
}

impl Duplex {
    pub(super) fn new(send: SendStream<Bytes>, recv: RecvStream) -> Self {
        Self { send, recv, piece: Bytes::new(), has_ended: false }
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            match ready!(self.recv.poll_data(cx)) {
                Some(data) => self.piece = data.map_err(broken)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let read = self.piece.len().min(buf.remaining());
        buf.put_slice(&self.piece[..read]);
        self.piece.advance(read);
        // An error says that the stream is gone, which the next piece will tell.
        let _ = self.recv.flow_control().release_capacity(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        while self.send.capacity() == 0 {
            self.send.reserve_capacity(buf.len().min(LARGEST_PIECE));
            match ready!(self.send.poll_capacity(cx)) {
                Some(capacity) => drop(capacity.map_err(broken)?),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let written = self.send.capacity().min(buf.len());
        let data = Bytes::copy_from_slice(&buf[..written]);
        self.send.send_data(data, false).map_err(broken)?;
        Poll::Ready(Ok(written))
    }

    /// The connection sends when it can; nobody else waits for it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.send.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}
