//! After 101 bytes pass both ways, unread. The ticket rides along until both sides have ended.

use super::{
    connection::ClientConnection,
    flight::Ticket,
    note::Note,
    websocket::{Frames, GOING_AWAY},
};
use crate::live::{Clock, Held, Kind, Reason};
use std::{
    cell::Cell,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most that is read for a side which does not take it at once.
const READ_AT_ONCE: usize = 16 << 10;

/// How long a client that was told goodbye may take to go.
const GOODBYE: Duration = Duration::from_secs(5);

/// What goes on as a tunnel.
pub(super) struct Tunnel<C, B> {
    pub(super) client: C,
    pub(super) backend: B,
    /// The place of that connection among the backend's.
    pub(super) held: Option<Held>,
    pub(super) ticket: Ticket,
    /// What the client gets first: the head that says 101, where that has not been written.
    pub(super) head: Vec<u8>,
    /// What the backend has said behind it.
    pub(super) to_client: Vec<u8>,
    /// What the client has said since it asked.
    pub(super) to_backend: Vec<u8>,
    /// The longest silence.
    pub(super) idle: Duration,
    /// What it switched to is a WebSocket.
    pub(super) websocket: bool,
}

impl<C, B> Tunnel<C, B> {
    /// Of two ends that have said nothing yet.
    pub(super) fn between(
        client: C,
        backend: B,
        ticket: Ticket,
        idle: Duration,
        websocket: bool,
    ) -> Self {
        let (head, to_client, to_backend) = Default::default();
        Self { client, backend, held: None, ticket, head, to_client, to_backend, idle, websocket }
    }
}

/// Runs until both sides have ended, one failed, nothing passed for too long, or the backend was cut; a
/// backend that drains has its tunnels end one after the other. The connection counts as open as long as its
/// tunnel is.
pub(super) async fn run<C, B>(connection: Rc<ClientConnection>, tunnel: Tunnel<C, B>)
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let Tunnel { mut client, mut backend, held: _held, ticket, .. } = tunnel;
    let Tunnel { head, to_client, to_backend, idle, websocket, .. } = tunnel;
    let core = &connection.core;
    let clock = core.live.clock;
    let flight = ticket.flight.clone();
    ticket.turn(Kind::Tunnel);
    // The request has been answered: what `timeouts.request` limits is over.
    flight.limit(u64::MAX);
    flight.arm(clock, idle, Reason::IdleTimeout);
    let passed = Passed { note: flight.note(), clock, up: Cell::new(0), down: Cell::new(0) };
    let mut down = Direction::new(head);
    down.frames = websocket.then(Frames::default);
    down.take(&to_client, 0);
    let mut up = Direction::new(to_backend);
    let ended = poll_fn(|cx| {
        if let Poll::Ready(reason) = flight.poll_verdict(cx) {
            return Poll::Ready(reason.as_str());
        }
        if flight.is_to_leave() && !down.leaves {
            if !down.leave() {
                return Poll::Ready("the backend drains");
            }
            flight.arm(clock, GOODBYE, Reason::Draining);
        }
        let mut scratch = core.desk.scratch.borrow_mut();
        let scratch = &mut scratch[..READ_AT_ONCE];
        let mut moved = false;
        let downwards = down.poll(cx, &mut backend, &mut client, scratch, &mut moved);
        let upwards = up.poll(cx, &mut client, &mut backend, scratch, &mut moved);
        if moved && !down.leaves {
            flight.arm(clock, idle, Reason::IdleTimeout);
        }
        passed.up.set(up.passed);
        passed.down.set(down.passed);
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

/// What has passed both ways, which is written down when the tunnel ends, however that comes.
struct Passed {
    note: Option<Note>,
    clock: Clock,
    up: Cell<u64>,
    down: Cell<u64>,
}

impl Drop for Passed {
    fn drop(&mut self) {
        if let Some(note) = &self.note {
            note.tunnel_ended(self.clock.now(), self.up.get(), self.down.get());
        }
    }
}

/// Bytes in one direction.
struct Direction {
    out: Vec<u8>,
    /// So many of `out` have been written.
    written: usize,
    /// In all.
    passed: u64,
    /// The side that is read has ended, or what it says is not wanted any more.
    ended: bool,
    /// The other one has been told.
    told: bool,
    /// Where it may be interrupted.
    frames: Option<Frames>,
    /// It is to be interrupted as soon as it may.
    leaves: bool,
}

impl Direction {
    fn new(out: Vec<u8>) -> Self {
        Self { out, written: 0, passed: 0, ended: false, told: false, frames: None, leaves: false }
    }

    /// The receiver is to be told goodbye. False when there is no place to say it.
    fn leave(&mut self) -> bool {
        self.leaves = true;
        match &self.frames {
            Some(frames) if !frames.is_nonsense() => self.say_goodbye(),
            _ => return false,
        }
        true
    }

    /// Between two frames it is time; within one it comes behind it, and behind a Close of the sender's own
    /// nothing may come.
    fn say_goodbye(&mut self) {
        let Some(frames) = &self.frames else { return };
        if frames.is_between() {
            self.out.extend_from_slice(GOING_AWAY);
        }
        self.ended |= frames.is_between() || frames.has_closed();
    }

    /// `piece` has come, of which `written` bytes have gone on already.
    fn take(&mut self, piece: &[u8], written: usize) {
        self.out.extend_from_slice(&piece[written..]);
        if let Some(frames) = &mut self.frames
            && !self.leaves
        {
            frames.follow(piece, false);
        }
    }

    /// Moves what can be moved. Ready once all has been.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        scratch: &mut [u8],
        moved: &mut bool,
    ) -> Poll<io::Result<()>> {
        loop {
            while self.written < self.out.len() {
                let rest = &self.out[self.written..];
                match ready!(Pin::new(&mut *to).poll_write(cx, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => {
                        self.written += written;
                        self.passed += written as u64;
                    }
                }
                *moved = true;
            }
            self.out.clear();
            self.written = 0;
            ready!(Pin::new(&mut *to).poll_flush(cx))?;
            if self.ended {
                if !self.told {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.told = true;
                    *moved = true;
                }
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer))?;
            let piece = buffer.filled();
            *moved = true;
            if self.leaves {
                let wanted = self.frames.as_mut().map_or(0, |frames| frames.follow(piece, true));
                self.out.extend_from_slice(&piece[..wanted]);
                self.say_goodbye();
                self.ended |= piece.is_empty();
                continue;
            }
            self.ended = piece.is_empty();
            let written = match Pin::new(&mut *to).poll_write(cx, piece) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            self.passed += written as u64;
            self.take(piece, written);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaving(said: &[u8]) -> Direction {
        let mut direction = Direction::new(Vec::new());
        direction.frames = Some(Frames::default());
        direction.take(said, said.len());
        assert!(direction.leave());
        direction
    }

    #[test]
    fn goodbye_is_said_between_two_frames() {
        let direction = leaving(b"\x82\x01a");
        assert!(direction.ended && direction.out == GOING_AWAY);
        let direction = leaving(b"\x82\x02a");
        assert!(!direction.ended && direction.out.is_empty(), "not within one");
        let direction = leaving(b"\x88\x00");
        assert!(direction.ended && direction.out.is_empty(), "not behind a Close");
        assert!(!Direction::new(Vec::new()).leave(), "there is no such place");
    }
}
