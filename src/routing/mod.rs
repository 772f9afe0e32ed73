//! Which service a request is for, which of its pools gets it, and which backend of the pool. Pure: the
//! clock, the dice and what is known of backends are arguments, decisions are returned values.

mod apportion;
mod balance;
mod changes;
mod hash;
mod host;
mod index;
mod leash;
mod matcher;
mod observed;
mod place;
mod request;
mod sample;
mod shares;
mod split;
mod sticky;
mod table;
#[cfg(test)]
mod testing;
mod tree;

pub use balance::{BalanceState, Candidates, FULL, choose, slow_start};
pub use changes::{FieldEdits, PathRewrite, is_same_field, target};
pub use host::{Host, NotAHost};
pub use observed::Observed;
pub use request::{Fields, RequestView, folded_path};
pub use sample::{Fate, Moved, Reads, Sample};
pub use split::{PoolSet, Sequence, Split};
pub use sticky::{Key, Salts, StickyTable, derive_salt, next_salts};
pub use table::{
    BackendTable, CompiledPin, CompiledRoute, Destination, MirrorPolicy, Policy, PoolTable,
    RescuePolicy, RoutingTable, ServiceTable, compile,
};
