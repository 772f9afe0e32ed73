//! Thousands of rollouts, each in a world that does to it what worlds do: restarts, full disks, other people, clocks
//! that jump, seconds of which nothing is known, backends that come and go, gates that say anything.
//!
//! `CROSSFADE_SEED` throws other dice, `CROSSFADE_ROLLOUTS` says how many there are.

mod checks;
mod plans;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use world::World;

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(usual)
}

#[test]
fn whatever_happens_a_rollout_keeps_its_promises() {
    let (seed, rollouts) = (number("CROSSFADE_SEED", 1), number("CROSSFADE_ROLLOUTS", 1500));
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let ends = std::thread::scope(|scope| {
        let live = || {
            let mut ends = Vec::new();
            loop {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                if nth >= rollouts {
                    return ends;
                }
                ends.push(World::new(seed.wrapping_add(nth)).live());
            }
        };
        let lives: Vec<_> = (0..threads).map(|_| scope.spawn(live)).collect();
        let joined = lives.into_iter().map(|it| it.join());
        // What it is about has been printed by whoever found it.
        joined
            .flat_map(|it| it.unwrap_or_else(|e| std::panic::resume_unwind(e)))
            .collect::<Vec<_>>()
    });
    // Each way to end is gone often, or this shows nothing.
    for end in ["promoted", "aborted", "superseded"] {
        let found = ends.iter().filter(|it| it.phase == end).count();
        assert!(rollouts < 500 || found * 20 > ends.len(), "{end}: {found} of {}", ends.len());
    }
    let sum = |of: fn(&world::End) -> u64| ends.iter().map(of).sum::<u64>();
    println!(
        "seed {seed}: {rollouts} rollouts, {} s, {} restarts, {} failed aborts, at most {} bytes of state",
        sum(|it| it.seconds),
        sum(|it| it.restarts),
        sum(|it| it.failed),
        ends.iter().map(|it| it.largest).max().unwrap_or(0)
    );
}
