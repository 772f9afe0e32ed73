//! Requests that began when the canary had a larger share end when it has a smaller one, and would count against it.

use serde::{Deserialize, Serialize};

/// Seconds after which all of them have ended or were booked as hung.
const SECONDS: u64 = 10;

/// A share that is smaller by no more than this part is the same.
const ROUNDING: f64 = 1e-9;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Settling {
    /// The last that was not 0: without any the canary ends what it began with the share before.
    share: f64,
    left: u64,
}

impl Settling {
    /// Another second is over, in which the canary had this share. Whether it says nothing.
    pub(super) fn is_so(&mut self, share: f64) -> bool {
        self.left = self.left.saturating_sub(1);
        if share > 0.0 {
            if share < self.share * (1.0 - ROUNDING) {
                self.left = SECONDS;
            }
            self.share = share;
        }
        self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_smaller_share_ten_seconds_say_nothing() {
        let mut settling = Settling::default();
        let mut see = |shares: &[f64]| -> Vec<bool> {
            shares.iter().map(|share| settling.is_so(*share)).collect()
        };
        assert_eq!(see(&[0.0, 0.05, 0.05, 0.25, 1.0]), [false; 5]);
        assert_eq!(see(&[0.25; 11]), [vec![true; 10], vec![false]].concat());
        assert_eq!(
            see(&[0.0, 0.25, 0.0, 0.05, 0.0, 0.05]),
            [false, false, false, true, true, true]
        );
    }
}
