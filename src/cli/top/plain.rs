//! One look as text.

use super::look::Picture;
use crate::cli::{rollout, status};
use std::fmt::Write;

/// Events that are told.
const EVENTS: usize = 10;

pub(super) fn text(picture: &Picture) -> String {
    let Picture { status, drains, rollouts, happened } = picture;
    let mut text = format!("{}\n{}", status::head(status), status::pools(&status.services, false));
    for rollout in rollouts {
        let _ = write!(text, "\n{}", rollout::live(rollout, false));
    }
    if !drains.is_empty() {
        let open: u64 = drains.iter().map(|drain| drain.in_flight()).sum();
        let _ = writeln!(text, "\ndraining: {} backends, {open} in flight", drains.len());
    }
    for drain in drains {
        let _ = writeln!(text, "  {}", drain.line());
    }
    if !happened.is_empty() {
        text.push_str("\nwhat happened, UTC:\n");
    }
    for happened in happened.iter().take(EVENTS) {
        let _ = writeln!(text, "  {}", happened.line());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{super::draw::tests::shop, *};

    #[test]
    fn a_snapshot_has_the_same_in_it() {
        let text = text(&shop().picture);
        for words in [
            "crossfade 9.8.7, ready, revision 42, /etc/c.yaml",
            "SERVICE",
            "shop: waiting in step 2 of 4",
            "missing: 200 requests",
            "draining: 2 backends, 9 in flight",
            "  d-1 api/one",
            "  18:40:00 revision 41 by ann: a reason",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        assert!(!text.contains('\x1b'));
    }
}
