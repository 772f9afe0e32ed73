use super::{DnsName, Found};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
};

/// Where a backend listens. Its text form is its identity within a pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BackendAddress {
    Socket(SocketAddr),
    /// Resolved each time a connection is opened.
    Host {
        host: Arc<str>,
        port: u16,
    },
    /// The absolute path of a unix socket.
    Unix(Arc<str>),
    /// Each address that is found for it is a backend; it is none itself.
    Dns(DnsName),
    /// One of those addresses. In no desired state.
    Found(Arc<Found>),
}

impl BackendAddress {
    /// `Host` of a request that is for no other one (RFC 9110 section 7.2).
    pub fn authority(&self) -> String {
        match self {
            Self::Socket(_) | Self::Host { .. } => self.to_string(),
            // A path is no authority.
            Self::Unix(_) => "localhost".into(),
            Self::Found(found) => format!("{}:{}", found.host, found.socket.port()),
            Self::Dns(DnsName::Host { host, port }) => format!("{host}:{port}"),
            Self::Dns(DnsName::Service(name)) => name.to_string(),
        }
    }

    /// The name that it was found for in DNS.
    pub fn source(&self) -> Option<&DnsName> {
        match self {
            Self::Found(found) => Some(&found.by),
            _ => None,
        }
    }

    /// It is what `entry` of a desired state stands for.
    pub fn is_of(&self, entry: &Self) -> bool {
        match (self.source(), entry) {
            (Some(source), Self::Dns(name)) => source == name,
            _ => self == entry,
        }
    }

    /// Where it is connected to, if that is known beforehand.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(socket) => Some(*socket),
            Self::Found(found) => Some(found.socket),
            _ => None,
        }
    }
}

/// The longest path of a unix socket: `sun_path` in unix(7) has 108 bytes with the NUL at its end.
pub const LONGEST_SOCKET_PATH: usize = 107;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Why a text is not an address; the message says what would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError(pub String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddressError {}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
            Self::Dns(name) => name.fmt(f),
            Self::Found(found) => found.socket.fmt(f),
        }
    }
}

impl FromStr for BackendAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return socket_path(path);
        }
        if let Some(text) = text.strip_prefix("dns:") {
            return DnsName::host(text).map(Self::Dns);
        }
        if let Some(name) = text.strip_prefix("srv:") {
            return DnsName::service(name).map(Self::Dns);
        }
        if text.contains("://") {
            return Err(AddressError("an address has no scheme; use HOST:PORT".into()));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 {
                Err(AddressError("port 0 cannot be connected to; use 1 to 65535".into()))
            } else {
                Ok(Self::Socket(address))
            };
        }
        if text.parse::<IpAddr>().is_ok() {
            return Err(AddressError(
                "the port is missing; use HOST:PORT, for IPv6 [ADDRESS]:PORT".into(),
            ));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(AddressError("the port is missing; use HOST:PORT".into()));
        };
        let port = match port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return Err(AddressError(format!("`{port}` is not a port; use 1 to 65535"))),
        };
        if !is_host_name(host) {
            return Err(AddressError(format!("`{host}` is not a host name or IP address")));
        }
        Ok(Self::Host { host: host.to_ascii_lowercase().into(), port })
    }
}

fn socket_path(path: &str) -> Result<BackendAddress, AddressError> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(AddressError(
            "use the absolute path of a socket, such as `unix:/run/a.sock`".into(),
        ));
    }
    if path.chars().any(char::is_control) {
        return Err(AddressError("a path has no control characters here".into()));
    }
    if path.len() > LONGEST_SOCKET_PATH {
        return Err(AddressError(format!(
            "the path has {} bytes; a socket's has at most {LONGEST_SOCKET_PATH}",
            path.len()
        )));
    }
    Ok(BackendAddress::Unix(path.into()))
}

/// RFC 1123 section 2.1, with the underscore that container networks use.
pub(super) fn is_host_name(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        // The last label of a name is never all digits (RFC 3696 section 2): 300.1.1.1 is a typo.
        && !host.rsplit('.').next().unwrap_or("").bytes().all(|b| b.is_ascii_digit())
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_was_found_is_of_its_name() {
        let name: BackendAddress = "dns:shop.internal:80".parse().unwrap();
        let other: BackendAddress = "dns:other.internal:80".parse().unwrap();
        let BackendAddress::Dns(by) = name.clone() else { panic!("{name} is a name") };
        let socket = "127.0.0.1:80".parse().unwrap();
        let found = Found { socket, host: "shop.internal".into(), by };
        let found = BackendAddress::Found(Arc::new(found));
        assert_eq!(found.to_string(), "127.0.0.1:80");
        assert_eq!(found.authority(), "shop.internal:80");
        assert!(found.is_of(&name) && !found.is_of(&other) && name.is_of(&name));
        assert!(!found.is_of(&BackendAddress::Socket(socket)));
    }

    #[test]
    fn backend_addresses() {
        for (good, authority) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("localhost:8080", "localhost:8080"),
            ("blue_1.internal:1", "blue_1.internal:1"),
            ("unix:/run/a b:1.sock", "localhost"),
            ("dns:shop.internal:80", "shop.internal:80"),
            ("dns:shop.internal.:80", "shop.internal.:80"),
            ("srv:_http._tcp.shop.internal", "_http._tcp.shop.internal"),
        ] {
            let address = good.parse::<BackendAddress>().unwrap();
            assert_eq!((&*address.to_string(), &*address.authority()), (good, authority));
        }
        assert!(format!("unix:/{}", "x".repeat(106)).parse::<BackendAddress>().is_ok());
        let long = format!("unix:/{}", "x".repeat(107)).parse::<BackendAddress>().unwrap_err();
        assert!(long.0.contains("at most 107"), "{long}");
        for (bad, says) in [
            ("127.0.0.1", "port is missing"),
            ("::1", "[ADDRESS]:PORT"),
            ("127.0.0.1:0", "port 0"),
            ("localhost:99999", "not a port"),
            ("300.1.1.1:80", "not a host name"),
            ("http://localhost:80", "no scheme"),
            ("-x:80", "not a host name"),
            ("unix:", "absolute path"),
            ("unix:a.sock", "absolute path"),
            ("unix:/run/", "absolute path"),
            ("unix:/a\n", "control characters"),
            ("unix:/a\0", "control characters"),
            ("dns:a", "port is missing"),
            ("dns:a:0", "not a port"),
            ("dns:127.0.0.1:80", "not a name"),
            ("dns:[::1]:80", "not a name"),
            ("dns:a..:80", "not a name"),
            ("srv:", "not a name"),
            ("srv:_http._tcp.a:80", "not a name"),
            (":80", "not a host name"),
            ("", "port is missing"),
        ] {
            let error = bad.parse::<BackendAddress>().unwrap_err();
            assert!(error.0.contains(says), "{bad}: {error}");
        }
    }
}
