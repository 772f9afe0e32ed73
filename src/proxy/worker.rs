//! One thread a core, each with its own runtime, listening sockets and upstream connections.

use super::{connection, core::Core};
use crate::live::{Bound, Live, LiveListener, Phase};
use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    rc::Rc,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, LocalOptions},
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};

/// How often deadlines are looked at while something is in flight: they are kept to within this.
const SWEEP: Duration = Duration::from_millis(20);

/// The same for client connections between their requests.
const SWEEP_WAITING: Duration = Duration::from_millis(50);

/// How often idle upstream connections are looked at.
const TIDY: Duration = Duration::from_secs(1);

/// Starts the worker of a core. It ends by itself when the process drains and everything is served.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(live: Arc<Live>, index: usize) -> io::Result<thread::JoinHandle<io::Result<()>>> {
    thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        runtime.block_on(run(Core::new(index, live)));
        Ok(())
    })
}

async fn run(core: Rc<Core>) {
    tokio::task::spawn_local(sweep(core.clone()));
    tokio::task::spawn_local(sweep_waiting(core.clone()));
    let mut listening = Listening { core: core.clone(), open: HashMap::new() };
    let mut changes = core.live.published.changes();
    let mut phases = core.live.lifecycle.subscribe();
    let mut rounds = core.live.census.rounds();
    let mut tick = interval(TIDY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    listening.follow();
    while *phases.borrow_and_update() < Phase::Draining {
        tokio::select! {
            // Both senders live as long as the process.
            _ = changes.changed() => {
                listening.follow();
                core.follow();
            }
            _ = phases.changed() => {}
            _ = rounds.changed() => core.count_tickets(&mut rounds),
            _ = tick.tick() => core.tidy(),
        }
    }
    core.flights.end(core.now_millis(), core.live.lifecycle.ends());
    // What was added just before is drained like the others.
    listening.follow();
    listening.close().await;
    // Tasks tell nobody when they end: at this point a look every few milliseconds costs nothing.
    while !core.is_idle() {
        if core.live.lifecycle.phase() >= Phase::Ended {
            core.cut_all();
            // Those that were cut get the chance to say so.
            sleep(SWEEP).await;
            break;
        }
        if changes.has_changed().unwrap_or(false) {
            changes.mark_unchanged();
            core.follow();
        }
        if rounds.has_changed().unwrap_or(false) {
            core.count_tickets(&mut rounds);
        }
        sleep(Duration::from_millis(5)).await;
    }
}

async fn sweep(core: Rc<Core>) {
    loop {
        core.flights.busy().await;
        sleep(SWEEP).await;
        core.flights.sweep(core.now_millis());
    }
}

async fn sweep_waiting(core: Rc<Core>) {
    let deadlines = &core.desk.deadlines;
    loop {
        deadlines.some().await;
        sleep(SWEEP_WAITING).await;
        deadlines.sweep(core.now_millis());
    }
}

/// The listeners that this core accepts from.
struct Listening {
    core: Rc<Core>,
    open: HashMap<*const Bound, Accepting>,
}

struct Accepting {
    /// The settings for new connections.
    listener: Rc<RefCell<Rc<LiveListener>>>,
    /// Nothing more is accepted, and the connections that were are asked to end.
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Listening {
    /// Opens what was added, closes what has left, takes over changed settings.
    fn follow(&mut self) {
        let listeners = self.core.live.published.read(|snapshot| snapshot.listeners.clone());
        let mut left = false;
        self.open.retain(|bound, accepting| {
            let stays = listeners.iter().any(|listener| Arc::as_ptr(&listener.bound) == *bound);
            if !stays {
                accepting.stop.send_replace(true);
                left = true;
            }
            stays
        });
        if left {
            self.core.desk.deadlines.wake_all();
        }
        for listener in listeners {
            let bound = Arc::as_ptr(&listener.bound);
            let listener = Rc::new(listener);
            if let Some(accepting) = self.open.get(&bound) {
                accepting.listener.replace(listener);
            } else if let Some(accepting) = self.open(listener) {
                self.open.insert(bound, accepting);
            }
        }
    }

    fn open(&self, listener: Rc<LiveListener>) -> Option<Accepting> {
        let socket = listener.bound.take(self.core.index)?;
        let socket = match TcpListener::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(address = %listener.bound.address, %error, "cannot accept");
                return None;
            }
        };
        let (stop, stopped) = watch::channel(false);
        let listener = Rc::new(RefCell::new(listener));
        let task =
            tokio::task::spawn_local(accept(self.core.clone(), listener.clone(), socket, stopped));
        Some(Accepting { listener, stop, task })
    }

    /// Closes all; returns when what was queued has been accepted.
    async fn close(&mut self) {
        for accepting in self.open.values() {
            accepting.stop.send_replace(true);
        }
        self.core.desk.deadlines.wake_all();
        for (_, accepting) in self.open.drain() {
            // A task that panicked has closed its socket.
            let _ = accepting.task.await;
        }
    }
}

async fn accept(
    core: Rc<Core>,
    listener: Rc<RefCell<Rc<LiveListener>>>,
    socket: TcpListener,
    stopped: watch::Receiver<bool>,
) {
    let mut stop = stopped.clone();
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => break,
            accepted = socket.accept() => match accepted {
                Ok((stream, peer)) => start(&core, &listener, &stopped, stream, peer),
                Err(error) => pause_after(&error, &listener).await,
            },
        }
    }
    // Whoever is in the queue has been told by the kernel that it is connected. Asked directly, as the
    // runtime may not have heard of them yet.
    let Ok(socket) = socket.into_std() else { return };
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        let (stream, peer) = match socket.accept() {
            Ok(accepted) => accepted,
            Err(error) if concerns_one(&error) => continue,
            Err(_) => break,
        };
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            start(&core, &listener, &stopped, stream, peer);
        }
    }
}

fn start(
    core: &Rc<Core>,
    listener: &RefCell<Rc<LiveListener>>,
    stopped: &watch::Receiver<bool>,
    stream: TcpStream,
    peer: std::net::SocketAddr,
) {
    let listener = listener.borrow().clone();
    connection::start(core, listener, stopped.clone(), stream, peer);
}

/// The connection to be accepted has broken; the next one may be sound.
fn concerns_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// A connection that broke before it was accepted is no reason to wait; a lack of file descriptors is.
async fn pause_after(error: &io::Error, listener: &RefCell<Rc<LiveListener>>) {
    if !concerns_one(error) {
        let address = listener.borrow().bound.address;
        tracing::error!(%address, %error, "accept failed");
        sleep(Duration::from_millis(50)).await;
    }
}
