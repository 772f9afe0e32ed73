use super::{PoolSet, ServiceTable};
use crate::spec::UnhealthyPool;

impl ServiceTable {
    /// The share, 0 to 1, of the service's draws that each pool gets as things stand. `available` says which have
    /// a backend that may get requests; all shares are 0 when no pool can take any.
    pub fn shares(&self, available: impl Fn(usize) -> bool) -> Vec<f64> {
        let undrained = self.undrained();
        self.split.shares(match self.policy.unhealthy_pool {
            UnhealthyPool::Fail => undrained,
            UnhealthyPool::Redistribute => {
                PoolSet::of((0..self.pools.len()).map(available)).and(undrained)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::{
        RoutingTable, Salts, compile,
        testing::{pool, service, spec},
    };

    fn table(pools: &[(&str, u32, bool)], unhealthy: UnhealthyPool) -> RoutingTable {
        let mut shop = service(&[]);
        for &(name, weight, drained) in pools {
            let mut pool = pool("v1", weight, &[]);
            pool.drained = drained;
            shop.pools.insert(name.into(), pool);
        }
        shop.unhealthy_pool = unhealthy;
        compile(&spec(vec![("shop", shop)], Vec::new()), &Salts::default())
    }

    #[test]
    fn the_share_of_an_unavailable_pool_moves_or_stays() {
        let pools = [("blue", 90, false), ("green", 10, false)];
        let shares = |unhealthy| table(&pools, unhealthy).services[0].shares(|index| index == 0);
        assert_eq!(shares(UnhealthyPool::Redistribute), [1.0, 0.0]);
        assert_eq!(shares(UnhealthyPool::Fail), [0.9, 0.1]);
    }

    #[test]
    fn a_drained_pool_gets_nothing_either_way() {
        let pools = [("blue", 1, true), ("green", 3, false), ("red", 1, false)];
        for unhealthy in [UnhealthyPool::Redistribute, UnhealthyPool::Fail] {
            assert_eq!(table(&pools, unhealthy).services[0].shares(|_| true), [0.0, 0.75, 0.25]);
        }
    }

    #[test]
    fn nobody_left_is_no_share_at_all() {
        let table = table(&[("blue", 1, false)], UnhealthyPool::Redistribute);
        assert_eq!(table.services[0].shares(|_| false), [0.0]);
    }
}
