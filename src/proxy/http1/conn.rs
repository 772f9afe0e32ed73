//! One of a core's connections to a backend, on this engine.

use socket2::SockRef;
use std::{io, mem::MaybeUninit, time::Duration};
use tokio::net::TcpStream;

/// It belongs to one request at a time. Dropping it closes it.
pub(in crate::proxy) struct Conn {
    pub(super) stream: TcpStream,
    /// It has served a request before, so the backend may close it at any moment.
    pub(super) reused: bool,
    /// How long the backend keeps it when idle, if it says so.
    pub(super) announced: Option<Duration>,
}

impl Conn {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, reused: false, announced: None }
    }

    /// Neither an end nor bytes that nobody asked for, as far as the runtime has been told: no system call
    /// while there is nothing.
    pub(in crate::proxy) fn is_quiet(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same, as the kernel knows it at this moment.
    pub(super) fn is_quiet_now(&self) -> bool {
        let peeked = SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit(); 1]);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// It has said something already.
    pub(super) fn talks(&self) -> bool {
        let peeked = SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit(); 1]);
        matches!(peeked, Ok(1))
    }

    /// Lets its end be a reset: the backend cannot take what it got for a whole message.
    pub(super) fn reset(&self) {
        // Where the system does not allow it the close alone must do.
        let _ = self.stream.set_zero_linger();
    }
}
