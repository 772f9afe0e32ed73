use super::{
    super::{
        problem::quote,
        reader::{Kind, Reader, Scalar, ScalarKind, Wrong},
        shape::Shape,
        tree::{Data, NodeId},
    },
    SetOf,
    matching::host_name,
};
use http::Uri;
use std::{net::IpAddr, sync::Arc};

/// Where an ACME server says what it does (RFC 8555 section 7.1.1).
pub(in crate::config) struct DirectoryUrl;

impl ScalarKind for DirectoryUrl {
    type Value = Arc<str>;
    const FORM: Shape = Shape::Text {
        what: "the URL of an ACME directory",
        hint: "use a URL by https, such as `https://acme-v02.api.letsencrypt.org/directory`",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        let text = &*scalar.text;
        let uri: Uri = text.parse().map_err(|_| Wrong::Kind)?;
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        let good = uri.scheme_str() == Some("https") && uri.host().is_some() && !has_user;
        if good { Ok(text.into()) } else { Err(Wrong::Kind) }
    }
}

/// Whom the issuer of certificates may write to (RFC 8555 section 7.3).
pub(in crate::config) struct Contact;

impl ScalarKind for Contact {
    type Value = Arc<str>;
    const FORM: Shape = Shape::Text {
        what: "a contact",
        hint: "use a mail address as a URL, such as `mailto:ops@example.com`",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        let text = &*scalar.text;
        let address = text.strip_prefix("mailto:").and_then(|address| address.split_once('@'));
        let good = address.is_some_and(|(user, host)| !user.is_empty() && !host.is_empty())
            // More than one, and fields of the mail, are not for issuers (the same section).
            && text.bytes().all(|b| b.is_ascii_graphic() && b != b',' && b != b'?');
        if good { Ok(text.into()) } else { Err(Wrong::Kind) }
    }
}

/// A name that a certificate can be ordered for by the challenges that there are.
pub(in crate::config) struct OrderedHost;

impl ScalarKind for OrderedHost {
    type Value = Arc<str>;
    const FORM: Shape = Shape::Text {
        what: "a host name",
        hint: "use a name without scheme and port, such as `shop.example.com`",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        let text = &*scalar.text;
        if text.starts_with("*.") {
            return Err(Wrong::because(
                format!("{} is a wildcard, which is proven by DNS alone", quote(text)),
                "list the names, or give a certificate of a file",
            ));
        }
        let name = host_name(text).ok_or(Wrong::Kind)?;
        if name.starts_with('[') || name.parse::<IpAddr>().is_ok() {
            return Err(Wrong::because(
                format!("{} is an address, and certificates are ordered for names", quote(text)),
                "use a name, or give a certificate of a file",
            ));
        }
        Ok(name.into())
    }
}

/// The names of one certificate: a name, or a list of them.
pub(in crate::config) struct HostsOfOne;

impl Kind for HostsOfOne {
    type Value = Vec<Arc<str>>;
    const SHAPE: Shape = Shape::Either(&[OrderedHost::FORM, SetOf::<OrderedHost, 1>::SHAPE]);

    fn read(reader: &mut Reader<'_>, node: NodeId) -> Option<Self::Value> {
        match reader.data(node) {
            Data::List(_) => SetOf::<OrderedHost, 1>::read(reader, node),
            _ => OrderedHost::read(reader, node).map(|name| vec![name]),
        }
    }
}
