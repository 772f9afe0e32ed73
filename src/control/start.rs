//! The first snapshot: from the file, and from what was kept of the time before.

use super::{
    Command, Estate, FileStatus, Format, Handle, Issuance, Publishes, Source, StateStatus, Store,
    StoreError, View,
    connectors::Connectors,
    desired::{Desired, missing},
    discovery::Discovery,
    drain::Drains,
    ejector::Ejector,
    holds::Holds,
    listeners,
    parts::{Parts, later},
    prober::Prober,
    rollout::{Rollouts, keep_traffic},
    store::{Entry, Kept, Step},
    task::{Control, snapshot},
};
use crate::{live::Live, net::Inherited, rollout::Rollout, spec::Spec};
use jiff::Timestamp;
use std::{fmt, sync::Arc, time::Instant};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

/// Changes that wait their turn.
const QUEUE: usize = 64;

/// A running control plane.
pub struct Started {
    pub live: Arc<Live>,
    pub handle: Handle,
    /// Ends when every [`Handle`] is gone. If it ends before, or panics, nobody steers any more and the
    /// process should end.
    pub task: JoinHandle<()>,
}

/// Why there is no first snapshot; every reason a line.
#[derive(Debug)]
pub enum StartError {
    Invalid(Vec<String>),
    /// A listener cannot be bound.
    Listen(Vec<String>),
    /// What was kept cannot be read, or nothing can be kept.
    State(StoreError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(reasons) | Self::Listen(reasons) => f.write_str(&reasons.join("\n")),
            Self::State(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// What another process has left, or a service manager has opened.
#[derive(Default)]
pub struct Inheritance {
    pub sockets: Inherited,
    pub estate: Option<Estate>,
}

/// What is in force first.
struct Beginning {
    desired: Desired,
    rollouts: Vec<Rollout>,
    revision: u64,
    /// To be kept before it is in force. `None`: when it is taken over.
    step: Option<Step>,
    /// Why the file, as it is now, cannot be merged with what was in force.
    refused: Option<String>,
}

/// Binds the listeners, puts `spec` in force, merged with what was kept in its state directory, and starts the
/// control task on the current runtime, which should not be a worker's. A `file` with a path is what `spec` was
/// read from: the base of later merges. Backends that were there before are newcomers.
///
/// # Errors
/// When `spec` is invalid, a listener cannot be bound or the state cannot be used.
pub async fn start(
    spec: Spec,
    cores: usize,
    file: FileStatus,
    format: Format,
) -> Result<Started, StartError> {
    start_from(spec, cores, file, format, Inheritance::default()).await
}

/// The same, but sockets that are there are not bound, and an estate is what was in force before: what `spec`
/// changes in it, as a file, is put in force with it. The state is opened when that is taken over.
///
/// # Errors
/// Those of [`start`].
pub async fn start_from(
    spec: Spec,
    cores: usize,
    mut file: FileStatus,
    format: Format,
    inheritance: Inheritance,
) -> Result<Started, StartError> {
    let Inheritance { sockets: mut inherited, estate } = inheritance;
    let is_successor = estate.is_some();
    let from_file = file.path.is_some();
    let directory = spec.state.directory.clone();
    let (store, Beginning { desired, rollouts, revision, step, refused }) = match estate {
        Some(estate) => {
            let store = Store::unopened(directory, format).map_err(StartError::State)?;
            let inherited = Desired::inherit(&estate, Some(&Arc::new(spec)));
            let (mut desired, revision) = inherited.map_err(StartError::Invalid)?;
            let Estate { mut rollouts, spec: before, .. } = estate;
            keep_traffic(&mut rollouts, &before, &mut desired)
                .map_err(|why| StartError::Invalid(vec![why]))?;
            (store, Beginning { desired, rollouts, revision, step: None, refused: None })
        }
        None => {
            let opened = Store::open(directory, format).await;
            let (store, kept) = opened.map_err(StartError::State)?;
            let beginning = match kept {
                Some(kept) => resume(spec, kept)?,
                None => begin(spec, from_file)?,
            };
            (store, beginning)
        }
    };
    if let Some(error) = refused {
        tracing::error!("the file does not fit what was in force, which stays:\n{error}");
        file.error = Some(error);
    }
    let issuance = Issuance::default();
    let certificates = &issuance.certificates;
    let listeners = listeners::bind(&[], &desired.spec, certificates, cores, &mut inherited)
        .map_err(StartError::Listen)?;
    for address in inherited.left() {
        tracing::warn!(%address, "a socket was handed over that no listener has; it is closed");
    }
    drop(inherited);
    let connectors = Connectors::default().next(&desired.spec).map_err(StartError::Invalid)?;
    if let Some(step) = step {
        let kept = store.keep(step).await.unwrap_or(Err(StoreError::Closed));
        kept.map_err(StartError::State)?;
    }
    let now = Instant::now();
    let mut parts = Parts::new(cores);
    let (discovery, findings) = Discovery::new();
    let (rollouts, heard) = Rollouts::new(rollouts, now);
    let effective = discovery.expand(&rollouts.overlay(&desired.spec));
    let mut plan = parts.plan(&effective, std::iter::empty(), now, 0);
    plan.placed.iter().for_each(|placed| connectors.equip(&placed.backend));
    rollouts.trials().equip(cores, &mut plan.services, &desired.spec);
    let first = snapshot(revision, &plan, &desired.salts, &listeners, &issuance);
    let live = Live::new(cores, first);
    live.set_pools(parts.adopt(plan));

    let (sender, messages) = mpsc::channel(QUEUE);
    let publishes = Publishes { file: u64::from(from_file), ..Publishes::default() };
    let state = StateStatus { directory: store.directory(), ..StateStatus::default() };
    let view = watch::Sender::new(Arc::new(View {
        revision,
        spec: desired.spec.clone(),
        loaded: desired.file_base.clone(),
        file: file.clone(),
        needs_restart: Vec::new(),
        drains: Vec::new(),
        holds: Vec::new(),
        orders: Arc::default(),
        publishes,
        names: Vec::new(),
        state: state.clone(),
        rollouts: rollouts.shown(),
        rollout_routes: rollouts.routes(),
        outcomes: rollouts.outcomes().clone(),
    }));
    let (prober, reports) = Prober::new();
    let handle = Handle::new(sender, view.subscribe(), store.clone(), rollouts.news());
    let mut control = Control {
        live: live.clone(),
        ready_by: later(now, desired.spec.startup_wait),
        desired,
        revision,
        listeners,
        issuance,
        connectors,
        parts,
        drains: Drains::default(),
        holds: Holds::default(),
        rollouts,
        discovery,
        prober,
        ejector: Ejector::default(),
        store,
        pending: None,
        // Until it takes over, another process decides.
        frozen: is_successor,
        predecessor: None,
        waiting: Vec::new(),
        recheck: true,
        file,
        needs_restart: Vec::new(),
        publishes,
        state,
        view,
    };
    control.watch();
    if !is_successor {
        control.tell_untold();
    }
    control.show();
    let task = tokio::spawn(control.run(messages, reports, findings, heard));
    Ok(Started { live, handle, task })
}

/// Without anything from before.
fn begin(spec: Spec, from_file: bool) -> Result<Beginning, StartError> {
    let desired = Desired::first(spec, from_file).map_err(StartError::Invalid)?;
    let step = step(1, None, &desired, desired.file_base.clone());
    Ok(Beginning { desired, rollouts: Vec::new(), revision: 1, step: Some(step), refused: None })
}

/// With what was in force when the state was last written to. The file may have changed since: it is merged as
/// by a reload, and what only a restart can change is the file's now.
fn resume(file: Spec, kept: Kept) -> Result<Beginning, StartError> {
    let Kept { revision, content, file: base, mut rollouts } = kept;
    let mut before = content.spec;
    before.renew_from(&file);
    let mut ours = before.clone();
    ours.keep_for_restart(&file);
    let base = base.map(Arc::new);
    let kept = Desired { spec: Arc::new(ours), file_base: base.clone(), salts: content.salts };
    let loaded = kept.apply(&Command::Load { file: Box::new(file) });
    let loaded = loaded.map_err(|error| error.to_string()).and_then(|mut applied| {
        keep_traffic(&mut rollouts, &kept.spec, &mut applied.desired)?;
        Ok(applied.desired)
    });
    let (desired, refused) = match loaded {
        Ok(desired) => (desired, None),
        Err(why) => (kept, Some(why)),
    };
    missing(&desired.spec).map_err(StartError::Invalid)?;
    let file = desired.file_base.clone().filter(|file| base.as_ref() != Some(file));
    if *desired.spec == before {
        let step = Some(Step { file, ..Step::default() });
        return Ok(Beginning { desired, rollouts, revision, step, refused });
    }
    let revision = revision + 1;
    let step = Some(step(revision, Some(Arc::new(before)), &desired, file));
    Ok(Beginning { desired, rollouts, revision, step, refused })
}

pub(super) fn step(
    number: u64,
    before: Option<Arc<Spec>>,
    desired: &Desired,
    file: Option<Arc<Spec>>,
) -> Step {
    let entry = Entry {
        number,
        at: Timestamp::now(),
        author: "file".into(),
        source: Source::File,
        cause: None,
        before,
        after: desired.spec.clone(),
        salts: desired.salts.clone(),
        rollout: None,
        most: desired.spec.state.revisions,
    };
    Step { entry: Some(entry), file, ..Step::default() }
}
