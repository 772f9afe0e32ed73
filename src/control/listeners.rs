//! The sockets of the listeners.

use crate::{
    live::{Bound, LiveListener},
    net,
    spec::{Engine, Listener},
};
use std::io;

/// The listeners of the next snapshot: those whose address stays keep their sockets, new ones are bound.
///
/// # Errors
/// A line for each address that cannot be bound; none of the new ones is then.
pub(super) fn bind(
    current: &[LiveListener],
    wanted: &[Listener],
    engine: Engine,
    cores: usize,
) -> Result<Vec<LiveListener>, Vec<String>> {
    let mut kept: Vec<&LiveListener> = current.iter().collect();
    let mut listeners = Vec::with_capacity(wanted.len());
    let mut problems = Vec::new();
    for spec in wanted {
        // Each only once: port 0 may be listed several times.
        let same = kept.iter().position(|known| known.spec.address == spec.address);
        let bound = match same {
            Some(index) => Ok(kept.remove(index).bound.clone()),
            None => net::listen(spec.address, cores)
                .map(|(address, sockets)| Bound::new(address, sockets)),
        };
        match bound {
            Ok(bound) => listeners.push(LiveListener { spec: spec.clone(), engine, bound }),
            Err(error) => problems.push(explain(spec, &error)),
        }
    }
    if problems.is_empty() { Ok(listeners) } else { Err(problems) }
}

fn explain(spec: &Listener, error: &io::Error) -> String {
    let help = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; stop what listens there (a listener that was just removed may still drain) or choose \
             another address"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need the capability CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
        _ => "",
    };
    format!("cannot listen on {}: {error}{help}", spec.address)
}
