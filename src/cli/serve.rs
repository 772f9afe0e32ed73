use super::{
    arrival::{Arrival, arguments, binary},
    output::{complain, log_colours, say},
};
use crate::{
    admin::{self, Audit, Farewell, Socket},
    config::{self, Loaded, Reloader},
    control::FileStatus,
    live::Phase,
    process::{Prepared, Process},
    spec::{AdminAddress, Shutdown, Spec},
    system::{self, Notifier},
    upgrade::{self, Predecessor, Subject, Succession, UpgradeError, Upgrader, Upgrades},
};
use jiff::Timestamp;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{env, future, path::PathBuf, process::ExitCode, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    runtime::{Builder, LocalOptions},
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    task::{JoinHandle, spawn_local},
    time::{sleep, timeout},
};
use tracing_subscriber::EnvFilter;

/// Invalid configuration (CONTRACT: exit codes of the command line).
const INVALID: u8 = 2;

/// Where the configuration is looked for when none is named.
const PLACES: [&str; 2] = ["crossfade.yaml", "/etc/crossfade/crossfade.yaml"];

/// What is logged unless RUST_LOG says otherwise. That a watched directory has gone is no news: the watching
/// follows the file.
const LOGGED: &str = "info,notify=warn";

/// How often the file's content is looked at, in case the system tells nothing of its changes.
const POLL: Duration = Duration::from_secs(2);

/// What a start takes besides the wait for backends, and an end besides the drain.
const MOST_OF_A_START: Duration = Duration::from_secs(60);
const MOST_OF_AN_END: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(super) struct Args {
    /// The configuration file [default: ./crossfade.yaml, then /etc/crossfade/crossfade.yaml]
    pub(super) config: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> ExitCode {
    if system::is_first() {
        return run_here(as_first());
    }
    let arrival = match Arrival::from_environment() {
        Ok(arrival) => arrival,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    log_to_stderr(LOGGED, arrival.logs_to_terminal());
    let Some(path) = args.config.or_else(|| PLACES.iter().map(PathBuf::from).find(|p| p.exists()))
    else {
        complain(&format!("no configuration: name a file, or put it at {}", PLACES.join(" or ")));
        return ExitCode::from(INVALID);
    };
    let loaded = config::load(&path);
    for warning in &loaded.outcome.warnings {
        tracing::warn!("{warning}");
    }
    let Some(spec) = loaded.outcome.spec.clone() else {
        loaded.outcome.errors.iter().for_each(|error| say(&error.to_string()));
        return ExitCode::from(INVALID);
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), file = %path.display(), "crossfade starts");
    run_here(serve(spec, loaded, arrival))
}

/// The proxy runs in a child.
async fn as_first() -> ExitCode {
    system::look_after().await.unwrap_or_else(|error| {
        complain(&format!("the proxy cannot be started as a child of the first process: {error}"));
        ExitCode::FAILURE
    })
}

/// Runs the control side on this thread.
pub(super) fn run_here(work: impl Future<Output = ExitCode>) -> ExitCode {
    let options = LocalOptions::default();
    match Builder::new_current_thread().enable_all().build_local(options) {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // Blocking work that is left (a name being resolved) must not hold up the end.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            complain(&format!("no runtime: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// To people as text, to machines as JSON; CROSSFADE_LOG_FORMAT (text, json) and RUST_LOG decide otherwise.
pub(super) fn log_to_stderr(level: &str, to_terminal: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let to_people = match env::var("CROSSFADE_LOG_FORMAT").as_deref() {
        Ok("json") => false,
        Ok("text") => true,
        _ => to_terminal,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(log_colours())
        .with_writer(std::io::stderr);
    // The first to set it up wins; tests do it more than once.
    let _ =
        if to_people { builder.try_init() } else { builder.json().flatten_event(true).try_init() };
}

/// Takes all the file descriptors that the system grants: each connection needs one, and the usual soft
/// limit of 1,024 is one for programs that use select(2).
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, limit = limit.current, "the limit of open files cannot be raised");
    }
}

async fn serve(spec: Spec, loaded: Loaded, arrival: Arrival) -> ExitCode {
    match Served::start(spec, Some(loaded), arrival).await {
        Ok(served) => served.until_the_end().await,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Everything that runs.
pub(super) struct Served {
    pub(super) process: Process,
    /// Where the admin API listens.
    pub(super) admin_address: AdminAddress,
    signals: Signals,
    notifier: Rc<Notifier>,
    /// Leads the process before this one as long as it is there.
    leading: Option<JoinHandle<()>>,
    /// `None`: it cannot be upgraded.
    upgrades: Option<Upgrades>,
    end_admin: oneshot::Sender<Farewell>,
    admin: JoinHandle<std::io::Result<()>>,
    audit: Arc<Audit>,
}

impl Served {
    /// `loaded`: the file that is watched from then on, if there is one.
    pub(super) async fn start(
        spec: Spec,
        loaded: Option<Loaded>,
        mut arrival: Arrival,
    ) -> Result<Self, String> {
        raise_file_limit();
        // From here on no signal ends the process unasked.
        let mut signals = Signals::new().map_err(|error| format!("no signals: {error}"))?;
        let configured = spec.admin.address.clone();
        let socket = arrival.admin_socket(&configured)?;
        let admin_address = socket.address().unwrap_or_else(|_| configured.clone());
        let inheritance = arrival.inheritance()?;
        let notifier = arrival.notifier.clone();
        notifier.starts_within(spec.startup_wait + MOST_OF_A_START);
        let file = loaded.as_ref().map_or_else(FileStatus::default, |loaded| FileStatus {
            path: Some(loaded.file.to_path_buf()),
            loaded_at: Timestamp::try_from(loaded.at).ok(),
            error: None,
        });
        let read = Arc::new(spec.clone());
        let prepared = Prepared::new(spec, file, inheritance).await;
        let prepared = prepared.map_err(|error| error.to_string())?;
        let (handle, listeners) = (prepared.handle().clone(), prepared.listeners());
        let predecessor = tokio::select! {
            taken = arrival.take_over(prepared.is_ready(), &listeners, &handle, read) => taken?,
            () = signals.end() => return Err("asked to end before it has taken over".into()),
        };
        let process = prepared.serve().await.map_err(|error| error.to_string())?;
        let file = process.handle.view().spec.audit_file();
        let left = predecessor.as_ref().map(|predecessor| &predecessor.admin);
        let audit = Audit::open(file.as_ref(), left).map_err(|error| {
            let path = file.map(|file| file.path.display().to_string()).unwrap_or_default();
            format!("the audit log {path} cannot be written: {error}; see admin.audit")
        })?;
        if let Some(mut asked) = signals.reopen.take() {
            let live = process.live.clone();
            spawn_local(async move {
                while asked.recv().await.is_some() {
                    live.journal.reopen();
                }
            });
        }
        let reloader =
            loaded.as_ref().map(|it| follow_file(it, &mut signals, &process, &notifier, &audit));
        let (upgrader, upgrades) = match loaded {
            Some(_) => upgradable(&process, configured, &socket, &audit, &mut signals)?,
            None => (None, None),
        };
        let (end_admin, ended) = oneshot::channel();
        // A dropped sender is an end too.
        let end = async { ended.await.unwrap_or_default() };
        let live = process.live.clone();
        let admin =
            spawn_local(admin::serve(live, handle, reloader, upgrader, audit.clone(), socket, end));
        for address in listeners {
            tracing::info!(%address, "listening");
        }
        tracing::info!(address = %admin_address, "admin API");
        let leading = tell_how_it_stands(&process, &notifier, predecessor).await?;
        Ok(Self {
            leading,
            process,
            admin_address,
            signals,
            notifier,
            upgrades,
            end_admin,
            admin,
            audit,
        })
    }

    /// Serves until it is asked to end, then drains.
    pub(super) async fn until_the_end(mut self) -> ExitCode {
        let mut code = ExitCode::SUCCESS;
        tokio::select! {
            () = self.signals.end() => {}
            what = self.process.broken() => {
                tracing::error!("{what}; draining");
                code = ExitCode::FAILURE;
            }
            succession = next_upgrade(&mut self.upgrades) => return self.leave_to(succession).await,
            ended = &mut self.admin => {
                let why = match ended {
                    Ok(Ok(())) => "it ended".to_owned(),
                    Ok(Err(error)) => error.to_string(),
                    Err(error) => error.to_string(),
                };
                tracing::error!("nobody can steer: {why}; draining");
                code = ExitCode::FAILURE;
            }
        }
        let shutdown = self.process.handle.view().spec.shutdown;
        self.notifier.stops_within(shutdown.delay + shutdown.drain + MOST_OF_AN_END);
        tokio::select! {
            () = self.signals.end() => {
                tracing::warn!("asked to end twice: ending at once");
                return ExitCode::FAILURE;
            }
            () = leave(&self.process, shutdown) => {}
        }
        // Whoever asked the admin API to drain sees the end of it.
        let _ = self.end_admin.send(Farewell::default());
        if !self.admin.is_finished() {
            let _ = timeout(MOST_OF_AN_END, self.admin).await;
        }
        self.audit.flush(Duration::from_secs(2));
        self.process.log_ledger();
        tracing::info!("ended");
        code
    }

    /// Finishes what is in flight here, beside another process that has taken over.
    async fn leave_to(mut self, mut succession: Succession) -> ExitCode {
        self.notifier.fall_silent();
        succession.answer();
        let patience = self.process.handle.view().spec.shutdown.drain;
        // Nobody is asked whether they have noticed: the new process is the one that counts.
        let _ = self.end_admin.send(Farewell { patience, is_succeeded: succession.has_admin() });
        self.upgrades = None;
        tracing::info!(drain = config::format_duration(patience), "leaves to another process");
        let taken = succession.listeners().to_vec();
        let leading = self.leading.take();
        let drained = async {
            let done = self.process.leave_to_successor(|it| taken.contains(&it), patience).await;
            // What is changed reaches the process before this one through this one.
            if let Some(leading) = leading {
                let _ = timeout(patience, leading).await;
            }
            done
        };
        let following = async {
            succession.follow().await;
            future::pending::<()>().await;
        };
        tokio::select! {
            done = drained => if !done {
                tracing::warn!("the drain's deadline has passed: requests in flight were cancelled");
            },
            () = following => {}
            () = self.signals.end_twice() => {
                tracing::warn!("asked to end twice: ending at once");
                return ExitCode::FAILURE;
            }
        }
        let _ = timeout(MOST_OF_AN_END, self.admin).await;
        self.audit.flush(Duration::from_secs(2));
        self.process.log_ledger();
        tracing::info!("ended");
        // Whoever looks after this process, and does not know the other, should know how that one fared.
        if succession.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

async fn next_upgrade(upgrades: &mut Option<Upgrades>) -> Succession {
    match upgrades {
        Some(upgrades) => upgrades.next().await,
        None => future::pending().await,
    }
}

/// From now on it can be asked for another process: by the admin API and by SIGUSR2.
fn upgradable(
    process: &Process,
    admin: AdminAddress,
    socket: &Socket,
    audit: &Arc<Audit>,
    signals: &mut Signals,
) -> Result<(Option<Upgrader>, Option<Upgrades>), String> {
    let admin_socket = socket.share().map_err(|error| format!("no descriptor: {error}"))?;
    let binary = match binary() {
        Ok(binary) => binary,
        Err(error) => {
            tracing::warn!(%error, "it cannot be upgraded, as it does not know where it was started from");
            return Ok((None, None));
        }
    };
    let (live, handle) = (process.live.clone(), process.handle.clone());
    let (arguments, audit) = (arguments(), audit.clone());
    let admin_leaves = Box::new(move || audit.leave());
    let subject = Subject { live, handle, admin, admin_socket, admin_leaves, binary, arguments };
    let (upgrader, upgrades) = upgrade::upgrades(subject);
    if let Some(mut asked) = signals.upgrade.take() {
        let upgrader = upgrader.clone();
        tokio::spawn(async move {
            while asked.recv().await.is_some() {
                if let Err(UpgradeError::Refused(why)) = upgrader.ask(None, upgrade::PATIENCE).await
                {
                    tracing::warn!(why, "SIGUSR2 does nothing");
                }
            }
        });
    }
    Ok((Some(upgrader), Some(upgrades)))
}

/// Tells the service manager, and the process that was here before, that there is nothing to wait for. Returns what
/// leads that one from now on, until it ends.
async fn tell_how_it_stands(
    process: &Process,
    notifier: &Rc<Notifier>,
    predecessor: Option<Predecessor>,
) -> Result<Option<JoinHandle<()>>, String> {
    let mut leading = None;
    if let Some(mut predecessor) = predecessor {
        let replaced = predecessor.is_replaced().await;
        replaced.map_err(|error| format!("the process to take over from has ended: {error}"))?;
        leading = Some(tokio::spawn(predecessor.lead()));
        notifier.ready_instead();
    } else {
        let (mut phases, notifier) = (process.live.lifecycle.subscribe(), notifier.clone());
        spawn_local(async move {
            if phases
                .wait_for(|phase| *phase >= Phase::Ready)
                .await
                .is_ok_and(|it| *it == Phase::Ready)
            {
                notifier.ready();
            }
        });
    }
    if let Some(pace) = notifier.pace() {
        let (mut pulse, notifier) = (process.pulse(), notifier.clone());
        spawn_local(async move {
            loop {
                sleep(pace).await;
                if pulse.is_felt().await {
                    notifier.alive();
                }
            }
        });
    }
    Ok(leading)
}

/// Puts in force what the file says, when it changes and on SIGHUP.
fn follow_file(
    loaded: &Loaded,
    signals: &mut Signals,
    process: &Process,
    notifier: &Rc<Notifier>,
    audit: &Arc<Audit>,
) -> Reloader {
    let (live, handle) = (process.live.clone(), process.handle.clone());
    let (reloader, mut changes) = config::watch(loaded, POLL);
    let (steering, log) = (handle.clone(), audit.clone());
    tokio::spawn(async move {
        while let Some(loaded) = changes.recv().await {
            admin::follow(&steering, &log, loaded.outcome).await;
        }
    });
    if let Some(mut hangup) = signals.hangup.take() {
        let (reloader, notifier, log) = (reloader.clone(), notifier.clone(), audit.clone());
        spawn_local(async move {
            while hangup.recv().await.is_some() {
                // While it starts it is not ready, and afterwards it is not ready again.
                let is_ready = || live.lifecycle.phase() == Phase::Ready;
                if is_ready() {
                    notifier.reloads();
                }
                admin::follow(&handle, &log, reloader.reload().await.outcome).await;
                if is_ready() {
                    notifier.ready();
                }
            }
        });
    }
    reloader
}

async fn leave(process: &Process, shutdown: Shutdown) {
    process.live.lifecycle.advance(Phase::Leaving);
    let [delay, drain] = [shutdown.delay, shutdown.drain].map(config::format_duration);
    tracing::info!(delay, drain, "asked to end");
    sleep(shutdown.delay).await;
    if !process.drain(shutdown.drain).await {
        tracing::warn!("the drain's deadline has passed: requests in flight were cancelled");
    }
}

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
    upgrade: Option<Signal>,
    reopen: Option<Signal>,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: Some(signal(SignalKind::hangup())?),
            upgrade: Some(signal(SignalKind::user_defined2())?),
            reopen: Some(signal(SignalKind::user_defined1())?),
        })
    }

    /// SIGTERM or SIGINT.
    pub(super) async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    async fn end_twice(&mut self) {
        self.end().await;
        tracing::info!("asked to end, which it does already");
        self.end().await;
    }
}
