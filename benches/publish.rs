//! What a change costs while every core reads: from the swap until nobody reads the old snapshot any more, and
//! the whole way of a change, compiling included; also when it is kept on the disk.
//!
//!     cargo bench --bench publish -- --quick
//!
//! The readers do what a worker does to decide (find the route, pick a backend, begin and end), without a
//! pause. With more of them than cores the system sometimes takes a reader off its core in mid-read, and the
//! swap waits until it comes back: that is where the slow ones come from.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use crossfade::{
    control::{self, Change, Command, FileStatus, Source, Started},
    live::{Kind, Outcome, Published, Snapshot},
    process::FORMAT,
    routing::{self, Host, RequestView, Salts},
    spec::{
        Backend, BackendAddress, HostPattern, Match, Name, PathMatch, Pool, Route, Service, Spec,
        Weight,
    },
};
use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// Threads that read; more than a small machine has cores, to see what that does.
const READERS: [usize; 4] = [0, 1, 2, 4];

/// Routes of the changes that are measured whole.
const ROUTES: [usize; 3] = [1, 1_000, 10_000];

/// Services of the changes that are kept, each with a route.
const SERVICES: [usize; 2] = [5, 500];

const ROUTES_PER_SERVICE: usize = 100;

fn swap_to_quiesced(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish/swap_to_quiesced");
    for readers in READERS {
        group.bench_function(BenchmarkId::new("readers", readers), |bencher| {
            let runtime = runtime();
            let spec = spec(1);
            let started = start(&runtime, spec.clone(), readers);
            let salts = routing::next_salts(&Salts::default(), None, &spec);
            let services = started.live.published.read(|snapshot| snapshot.services.clone());
            let snapshot = |revision| Snapshot {
                revision,
                table: routing::compile(&spec, &salts),
                services: services.clone(),
                listeners: Vec::new(),
                challenges: Arc::default(),
            };
            let published = Published::new(snapshot(0));
            under_load(&published, readers, || {
                bencher.iter_custom(|times| {
                    let mut taken = Duration::ZERO;
                    for revision in 0..times {
                        let next = snapshot(revision);
                        let began = Instant::now();
                        runtime.block_on(published.swap(next).quiesced());
                        taken += began.elapsed();
                    }
                    taken
                });
            });
        });
    }
}

/// As the admin API asks for it: validate, compile, publish, quiesce, answer.
fn whole_change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish/weights_with_routes");
    for routes in ROUTES {
        group.bench_function(BenchmarkId::from_parameter(routes), |bencher| {
            const READING: usize = 1;
            let runtime = runtime();
            let started = start(&runtime, spec(routes), READING);
            let mut green = 0;
            under_load(&started.live.published, READING, || {
                bencher.iter(|| {
                    green = (green + 1) % 100;
                    let receipt = runtime.block_on(started.handle.apply(weights(green)));
                    receipt.expect("green and blue can share in any way")
                });
            });
        });
    }
}

/// The same where each change is written down in a state directory and synced before it is in force.
fn kept_change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish/weights_kept_with_services");
    for services in SERVICES {
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            let directory = tempfile::tempdir().expect("a folder can be made");
            let runtime = runtime();
            let mut spec = spec(services * ROUTES_PER_SERVICE);
            spec.routes.retain(|route| route.name.ends_with("00"));
            spec.state.directory = Some(directory.path().to_owned());
            let started = start(&runtime, spec, 1);
            let mut green = 0;
            bencher.iter(|| {
                green = (green + 1) % 100;
                let receipt = runtime.block_on(started.handle.apply(weights(green)));
                receipt.expect("green and blue can share in any way")
            });
        });
    }
}

/// Runs `work` while `readers` threads decide as workers do.
fn under_load(published: &Published, readers: usize, work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for core in 0..readers {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    decide(published, core);
                }
            });
        }
        work();
        done.store(true, Ordering::Relaxed);
    });
}

fn decide(published: &Published, core: usize) {
    let fields: [(&str, &str); 0] = [];
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let host = Host::parse(b"host-0.example.com").unwrap_or_default();
    let request = RequestView::new("GET", host, "/part-0/item", None, &fields[..], client);
    let backend = published.read(|snapshot| {
        let route = snapshot.table.find(&request).expect("there is a route");
        let service = route.service().expect("it leads to one");
        let backend = snapshot.services[service].pools[0].backends[0].clone();
        backend.begin(core);
        backend
    });
    black_box(&backend).end(core, Kind::Request, Outcome::Finished);
}

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made")
}

fn start(runtime: &Runtime, spec: Spec, cores: usize) -> Started {
    let started =
        runtime.block_on(control::start(spec, cores.max(1), FileStatus::default(), FORMAT));
    started.expect("the spec is valid")
}

/// Services with two pools each, and routes by host and path that lead to them.
fn spec(routes: usize) -> Spec {
    let service = |number: usize| (name("service", number), service());
    Spec {
        services: (0..routes.div_ceil(ROUTES_PER_SERVICE)).map(service).collect(),
        routes: (0..routes).map(route).collect(),
        ..Spec::default()
    }
}

fn service() -> Service {
    let pools = [("blue", 95, 1), ("green", 5, 2)].map(|(name, weight, port)| {
        let pool = Pool {
            version: name.into(),
            weight: Weight::new(weight).expect("small enough"),
            backends: [(address(port), Backend::default())].into(),
            slow_start: Duration::ZERO,
            drained: false,
            protocol: Default::default(),
            proxy_protocol: None,
            tls: None,
        };
        (name.into(), pool)
    });
    Service::new(pools.into())
}

fn address(port: u16) -> BackendAddress {
    format!("127.0.0.1:{port}").parse().expect("an address")
}

fn route(number: usize) -> Route {
    let host = format!("host-{}.example.com", number / 10);
    let matches = Match {
        hosts: vec![HostPattern::Exact(host.into())],
        path: PathMatch::Prefix(format!("/part-{}", number % 10).into()),
        ..Match::default()
    };
    Route::new(name("route", number), matches, name("service", number / ROUTES_PER_SERVICE))
}

fn name(kind: &str, number: usize) -> Name {
    format!("{kind}-{number}").into()
}

fn weights(green: u64) -> Change {
    let weight = |weight| Weight::new(weight).expect("small enough");
    Change {
        command: Command::SetWeights {
            service: "service-0".into(),
            weights: vec![("blue".into(), weight(100 - green)), ("green".into(), weight(green))],
        },
        source: Source::Api,
        author: "bench".into(),
        role: crossfade::spec::Role::Operator,
        cause: None,
        force: false,
        if_match: None,
        dry_run: false,
        wait_healthy: None,
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = swap_to_quiesced, whole_change, kept_change
}
criterion_main!(benches);
