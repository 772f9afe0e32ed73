//! Where the admin API listens and who may use it. The files of tokens are read here, as those of certificates
//! are.

use super::{
    super::{
        keys::{self, AdminLimitsSection, ClientRoleSection, TokenSection, UnixRoleSection},
        problem::quote,
        reader::{At, Field, Reader},
        tree::NodeId,
    },
    tls,
};
use crate::spec::{
    Admin, AdminAddress, AdminLimits, AuditFile, ClientAuth, ClientRole, LONGEST_SOCKET_PATH,
    LONGEST_TOKEN, Listener, ListenerTls, Name, SHORTEST_TOKEN, Secret, SecretError, Token,
    UnixRole, UnixWho,
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

/// Authors that are no client of the admin API.
const OTHER_AUTHORS: [&str; 3] = ["api", "file", "rollout"];

pub(super) fn admin(
    reader: &mut Reader<'_>,
    keys: Option<At<keys::Admin>>,
    listeners: &[At<Listener>],
) -> Admin {
    let mut admin = Admin::default();
    let Some(At { value: keys, node }) = keys else {
        return admin;
    };
    let place = keys.address.node().unwrap_or(node);
    if let Some(address) = keys.address.value() {
        admin.address = match address {
            AdminAddress::Unix(path) => AdminAddress::Unix(unix_path(reader, place, &path)),
            AdminAddress::Tcp(address) => AdminAddress::Tcp(address),
        };
    }
    if let AdminAddress::Tcp(address) = admin.address
        && address.port() != 0
        && let Some(same) = listeners.iter().find(|at| at.value.address == address)
    {
        let message = format!("`{address}` is also the address of a listener");
        let fix = format!("use another port; the listener is on line {}", reader.line(same.node));
        reader.problem(place, message, fix);
    }
    admin.hosts = keys.hosts.or(Vec::new());
    admin.insecure = keys.insecure.or(false);
    admin.public_metrics = keys.public_metrics.or(false);
    let speaks_tls = keys.tls.node().is_some() || reader.is_misspelt(node, "tls");
    admin.limits = limits(keys.limits.value());
    admin.audit = keys.audit.value().and_then(|keys| audit(reader, keys));
    let wants_tokens = match &keys.tokens {
        Field::Absent => reader.is_misspelt(node, "tokens"),
        Field::Bad(_) => true,
        Field::Good(tokens) => !tokens.value.is_empty(),
    };
    admin.tokens = tokens(reader, keys.tokens.or(Vec::new()));
    let has_ca = keys.client_ca.node().is_some();
    let roles_missing =
        matches!(keys.client_roles, Field::Absent) && !reader.is_misspelt(node, "client_roles");
    if let (Some(place), true) = (keys.client_ca.node(), roles_missing) {
        reader.problem(
            place,
            "nothing says what clients with a certificate may do",
            "add `client_roles`, such as `client_roles: [{ name: deploy, role: operator }]`; without a name it is for \
             every certificate",
        );
    }
    if let (Some(place), false) = (keys.client_roles.node(), has_ca)
        && !reader.is_misspelt(node, "client_ca")
    {
        reader.problem(
            place,
            "`client_roles` are for clients with a certificate, and nobody vouches for them",
            "add `client_ca`, or remove `client_roles`",
        );
    }
    admin.client_roles = client_roles(keys.client_roles.or(Vec::new()));
    admin.tls = admin_tls(reader, node, keys.tls, keys.client_ca, &admin.address);
    let roles_place = keys.unix_roles.node();
    admin.unix_roles = unix_roles(reader, keys.unix_roles.or(Vec::new()));
    if let (Some(place), AdminAddress::Tcp(_)) = (roles_place, &admin.address)
        && !admin.unix_roles.is_empty()
    {
        reader.warn(
            place,
            "`unix_roles` are for a unix socket, and `address` is none",
            "remove them, or use `address: unix:PATH`",
        );
    }
    if admin.is_public() && !admin.insecure {
        check_public(reader, place, &admin, wants_tokens || has_ca, speaks_tls);
    }
    admin
}

fn limits(keys: Option<AdminLimitsSection>) -> AdminLimits {
    let defaults = AdminLimits::default();
    keys.map_or(defaults, |keys| AdminLimits {
        connections: keys.connections.or(defaults.connections),
        connections_each: keys.connections_each.or(defaults.connections_each),
    })
}

fn check_public(
    reader: &mut Reader<'_>,
    place: NodeId,
    admin: &Admin,
    is_guarded: bool,
    speaks_tls: bool,
) {
    let address = &admin.address;
    if !is_guarded {
        reader.problem(
            place,
            format!("`{address}` is open to others, and nobody has to show that they may steer"),
            "add `tokens` or `client_ca`, or use loopback (`127.0.0.1:9900`) or `unix:PATH`; or add `insecure: true` if \
             whoever reaches it may steer the proxy",
        );
    } else if !speaks_tls {
        reader.warn(
            place,
            format!("tokens cross the network to `{address}` in the clear"),
            "add `tls`, or use loopback or `unix:PATH`; or add `insecure: true` if nobody listens in on that network",
        );
    }
}

fn tokens(reader: &mut Reader<'_>, field: Vec<At<TokenSection>>) -> Vec<Token> {
    let mut names: HashMap<Name, NodeId> = HashMap::new();
    let mut tokens: Vec<Token> = Vec::new();
    for At { value, .. } in field {
        if let Field::Good(name) = &value.name {
            if OTHER_AUTHORS.contains(&&*name.value) {
                let message = format!("{} is the author of other changes", quote(&name.value));
                reader.problem(name.node, message, "give the token another name");
            }
            if let Some(first) = names.insert(name.value.clone(), name.node) {
                let message = format!("{} is the name of two tokens", quote(&name.value));
                let fix = format!("give another name; the first is on line {}", reader.line(first));
                reader.problem(name.node, message, fix);
            }
        }
        let Field::Good(file) = value.file else { continue };
        let Some(token) = token(reader, value.name.value(), &file, value.role.value()) else {
            continue;
        };
        let is_same = |known: &&Token| known.secret.is(&token.secret) && !token.secret.is_absent();
        if let Some(same) = tokens.iter().find(is_same) {
            let message = format!("`{}` and `{}` are the same token", same.name, token.name);
            reader.problem(file.node, message, "give each who asks a token of their own");
        }
        tokens.push(token);
    }
    tokens
}

/// `None` only if something was reported.
fn audit(reader: &Reader<'_>, keys: keys::AuditSection) -> Option<AuditFile> {
    let file = AuditFile::at(reader.directory.join(keys.file.value()?));
    let (max_bytes, keep) = (keys.max_size.or(file.max_bytes), keys.keep.or(file.keep));
    Some(AuditFile { max_bytes, keep, ..file })
}

fn client_roles(field: Vec<At<ClientRoleSection>>) -> Vec<ClientRole> {
    let role = |section: ClientRoleSection| {
        let any_is_bad = section.name.is_bad();
        let role = ClientRole { name: section.name.value(), role: section.role.value()? };
        (!any_is_bad).then_some(role)
    };
    field.into_iter().filter_map(|at| role(at.value)).collect()
}

/// `None`: in the clear, or something was reported.
fn admin_tls(
    reader: &mut Reader<'_>,
    node: NodeId,
    tls: Field<keys::AdminTls>,
    client_ca: Field<PathBuf>,
    address: &AdminAddress,
) -> Option<ListenerTls> {
    if let (Some(place), AdminAddress::Unix(_)) = (tls.node(), address) {
        reader.problem(
            place,
            "nobody listens in on a unix socket, and its users are known without certificates",
            "remove `tls`, or use an `address` with a port",
        );
    }
    if let (Some(place), None) = (client_ca.node(), tls.node())
        && !reader.is_misspelt(node, "tls")
    {
        reader.problem(
            place,
            "certificates of clients need TLS",
            "add `tls`, or remove `client_ca`",
        );
    }
    let client_ca = client_ca.good().map(|ca| super::tls::authority(reader, ca));
    let keys = tls.value()?;
    let mut tls =
        ListenerTls::new(super::tls::certificates(reader, keys.certificates.or(Vec::new())));
    tls.min_version = keys.min_version.or(tls.min_version);
    // Each connection shows anew who it is.
    tls.resumption = false;
    if let Some(ca) = client_ca {
        // A probe has no certificate, and shakes hands all the same.
        tls.client_auth = Some(ClientAuth { ca: ca?, required: false });
    }
    (!tls.certificates.is_empty()).then_some(tls)
}

fn unix_roles(reader: &mut Reader<'_>, field: Vec<At<UnixRoleSection>>) -> Vec<UnixRole> {
    let mut roles = Vec::new();
    for At { value, .. } in field {
        let any_is_bad = value.user.is_bad() || value.group.is_bad();
        let who = match (value.user, value.group) {
            (Field::Good(_), Field::Good(group)) => {
                reader.problem(
                    group.node,
                    "this is for a user and for a group",
                    "make two of it, one with `user` and one with `group`",
                );
                continue;
            }
            (Field::Good(user), _) => UnixWho::User(user.value),
            (_, Field::Good(group)) => UnixWho::Group(group.value),
            _ => UnixWho::Anybody,
        };
        if let (Some(role), false) = (value.role.value(), any_is_bad) {
            roles.push(UnixRole { who, role });
        }
    }
    roles
}

/// `None` only if something was reported.
fn token(
    reader: &mut Reader<'_>,
    name: Option<Name>,
    file: &At<PathBuf>,
    role: Option<crate::spec::Role>,
) -> Option<Token> {
    if reader.surroundings.own {
        let (path, content) = reader.file(&file.value);
        let secret = content.ok().and_then(|content| Secret::from_file(&content).ok());
        let secret = secret.unwrap_or_else(Secret::absent);
        return Some(Token { name: name?, role: role?, file: path.into(), secret });
    }
    let (path, content) = tls::file(reader, file, "token")?;
    let shown = quote(&file.value.display().to_string());
    let secret = match Secret::from_file(&content) {
        Ok(secret) => secret,
        Err(error) => {
            let message = match error {
                SecretError::Empty => format!("there is no token in {shown}"),
                SecretError::Short(length) => {
                    format!("the token in {shown} has {length} characters, and can be guessed")
                }
                SecretError::Long(length) => {
                    format!("the token in {shown} has {length} characters")
                }
                SecretError::Unsendable => {
                    format!("the token in {shown} has something else than visible ASCII within it")
                }
            };
            reader.problem(
                file.node,
                message,
                format!(
                    "put one token of {SHORTEST_TOKEN} to {LONGEST_TOKEN} characters into it, such as that of \
                     `openssl rand -base64 32`"
                ),
            );
            return None;
        }
    };
    if (reader.surroundings.others_read)(&path) {
        reader.warn(
            file.node,
            format!("everybody on this machine can read the token {shown}"),
            "let only crossfade's user read it (`chmod 600`)",
        );
    }
    Some(Token { name: name?, role: role?, file: path, secret })
}

/// Relative to the file, and short enough for a socket.
fn unix_path(reader: &mut Reader<'_>, node: NodeId, path: &Path) -> PathBuf {
    let path = reader.directory.join(path);
    let length = path.as_os_str().len();
    if length > LONGEST_SOCKET_PATH {
        let message = format!("{} has {length} bytes", quote(&path.display().to_string()));
        reader.problem(node, message, format!("a socket's path has at most {LONGEST_SOCKET_PATH}"));
    }
    path
}
