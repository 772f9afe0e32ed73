//! The two bucket tables. The exported one has the edges that dashboards expect (OpenTelemetry's HTTP
//! buckets and three finer ones); the fine one serves quantiles and the judge. Each is exact at its
//! own edges, so neither is derived from the other.

use std::sync::LazyLock;

/// Upper bounds (`le`) in seconds of the exported histograms; a further bucket is `+Inf`.
pub const EXPORT_EDGES_SECONDS: [f64; 17] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
    7.5, 10.0,
];

const EXPORT_EDGES_NS: [u64; 17] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

/// The index of the first exported bucket whose bound is not below `ns`; 17 is `+Inf`.
pub fn export_bucket(ns: u64) -> usize {
    let mut bucket = usize::from(FIRST_BUCKETS[(u64::BITS - ns.leading_zeros()) as usize]);
    while EXPORT_EDGES_NS.get(bucket).is_some_and(|&edge| edge < ns) {
        bucket += 1;
    }
    bucket
}

/// By the number of bits: the bucket of the least number that has so many. No octave has more than two edges.
const FIRST_BUCKETS: [u8; 65] = {
    let mut buckets = [0; 65];
    let mut bits = 1;
    while bits <= 64 {
        let least = 1 << (bits - 1);
        let mut bucket = 0;
        while bucket < EXPORT_EDGES_NS.len() && EXPORT_EDGES_NS[bucket] < least {
            bucket += 1;
        }
        buckets[bits] = bucket as u8;
        bits += 1;
    }
    buckets
};

/// Buckets of the fine table: eight an octave, 100 µs to 96 s.
pub const FINE_BUCKETS: usize = 160;

static FINE_EDGES_NS: LazyLock<[u64; FINE_BUCKETS]> =
    LazyLock::new(|| std::array::from_fn(|b| (100_000.0 * (b as f64 / 8.0).exp2()).round() as u64));

/// Lower bounds in nanoseconds of the fine buckets: round(100,000 × 2^(b/8)).
pub fn fine_edges_ns() -> &'static [u64; FINE_BUCKETS] {
    &FINE_EDGES_NS
}

/// The largest bucket whose lower bound is not above `ns`, clamped to the table.
pub fn fine_bucket(ns: u64) -> usize {
    let edges = fine_edges_ns();
    if ns < edges[0] {
        return 0;
    }
    // The octave comes from the leading bit, so at most eight edges are compared.
    let octave = (ns / 100_000).ilog2() as usize;
    let first = (octave * 8).min(FINE_BUCKETS - 1);
    let mut bucket = first;
    while bucket + 1 < FINE_BUCKETS && edges[bucket + 1] <= ns {
        bucket += 1;
    }
    bucket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_spellings_of_the_exported_edges_agree() {
        for (seconds, ns) in EXPORT_EDGES_SECONDS.iter().zip(EXPORT_EDGES_NS) {
            assert_eq!((seconds * 1e9).round() as u64, ns);
        }
        assert_eq!(export_bucket(0), 0);
        assert_eq!(export_bucket(500_000), 0);
        assert_eq!(export_bucket(500_001), 1);
        assert_eq!(export_bucket(u64::MAX), 17);
    }

    #[test]
    fn exported_buckets_agree_with_a_search() {
        let search = |ns: u64| EXPORT_EDGES_NS.partition_point(|&edge| edge < ns);
        let around = |n: u64| [n - 1, n, n + 1];
        let edges = EXPORT_EDGES_NS.into_iter().flat_map(around);
        let octaves = (1..64).flat_map(|bits| around(1 << bits));
        for ns in edges.chain(octaves).chain([0, u64::MAX]) {
            assert_eq!(export_bucket(ns), search(ns), "{ns}");
        }
    }

    #[test]
    fn fine_buckets_agree_with_a_search() {
        let edges = fine_edges_ns();
        let search = |ns: u64| edges.partition_point(|&edge| edge <= ns).saturating_sub(1);
        for &edge in edges {
            for ns in [edge - 1, edge, edge + 1] {
                assert_eq!(fine_bucket(ns), search(ns), "{ns}");
            }
        }
        for ns in [0, 1, 99_999, 200_000_000_000, u64::MAX] {
            assert_eq!(fine_bucket(ns), search(ns), "{ns}");
        }
    }
}
