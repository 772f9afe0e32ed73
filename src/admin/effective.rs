use crate::{
    routing::{PoolSet, ServiceTable},
    spec::UnhealthyPool,
};

/// The share, 0 to 1, of a service's draws that each pool gets as things stand. `available` says which have
/// a backend that may get requests; all shares are 0 when no pool can take any.
pub(super) fn shares(service: &ServiceTable, available: impl Fn(usize) -> bool) -> Vec<f64> {
    let undrained = service.undrained();
    service.split.shares(match service.policy.unhealthy_pool {
        UnhealthyPool::Fail => undrained,
        UnhealthyPool::Redistribute => {
            PoolSet::of((0..service.pools.len()).map(available)).and(undrained)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::{RoutingTable, Salts, compile};

    fn table(pools: &[(&str, u32, bool)], unhealthy: UnhealthyPool) -> RoutingTable {
        let spec = crate::admin::fixture::spec(pools, unhealthy);
        compile(&spec, &Salts::default())
    }

    #[test]
    fn the_share_of_an_unavailable_pool_moves_or_stays() {
        let pools = [("blue", 90, false), ("green", 10, false)];
        let table = |unhealthy| table(&pools, unhealthy);
        let only_blue = |index| index == 0;
        assert_eq!(shares(&table(UnhealthyPool::Redistribute).services[0], only_blue), [1.0, 0.0]);
        assert_eq!(shares(&table(UnhealthyPool::Fail).services[0], only_blue), [0.9, 0.1]);
    }

    #[test]
    fn a_drained_pool_gets_nothing_either_way() {
        let pools = [("blue", 1, true), ("green", 3, false), ("red", 1, false)];
        for unhealthy in [UnhealthyPool::Redistribute, UnhealthyPool::Fail] {
            let table = table(&pools, unhealthy);
            assert_eq!(shares(&table.services[0], |_| true), [0.0, 0.75, 0.25]);
        }
    }

    #[test]
    fn nobody_left_is_no_share_at_all() {
        let table = table(&[("blue", 1, false)], UnhealthyPool::Redistribute);
        assert_eq!(shares(&table.services[0], |_| false), [0.0]);
    }
}
