use crate::{
    control::trials::{RouteSides, busiest_routes},
    live::{RouteCounts, RouteTotals},
};
use std::sync::Arc;

/// Those that are told apart.
const MOST: usize = 100;

/// Those that are named when a canary is cut.
const NAMED: usize = 3;

/// What both versions of a rollout do by route, in the step that it is in. A hint for people: nothing is decided by it.
#[derive(Default)]
pub(super) struct Routes {
    /// The counts at the beginning of which step.
    from: Option<(usize, RouteTotals, RouteTotals)>,
    sides: Arc<[RouteSides]>,
}

impl Routes {
    /// How the counts stand in `step`.
    pub(super) fn look(&mut self, step: usize, stable: RouteTotals, canary: RouteTotals) {
        match &self.from {
            Some((of, stable_from, canary_from)) if *of == step => {
                let sides = busiest_routes((stable_from, &stable), (canary_from, &canary), MOST);
                self.sides = sides.into();
            }
            _ => {
                self.from = Some((step, stable, canary));
                self.sides = Arc::default();
            }
        }
    }

    pub(super) fn sides(&self) -> &Arc<[RouteSides]> {
        &self.sides
    }

    /// The routes in which the canary fails more often than stable, the worst first; `None`: in none.
    pub(super) fn hint(&self) -> Option<String> {
        let rate = |counts: RouteCounts| counts.errors as f64 / counts.requests.max(1) as f64;
        let worse = |side: &RouteSides| rate(side.canary) - rate(side.stable);
        let mut worst: Vec<&RouteSides> = self.sides.iter().filter(|it| worse(it) > 0.0).collect();
        worst.sort_by(|one, other| worse(other).total_cmp(&worse(one)));
        let named = worst.iter().take(NAMED).map(|side| {
            let (new, old) = (rate(side.canary) * 100.0, rate(side.stable) * 100.0);
            match &side.route {
                Some(route) => format!("route `{route}` {new:.2} % against {old:.2} %"),
                None => format!("the other routes {new:.2} % against {old:.2} %"),
            }
        });
        let named: Vec<String> = named.collect();
        (!named.is_empty()).then(|| named.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(counts: &[(&str, u64, u64)]) -> RouteTotals {
        let count = |&(route, requests, errors): &(&str, u64, u64)| {
            (Some(route.into()), RouteCounts { requests, errors, slow: 0 })
        };
        counts.iter().map(count).collect()
    }

    #[test]
    fn the_worst_three_routes_of_a_step_are_named() {
        let mut routes = Routes::default();
        routes.look(1, totals(&[("a", 500, 500)]), totals(&[("a", 500, 500)]));
        assert_eq!(routes.hint(), None, "nothing of before counts");
        let stable = totals(&[("a", 600, 501), ("b", 100, 10), ("c", 100, 0), ("d", 10, 0)]);
        let canary =
            totals(&[("a", 600, 600), ("b", 100, 5), ("c", 100, 2), ("d", 10, 1), ("e", 9, 9)]);
        routes.look(1, stable, canary);
        assert_eq!(routes.sides().len(), 5);
        assert_eq!(
            routes.hint().unwrap(),
            "route `e` 100.00 % against 0.00 %, route `a` 100.00 % against 1.00 %, \
             route `d` 10.00 % against 0.00 %"
        );
        routes.look(2, totals(&[("a", 700, 600)]), totals(&[("a", 700, 700)]));
        assert!(routes.sides().is_empty() && routes.hint().is_none(), "another step");
    }
}
