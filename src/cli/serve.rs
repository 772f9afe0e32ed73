use super::output::{complain, log_colours, say};
use crate::{
    admin::{self, Audit},
    config::{self, Loaded, Reloader},
    control::{FileStatus, Handle},
    live::Phase,
    process::Process,
    spec::{AdminAddress, Shutdown, Spec},
};
use jiff::Timestamp;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{env, io::IsTerminal, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use tokio::{
    runtime::{Builder, LocalOptions},
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
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

#[derive(clap::Args)]
pub(super) struct Args {
    /// The configuration file [default: ./crossfade.yaml, then /etc/crossfade/crossfade.yaml]
    pub(super) config: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> ExitCode {
    log_to_stderr(LOGGED);
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
    run_here(serve(spec, loaded))
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
pub(super) fn log_to_stderr(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let to_people = match env::var("CROSSFADE_LOG_FORMAT").as_deref() {
        Ok("json") => false,
        Ok("text") => true,
        _ => std::io::stderr().is_terminal(),
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

async fn serve(spec: Spec, loaded: Loaded) -> ExitCode {
    match Served::start(spec, Some(loaded)).await {
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
    end_admin: oneshot::Sender<()>,
    admin: tokio::task::JoinHandle<std::io::Result<()>>,
    audit: Arc<Audit>,
}

impl Served {
    /// `loaded`: the file that is watched from then on, if there is one.
    pub(super) async fn start(spec: Spec, loaded: Option<Loaded>) -> Result<Self, String> {
        raise_file_limit();
        // From here on no signal ends the process unasked.
        let mut signals = Signals::new().map_err(|error| format!("no signals: {error}"))?;
        let address = spec.admin.address.clone();
        let socket = admin::bind(&address)
            .map_err(|error| format!("the admin API cannot listen on {address}: {error}"))?;
        let admin_address = socket.address().unwrap_or(address);
        let file = loaded.as_ref().map_or_else(FileStatus::default, |loaded| FileStatus {
            path: Some(loaded.file.to_path_buf()),
            loaded_at: Timestamp::try_from(loaded.at).ok(),
            error: None,
        });
        let process = Process::start(spec, file).await.map_err(|error| error.to_string())?;
        let handle = process.handle.clone();
        let file = handle.view().spec.audit_file();
        let audit = Audit::open(file.as_ref()).map_err(|error| {
            let path = file.map(|file| file.path.display().to_string()).unwrap_or_default();
            format!("the audit log {path} cannot be written: {error}; see admin.audit")
        })?;
        let reloader = loaded.map(|loaded| follow_file(&loaded, &mut signals, &handle, &audit));
        let (end_admin, ended) = oneshot::channel();
        let end = async {
            // A dropped sender is an end too.
            let _ = ended.await;
        };
        let live = process.live.clone();
        let admin = tokio::task::spawn_local(admin::serve(
            live,
            handle,
            reloader,
            audit.clone(),
            socket,
            end,
        ));
        process.live.published.read(|snapshot| {
            for listener in &snapshot.listeners {
                tracing::info!(address = %listener.bound.address, "listening");
            }
        });
        tracing::info!(address = %admin_address, "admin API");
        Ok(Self { process, admin_address, signals, end_admin, admin, audit })
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
        tokio::select! {
            () = self.signals.end() => {
                tracing::warn!("asked to end twice: ending at once");
                return ExitCode::FAILURE;
            }
            () = leave(&self.process, shutdown) => {}
        }
        // Whoever asked the admin API to drain sees the end of it.
        let _ = self.end_admin.send(());
        if !self.admin.is_finished() {
            let _ = tokio::time::timeout(Duration::from_secs(5), self.admin).await;
        }
        self.audit.flush(Duration::from_secs(2));
        tracing::info!("ended");
        code
    }
}

/// Puts in force what the file says, when it changes and on SIGHUP.
fn follow_file(
    loaded: &Loaded,
    signals: &mut Signals,
    handle: &Handle,
    audit: &Arc<Audit>,
) -> Reloader {
    let (reloader, mut changes) = config::watch(loaded, POLL);
    let (steering, log) = (handle.clone(), audit.clone());
    tokio::spawn(async move {
        while let Some(loaded) = changes.recv().await {
            admin::follow(&steering, &log, loaded.outcome).await;
        }
    });
    if let Some(mut hangup) = signals.hangup.take() {
        let (reloader, handle, log) = (reloader.clone(), handle.clone(), audit.clone());
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                admin::follow(&handle, &log, reloader.reload().await.outcome).await;
            }
        });
    }
    reloader
}

async fn leave(process: &Process, shutdown: Shutdown) {
    process.live.lifecycle.advance(Phase::Leaving);
    let [delay, drain] = [shutdown.delay, shutdown.drain].map(config::format_duration);
    tracing::info!(delay, drain, "asked to end");
    tokio::time::sleep(shutdown.delay).await;
    if !process.drain(shutdown.drain).await {
        tracing::warn!("the drain's deadline has passed: requests in flight were cancelled");
    }
}

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: Some(signal(SignalKind::hangup())?),
        })
    }

    /// SIGTERM or SIGINT.
    pub(super) async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
