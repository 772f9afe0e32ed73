//! A backend's response body, as it is asked for: the backend may go on when a piece has been taken.

use super::{
    asking::{Line, fields},
    desk::READ,
    message::Scanned,
    relay::READ_SLOWLY,
    work::{Download, Incoming},
};
use crate::live::Reason;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

pub(in crate::proxy) struct Received {
    line: Rc<Line>,
    download: Box<Download>,
    first: Bytes,
    trailers: Option<HeaderMap>,
    /// Bytes that have been taken.
    taken: usize,
    size: SizeHint,
}

impl Received {
    /// `length`: what the head says; `first`: what came with it.
    pub(super) fn new(
        line: Rc<Line>,
        download: Box<Download>,
        length: Option<u64>,
        first: Bytes,
    ) -> Self {
        let size = length.map_or_else(SizeHint::new, SizeHint::with_exact);
        let mut received = Self { line, download, first, trailers: None, taken: 0, size };
        received.note_end();
        received
    }

    /// An error says why the rest will not come.
    pub(in crate::proxy) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Reason>>> {
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            return self.pass(first);
        }
        while self.download.incoming != Incoming::Ended {
            match ready!(self.poll_data(cx)) {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return self.pass(data),
                Err(reason) => return Poll::Ready(Some(Err(reason))),
            }
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn pass(&mut self, data: Bytes) -> Poll<Option<Result<Frame<Bytes>, Reason>>> {
        self.taken = self.taken.saturating_add(data.len());
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    /// More of the body; nothing when it has ended, or only its framing went on.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Reason>> {
        // A client that has not taken much yet may be a slow one.
        let most = self.line.core.stalls.piece();
        let most = if self.taken < READ { most.min(READ_SLOWLY) } else { most };
        let mut bytes = BytesMut::with_capacity(most);
        let data = match ready!(self.line.poll_fill(cx, &mut bytes)) {
            Ok(read) if read > 0 => {
                let data = self.download.take(&mut bytes, 0, read);
                data.map_err(|_| Reason::BadResponse)?
            }
            Ok(_) if self.download.incoming == Incoming::UntilClose => {
                self.download.incoming = Incoming::Ended;
                0..0
            }
            _ => return Poll::Ready(Err(Reason::UpstreamReset)),
        };
        self.note_end();
        // It may wait for the client: little is not to hold much.
        Poll::Ready(Ok(if data.len() < most / 2 {
            Bytes::copy_from_slice(&bytes[data])
        } else {
            bytes.truncate(data.end);
            bytes.freeze()
        }))
    }

    fn note_end(&mut self) {
        if self.download.incoming == Incoming::Ended {
            self.line.note_heard(self.download.reusable);
            let (lines, bytes) = self.download.chunked.trailers();
            if !lines.is_empty() {
                self.trailers = Some(fields(&Scanned { lines, bytes }));
            }
        }
    }

    pub(in crate::proxy) fn is_end_stream(&self) -> bool {
        let is_ended = self.download.incoming == Incoming::Ended;
        is_ended && self.first.is_empty() && self.trailers.is_none()
    }

    pub(in crate::proxy) fn size_hint(&self) -> SizeHint {
        self.size
    }
}
