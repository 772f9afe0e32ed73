//! Reading and writing a TCP socket as the runtime's own methods do, at less cost: the system is called
//! without the C library, whose calls are points where a thread may be cancelled, which nobody here is.

use rustix::net::{RecvFlags, SendFlags};
use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};
use tokio::{io::Interest, net::TcpStream};

/// Reads what there is; 0: the peer has closed its side, or `into` is empty.
///
/// # Errors
/// What the system says.
pub(super) fn poll_read(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        let mut some = 0;
        let read = stream.try_io(Interest::READABLE, || {
            let (read, _) = rustix::net::recv(stream, &mut *into, RecvFlags::empty())?;
            if 0 < read && read < into.len() {
                // That was all: as the runtime is told of edges, the call that would say so can be spared.
                some = read;
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(read)
        });
        match read {
            Err(_) if some > 0 => return Poll::Ready(Ok(some)),
            Err(error) if goes_on(&error) => {}
            read => return Poll::Ready(read),
        }
    }
}

/// Writes what the socket takes.
///
/// # Errors
/// What the system says.
pub(super) fn poll_write(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    write_with(stream, cx, || Ok(rustix::net::send(stream, bytes, SendFlags::NOSIGNAL)?))
}

/// The same with several pieces.
///
/// # Errors
/// What the system says.
pub(super) fn poll_write_vectored(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    write_with(stream, cx, || Ok(rustix::io::writev(stream, pieces)?))
}

/// Mostly there is room: only who finds none asks to be woken.
fn write_with(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    write: impl Fn() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        match stream.try_io(Interest::WRITABLE, &write) {
            Err(error) if goes_on(&error) => ready!(stream.poll_write_ready(cx))?,
            written => return Poll::Ready(written),
        }
    }
}

/// It is to be tried again, once the socket is ready.
fn goes_on(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
