//! A request body that somebody else reads and hands over piece by piece.

use crate::live::Reason;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Both ends of it.
#[derive(Clone)]
pub(in crate::proxy) struct Feed(Rc<RefCell<Fed>>);

struct Fed {
    length: Option<u64>,
    /// The next piece; there is at most one.
    piece: Option<Bytes>,
    trailers: Option<HeaderMap>,
    ended: bool,
    failed: Option<Reason>,
    /// Somebody waits for a piece.
    wanted: bool,
    taker: Option<Waker>,
    giver: Option<Waker>,
}

impl Feed {
    /// `length`: what the head says.
    pub(in crate::proxy) fn new(length: Option<u64>) -> Self {
        Self(Rc::new(RefCell::new(Fed {
            length,
            piece: None,
            trailers: None,
            ended: false,
            failed: None,
            wanted: false,
            taker: None,
            giver: None,
        })))
    }

    /// Ready when another piece is waited for.
    pub(in crate::proxy) fn poll_wanted(&self, cx: &Context<'_>) -> Poll<()> {
        let mut fed = self.0.borrow_mut();
        if fed.wanted && fed.piece.is_none() && !fed.ended {
            return Poll::Ready(());
        }
        fed.giver = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(in crate::proxy) fn give(&self, piece: Bytes) {
        self.change(|fed| fed.piece = Some(piece));
    }

    /// All of it has been given.
    pub(in crate::proxy) fn end(&self, trailers: Option<HeaderMap>) {
        self.change(|fed| {
            fed.trailers = trailers;
            fed.ended = true;
        });
    }

    pub(in crate::proxy) fn fail(&self, reason: Reason) {
        self.change(|fed| fed.failed = Some(reason));
    }

    fn change(&self, change: impl FnOnce(&mut Fed)) {
        let mut fed = self.0.borrow_mut();
        change(&mut fed);
        fed.wanted = false;
        let taker = fed.taker.take();
        drop(fed);
        if let Some(taker) = taker {
            taker.wake();
        }
    }

    pub(super) fn poll_frame(
        &self,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Reason>>> {
        let mut fed = self.0.borrow_mut();
        if let Some(reason) = fed.failed {
            return Poll::Ready(Some(Err(reason)));
        }
        if let Some(piece) = fed.piece.take() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if fed.ended {
            return Poll::Ready(fed.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        fed.wanted = true;
        fed.taker = Some(cx.waker().clone());
        let giver = fed.giver.take();
        drop(fed);
        if let Some(giver) = giver {
            giver.wake();
        }
        Poll::Pending
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let fed = self.0.borrow();
        fed.ended && fed.piece.is_none() && fed.trailers.is_none()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.0.borrow().length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
