//! After 101 bytes pass both ways, unread. The ticket rides along until both sides have ended.

use super::{
    super::{
        connection::ClientConnection,
        flight::{Flight, Ticket},
    },
    conn::Conn,
};
use crate::live::{Clock, Kind, Reason};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

/// What a tunnel connects.
pub(super) struct Ends {
    pub(super) client: OnUpgrade,
    pub(super) backend: OnUpgrade,
    /// Drives the backend's side until it has been handed over.
    pub(super) conn: Conn,
    /// Counts as open as long as the tunnel is.
    pub(super) connection: Rc<ClientConnection>,
}

/// Runs until both sides have ended, one failed, nothing passed for `idle`, or the backend was cut.
pub(super) async fn run(ends: Ends, ticket: Ticket, clock: Clock, idle: Duration) {
    let Ends { client, backend, conn: _conn, connection: _connection } = ends;
    ticket.turn(Kind::Tunnel);
    let flight = ticket.flight.clone();
    // The request has been answered: what `timeouts.request` limits is over.
    flight.limit(u64::MAX);
    arm(&flight, clock, idle);
    let pump = async {
        let (Ok(client), Ok(backend)) = (client.await, backend.await) else { return };
        let watch = |io| Watched { io, flight: flight.clone(), clock, idle };
        let mut client = watch(TokioIo::new(client));
        let mut backend = watch(TokioIo::new(backend));
        // Either side may break off; there is nobody to tell but the other, which sees the end.
        let _ = copy_bidirectional(&mut client, &mut backend).await;
    };
    tokio::select! {
        () = pump => {}
        reason = poll_fn(|cx| flight.poll_verdict(cx)) => {
            tracing::debug!(backend = %flight.upstream.backend.address, reason = reason.as_str(), "tunnel closed");
        }
    }
}

fn arm(flight: &Flight, clock: Clock, idle: Duration) {
    flight.arm(clock, idle, Reason::IdleTimeout);
}

/// Notes when something passes.
struct Watched<T> {
    io: T,
    flight: Rc<Flight>,
    clock: Clock,
    idle: Duration,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if polled.is_ready() {
            arm(&self.flight, self.clock, self.idle);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
