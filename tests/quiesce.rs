//! After a swap a reader may still have the old snapshot in hand and take its ticket late. Waiting until
//! the old snapshot is quiesced is what makes "no new requests" true; here is the proof, and the proof
//! that it would be false without.

use crossfade::{
    control::{self, Change, Command, FileStatus, Source},
    live::{
        HealthState, Kind, LiveBackend, LivePool, LiveService, Outcome, PoolEntry, Published,
        Retired, Slot, Slots, Snapshot,
    },
    process::FORMAT,
    routing::RoutingTable,
    spec::{Backend, Pool, Role, Service, Spec, Weight},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

const CORES: usize = 3;

struct Maker {
    slots: Slots,
    service: Arc<Slot>,
}

impl Maker {
    fn new() -> Self {
        let slots = Slots::default();
        Self { service: Arc::new(slots.take()), slots }
    }

    /// A snapshot with one new backend.
    fn snapshot(&self, revision: u64) -> (Snapshot, Arc<LiveBackend>) {
        let pool = LivePool::new(CORES, "shop".into(), "blue".into(), "v1".into());
        let address = "127.0.0.1:1".parse().unwrap();
        let slot = self.slots.take();
        let backend = LiveBackend::new(
            CORES,
            address,
            pool.clone(),
            Default::default(),
            (HealthState::Healthy, 0),
            slot,
        );
        let pools = vec![PoolEntry { pool, backends: vec![backend.clone()] }];
        let service = LiveService {
            name: "shop".into(),
            slot: self.service.clone(),
            gate: Arc::default(),
            hold: None,
            trial: None,
            recent: Arc::default(),
            pools,
        };
        let snapshot = Snapshot {
            revision,
            table: RoutingTable::default(),
            services: vec![service],
            listeners: Vec::new(),
            challenges: Arc::default(),
        };
        (snapshot, backend)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// What a worker does with every request: decide, take the ticket, serve.
fn serve(published: &Published, core: usize) {
    let backend = published.read(|snapshot| {
        let backend = snapshot.services[0].pools[0].backends[0].clone();
        // A place where a core may be held up.
        thread::yield_now();
        backend.begin(core);
        backend
    });
    thread::yield_now();
    backend.end(core, Kind::Request, Outcome::Finished);
}

/// Cuts over under load, up to `most` times, and as long as nothing was `late`: requests that began on a
/// backend after `settle` said that there would be none any more.
fn late_starts<F: Future<Output = ()>>(most: u64, settle: impl Fn(Retired) -> F) -> u64 {
    let maker = Maker::new();
    let (first, mut current) = maker.snapshot(0);
    let published = Published::new(first);
    let done = AtomicBool::new(false);
    let runtime = runtime();
    let mut left: Vec<(Arc<LiveBackend>, u64)> = Vec::new();
    let late = |left: &[(Arc<LiveBackend>, u64)]| -> u64 {
        left.iter().map(|(backend, started)| backend.started() - started).sum()
    };
    thread::scope(|scope| {
        for core in 0..CORES {
            let (published, done) = (&published, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    serve(published, core);
                }
            });
        }
        for revision in 1..=most {
            let (next, backend) = maker.snapshot(revision);
            let old = std::mem::replace(&mut current, backend);
            let retired = published.swap(next);
            runtime.block_on(settle(retired));
            left.push((old.clone(), old.started()));
            // Some traffic for the new one, so that there is somebody to be late.
            while current.started() == 0 {
                thread::yield_now();
            }
            // Whoever is late is so soon.
            if late(&left[left.len().saturating_sub(16)..]) > 0 {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(left.iter().all(|(backend, _)| backend.open() == 0));
    late(&left)
}

#[test]
fn nothing_begins_on_what_has_left_once_it_is_quiesced() {
    assert_eq!(late_starts(1_500, Retired::quiesced), 0);
}

#[test]
fn without_the_wait_something_does() {
    let impatient = |retired: Retired| {
        drop(retired);
        std::future::ready(())
    };
    assert!(late_starts(1_000_000, impatient) > 0, "the test above could not fail");
}

/// The same with the control task: once a change is answered, nothing begins on what it removed.
#[test]
fn no_request_is_routed_by_the_old_table_once_a_change_is_answered() {
    let runtime = runtime();
    let started =
        runtime.block_on(control::start(spec(), CORES, FileStatus::default(), FORMAT)).unwrap();
    let published = &started.live.published;
    let done = AtomicBool::new(false);
    let mut left = Vec::new();
    let releases = async {
        for number in 0..400 {
            let old = published.read(|s| s.services[0].pools[0].backends[0].clone());
            while old.started() == 0 {
                tokio::task::yield_now().await;
            }
            let receipt = started.handle.apply(release(number)).await.unwrap();
            assert!(Arc::ptr_eq(&receipt.leaving[0], &old));
            left.push((old.clone(), old.started()));
        }
    };
    thread::scope(|scope| {
        for core in 0..CORES {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    serve(published, core);
                }
            });
        }
        runtime.block_on(releases);
        done.store(true, Ordering::Relaxed);
    });
    assert!(left.iter().all(|(old, started)| old.started() == *started));
}

fn pool(version: String) -> Pool {
    let address = "127.0.0.1:1".parse().unwrap();
    Pool {
        version: version.into(),
        weight: Weight::ONE,
        backends: [(address, Backend::default())].into_iter().collect(),
        slow_start: Duration::ZERO,
        drained: false,
        protocol: Default::default(),
        proxy_protocol: None,
        tls: None,
    }
}

fn spec() -> Spec {
    let pools = [("blue".into(), pool("first".to_owned()))].into_iter().collect();
    Spec {
        services: [("shop".into(), Service::new(pools))].into_iter().collect(),
        ..Spec::default()
    }
}

/// The pool becomes another one: of another version.
fn release(number: u32) -> Change {
    Change {
        command: Command::PutPool {
            service: "shop".into(),
            name: "blue".into(),
            pool: pool(format!("v{number}")),
        },
        source: Source::Api,
        author: "test".into(),
        role: Role::Operator,
        cause: None,
        force: false,
        if_match: None,
        dry_run: false,
        wait_healthy: None,
    }
}

#[test]
fn a_reader_holds_a_change_up_and_nothing_else_does() {
    let maker = Maker::new();
    let (first, old) = maker.snapshot(0);
    let published = Published::new(first);
    let (in_hand, go_on) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            published.read(|snapshot| {
                in_hand.wait();
                go_on.wait();
                snapshot.services[0].pools[0].backends[0].begin(0);
            });
        });
        in_hand.wait();
        let retired = published.swap(maker.snapshot(1).0);
        runtime().block_on(async {
            let mut quiesced = std::pin::pin!(retired.quiesced());
            let early = tokio::time::timeout(Duration::from_millis(20), &mut quiesced).await;
            assert!(early.is_err(), "a reader still has it");
            assert_eq!(old.started(), 0);
            go_on.wait();
            quiesced.await;
            assert_eq!(old.started(), 1, "its ticket is seen");
        });
    });
}
