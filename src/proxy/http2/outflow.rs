//! A body that goes out on a stream of HTTP/2. The next piece is asked for when the last one has gone, and the peer
//! takes more.

use super::wire::Watch;
use crate::proxy::core::{Core, Stall};
use bytes::Bytes;
use h2::SendStream;
use http_body::Body;
use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// The largest piece that is handed over at once.
const LARGEST_PIECE: usize = 16 << 10;

pub(super) struct Outflow<B> {
    pub(super) stream: SendStream<Bytes>,
    body: B,
    piece: Bytes,
    sent: u64,
    brake: Option<Brake>,
}

/// Holds back what a client's connection has no room for.
pub(super) struct Brake {
    watch: Watch,
    core: Rc<Core>,
    stall: Option<Stall>,
}

impl Brake {
    pub(super) fn new(watch: Watch, core: Rc<Core>) -> Self {
        Self { watch, core, stall: None }
    }

    fn note_stall(&mut self, is_stalled: bool) {
        if is_stalled != self.stall.is_some() {
            self.stall = is_stalled.then(|| Stall::begin(&self.core));
        }
    }
}

/// How it ended, other than well.
pub(super) enum Stop<E> {
    /// The receiver wants no more.
    Unwanted,
    /// There will be no more; the receiver must see that something is missing.
    Broken(E),
}

impl<B: Body<Data = Bytes> + Unpin> Outflow<B> {
    pub(super) fn new(stream: SendStream<Bytes>, body: B, brake: Option<Brake>) -> Self {
        Self { stream, body, piece: Bytes::new(), sent: 0, brake }
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
            let room = self.poll_room(cx);
            if let Some(brake) = &mut self.brake {
                brake.note_stall(room.is_pending());
            }
            match room {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(())) => return Poll::Ready(Err(Stop::Unwanted)),
                Poll::Pending => {
                    return verdict(&mut self.body, cx).map(|error| Err(Stop::Broken(error)));
                }
            }
            if !self.piece.is_empty() {
                let data = self.piece.split_to(self.stream.capacity().min(self.piece.len()));
                let is_end = self.piece.is_empty() && self.body.is_end_stream();
                match self.send(data, is_end) {
                    Ok(()) if !is_end => continue,
                    ended => return Poll::Ready(ended),
                }
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(self.send(Bytes::new(), true)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Stop::Broken(error))),
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() && self.body.is_end_stream() => {
                    return Poll::Ready(self.send(data, true));
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

    /// Ready when there is room for some of the piece; where there is none yet but will be, for a byte: nothing is to
    /// be fetched that would wait here.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        if let Some(brake) = &self.brake {
            ready!(brake.watch.poll_room(cx));
        }
        let wanted = match self.piece.len() {
            0 => usize::from(self.body.size_hint().lower() > self.sent),
            bytes => bytes.min(LARGEST_PIECE),
        };
        while wanted > 0 && self.stream.capacity() == 0 {
            self.stream.reserve_capacity(wanted);
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                _ => return Poll::Ready(Err(())),
            }
        }
        // What has room for a byte may have it for more.
        if wanted > self.stream.capacity() {
            self.stream.reserve_capacity(wanted);
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, data: Bytes, is_end: bool) -> Result<(), Stop<B::Error>> {
        let bytes = data.len();
        self.stream.send_data(data, is_end).map_err(|_| Stop::Unwanted)?;
        self.sent += bytes as u64;
        if let Some(brake) = &self.brake {
            brake.watch.handed_over(self.stream.stream_id().as_u32(), bytes);
        }
        Ok(())
    }
}
