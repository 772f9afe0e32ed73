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
}

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
        }
    }
}

impl FromStr for BackendAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        for scheme in ["unix:", "dns:", "srv:"] {
            if text.starts_with(scheme) {
                return Err(AddressError(format!(
                    "`{scheme}` backends are not supported by this version; use HOST:PORT"
                )));
            }
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

/// RFC 1123 section 2.1, with the underscore that container networks use.
fn is_host_name(host: &str) -> bool {
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
    fn backend_addresses() {
        for good in ["127.0.0.1:80", "[::1]:80", "localhost:8080", "blue_1.internal:1"] {
            assert_eq!(good.parse::<BackendAddress>().unwrap().to_string(), good);
        }
        for (bad, says) in [
            ("127.0.0.1", "port is missing"),
            ("::1", "[ADDRESS]:PORT"),
            ("127.0.0.1:0", "port 0"),
            ("localhost:99999", "not a port"),
            ("300.1.1.1:80", "not a host name"),
            ("http://localhost:80", "no scheme"),
            ("-x:80", "not a host name"),
            ("unix:/a", "not supported"),
            (":80", "not a host name"),
            ("", "port is missing"),
        ] {
            let error = bad.parse::<BackendAddress>().unwrap_err();
            assert!(error.0.contains(says), "{bad}: {error}");
        }
    }
}
