//! A body that goes out on a stream of HTTP/2. The next piece is asked for when the last one has gone.

use bytes::Bytes;
use h2::SendStream;
use http_body::Body;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// The largest piece that is handed over at once.
const LARGEST_PIECE: usize = 16 << 10;

pub(super) struct Outflow<B> {
    pub(super) stream: SendStream<Bytes>,
    body: B,
    piece: Bytes,
}

/// How it ended, other than well.
pub(super) enum Stop<E> {
    /// The receiver wants no more.
    Unwanted,
    /// There will be no more; the receiver must see that something is missing.
    Broken(E),
}

impl<B: Body<Data = Bytes> + Unpin> Outflow<B> {
    pub(super) fn new(stream: SendStream<Bytes>, body: B) -> Self {
        Self { stream, body, piece: Bytes::new() }
    }

    /// Ready when all of it has been handed over. `verdict` is asked while the body cannot be.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        verdict: impl Fn(&mut B, &mut Context<'_>) -> Poll<B::Error>,
    ) -> Poll<Result<(), Stop<B::Error>>> {
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Stop::Unwanted));
        }
        loop {
            if !self.piece.is_empty() {
                if let Poll::Ready(error) = verdict(&mut self.body, cx) {
                    return Poll::Ready(Err(Stop::Broken(error)));
                }
                match self.poll_piece(cx) {
                    Poll::Ready(Ok(false)) => continue,
                    Poll::Ready(Ok(true)) => return Poll::Ready(Ok(())),
                    Poll::Ready(Err(())) => return Poll::Ready(Err(Stop::Unwanted)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(self.sent(Bytes::new(), true)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Stop::Broken(error))),
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() && self.body.is_end_stream() => {
                    return Poll::Ready(self.sent(data, true));
                }
                Ok(data) => self.piece = data,
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    let sent = self.stream.send_trailers(super::super::hyper::trailing(trailers));
                    return Poll::Ready(sent.map_err(|_| Stop::Unwanted));
                }
            }
        }
    }

    fn sent(&mut self, data: Bytes, is_end: bool) -> Result<(), Stop<B::Error>> {
        self.stream.send_data(data, is_end).map_err(|_| Stop::Unwanted)
    }

    /// Sends as much as the receiver takes; true at the end of the body.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ()>> {
        while self.stream.capacity() == 0 {
            self.stream.reserve_capacity(self.piece.len().min(LARGEST_PIECE));
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(Err(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        let data = self.piece.split_to(self.stream.capacity().min(self.piece.len()));
        let is_end = self.piece.is_empty() && self.body.is_end_stream();
        let sent = self.stream.send_data(data, is_end);
        Poll::Ready(sent.map(|()| is_end).map_err(drop))
    }
}
