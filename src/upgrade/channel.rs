//! A unix socket between the two processes: messages, each with its length before it, and descriptors.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io::{self, IoSlice, IoSliceMut, Read},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream as Blocking,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
};

/// Longest message. What is in force is a text of some kilobytes, or megabytes in the largest installations.
const LONGEST: u32 = 256 << 20;

/// Descriptors that are sent at once; the system takes some more.
const AT_ONCE: usize = 64;

const SPACE: usize = rustix::cmsg_space!(ScmRights(AT_ONCE));

pub(super) struct Channel(UnixStream);

impl Channel {
    /// On the current runtime.
    pub(super) fn new(stream: Blocking) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream).map(Self)
    }

    pub(super) async fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        self.send_bytes(&serde_json::to_vec(message)?).await
    }

    /// What the other side gets by [`Channel::receive_bytes`].
    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= LONGEST);
        let length = length.ok_or_else(|| io::Error::other("the message is too long"))?;
        self.0.write_all(&length.to_be_bytes()).await?;
        self.0.write_all(bytes).await
    }

    /// The next message; an error when the other side has ended.
    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        Ok(serde_json::from_slice(&self.receive_bytes().await?)?)
    }

    pub(super) async fn receive_bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = checked(self.0.read_u32().await?)?;
        let mut bytes = Vec::new();
        (&mut self.0).take(length).read_to_end(&mut bytes).await?;
        whole(bytes, length)
    }

    /// What the other side gets by [`receive_descriptors`].
    pub(super) async fn send_descriptors(&mut self, all: &[BorrowedFd<'_>]) -> io::Result<()> {
        for some in all.chunks(AT_ONCE) {
            let send = || {
                let mut space = [MaybeUninit::uninit(); SPACE];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                if !ancillary.push(SendAncillaryMessage::ScmRights(some)) {
                    return Err(io::Error::other("too many descriptors at once"));
                }
                // They travel with a byte.
                let carrier = [IoSlice::new(&[0])];
                let sent = sendmsg(&self.0, &carrier, &mut ancillary, SendFlags::NOSIGNAL)?;
                if sent == 1 { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
            };
            self.0.async_io(Interest::WRITABLE, send).await?;
        }
        Ok(())
    }
}

/// The next message, waited for by the thread.
pub(super) fn receive_blocking<T: DeserializeOwned>(stream: &mut Blocking) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = checked(u32::from_be_bytes(length))?;
    let mut text = Vec::new();
    stream.take(length).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&whole(text, length)?)?)
}

/// So many descriptors that were sent in a row.
pub(super) fn receive_descriptors(stream: &Blocking, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut received = Vec::new();
    while received.len() < count {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut carrier = [0];
        let into = &mut [IoSliceMut::new(&mut carrier)];
        if recvmsg(stream, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = received.len();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                received.extend(descriptors);
            }
        }
        if received.len() == before {
            return Err(io::Error::other("a descriptor did not arrive; is the limit reached?"));
        }
    }
    Ok(received)
}

fn checked(length: u32) -> io::Result<u64> {
    if length <= LONGEST { Ok(length.into()) } else { Err(io::Error::other("no such message")) }
}

fn whole(bytes: Vec<u8>, length: u64) -> io::Result<Vec<u8>> {
    if (bytes.len() as u64) < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        io::{Seek, Write},
        os::fd::AsFd,
    };

    #[tokio::test]
    async fn messages_and_any_number_of_descriptors_arrive_in_order() {
        let (here, mut there) = Blocking::pair().unwrap();
        let mut channel = Channel::new(here).unwrap();
        let files: Vec<File> = (0..150)
            .map(|index| {
                let mut file = tempfile::tempfile().unwrap();
                write!(file, "{index}").unwrap();
                file
            })
            .collect();
        let reading = tokio::task::spawn_blocking(move || {
            let first: String = receive_blocking(&mut there).unwrap();
            let descriptors = receive_descriptors(&there, 150).unwrap();
            let last: Vec<u64> = receive_blocking(&mut there).unwrap();
            (first, descriptors, last, there)
        });
        let long = "x".repeat(1 << 20);
        channel.send(&long).await.unwrap();
        let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        channel.send_descriptors(&borrowed).await.unwrap();
        channel.send(&[1, 2]).await.unwrap();
        let (first, descriptors, last, there) = reading.await.unwrap();
        assert!(first == long && last == [1, 2]);
        for (index, descriptor) in descriptors.into_iter().enumerate() {
            let mut file = File::from(descriptor);
            file.rewind().unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, index.to_string());
        }
        drop(there);
        assert!(channel.receive::<String>().await.is_err(), "the other side has ended");
    }

    #[tokio::test]
    async fn what_is_no_message_is_an_error() {
        for bytes in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x05tru", b"\0\0\0\x03nil", b"\0"] {
            let (mut there, here) = Blocking::pair().unwrap();
            let mut channel = Channel::new(here).unwrap();
            there.write_all(bytes).unwrap();
            drop(there);
            assert!(channel.receive::<bool>().await.is_err(), "{bytes:?}");
        }
    }
}
