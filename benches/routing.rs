//! What a decision costs: find a route, draw a pool, choose a backend; and compiling a table.

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use crossfade::{
    routing::{
        BalanceState, Candidates, FULL, Fields, Host, Key, PoolSet, RequestView, RoutingTable,
        Salts, Sequence, choose, compile,
    },
    spec::{
        Backend, BackendAddress, Balance, FieldMatch, HostPattern, Match, Name, PathMatch, Pattern,
        Pool, Route, Service, Spec, Sticky, StickyKey, ValueMatch, Weight,
    },
};
use rand::{SeedableRng, rngs::SmallRng};
use std::{hint::black_box, net::Ipv4Addr, time::Duration};

const SIZES: [usize; 3] = [10, 1000, 10_000];

fn pool(weight: u32, backends: &[u32]) -> Pool {
    let backend = |(port, &weight): (u16, &u32)| {
        let address = BackendAddress::Host { host: "backend.internal".into(), port };
        (address, Backend { weight: heavy(weight), drained: false })
    };
    Pool {
        version: "v1".into(),
        weight: heavy(weight),
        backends: (9000..).zip(backends).map(backend).collect(),
        slow_start: Duration::ZERO,
        drained: false,
        proxy_protocol: None,
        tls: None,
    }
}

fn heavy(weight: u32) -> Weight {
    Weight::new(weight.into()).expect("at most a million")
}

fn service(weights: &[u32]) -> Service {
    let pool = |(n, &weight)| (Name::from(format!("pool{n}")), pool(weight, &[1]));
    Service::new(weights.iter().enumerate().map(pool).collect())
}

fn spec(service: Service, routes: impl Iterator<Item = Match>) -> Spec {
    let route = |(n, matches)| Route::new(Name::from(format!("route{n}")), matches, "shop".into());
    Spec {
        services: [(Name::from("shop"), service)].into_iter().collect(),
        routes: routes.enumerate().map(route).collect(),
        ..Spec::default()
    }
}

fn table(routes: impl Iterator<Item = Match>) -> RoutingTable {
    compile(&spec(service(&[95, 5]), routes), &Salts::default())
}

/// Ten hosts' worth of prefixes each, one in ten a wildcard.
fn hosts(n: usize) -> Match {
    let name = format!("shop{}.example.com", n / 10).into();
    Match {
        hosts: vec![if n % 100 < 10 {
            HostPattern::Suffix(name)
        } else {
            HostPattern::Exact(name)
        }],
        path: PathMatch::Prefix(format!("/api/v1/part{}", n % 10).into()),
        ..Match::default()
    }
}

fn tenants(n: usize) -> Match {
    let value = ValueMatch::Exact(format!("tenant{n}").into());
    Match { headers: vec![FieldMatch { name: "x-tenant".into(), value }], ..Match::default() }
}

fn prefixes(n: usize) -> Match {
    Match { path: PathMatch::Prefix(format!("/a/b/part{n}").into()), ..Match::default() }
}

fn regexes(n: usize) -> Match {
    let pattern = Pattern::new(&format!("/items/[0-9]+/part{n}")).expect("a good pattern");
    Match { path: PathMatch::Regex(pattern), ..Match::default() }
}

fn view<'a, F: Fields + ?Sized>(host: &'a str, path: &'a str, fields: &'a F) -> RequestView<'a, F> {
    let host = Host::parse(host.as_bytes()).unwrap_or_default();
    RequestView::new("GET", host, path, None, fields, Ipv4Addr::LOCALHOST.into())
}

fn find(c: &mut Criterion) {
    let mut headers = http::HeaderMap::new();
    for (name, value) in [
        ("host", "shop0.example.com"),
        ("user-agent", "bench"),
        ("accept", "*/*"),
        ("x-tenant", "tenant5"),
    ] {
        headers.insert(name, value.parse().expect("a good value"));
    }
    let mut group = c.benchmark_group("find");
    for (name, routes, host, path) in [
        ("host", hosts as fn(usize) -> Match, "shop1.example.com:80", "/api/v1/part5/orders/17"),
        ("wildcard", hosts, "a.b.shop0.example.com", "/api/v1/part5/orders/17"),
        ("miss", hosts, "www.example.org", "/api/v1/part5/orders/17"),
        ("tenant", tenants, "shop.example.com", "/orders/17"),
        ("prefix", prefixes, "shop.example.com", "/a/b/part7/orders/17"),
    ] {
        for size in SIZES {
            let table = table((0..size.max(20)).map(routes));
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| table.find(black_box(&view(host, path, &headers))).map(|r| r.service()));
            });
        }
    }
    for size in [10, 100] {
        let table = table((0..size).map(regexes));
        group.bench_function(BenchmarkId::new("regex", size), |b| {
            b.iter(|| {
                let view = view("shop.example.com", "/items/17/part7", &headers);
                table.find(black_box(&view)).map(|route| route.service())
            });
        });
    }
    group.finish();
}

fn compile_tables(c: &mut Criterion) {
    let mut group = c.benchmark_group("compile");
    group.sample_size(20);
    for size in SIZES {
        let spec = spec(service(&[95, 5]), (0..size).map(hosts));
        let compile = || compile(&spec, &Salts::default());
        group.bench_function(BenchmarkId::new("hosts", size), |b| {
            b.iter_batched(|| (), |()| compile(), BatchSize::PerIteration);
        });
    }
    let spec = spec(service(&[95, 5]), (0..100).map(regexes));
    group.bench_function(BenchmarkId::new("regex", 100), |b| {
        b.iter_batched(|| (), |()| compile(&spec, &Salts::default()), BatchSize::PerIteration);
    });
    group.finish();
}

fn draw(c: &mut Criterion) {
    let mut group = c.benchmark_group("draw");
    let splits: [(&str, &[u32]); 5] = [
        ("one", &[1, 0]),
        ("95_5", &[95, 5]),
        ("999_1", &[999, 1]),
        ("three", &[60, 30, 10]),
        ("five", &[50, 20, 15, 10, 5]),
    ];
    for (name, weights) in splits {
        let mut service = service(weights);
        service.sticky = Some(Sticky {
            key: StickyKey::Cookie("user".into()),
            issue: false,
            max_age: None,
            salt: None,
        });
        let table = compile(&spec(service, std::iter::empty()), &Salts::default());
        let table = &table.services[0];
        let (mut sequence, mut dice) = (Sequence::default(), SmallRng::seed_from_u64(1));
        group.bench_function(BenchmarkId::new("split", name), |b| {
            b.iter(|| sequence.draw(black_box(&table.split), PoolSet::ALL, &mut dice));
        });
        let sticky = table.sticky.as_ref().expect("it is sticky");
        let mut headers = http::HeaderMap::new();
        headers.insert("cookie", "theme=dark; user=3f2a9c1e77".parse().expect("a good value"));
        group.bench_function(BenchmarkId::new("sticky", name), |b| {
            b.iter(|| {
                let key = sticky.key(black_box(&view("shop.example.com", "/", &headers)));
                key.and_then(|key| sticky.draw(key, PoolSet::ALL))
            });
        });
    }
    group.finish();
}

fn balance(c: &mut Criterion) {
    let mut group = c.benchmark_group("choose");
    let weights: [(&str, &[u32]); 2] =
        [("equal", &[1; 10]), ("weighted", &[9, 1, 5, 2, 7, 3, 1, 1, 4, 6])];
    for (weighting, backends) in weights {
        let service = Service::new([(Name::from("blue"), pool(1, backends))].into_iter().collect());
        let table = compile(&spec(service, std::iter::empty()), &Salts::default());
        for (name, balance) in [
            ("round_robin", Balance::RoundRobin),
            ("least_request", Balance::LeastRequest),
            ("random", Balance::Random),
            ("hash", Balance::Hash),
        ] {
            let candidates = Candidates {
                pool: &table.services[0].pools[0],
                readiness: |_: usize| FULL,
                load: |at: usize| at as u64,
                exclude: &[],
            };
            let (mut state, mut dice) = (BalanceState::default(), SmallRng::seed_from_u64(1));
            let key = Key::of(b"user").hash();
            group.bench_function(BenchmarkId::new(name, weighting), |b| {
                b.iter(|| choose(balance, black_box(&candidates), &mut state, &mut dice, key));
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = find, compile_tables, draw, balance
}
criterion_main!(benches);
