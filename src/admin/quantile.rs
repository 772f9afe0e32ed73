use crate::spec::{FINE_BUCKETS, fine_edges_ns};

/// The `q`-quantile in seconds of what was counted in the fine buckets: in the bucket of the true one (the
/// smallest value that is not below a share `q` of all), interpolated by rank. `None` when nothing was
/// counted. The last bucket has no upper bound, so there its lower one is given.
pub(super) fn quantile(counts: &[u64; FINE_BUCKETS], q: f64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let rank = ((q * total as f64).ceil() as u64).clamp(1, total);
    let mut below = 0;
    for (bucket, &count) in counts.iter().enumerate() {
        if below + count >= rank {
            let within = (rank - below) as f64 - 0.5;
            return Some(between(bucket, within / count as f64) / 1e9);
        }
        below += count;
    }
    None
}

/// Nanoseconds at `share` of the way through a bucket.
fn between(bucket: usize, share: f64) -> f64 {
    let edges = fine_edges_ns();
    // What is faster than the table is counted in its first bucket.
    let low = if bucket == 0 { 0.0 } else { edges[bucket] as f64 };
    let high = edges.get(bucket + 1).map_or(low, |&edge| edge as f64);
    low + (high - low) * share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::fine_bucket;
    use proptest::prelude::*;

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(quantile(&[0; FINE_BUCKETS], 0.5), None);
    }

    #[test]
    fn the_open_bucket_gives_its_bound() {
        let mut counts = [0; FINE_BUCKETS];
        counts[FINE_BUCKETS - 1] = 3;
        let bound = fine_edges_ns()[FINE_BUCKETS - 1] as f64 / 1e9;
        assert_eq!(quantile(&counts, 0.99), Some(bound));
    }

    proptest! {
        #[test]
        fn in_the_bucket_of_the_exact_one(
            mut values in prop::collection::vec(1_000u64..50_000_000_000, 1..300),
            q in 0.001f64..1.0,
        ) {
            let mut counts = [0; FINE_BUCKETS];
            for &ns in &values {
                counts[fine_bucket(ns)] += 1;
            }
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1];
            let estimate = quantile(&counts, q).unwrap();
            prop_assert_eq!(fine_bucket((estimate * 1e9) as u64), fine_bucket(exact));
        }
    }
}
