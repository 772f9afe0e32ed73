//! The side of the process that is to be replaced.

use super::{
    UpgradeError,
    channel::Channel,
    launch::{Launched, check},
    messages::{Document, FromNew, FromOld, Legacy, Offer, OfferedListener, PROTOCOL, Readiness},
};
use crate::{
    config::format_duration,
    control::{Estate, Handle, Open},
    live::{Live, Phase},
    spec::AdminAddress,
};
use serde_json::Value;
use std::{
    ffi::OsString,
    future, io,
    net::SocketAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::Child,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

/// For the step in which what is in force passes on, and nothing can be changed: milliseconds, mostly.
const STEP: Duration = Duration::from_secs(10);

/// What can be handed over, and how the process that gets it is started.
pub struct Subject {
    pub live: Arc<Live>,
    pub handle: Handle,
    /// As it is configured.
    pub admin: AdminAddress,
    pub admin_socket: OwnedFd,
    /// What the admin side leaves, in its own words.
    pub admin_leaves: Box<dyn Fn() -> Value + Send + Sync>,
    pub binary: PathBuf,
    pub arguments: Vec<OsString>,
}

/// What a new process that has taken over says of itself.
#[derive(Clone, Debug)]
pub struct Upgraded {
    pub pid: u32,
    pub version: String,
}

type Answer = oneshot::Sender<Result<Upgraded, UpgradeError>>;

/// Asks for upgrades.
#[derive(Clone)]
pub struct Upgrader {
    requests: mpsc::Sender<Request>,
    turn: Arc<Semaphore>,
}

struct Request {
    binary: Option<PathBuf>,
    within: Duration,
    answer: Answer,
    _turn: OwnedSemaphorePermit,
}

/// Makes the upgrades that are asked for.
pub struct Upgrades {
    subject: Subject,
    requests: mpsc::Receiver<Request>,
}

pub fn upgrades(subject: Subject) -> (Upgrader, Upgrades) {
    let (sender, requests) = mpsc::channel(1);
    let upgrader = Upgrader { requests: sender, turn: Arc::new(Semaphore::new(1)) };
    (upgrader, Upgrades { subject, requests })
}

impl Upgrader {
    /// Has another process take over, of `binary` or of the one that this process was started from, which may be
    /// another by now. Returns when that has happened.
    ///
    /// # Errors
    /// When it has not, and all is as before.
    pub async fn ask(
        &self,
        binary: Option<PathBuf>,
        within: Duration,
    ) -> Result<Upgraded, UpgradeError> {
        let turn = self.turn.clone().try_acquire_owned().map_err(|_| {
            UpgradeError::Refused("another upgrade is under way; wait for it to end".into())
        })?;
        let (answer, answered) = oneshot::channel();
        let request = Request { binary, within, answer, _turn: turn };
        let ending = || UpgradeError::Refused("crossfade is shutting down".into());
        self.requests.send(request).await.map_err(|_| ending())?;
        answered.await.map_err(|_| ending())?
    }
}

impl Upgrades {
    /// Returns when a new process has taken over. When this is given up before, the new process is ended.
    pub async fn next(&mut self) -> Succession {
        loop {
            let Some(Request { binary, within, answer, _turn }) = self.requests.recv().await else {
                return future::pending().await;
            };
            match self.subject.hand_over(binary, within).await {
                Ok(succession) => return Succession { answer: Some(answer), ..succession },
                Err(error) => {
                    tracing::error!(%error, "not upgraded; nothing has changed");
                    // Who asked may have left.
                    let _ = answer.send(Err(error));
                }
            }
        }
    }
}

impl Subject {
    async fn hand_over(
        &self,
        binary: Option<PathBuf>,
        within: Duration,
    ) -> Result<Succession, UpgradeError> {
        if let Some(binary) = &binary {
            check(binary).map_err(UpgradeError::Unusable)?;
        }
        if self.live.lifecycle.phase() != Phase::Ready {
            let why = "crossfade itself is not ready; see /readyz for what it waits for";
            return Err(UpgradeError::Refused(why.into()));
        }
        let binary = binary.as_ref().unwrap_or(&self.binary);
        let cannot = |error: io::Error| UpgradeError::Failed {
            why: format!("{} cannot be started: {error}", binary.display()),
            said: Vec::new(),
        };
        let (here, there) = UnixStream::pair().map_err(cannot)?;
        let mut channel = Channel::new(here).map_err(cannot)?;
        let mut launched = Launched::start(binary, &self.arguments, there).map_err(cannot)?;
        let pid = launched.id();
        tracing::info!(pid, binary = %binary.display(), "a new process was started to take over");
        let readiness = match timeout(within, self.make_ready(&mut channel)).await {
            Ok(Ok(readiness)) => readiness,
            Ok(Err(error)) => return Err(failed(launched, &error).await),
            Err(_) => {
                let within = format_duration(within);
                let late = io::Error::other(format!("it was not ready within {within}"));
                return Err(failed(launched, &late).await);
            }
        };
        launched.is_trusted();
        let passed = match timeout(STEP, self.pass_on(&mut channel)).await {
            Ok(passed) => passed,
            Err(_) => Err(io::Error::other("it took too long to put in force what it was given")),
        };
        if let Err(error) = passed {
            let error = failed(launched, &error).await;
            if let Err(error) = self.handle.take_back().await {
                tracing::error!(%error, "what is in force cannot be changed any more");
            }
            return Err(error);
        }
        let upgraded = Upgraded { pid, version: readiness.version.clone() };
        tracing::info!(pid, version = upgraded.version, "another process has taken over");
        let (live, handle) = (self.live.clone(), self.handle.clone());
        let child = launched.let_go();
        Ok(Succession { child, channel, readiness, live, handle, upgraded, answer: None })
    }

    async fn make_ready(&self, channel: &mut Channel) -> io::Result<Readiness> {
        let estate = self.handle.hand_over(false).await.map_err(io::Error::other)?;
        let listeners = self.live.published.read(|snapshot| {
            let all = snapshot.listeners.iter();
            all.map(|it| (it.spec.address, it.bound.clone())).collect::<Vec<_>>()
        });
        let mut sockets = Vec::new();
        let mut offered = Vec::new();
        for (configured, bound) in listeners {
            let open = bound.sockets();
            if !open.is_empty() {
                let (bound, sockets) = (bound.address, open.len());
                offered.push(OfferedListener { configured, bound, sockets });
            }
            sockets.extend(open);
        }
        let log = io::stderr();
        let mut descriptors: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
        descriptors.extend([self.admin_socket.as_fd(), log.as_fd()]);
        let offer = Offer {
            protocol: PROTOCOL,
            listeners: offered,
            admin: self.admin.to_string(),
            estate: Document::from(&estate),
        };
        channel.send(&offer).await?;
        channel.send_descriptors(&descriptors).await?;
        match channel.receive().await? {
            FromNew::Ready(readiness) => Ok(readiness),
            other => Err(unexpected(&other)),
        }
    }

    /// The step: from its beginning to its end nothing can be changed here.
    async fn pass_on(&self, channel: &mut Channel) -> io::Result<()> {
        let estate = self.handle.hand_over(true).await.map_err(io::Error::other)?;
        let history = self.handle.history().image().await.map_err(io::Error::other)?;
        let in_force = Document::from(&estate);
        let (admin, has_history) = ((self.admin_leaves)(), history.is_some());
        channel.send(&FromOld::Go(Legacy { in_force, admin, has_history })).await?;
        if let Some(history) = history {
            channel.send_bytes(&history).await?;
        }
        match channel.receive().await? {
            FromNew::Serving => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(message: &FromNew) -> io::Error {
    tracing::debug!(?message, "not what a new process says here");
    io::Error::other("it speaks out of turn; is it another version of crossfade?")
}

async fn failed(launched: Launched, error: &io::Error) -> UpgradeError {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    // Who ends without having read all that was said to it resets the channel.
    let closes = matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe);
    let (status, said) = launched.end(closes).await;
    let why = match status {
        Some(status) => format!("the new process has ended ({status}) before it could take over"),
        None => format!("the new process did not take over and was ended: {error}"),
    };
    UpgradeError::Failed { why, said }
}

/// A process that has taken over, seen from the one that it has replaced.
pub struct Succession {
    child: Option<Child>,
    channel: Channel,
    readiness: Readiness,
    live: Arc<Live>,
    handle: Handle,
    upgraded: Upgraded,
    answer: Option<Answer>,
}

impl Succession {
    /// Where the listeners listen that it has taken over.
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.readiness.listeners
    }

    /// Whether it has taken over the admin API's socket.
    pub fn has_admin(&self) -> bool {
        self.readiness.admin
    }

    /// Tells whoever asked for it.
    pub fn answer(&mut self) {
        if let Some(answer) = self.answer.take() {
            // They may have left.
            let _ = answer.send(Ok(self.upgraded.clone()));
        }
    }

    /// Puts in force what is changed there, as long as something is in flight here, and says what is: a change is
    /// answered there once that is so. Returns when no more is to come.
    pub async fn follow(&mut self) {
        // What is left here may still begin something that a change has taken away.
        let mut is_behind = false;
        loop {
            let answer = match self.channel.receive().await {
                Ok(FromNew::Changed(document)) => {
                    let followed = self.put_in_force(document).await;
                    is_behind = followed.is_err();
                    if let Err(error) = followed {
                        tracing::warn!(error, "a change is not in force for what is left here");
                    }
                    FromOld::Followed
                }
                Ok(FromNew::Open) if is_behind => FromOld::Open(None),
                Ok(FromNew::Open) => FromOld::Open(self.open().await),
                _ => return,
            };
            if self.channel.send(&answer).await.is_err() {
                return;
            }
        }
    }

    async fn put_in_force(&self, document: Document) -> Result<(), String> {
        let estate = Estate::try_from(document)?;
        self.handle.follow(estate).await.map_err(|error| error.to_string())
    }

    /// What is in flight here, and in the processes before this one. `None`: one of those does not say.
    async fn open(&self) -> Option<Vec<Open>> {
        let mut all = self.handle.open_before().await?;
        for pool in self.live.pools() {
            let open = pool.backends().into_iter().map(|backend| Open {
                service: pool.service.to_string(),
                pool: pool.name.to_string(),
                backend: backend.address.to_string(),
                source: backend.address.source().map(ToString::to_string),
                requests: backend.open(),
            });
            all.extend(open.filter(|open| open.requests > 0));
        }
        Some(all)
    }

    /// It has ended already, and not as it was asked to.
    pub fn has_failed(&mut self) -> bool {
        let status = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        status.is_some_and(|status| !status.success())
    }
}
