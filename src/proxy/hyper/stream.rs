//! The socket of a client, watched.

use super::activity::Activity;
use crate::{live::Clock, net::Stream};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A client's socket, after what was read to see which HTTP it speaks.
pub(super) struct ClientStream {
    stream: Stream,
    /// What was read, and how much of it has been given on.
    prefix: Vec<u8>,
    at: usize,
    clock: Clock,
    head_since: Arc<AtomicU64>,
    passed: Arc<AtomicU64>,
}

impl ClientStream {
    pub(super) fn new(stream: Stream, prefix: Vec<u8>, clock: Clock, activity: &Activity) -> Self {
        let head_since = activity.head_since.clone();
        let passed = activity.passed.clone();
        let mut stream = Self { stream, prefix, at: 0, clock, head_since, passed };
        if !stream.prefix.is_empty() {
            stream.note_head();
        }
        stream
    }

    fn note_passed(&self, bytes: usize) {
        // One core alone writes it.
        let passed = self.passed.load(Ordering::Relaxed);
        self.passed.store(passed.wrapping_add(bytes as u64), Ordering::Relaxed);
    }

    fn note_written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.note_passed(bytes);
        }
        written
    }

    /// Bytes have come; if none was awaited they are the beginning of a request.
    fn note_head(&mut self) {
        if self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.clock.now_millis().max(1), Ordering::Relaxed);
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at < self.prefix.len() {
            let take = buf.remaining().min(self.prefix.len() - self.at);
            buf.put_slice(&self.prefix[self.at..self.at + take]);
            self.at += take;
            if self.at == self.prefix.len() {
                (self.prefix, self.at) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if read > 0 {
            self.note_head();
            self.note_passed(read);
        }
        polled
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_written(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_written(written)
    }
}
