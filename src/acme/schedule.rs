//! When to renew a certificate, and when to try again. PURE: the dice are an argument, from 0 to 1.

use super::failure::Blame;
use std::time::Duration;

/// Between the first failure and the next try.
const FIRST_UNREACHED: Duration = Duration::from_secs(10);

/// The same after an issuer's refusal. Let's Encrypt takes five failures an hour for a name.
const FIRST_REFUSED: Duration = Duration::from_secs(5 * 60);

/// No longer than this.
const LONGEST_UNREACHED: Duration = Duration::from_secs(3600);
const LONGEST_REFUSED: Duration = Duration::from_secs(12 * 3600);

/// What an issuer may ask for by `Retry-After`.
const LONGEST_ASKED: Duration = Duration::from_secs(24 * 3600);

/// Renewals are spread over so much of the time that a certificate is good for.
const SPREAD: f64 = 0.02;

/// When a certificate that is good between these two is renewed (seconds since 1970): `before` it expires, by
/// default a third of its time, but not in its first third, so that no mistake makes one order follow the other.
pub(super) fn renewal(not_before: i64, not_after: i64, before: Option<Duration>, dice: f64) -> i64 {
    let lifetime = not_after.saturating_sub(not_before).max(0);
    let before =
        before.map_or(lifetime / 3, |before| i64::try_from(before.as_secs()).unwrap_or(i64::MAX));
    let jitter = (lifetime as f64 * SPREAD * dice) as i64;
    let wanted = not_after.saturating_sub(before).saturating_sub(jitter);
    wanted.max(not_before.saturating_add(lifetime / 3))
}

/// How long to wait after so many `failures` in a row (from 1). `asked`: what the issuer asked for.
pub(super) fn pause(failures: u32, blame: Blame, asked: Option<Duration>, dice: f64) -> Duration {
    let (first, longest) = match blame {
        Blame::Unreached => (FIRST_UNREACHED, LONGEST_UNREACHED),
        Blame::Refused => (FIRST_REFUSED, LONGEST_REFUSED),
    };
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    // Give or take a tenth, so that what failed together is not tried again together.
    let own = doubled.min(longest).mul_f64(0.9 + 0.2 * dice);
    asked.map_or(own, |asked| own.max(asked.min(LONGEST_ASKED)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400;

    #[test]
    fn a_third_of_the_time_is_left() {
        assert_eq!(renewal(0, 90 * DAY, None, 0.0), 60 * DAY);
        assert_eq!(renewal(0, 90 * DAY, None, 1.0), 60 * DAY - 90 * DAY / 50);
        let month = Some(Duration::from_secs(30 * 86_400));
        assert_eq!(renewal(0, 90 * DAY, month, 0.0), 60 * DAY);
        assert_eq!(renewal(0, 6 * DAY, month, 0.0), 2 * DAY, "not again and again");
        assert_eq!(renewal(5, 5, None, 0.5), 5);
    }

    proptest! {
        #[test]
        fn renewals_are_between_the_first_third_and_the_end(
            not_before in any::<i64>(),
            not_after in any::<i64>(),
            before in proptest::option::of(any::<u64>().prop_map(Duration::from_secs)),
            dice in 0.0..1.0,
        ) {
            let at = renewal(not_before, not_after, before, dice);
            let lifetime = not_after.saturating_sub(not_before).max(0);
            prop_assert!(at >= not_before.saturating_add(lifetime / 3));
            prop_assert!(at <= not_after.max(not_before.saturating_add(lifetime / 3)));
        }

        #[test]
        fn pauses_grow_and_end_and_heed_the_issuer(
            failures in any::<u32>(),
            asked in proptest::option::of(any::<u64>().prop_map(Duration::from_secs)),
            dice in 0.0..1.0,
            refused in any::<bool>(),
        ) {
            let blame = if refused { Blame::Refused } else { Blame::Unreached };
            let pause = |failures| super::pause(failures, blame, asked, dice);
            prop_assert!(pause(failures) <= pause(failures.saturating_add(1)));
            prop_assert!(pause(failures) >= Duration::from_secs(9));
            prop_assert!(pause(failures) <= LONGEST_ASKED);
            prop_assert!(pause(failures) >= asked.unwrap_or_default().min(LONGEST_ASKED));
        }
    }

    #[test]
    fn an_issuer_that_refuses_is_asked_less_than_five_times_in_the_first_hour() {
        let mut tries = 1;
        let mut at = Duration::ZERO;
        loop {
            at += pause(tries, Blame::Refused, None, 0.0);
            if at > Duration::from_secs(3600) {
                break;
            }
            tries += 1;
        }
        assert_eq!(tries, 4);
    }
}
