//! What DNS has for the names that stand for backends.

use crate::spec::{DnsName, Families, Found, Resolver, Weight};
use hickory_resolver::{
    TokioResolver,
    config::{
        ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
        ServerOrderingStrategy,
    },
    lookup::Lookup,
    net::{DnsError, NetError, NoRecords, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType, rdata::SRV},
    },
    system_conf::read_system_conf,
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

/// The longest that a lookup may take, whatever the number of name servers, attempts, search domains and targets.
const LONGEST: Duration = Duration::from_secs(30);

/// What the name servers said of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// In an order that does not depend on that of the records. Empty: the name has no addresses.
    pub addresses: Vec<(Found, Weight)>,
    /// Nobody could say whether a host has addresses of a family: those that were known may still be good.
    pub unknown: Vec<Unknown>,
    /// How long it is good for.
    pub ttl: Duration,
    /// Addresses beyond the limit.
    pub left_out: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    pub host: Arc<str>,
    pub port: u16,
    pub is_ipv6: bool,
    pub why: String,
}

impl Unknown {
    pub fn concerns(&self, found: &Found) -> bool {
        found.host == self.host
            && found.socket.port() == self.port
            && found.socket.is_ipv6() == self.is_ipv6
    }
}

/// Asks the name servers. The system's settings are read anew each time, as the C library does.
///
/// # Errors
/// Why nothing is known: nobody answered, or that the question cannot be answered. That there is no such name, or
/// that it has no addresses, is an answer.
pub async fn resolve(name: &DnsName, settings: &Resolver) -> Result<Answer, String> {
    let asking = Asking::new(settings)?;
    let asked = async {
        match name {
            DnsName::Host { host, port } => asking.host(host, *port).await,
            DnsName::Service(service) => asking.service(service).await,
        }
    };
    let mut gathered = tokio::time::timeout(LONGEST, asked)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {LONGEST:?}")))?;
    if let (true, Some(unknown)) = (gathered.addresses.is_empty(), gathered.unknown.first()) {
        return Err(unknown.why.clone());
    }
    gathered.unknown.retain(|unknown| settings.families.has(unspecified(unknown.is_ipv6)));
    Ok(gathered.into_answer(name, settings))
}

fn unspecified(is_ipv6: bool) -> IpAddr {
    if is_ipv6 { std::net::Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

struct Asking<'a> {
    resolver: TokioResolver,
    settings: &'a Resolver,
}

/// What was heard so far.
struct Gathered {
    /// With the host whose address it is.
    addresses: BTreeMap<SocketAddr, (Arc<str>, Weight)>,
    unknown: Vec<Unknown>,
    valid_until: Option<Instant>,
}

impl<'a> Asking<'a> {
    fn new(settings: &'a Resolver) -> Result<Self, String> {
        let (config, hosts) = match &settings.nameservers[..] {
            [] => (system(), ResolveHosts::Always),
            servers => (of_servers(servers), ResolveHosts::Never),
        };
        let (config, ndots) = config;
        let mut options = ResolverOpts::default();
        options.ndots = ndots;
        options.timeout = settings.timeout;
        // Those after the first.
        options.attempts = settings.attempts.saturating_sub(1) as usize;
        options.use_hosts_file = hosts;
        options.cache_size = 0;
        options.case_randomization = false;
        options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        let provider = TokioRuntimeProvider::default();
        let builder = TokioResolver::builder_with_config(config, provider).with_options(options);
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { resolver, settings })
    }

    async fn host(&self, host: &Arc<str>, port: u16) -> Result<Gathered, String> {
        let mut gathered = Gathered::new();
        gathered.add(self, host, port, Weight::ONE).await;
        Ok(gathered)
    }

    /// The targets of the records of the lowest priority that have addresses (RFC 2782).
    async fn service(&self, service: &str) -> Result<Gathered, String> {
        let mut gathered = Gathered::new();
        let lookup = match self.lookup(service, RecordType::SRV).await {
            Ok(lookup) => lookup,
            Err(Silence::Nothing) => return Ok(gathered),
            Err(Silence::Failure(why)) => return Err(why),
        };
        gathered.note(&lookup);
        let mut priorities: BTreeMap<u16, Vec<&SRV>> = BTreeMap::new();
        for record in lookup.answers() {
            if let RData::SRV(srv) = &record.data
                && srv.port != 0
                // "The service is decidedly not available at this domain."
                && !srv.target.is_root()
            {
                priorities.entry(srv.priority).or_default().push(srv);
            }
        }
        for records in priorities.into_values() {
            // Each is a question of its own.
            for srv in records.into_iter().take(self.settings.max_addresses as usize) {
                // A weight of 0 is a very small one, not none.
                let weight = Weight::new(u64::from(srv.weight)).unwrap_or(Weight::ONE);
                let host = srv.target.to_ascii().to_ascii_lowercase();
                gathered.add(self, &host.into(), srv.port, weight.max(Weight::ONE)).await;
            }
            if !gathered.addresses.is_empty() || !gathered.unknown.is_empty() {
                break;
            }
        }
        Ok(gathered)
    }

    async fn lookup(&self, name: &str, kind: RecordType) -> Result<Lookup, Silence> {
        let failed = |why: String| Silence::Failure(why);
        let mut name = Name::from_str(name).map_err(|error| failed(error.to_string()))?;
        // Nobody has said what to search in.
        if !self.settings.nameservers.is_empty() {
            name.set_fqdn(true);
        }
        self.resolver.lookup(name, kind).await.map_err(|error| match error {
            NetError::Dns(DnsError::NoRecordsFound(NoRecords {
                response_code: ResponseCode::NXDomain | ResponseCode::NoError,
                ..
            })) => Silence::Nothing,
            error => failed(error.to_string()),
        })
    }
}

/// Why there are no records.
enum Silence {
    /// There are none.
    Nothing,
    /// Nobody said.
    Failure(String),
}

impl Gathered {
    fn new() -> Self {
        Self { addresses: BTreeMap::new(), unknown: Vec::new(), valid_until: None }
    }

    /// The soonest that a record ends.
    fn note(&mut self, lookup: &Lookup) {
        let until = lookup.valid_until();
        self.valid_until = Some(self.valid_until.map_or(until, |known| known.min(until)));
    }

    /// The addresses of a host.
    async fn add(&mut self, asking: &Asking<'_>, host: &Arc<str>, port: u16, weight: Weight) {
        let bare: Arc<str> = host.strip_suffix('.').unwrap_or(host).into();
        let families = asking.settings.families;
        let ask = async |kind, family| match families == family || families == Families::Both {
            true => Some(asking.lookup(host, kind).await),
            false => None,
        };
        let (v4, v6) =
            tokio::join!(ask(RecordType::A, Families::V4), ask(RecordType::AAAA, Families::V6));
        for (answer, is_ipv6) in [(v4, false), (v6, true)] {
            match answer {
                None | Some(Err(Silence::Nothing)) => {}
                Some(Err(Silence::Failure(why))) => {
                    let host = bare.clone();
                    self.unknown.push(Unknown { host, port, is_ipv6, why });
                }
                Some(Ok(lookup)) => {
                    self.note(&lookup);
                    let addresses =
                        lookup.answers().iter().filter_map(|record| match record.data {
                            RData::A(a) => Some(IpAddr::V4(a.0)),
                            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                            _ => None,
                        });
                    for address in addresses.filter(|it| is_of_one_host(*it)) {
                        let socket = SocketAddr::new(address, port);
                        let entry = (bare.clone(), weight);
                        self.addresses.entry(socket).or_insert(entry);
                    }
                }
            }
        }
    }

    fn into_answer(self, name: &DnsName, settings: &Resolver) -> Answer {
        let ttl = self
            .valid_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        let most = settings.max_addresses as usize;
        let left_out = self.addresses.len().saturating_sub(most);
        let addresses = self.addresses.into_iter().take(most);
        let addresses = addresses
            .map(|(socket, (host, weight))| (Found { socket, host, by: name.clone() }, weight))
            .collect();
        let ttl = ttl.max(settings.min_ttl).min(settings.max_ttl);
        Answer { addresses, unknown: self.unknown, ttl, left_out }
    }
}

/// Name servers that block names say 0.0.0.0, which would be this machine itself.
fn is_of_one_host(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !is_broadcast
}

/// The servers and search domains of /etc/resolv.conf, and from how many dots on a name is tried as it is. Without
/// the file only this machine is asked (resolv.conf(5)).
fn system() -> (ResolverConfig, usize) {
    match read_system_conf() {
        Ok((config, options)) => (config, options.ndots),
        Err(error) => {
            tracing::debug!(%error, "no name servers are set up in /etc/resolv.conf");
            (of_servers(&[SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53)]).0, 1)
        }
    }
}

fn of_servers(servers: &[SocketAddr]) -> (ResolverConfig, usize) {
    let server = |address: &SocketAddr| {
        let at_port = |mut connection: ConnectionConfig| {
            connection.port = address.port();
            connection
        };
        let ways = vec![at_port(ConnectionConfig::udp()), at_port(ConnectionConfig::tcp())];
        NameServerConfig::new(address.ip(), true, ways)
    };
    (ResolverConfig::from_name_servers(servers.iter().map(server).collect()), 1)
}
