//! A request that is a message, on its way out. The next piece is asked for when the last one has gone.

use super::{
    asking::Line,
    chunked::{END, SizeLine},
    message::Wire,
    work::Outbox,
};
use crate::proxy::{fields::Lines, framing::Length, headers::Sink, hyper::UpstreamBody};
use bytes::Bytes;
use http_body::{Body, Frame};
use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// So much goes into the outbox before it is written, and one piece more.
const AT_ONCE: usize = 32 << 10;

pub(super) struct Outflow {
    line: Rc<Line>,
    out: Outbox,
    body: UpstreamBody,
    /// So many bytes are still to come, if not in chunks.
    left: Option<u64>,
    /// All of it lies in the outbox.
    ended: bool,
    /// Some of what lies in the outbox has been tried to be written.
    has_begun: bool,
}

/// The rest will not come, or is not what the head says.
struct Broken;

impl Outflow {
    pub(super) fn new(line: Rc<Line>, head: Vec<u8>, length: Length, body: UpstreamBody) -> Self {
        let mut out = Outbox::default();
        out.bytes = head;
        let left = match length {
            Length::Exact(bytes) => Some(bytes),
            Length::Chunked | Length::UntilClose => None,
        };
        Self { line, out, body, left, ended: left == Some(0), has_begun: false }
    }

    /// Ready when no more is written, which the line knows whether it is all.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // What is there already goes out as one, with the head.
            let mut waits = false;
            while !self.ended && !waits && !self.has_begun && self.out.rest().len() < AT_ONCE {
                match self.take(cx) {
                    Poll::Ready(Err(Broken)) => return Poll::Ready(()),
                    Poll::Ready(Ok(())) => {}
                    Poll::Pending => waits = true,
                }
            }
            self.has_begun = true;
            while !self.out.is_empty() {
                match self.line.poll_write(cx, self.out.rest()) {
                    Poll::Ready(Ok(written)) if written > 0 => self.out.advance(written),
                    // It may have answered before it closed.
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => {
                        // Though more was asked of the client meanwhile.
                        self.body.await_backend();
                        return Poll::Pending;
                    }
                }
            }
            if ready!(self.line.poll_settled(cx)).is_err() {
                return Poll::Ready(());
            }
            self.has_begun = false;
            if self.ended {
                self.line.note_sent();
                return Poll::Ready(());
            }
            if waits {
                return Poll::Pending;
            }
        }
    }

    /// The next piece of the body goes to the outbox.
    fn take(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose();
        let Ok(frame) = frame else { return Poll::Ready(Err(Broken)) };
        let trailers = match frame.map(Frame::into_data) {
            Some(Ok(data)) => {
                let taken = self.data(&data);
                if taken.is_err() || !self.body.is_end_stream() {
                    return Poll::Ready(taken);
                }
                None
            }
            Some(Err(frame)) => frame.into_trailers().ok(),
            None => None,
        };
        self.ended = true;
        match (self.left, trailers) {
            (Some(0), _) => {}
            // The backend would take the next request for the rest.
            (Some(_), _) => return Poll::Ready(Err(Broken)),
            (None, None) => self.out.extend(END),
            (None, Some(trailers)) => {
                self.out.extend(b"0\r\n");
                let lines = trailers.lines().filter(|(known, ..)| known.may_trail());
                let mut wire = Wire(&mut self.out.bytes);
                lines.for_each(|(_, name, value)| wire.line(name, value));
                self.out.extend(b"\r\n");
            }
        }
        Poll::Ready(Ok(()))
    }

    fn data(&mut self, data: &Bytes) -> Result<(), Broken> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(data.len() as u64).ok_or(Broken)?;
            self.out.extend(data);
        } else if !data.is_empty() {
            self.out.extend(SizeLine::new(data.len()).as_bytes());
            self.out.extend(data);
            self.out.extend(b"\r\n");
        }
        Ok(())
    }
}
