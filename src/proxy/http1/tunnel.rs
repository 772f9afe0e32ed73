//! After 101 bytes pass both ways, unread. The ticket rides along until both sides have ended.

use super::{exchange::Switched, relay::poll_write, work::Outbox};
use crate::{
    live::{Kind, Reason},
    net::{Stream, poll_read},
    proxy::connection::ClientConnection,
};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

/// Most that is read for a side which does not take it at once.
const READ_AT_ONCE: usize = 16 << 10;

/// Bytes in one direction.
struct Direction {
    out: Outbox,
    /// The side that is read has ended.
    ended: bool,
    /// The other one has been told.
    told: bool,
}

impl Direction {
    fn new(out: Outbox) -> Self {
        Self { out, ended: false, told: false }
    }

    /// Moves what can be moved; true when something was. Ready once all has been.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        scratch: &mut [u8],
        moved: &mut bool,
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.out.is_empty() {
                let written = ready!(poll_write(to, cx, self.out.rest(), &[]))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.out.advance(written);
                *moved = true;
            }
            ready!(to.poll_settled(cx))?;
            if self.ended {
                if !self.told {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.told = true;
                    *moved = true;
                }
                return Poll::Ready(Ok(()));
            }
            let read = ready!(poll_read(from, cx, scratch))?;
            self.ended = read == 0;
            let piece = &scratch[..read];
            let written = match poll_write(to, cx, piece, &[]) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            self.out.extend(&piece[written..]);
            *moved = true;
        }
    }
}

/// Runs until both sides have ended, one failed, nothing passed for `idle`, or the backend was cut.
/// The connection counts as open as long as its tunnel is.
pub(super) async fn run(
    connection: Rc<ClientConnection>,
    mut client: Stream,
    switched: Box<Switched>,
) {
    let Switched { mut backend, ticket, to_client, to_backend, idle } = *switched;
    let core = &connection.core;
    let clock = core.live.clock;
    let flight = ticket.flight.clone();
    ticket.turn(Kind::Tunnel);
    // The request has been answered: what `timeouts.request` limits is over.
    flight.limit(u64::MAX);
    flight.arm(clock, idle, Reason::IdleTimeout);
    let (mut down, mut up) = (Direction::new(to_client), Direction::new(to_backend));
    let ended = poll_fn(|cx| {
        if let Poll::Ready(reason) = flight.poll_verdict(cx) {
            return Poll::Ready(reason.as_str());
        }
        let mut scratch = core.desk.scratch.borrow_mut();
        let scratch = &mut scratch[..READ_AT_ONCE];
        let mut moved = false;
        let downwards = down.poll(cx, &mut backend, &mut client, scratch, &mut moved);
        let upwards = up.poll(cx, &mut client, &mut backend, scratch, &mut moved);
        if moved {
            flight.arm(clock, idle, Reason::IdleTimeout);
        }
        match (downwards, upwards) {
            // Either side may break off; there is nobody to tell but the other, which sees the end.
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready("broken off"),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready("both sides have ended"),
            _ => Poll::Pending,
        }
    })
    .await;
    tracing::debug!(backend = %flight.upstream.backend.address, ended, "tunnel closed");
}
