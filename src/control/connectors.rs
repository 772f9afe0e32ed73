//! How the backends of each pool are connected to.

use crate::{
    live::{BackendTls, LiveBackend},
    net,
    spec::{BackendAddress, DnsName, Name, PoolProtocol, PoolTls, Spec},
};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::{collections::HashMap, net::IpAddr, sync::Arc};

/// The TLS of the pools that speak it, by service and pool.
#[derive(Default)]
pub(super) struct Connectors(HashMap<(Name, Name), Connector>);

#[derive(Clone)]
struct Connector {
    tls: PoolTls,
    protocol: PoolProtocol,
    config: Arc<ClientConfig>,
    /// For every backend, instead of the host of its address.
    name: Option<ServerName<'static>>,
}

impl Connectors {
    /// Those of `spec`; what is as in `self` stays, and with it connections and sessions.
    ///
    /// # Errors
    /// A line for each pool whose backends cannot be spoken to.
    pub(super) fn next(&self, spec: &Spec) -> Result<Self, Vec<String>> {
        let (mut next, mut problems) = (HashMap::new(), Vec::new());
        for (service_name, service) in &spec.services {
            for (pool_name, pool) in &service.pools {
                let Some(tls) = &pool.tls else { continue };
                let key = (service_name.clone(), pool_name.clone());
                let is_same = |it: &&Connector| {
                    it.tls == *tls && it.tls.says_the_same(tls) && it.protocol == pool.protocol
                };
                let same = self.0.get(&key).filter(is_same);
                let made = match same {
                    Some(same) => Ok(same.clone()),
                    None => Connector::new(tls, pool.protocol),
                };
                match made.and_then(|made| made.check(pool.backends.keys()).map(|()| made)) {
                    Ok(connector) => drop(next.insert(key, connector)),
                    Err(why) => problems.push(format!(
                        "pool `{pool_name}` of service `{service_name}` cannot speak TLS: {why}"
                    )),
                }
            }
        }
        if problems.is_empty() { Ok(Self(next)) } else { Err(problems) }
    }

    /// Connections to the backend are made so from now on.
    pub(super) fn equip(&self, backend: &LiveBackend) {
        let pool = &backend.pool;
        let connector = self.0.get(&(pool.service.clone(), pool.name.clone()));
        backend.set_tls(connector.and_then(|connector| {
            let name = connector.name_of(&backend.address).ok()?;
            Some(Arc::new(BackendTls { config: connector.config.clone(), name }))
        }));
    }
}

impl Connector {
    fn new(tls: &PoolTls, protocol: PoolProtocol) -> Result<Self, String> {
        let config = net::client_config(tls, protocol).map_err(|error| {
            format!(
                "{error}; name the authorities that vouch for its backends: `tls: {{ ca: FILE }}`"
            )
        })?;
        let name = tls.server_name.as_deref().map(server_name).transpose()?;
        Ok(Self { tls: tls.clone(), protocol, config: Arc::new(config), name })
    }

    fn check<'a>(
        &self,
        mut backends: impl Iterator<Item = &'a BackendAddress>,
    ) -> Result<(), String> {
        backends.try_for_each(|address| self.name_of(address).map(drop))
    }

    fn name_of(&self, address: &BackendAddress) -> Result<ServerName<'static>, String> {
        match (&self.name, address) {
            (Some(name), _) => Ok(name.clone()),
            (None, BackendAddress::Socket(address)) => Ok(ServerName::from(address.ip())),
            (None, BackendAddress::Host { host, .. }) => server_name(host),
            (None, BackendAddress::Dns(name)) => named(name),
            (None, BackendAddress::Found(found)) => named(&found.by),
            (None, BackendAddress::Unix(path)) => {
                Err(format!("a socket (`unix:{path}`) has no name to prove; set `server_name`"))
            }
        }
    }
}

/// What the addresses of `name` must prove. Not the targets of SRV records: whoever forges those would be believed.
fn named(name: &DnsName) -> Result<ServerName<'static>, String> {
    match name {
        DnsName::Host { host, .. } => server_name(host.strip_suffix('.').unwrap_or(host)),
        DnsName::Service(_) => {
            Err(format!("the addresses of `{name}` have no name to prove; set `server_name`"))
        }
    }
}

/// Of a name or an address, an IPv6 address also in brackets.
fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(ServerName::from(address));
    }
    ServerName::try_from(host.to_owned())
        .map_err(|_| format!("`{host}` is no name that a certificate can have; set `server_name`"))
}
