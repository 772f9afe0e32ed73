//! Reading and writing a TCP socket as the runtime's own methods do, at less cost: the system is called
//! without the C library, whose calls are points where a thread may be cancelled, which nobody here is.

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
};
use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};
use tokio::{io::Interest, net::TcpStream};

/// Reads what there is; 0: the peer has closed its side, or `into` is empty. As with writing, only who finds
/// nothing asks to be woken: so this counts nothing towards the runtime's limit of what a task may do at once,
/// and who reads in a loop must let others have their turn.
///
/// # Errors
/// What the system says.
pub(super) fn poll_read(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        let (mut some, mut failed) = (0, false);
        let read = stream.try_io(Interest::READABLE, || {
            let (read, _) = rustix::net::recv(stream, &mut *into, RecvFlags::empty())
                .map_err(|error| failing(error, &mut failed))?;
            if 0 < read && read < into.len() {
                // That was all: as the runtime is told of edges, the call that would say so can be spared.
                some = read;
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(read)
        });
        match read {
            Ok(read) => return Poll::Ready(Ok(read)),
            Err(_) if some > 0 => return Poll::Ready(Ok(some)),
            Err(error) if failed => return Poll::Ready(Err(error)),
            Err(_) => ready!(stream.poll_read_ready(cx))?,
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
    write_with(stream, cx, || rustix::net::send(stream, bytes, SendFlags::NOSIGNAL))
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
    write_with(stream, cx, || rustix::io::writev(stream, pieces))
}

/// Mostly there is room: only who finds none asks to be woken.
fn write_with(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    write: impl Fn() -> Result<usize, Errno>,
) -> Poll<io::Result<usize>> {
    loop {
        let mut failed = false;
        let written = stream
            .try_io(Interest::WRITABLE, || write().map_err(|error| failing(error, &mut failed)));
        match written {
            Ok(written) => return Poll::Ready(Ok(written)),
            Err(error) if failed => return Poll::Ready(Err(error)),
            Err(_) => ready!(stream.poll_write_ready(cx))?,
        }
    }
}

/// What the system says; `failed` unless it is to be tried again, once the socket is ready.
#[cold]
fn failing(error: Errno, failed: &mut bool) -> io::Error {
    *failed = !matches!(error, Errno::AGAIN | Errno::INTR);
    error.into()
}

/// Neither an end nor bytes have come, as far as the runtime has been told. What it finds is lost.
#[inline]
pub(super) fn is_quiet(stream: &TcpStream) -> bool {
    let mut is_told = false;
    let read = stream.try_io(Interest::READABLE, || {
        is_told = true;
        rustix::net::recv(stream, &mut [0; 1], RecvFlags::empty()).map_err(io::Error::from)
    });
    // Mostly it has been told nothing, and no error need be looked at.
    !is_told || matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
