use super::socket;
use socket2::SockRef;
use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;

/// A connection to a client or to a backend.
pub enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Neither an end nor bytes that nobody asked for, as far as the runtime has been told: no system call
    /// while there is nothing. What it finds is lost: a connection that is not quiet is of no use. What TLS
    /// says on its own behalf (tickets) is no talk.
    #[inline(always)]
    pub fn is_quiet(&mut self) -> bool {
        match self {
            Self::Tcp(stream) => socket::is_quiet(stream),
            Self::Tls(stream) => is_tls_quiet(stream),
        }
    }

    /// The same, as the kernel knows it at this moment.
    pub fn is_quiet_now(&mut self) -> bool {
        matches!(self.peek(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// It has said something already.
    pub fn talks(&mut self) -> bool {
        match self {
            Self::Tcp(_) => matches!(self.peek(), Ok(1)),
            Self::Tls(_) => !self.is_quiet(),
        }
    }

    fn peek(&self) -> io::Result<usize> {
        SockRef::from(self.socket()).peek(&mut [MaybeUninit::uninit(); 1])
    }

    /// Its end will be a reset: the other side cannot take what it got for a whole message.
    pub fn set_reset(&self) {
        // Where the system does not allow it the close alone must do.
        let _ = self.socket().set_zero_linger();
    }

    /// An error of the connection that no read has told.
    pub fn is_broken(&self) -> bool {
        !matches!(self.socket().take_error(), Ok(None))
    }

    /// Returns when there is something to read, or nothing any more (`false`).
    ///
    /// # Errors
    /// When it is broken.
    pub async fn readable(&mut self) -> io::Result<bool> {
        let there = match self {
            // Readiness alone may be a false alarm.
            Self::Tcp(stream) => stream.peek(&mut [0]).await?,
            // It may have read ahead.
            Self::Tls(stream) => stream.fill_buf().await?.len(),
        };
        Ok(there > 0)
    }

    /// Ready when everything that was taken has been handed to the kernel. TLS keeps what the kernel does not
    /// take.
    ///
    /// # Errors
    /// When the other side cannot be reached.
    #[inline(always)]
    pub fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => flush_tls(stream, cx),
        }
    }

    /// Something is kept that was taken: see [`Self::poll_settled`].
    #[inline(always)]
    pub fn is_unsettled(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Tls(stream) => stream.get_ref().1.wants_write(),
        }
    }

    /// Tells the other side that this is the end, if it takes that at once: with TLS it could not tell a close
    /// from an attack otherwise (RFC 8446 section 6.1). Not for a message that was cut.
    pub fn say_goodbye(&mut self) {
        if let Self::Tls(stream) = self {
            stream.get_mut().1.send_close_notify();
            let mut context = Context::from_waker(Waker::noop());
            // The connection is given up, whatever comes of it.
            let _ = Pin::new(stream).poll_flush(&mut context);
        }
    }
}

// Apart, so that what asks every request of a connection without TLS comes down to one comparison.

#[inline(never)]
fn is_tls_quiet(stream: &mut TlsStream<TcpStream>) -> bool {
    // Whoever takes the connection up again is the one to be woken.
    let mut context = Context::from_waker(Waker::noop());
    Pin::new(stream).poll_fill_buf(&mut context).is_pending()
}

#[inline(never)]
fn flush_tls(stream: &mut TlsStream<TcpStream>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    Pin::new(stream).poll_flush(cx)
}

#[inline(never)]
fn read_tls(
    stream: &mut TlsStream<TcpStream>,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(into);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

/// Reads what there is; 0: the other side has said that nothing more comes, or `into` is empty.
///
/// # Errors
/// When the connection is broken; with TLS also when it ends without a word.
#[inline]
pub fn poll_read(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    match stream {
        Stream::Tcp(stream) => socket::poll_read(stream, cx, into),
        Stream::Tls(stream) => read_tls(stream, cx, into),
    }
}

/// Writes what is taken; see [`Stream::poll_settled`].
///
/// # Errors
/// When the connection is broken.
#[inline]
pub fn poll_write(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    match stream {
        Stream::Tcp(stream) => socket::poll_write(stream, cx, bytes),
        Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
    }
}

/// The same with several pieces.
///
/// # Errors
/// When the connection is broken.
#[inline]
pub fn poll_write_vectored(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    pieces: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match stream {
        Stream::Tcp(stream) => socket::poll_write_vectored(stream, cx, pieces),
        Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_settled(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
