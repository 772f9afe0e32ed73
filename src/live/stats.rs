//! What a pool's requests came to. Fixed arrays, so that recording is a few additions in the core's own
//! cell and the set of series is bounded by construction.

use super::{Counter, PerCore};
use crate::spec::{EXPORT_EDGES_SECONDS, FINE_BUCKETS, export_bucket, fine_bucket};

/// The values of the label `method`; what is not among them is `OTHER`.
pub const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "OTHER"];

/// The values of the label `code`: the registered status codes (IANA HTTP Status Code Registry), 499 for
/// a client that left, and a class for each that is not registered.
pub const CODES: [&str; 68] = [
    "100", "101", "102", "103", "104", "200", "201", "202", "203", "204", "205", "206", "207",
    "208", "226", "300", "301", "302", "303", "304", "305", "307", "308", "400", "401", "402",
    "403", "404", "405", "406", "407", "408", "409", "410", "411", "412", "413", "414", "415",
    "416", "417", "418", "421", "422", "423", "424", "425", "426", "428", "429", "431", "451",
    "499", "500", "501", "502", "503", "504", "505", "506", "507", "508", "510", "511", "2xx",
    "3xx", "4xx", "5xx",
];

const FIRST_CLASS: usize = CODES.len() - 4;

/// The values of the label `code_class`.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Index into [`METHODS`].
#[inline(always)]
pub fn method_index(method: &[u8]) -> usize {
    // Most requests are answered here.
    if method == b"GET" { 0 } else { other_method_index(method) }
}

fn other_method_index(method: &[u8]) -> usize {
    match method {
        b"HEAD" => 1,
        b"POST" => 2,
        b"PUT" => 3,
        b"DELETE" => 4,
        b"CONNECT" => 5,
        b"OPTIONS" => 6,
        b"TRACE" => 7,
        b"PATCH" => 8,
        _ => METHODS.len() - 1,
    }
}

/// Index into [`CODES`].
pub fn code_index(code: u16) -> usize {
    static INDEX: [u8; 600] = index_codes();
    match INDEX.get(usize::from(code)) {
        Some(&index) if index != u8::MAX => usize::from(index),
        // RFC 9110 section 15: an unknown code is treated as the x00 of its class; outside the five
        // classes it is a server's error.
        _ => FIRST_CLASS + class_of(code).clamp(1, 4) - 1,
    }
}

const fn index_codes() -> [u8; 600] {
    let mut index = [u8::MAX; 600];
    let mut i = 0;
    while i < FIRST_CLASS {
        let text = CODES[i].as_bytes();
        let code = (text[0] - b'0') as usize * 100
            + (text[1] - b'0') as usize * 10
            + (text[2] - b'0') as usize;
        index[code] = i as u8;
        i += 1;
    }
    index
}

/// Index into [`CLASSES`].
pub fn class_of(code: u16) -> usize {
    match code {
        100..=599 => usize::from(code / 100 - 1),
        _ => 4,
    }
}

/// Who caused a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    Downstream,
    Upstream,
    Proxy,
}

/// Why a request failed, in the words of `x-crossfade-error` and of the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    BadRequest,
    NoRoute,
    RequestTimeout,
    BodyTooLarge,
    TargetTooLong,
    Expectation,
    HeadersTooLarge,
    /// What was asked for by TLS is not for this host.
    Misdirected,
    NotSupported,
    ConnectFailed,
    UpstreamReset,
    BadResponse,
    /// No agreement on TLS with the backend.
    TlsFailed,
    NoBackend,
    Overloaded,
    /// As many as may wait for a place among those in flight.
    QueueFull,
    /// The service is held, and was not released in time; or as many wait already as may.
    Held,
    /// Cancelled at the deadline of a drain.
    Draining,
    ResponseTimeout,
    RequestDeadline,
    /// The client left before its answer was complete.
    ClientClosed,
    /// A tunnel or a response body was silent for too long.
    IdleTimeout,
    /// A call of gRPC came to a status that is the server's fault.
    GrpcStatus,
    /// The backend answered 500 to 599, and the request was sent to another pool.
    ServerError,
}

impl Fault {
    pub const ALL: [Self; 3] = [Self::Downstream, Self::Upstream, Self::Proxy];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
            Self::Proxy => "proxy",
        }
    }
}

impl Reason {
    pub const ALL: [Self; 24] = [
        Self::BadRequest,
        Self::NoRoute,
        Self::RequestTimeout,
        Self::BodyTooLarge,
        Self::TargetTooLong,
        Self::Expectation,
        Self::HeadersTooLarge,
        Self::Misdirected,
        Self::NotSupported,
        Self::ConnectFailed,
        Self::UpstreamReset,
        Self::BadResponse,
        Self::TlsFailed,
        Self::NoBackend,
        Self::Overloaded,
        Self::QueueFull,
        Self::Held,
        Self::Draining,
        Self::ResponseTimeout,
        Self::RequestDeadline,
        Self::ClientClosed,
        Self::IdleTimeout,
        Self::GrpcStatus,
        Self::ServerError,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NoRoute => "no_route",
            Self::RequestTimeout => "request_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::Expectation => "expectation",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Misdirected => "misdirected",
            Self::NotSupported => "not_supported",
            Self::ConnectFailed => "connect_failed",
            Self::UpstreamReset => "upstream_reset",
            Self::BadResponse => "bad_response",
            Self::TlsFailed => "tls_failed",
            Self::NoBackend => "no_backend",
            Self::Overloaded => "overloaded",
            Self::QueueFull => "queue_full",
            Self::Held => "held",
            Self::Draining => "draining",
            Self::ResponseTimeout => "response_timeout",
            Self::RequestDeadline => "request_deadline",
            Self::ClientClosed => "client_closed",
            Self::IdleTimeout => "idle_timeout",
            Self::GrpcStatus => "grpc_status",
            Self::ServerError => "server_error",
        }
    }

    /// The status with which the proxy answers it; 499 and the cuts never reach a client.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NoRoute => 404,
            Self::RequestTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::Misdirected => 421,
            Self::HeadersTooLarge => 431,
            Self::NotSupported => 501,
            Self::ConnectFailed
            | Self::UpstreamReset
            | Self::BadResponse
            | Self::ServerError
            | Self::TlsFailed
            | Self::GrpcStatus => 502,
            Self::NoBackend | Self::Overloaded | Self::QueueFull | Self::Held | Self::Draining => {
                503
            }
            Self::ResponseTimeout | Self::RequestDeadline | Self::IdleTimeout => 504,
            Self::ClientClosed => 499,
        }
    }
}

const EXPORT_BUCKETS: usize = EXPORT_EDGES_SECONDS.len() + 1;

/// One core's histogram with the exported edges.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [Counter; EXPORT_BUCKETS],
    sum_ns: Counter,
}

impl Histogram {
    fn record(&self, ns: u64) {
        self.buckets[export_bucket(ns)].add(1);
        self.sum_ns.add(ns);
    }
}

/// A histogram added up over the cores; buckets are not cumulative, the last is above all edges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramTotals {
    pub buckets: [u64; EXPORT_BUCKETS],
    pub sum_seconds: f64,
}

impl HistogramTotals {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn add(&mut self, core: &Histogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&core.buckets) {
            *sum += bucket.get();
        }
        self.sum_seconds += core.sum_ns.get() as f64 / 1e9;
    }
}

#[derive(Debug)]
struct Cell {
    requests: [[Counter; CODES.len()]; METHODS.len()],
    duration: [Histogram; CLASSES.len()],
    /// The same durations of all classes in the fine table, for quantiles.
    fine: [Counter; FINE_BUCKETS],
    upstream_response: Histogram,
    upstream_connect: Histogram,
    failures: [[Counter; Reason::ALL.len()]; Fault::ALL.len()],
    retries: Counter,
    rescued: Counter,
    pins_denied: Counter,
}

impl Default for Cell {
    fn default() -> Self {
        Self {
            requests: std::array::from_fn(|_| std::array::from_fn(|_| Counter::default())),
            duration: Default::default(),
            fine: std::array::from_fn(|_| Counter::default()),
            upstream_response: Histogram::default(),
            upstream_connect: Histogram::default(),
            failures: Default::default(),
            retries: Counter::default(),
            rescued: Counter::default(),
            pins_denied: Counter::default(),
        }
    }
}

/// The counters of a pool, one cell a core. All `record` methods are for the core that they name.
#[derive(Debug)]
pub struct PoolStats {
    cells: PerCore<Cell>,
}

/// The counters of a pool added up.
#[derive(Clone, Debug)]
pub struct PoolTotals {
    /// By [`METHODS`] and [`CODES`].
    pub requests: [[u64; CODES.len()]; METHODS.len()],
    /// By [`CLASSES`].
    pub duration: [HistogramTotals; CLASSES.len()],
    pub fine: [u64; FINE_BUCKETS],
    pub upstream_response: HistogramTotals,
    pub upstream_connect: HistogramTotals,
    /// By [`Fault`] and [`Reason`].
    pub failures: [[u64; Reason::ALL.len()]; Fault::ALL.len()],
    pub retries: u64,
    pub rescued: u64,
    /// Requests that a pin to the pool would have held for, had they come from another network.
    pub pins_denied: u64,
}

impl PoolStats {
    pub fn new(cores: usize) -> Self {
        Self { cells: PerCore::new(cores) }
    }

    /// A reply is complete (or its client has left: 499), `ns` after its request began. `method` indexes
    /// [`METHODS`].
    pub fn record_reply(&self, core: usize, method: usize, code: u16, ns: u64) {
        let cell = self.cells.of(core);
        cell.requests[method][code_index(code)].add(1);
        cell.duration[class_of(code)].record(ns);
        cell.fine[fine_bucket(ns)].add(1);
    }

    /// Nanoseconds from the request head sent to the response head.
    pub fn record_upstream_response(&self, core: usize, ns: u64) {
        self.cells.of(core).upstream_response.record(ns);
    }

    /// Nanoseconds that opening a connection took.
    pub fn record_upstream_connect(&self, core: usize, ns: u64) {
        self.cells.of(core).upstream_connect.record(ns);
    }

    pub fn record_failure(&self, core: usize, fault: Fault, reason: Reason) {
        self.cells.of(core).failures[fault as usize][reason as usize].add(1);
    }

    pub fn record_retry(&self, core: usize) {
        self.cells.of(core).retries.add(1);
    }

    /// What failed here is sent to another pool.
    pub fn record_rescue(&self, core: usize) {
        self.cells.of(core).rescued.add(1);
    }

    /// A pin to the pool was denied to a client of another network.
    pub fn record_pin_denied(&self, core: usize) {
        self.cells.of(core).pins_denied.add(1);
    }

    pub fn totals(&self) -> Box<PoolTotals> {
        let mut totals = Box::new(PoolTotals {
            requests: [[0; CODES.len()]; METHODS.len()],
            duration: Default::default(),
            fine: [0; FINE_BUCKETS],
            upstream_response: HistogramTotals::default(),
            upstream_connect: HistogramTotals::default(),
            failures: [[0; Reason::ALL.len()]; Fault::ALL.len()],
            retries: 0,
            rescued: 0,
            pins_denied: 0,
        });
        for cell in self.cells.iter() {
            add_all(&mut totals.requests, &cell.requests);
            add_all(&mut totals.failures, &cell.failures);
            for (sum, core) in totals.duration.iter_mut().zip(&cell.duration) {
                sum.add(core);
            }
            for (sum, core) in totals.fine.iter_mut().zip(&cell.fine) {
                *sum += core.get();
            }
            totals.upstream_response.add(&cell.upstream_response);
            totals.upstream_connect.add(&cell.upstream_connect);
            totals.retries += cell.retries.get();
            totals.rescued += cell.rescued.get();
            totals.pins_denied += cell.pins_denied.get();
        }
        totals
    }
}

fn add_all<const N: usize, const M: usize>(sums: &mut [[u64; N]; M], core: &[[Counter; N]; M]) {
    for (sums, core) in sums.iter_mut().zip(core) {
        for (sum, counter) in sums.iter_mut().zip(core) {
            *sum += counter.get();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_methods_have_one_label_each() {
        assert_eq!(CODES[code_index(200)], "200");
        assert_eq!(CODES[code_index(499)], "499");
        assert_eq!(CODES[code_index(299)], "2xx");
        assert_eq!(CODES[code_index(599)], "5xx");
        assert_eq!(CODES[code_index(999)], "5xx");
        for (i, code) in CODES.iter().enumerate().take(FIRST_CLASS) {
            assert_eq!(code_index(code.parse().unwrap()), i);
        }
        for (i, method) in METHODS.into_iter().enumerate() {
            assert_eq!(method_index(method.as_bytes()), i);
        }
        assert_eq!(METHODS[method_index(b"get")], "OTHER");
    }

    #[test]
    fn enums_index_their_tables() {
        for (i, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, i);
        }
        for (i, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, i);
        }
    }

    #[test]
    fn cores_add_up() {
        let stats = PoolStats::new(2);
        stats.record_reply(0, 0, 200, 3_000_000);
        stats.record_reply(1, 0, 200, 30_000_000);
        stats.record_failure(1, Fault::Upstream, Reason::BadResponse);
        let totals = stats.totals();
        assert_eq!(totals.requests[0][code_index(200)], 2);
        assert_eq!(totals.duration[1].count(), 2);
        assert!((totals.duration[1].sum_seconds - 0.033).abs() < 1e-9);
        assert_eq!(totals.fine.iter().sum::<u64>(), 2);
        assert_eq!(totals.failures[1][Reason::BadResponse as usize], 1);
    }
}
