use super::super::{
    problem::quote,
    reader::{Scalar, ScalarKind, Wrong},
    shape::Shape,
};
use crate::spec::{AdminAddress, BackendAddress};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// An address to listen on: of this machine, so an IP address, not a name.
pub(in crate::config) struct ListenAddress;

impl ScalarKind for ListenAddress {
    type Value = SocketAddr;
    const FORM: Shape = Shape::Text {
        what: "an address to listen on",
        hint: "use IP:PORT, such as `0.0.0.0:8080`, or `[::]:8080` for IPv6",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<SocketAddr, Wrong> {
        let text = &*scalar.text;
        if let Ok(address) = text.parse() {
            return Ok(address);
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let fix = match (host, port.parse::<u16>()) {
            ("" | "*", Ok(port)) => format!("did you mean `0.0.0.0:{port}`? Use IP:PORT"),
            ("localhost", Ok(port)) => format!("did you mean `127.0.0.1:{port}`? Use IP:PORT"),
            _ if text.parse::<IpAddr>().is_ok() => {
                "the port is missing; use IP:PORT, for IPv6 `[IP]:PORT`".into()
            }
            _ => Self::FORM.hint(),
        };
        Err(Wrong::because(format!("{} is not {}", quote(text), Self::FORM.noun()), fix))
    }
}

pub(in crate::config) struct AdminAddressKind;

impl ScalarKind for AdminAddressKind {
    type Value = AdminAddress;
    const FORM: Shape = Shape::Text {
        what: "an address to listen on",
        hint: "use IP:PORT, such as `127.0.0.1:9900`, or `unix:PATH`",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<AdminAddress, Wrong> {
        match scalar.text.strip_prefix("unix:") {
            Some("") => Err(Wrong::Kind),
            Some(path) if path.contains('\0') => Err(Wrong::Kind),
            Some(path) => Ok(AdminAddress::Unix(path.into())),
            None => ListenAddress::parse(scalar).map(AdminAddress::Tcp),
        }
    }
}

pub(in crate::config) struct BackendAddressKind;

impl ScalarKind for BackendAddressKind {
    type Value = BackendAddress;
    const FORM: Shape = Shape::Text {
        what: "the address of a backend",
        hint: "use HOST:PORT, such as `127.0.0.1:9001`, `shop.internal:80` or `[::1]:80`, or `unix:/PATH`, `dns:HOST:PORT` or `srv:NAME`",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<BackendAddress, Wrong> {
        scalar.text.parse().map_err(|error: crate::spec::AddressError| {
            let message = format!("{} is not {}", quote(&scalar.text), Self::FORM.noun());
            let quoted = quote(&error.to_string());
            let fix = quoted.strip_prefix('`').and_then(|it| it.strip_suffix('`'));
            Wrong::because(message, fix.unwrap_or(&quoted))
        })
    }
}

/// Whom to ask for names: port 53, if none is given.
pub(in crate::config) struct Nameserver;

impl ScalarKind for Nameserver {
    type Value = SocketAddr;
    const FORM: Shape = Shape::Text {
        what: "the address of a name server",
        hint: "use IP or IP:PORT, such as `10.0.0.2`, `10.0.0.2:5353` or `[::1]:53`",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<SocketAddr, Wrong> {
        if let Ok(address) = scalar.text.parse::<IpAddr>() {
            return Ok(SocketAddr::new(address, 53));
        }
        let address = scalar.text.parse::<SocketAddr>().ok();
        address.filter(|address| address.port() != 0).ok_or(Wrong::Kind)
    }
}

pub(in crate::config) struct Network;

impl ScalarKind for Network {
    type Value = IpNet;
    const FORM: Shape = Shape::Text {
        what: "a network",
        hint: "use IP/BITS, such as `10.0.0.0/8`, or one IP address",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<IpNet, Wrong> {
        if let Ok(address) = scalar.text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        scalar.text.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| Wrong::Kind)
    }
}

/// A name under which the admin API may be asked.
pub(in crate::config) struct AdminHost;

impl ScalarKind for AdminHost {
    type Value = String;
    const FORM: Shape = Shape::Text {
        what: "a host name",
        hint: "use a name without scheme, port or wildcard, such as `admin.example.com`",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<String, Wrong> {
        super::matching::host_name(&scalar.text).ok_or(Wrong::Kind)
    }
}
