use super::{AddressError, address::is_host_name};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// A name that stands for the addresses which DNS has for it. Its text form is its identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DnsName {
    /// `dns:HOST:PORT`: its A and AAAA records.
    Host { host: Arc<str>, port: u16 },
    /// `srv:NAME`: its SRV records (RFC 2782) and the addresses of their targets.
    Service(Arc<str>),
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host, port } => write!(f, "dns:{host}:{port}"),
            Self::Service(name) => write!(f, "srv:{name}"),
        }
    }
}

impl DnsName {
    /// `NAME` of `srv:NAME`.
    pub(super) fn service(name: &str) -> Result<Self, AddressError> {
        if is_queried(name) {
            return Ok(Self::Service(name.to_ascii_lowercase().into()));
        }
        Err(AddressError(format!(
            "`{name}` is not a name; use `srv:` and the name of SRV records, such as \
             `srv:_http._tcp.shop.internal`"
        )))
    }

    /// `HOST:PORT` of `dns:HOST:PORT`.
    pub(super) fn host(text: &str) -> Result<Self, AddressError> {
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(AddressError("the port is missing; use dns:HOST:PORT".into()));
        };
        let port = match port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return Err(AddressError(format!("`{port}` is not a port; use 1 to 65535"))),
        };
        if !is_queried(host) {
            return Err(AddressError(format!(
                "`{host}` is not a name that DNS could be asked for"
            )));
        }
        Ok(Self::Host { host: host.to_ascii_lowercase().into(), port })
    }
}

/// A host name; with a dot at its end it is not searched for in the system's domains.
fn is_queried(name: &str) -> bool {
    is_host_name(name.strip_suffix('.').unwrap_or(name))
}

/// An address that was found in DNS.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Found {
    pub socket: SocketAddr,
    /// Whose address it is; without a dot at its end.
    pub host: Arc<str>,
    /// What it was found for.
    pub by: DnsName,
}

/// How names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// Empty: those of the system, with its search domains and its file of hosts.
    pub nameservers: Vec<SocketAddr>,
    pub families: Families,
    /// For an answer to one question.
    pub timeout: Duration,
    /// How often a question is asked before the lookup has failed.
    pub attempts: u32,
    /// An answer is good for this long at least, whatever its time to live.
    pub min_ttl: Duration,
    /// And at most so long.
    pub max_ttl: Duration,
    /// How long the last addresses of a name are kept once it has none.
    pub hold: Duration,
    /// Of one name.
    pub max_addresses: u32,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            families: Families::default(),
            timeout: Duration::from_secs(2),
            attempts: 2,
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
            hold: Duration::from_secs(30),
            max_addresses: 256,
        }
    }
}

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    #[default]
    Both,
    V4,
    V6,
}

impl Families {
    pub fn has(self, address: IpAddr) -> bool {
        match self {
            Self::Both => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}
