//! The side of the process that takes over.

use super::{
    channel::{Channel, receive_blocking, receive_descriptors},
    launch::PREDECESSOR,
    messages::{Document, FromNew, FromOld, Legacy, Offer, PROTOCOL, Readiness},
};
use crate::{
    control::{Estate, Handle, Inheritance, Lead, Word},
    net::{self, Inherited},
    spec::{AdminAddress, Spec},
};
use serde_json::Value;
use std::{
    env,
    fs::File,
    io::{self, IsTerminal},
    net::SocketAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::parent_id},
    },
    sync::Arc,
    time::Duration,
};

/// For the offer, which is sent as soon as this process is started.
const OFFER: Duration = Duration::from_secs(20);

/// What another process offers.
pub struct Taking {
    stream: UnixStream,
    sockets: Inherited,
    /// Where its listeners listen.
    offered: Vec<SocketAddr>,
    admin: String,
    admin_socket: Option<OwnedFd>,
    log: OwnedFd,
    estate: Estate,
}

impl Taking {
    /// What is offered, if this process was started to take over. Waits for it.
    ///
    /// # Errors
    /// When there is nobody to take over from, or they cannot be understood.
    pub fn from_environment() -> Result<Option<Self>, String> {
        let Some(predecessor) = env::var_os(PREDECESSOR) else { return Ok(None) };
        if predecessor.to_str() != Some(parent_id().to_string().as_str()) {
            return Err(format!(
                "the process to take over from has gone (if this is not an upgrade, unset {PREDECESSOR})"
            ));
        }
        let taking = Self::from_input().map_err(|error| format!("cannot take over: {error}"))?;
        taking.try_into().map(Some)
    }

    fn from_input() -> io::Result<(UnixStream, Offer, Vec<OwnedFd>)> {
        let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        stream.set_read_timeout(Some(OFFER))?;
        let offer: Offer = receive_blocking(&mut stream)?;
        let descriptors = receive_descriptors(&stream, offer.descriptors())?;
        Ok((stream, offer, descriptors))
    }

    /// Where the log goes is a terminal.
    pub fn logs_to_terminal(&self) -> bool {
        self.log.is_terminal()
    }

    /// What this process begins with beside its file.
    pub fn inheritance(&mut self) -> Inheritance {
        let sockets = std::mem::take(&mut self.sockets);
        Inheritance { sockets, estate: Some(self.estate.clone()) }
    }

    /// The socket of the admin API if it has this address.
    pub fn admin_socket(&mut self, configured: &AdminAddress) -> Option<OwnedFd> {
        self.admin_socket.take_if(|_| configured.to_string() == self.admin)
    }

    /// Says that this process is ready once it is, and puts in force what has changed since the offer, and what
    /// `file` changes in it. Nothing may have been accepted yet.
    ///
    /// # Errors
    /// When the other process changes its mind or ends.
    pub async fn take_over(
        self,
        is_ready: impl Future<Output = ()>,
        listeners: &[SocketAddr],
        handle: &Handle,
        file: Arc<Spec>,
    ) -> Result<Predecessor, String> {
        let gone = |error: io::Error| format!("the process to take over from has ended: {error}");
        let mut channel = Channel::new(self.stream).map_err(gone)?;
        tokio::select! {
            () = is_ready => {}
            early = channel.receive::<FromOld>() => {
                return Err(early.err().map_or("it speaks out of turn".into(), gone));
            }
        }
        let listeners = listeners.iter().filter(|address| self.offered.contains(address));
        let readiness = Readiness {
            version: env!("CARGO_PKG_VERSION").into(),
            listeners: listeners.copied().collect(),
            admin: self.admin_socket.is_none(),
        };
        channel.send(&FromNew::Ready(readiness)).await.map_err(gone)?;
        let FromOld::Go(Legacy { in_force, admin, has_history }) =
            channel.receive().await.map_err(gone)?
        else {
            return Err("it speaks out of turn".into());
        };
        let history = match has_history {
            true => Some(channel.receive_bytes().await.map_err(gone)?),
            false => None,
        };
        let estate = Estate::try_from(in_force)?;
        // A file that was loaded there since this process read it would be undone by merging what was read.
        let file = (estate.file_base == self.estate.file_base).then_some(file);
        handle.take_over(estate, file, history).await.map_err(|error| error.to_string())?;
        let leads = handle.lead().await.map_err(|error| error.to_string())?;
        Ok(Predecessor { channel, log: self.log, leads, admin })
    }
}

impl TryFrom<(UnixStream, Offer, Vec<OwnedFd>)> for Taking {
    type Error = String;

    fn try_from(
        (stream, offer, descriptors): (UnixStream, Offer, Vec<OwnedFd>),
    ) -> Result<Self, String> {
        if offer.protocol != PROTOCOL {
            return Err(format!(
                "cannot take over: the running crossfade hands over in another way ({}) than this version \
                 knows ({PROTOCOL}); restart it instead",
                offer.protocol
            ));
        }
        let mut descriptors = descriptors.into_iter();
        let mut sockets = Inherited::default();
        for listener in &offer.listeners {
            let of_it = descriptors.by_ref().take(listener.sockets).map(net::adopt);
            let of_it = of_it.collect::<io::Result<Vec<_>>>().map_err(|error| error.to_string())?;
            if !of_it.is_empty() {
                sockets.add(listener.configured, listener.bound, of_it);
            }
        }
        let (Some(admin_socket), Some(log)) = (descriptors.next(), descriptors.next()) else {
            return Err("cannot take over: descriptors are missing".into());
        };
        Ok(Self {
            stream,
            sockets,
            offered: offer.listeners.iter().map(|listener| listener.bound).collect(),
            admin: offer.admin,
            admin_socket: Some(admin_socket),
            log,
            estate: offer.estate.try_into()?,
        })
    }
}

/// The process that was replaced, as long as something is in flight there.
pub struct Predecessor {
    channel: Channel,
    log: OwnedFd,
    leads: Lead,
    /// What the admin side has left there.
    pub admin: Value,
}

impl Predecessor {
    /// Says that this process accepts. From now on it says itself what there is to say.
    ///
    /// # Errors
    /// When the other process has ended, or its log cannot be written to.
    pub async fn is_replaced(&mut self) -> io::Result<()> {
        rustix::stdio::dup2_stderr(&self.log)?;
        self.channel.send(&FromNew::Serving).await
    }

    /// Tells it each change, which is answered once it is in force there too, and asks it what is in flight there.
    /// Returns when it has ended.
    pub async fn lead(mut self) {
        loop {
            let word = tokio::select! {
                word = self.leads.next() => word,
                // It says nothing unasked.
                _ = self.channel.receive::<FromOld>() => None,
            };
            let Some(word) = word else { break };
            match (self.say(&word).await, word) {
                (Ok(FromOld::Followed), Word::Changed(change, _)) => {
                    self.leads.has_followed(change);
                }
                // Who asked may not have waited so long.
                (Ok(FromOld::Open(open)), Word::Open(answer)) => drop(answer.send(open)),
                // Whoever asked waits until it has ended: as long as it cannot be understood nobody knows.
                (_, _unanswered) => {
                    self.has_ended().await;
                    return;
                }
            }
        }
        self.has_ended().await;
    }

    async fn say(&mut self, word: &Word) -> io::Result<FromOld> {
        let message = match word {
            Word::Changed(_, estate) => FromNew::Changed(Document::from(&**estate)),
            Word::Open(_) => FromNew::Open,
        };
        self.channel.send(&message).await?;
        self.channel.receive().await
    }

    async fn has_ended(&mut self) {
        while self.channel.receive_bytes().await.is_ok() {}
    }
}
