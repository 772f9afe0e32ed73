//! Where the admin API listens and who may use it. The files of tokens are read here, as those of certificates
//! are.

use super::{
    super::{
        keys::{self, TokenSection, UnixRoleSection},
        problem::quote,
        reader::{At, Field, Reader},
        tree::NodeId,
    },
    tls,
};
use crate::spec::{
    Admin, AdminAddress, LONGEST_SOCKET_PATH, LONGEST_TOKEN, Listener, Name, SHORTEST_TOKEN,
    Secret, SecretError, Token, UnixRole, UnixWho,
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
        && let Some(same) = listeners.iter().find(|at| at.value.address == address)
    {
        let message = format!("`{address}` is also the address of a listener");
        let fix = format!("use another port; the listener is on line {}", reader.line(same.node));
        reader.problem(place, message, fix);
    }
    admin.hosts = keys.hosts.or(Vec::new());
    admin.insecure = keys.insecure.or(false);
    admin.public_metrics = keys.public_metrics.or(false);
    let wants_tokens = match &keys.tokens {
        Field::Absent => reader.is_misspelt(node, "tokens"),
        Field::Bad(_) => true,
        Field::Good(tokens) => !tokens.value.is_empty(),
    };
    admin.tokens = tokens(reader, keys.tokens.or(Vec::new()));
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
        check_public(reader, place, &admin, wants_tokens);
    }
    admin
}

fn check_public(reader: &mut Reader<'_>, place: NodeId, admin: &Admin, wants_tokens: bool) {
    let address = &admin.address;
    if !wants_tokens {
        reader.problem(
            place,
            format!("`{address}` is open to others, and nobody has to show that they may steer"),
            "add `tokens`, or use loopback (`127.0.0.1:9900`) or `unix:PATH`; or add `insecure: true` if \
             whoever reaches it may steer the proxy",
        );
    } else {
        reader.warn(
            place,
            format!("tokens cross the network to `{address}` in the clear"),
            "use loopback or `unix:PATH`; or add `insecure: true` if nobody listens in on that network",
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
        if let Some(same) = tokens.iter().find(|known| known.secret.is(&token.secret)) {
            let message = format!("`{}` and `{}` are the same token", same.name, token.name);
            reader.problem(file.node, message, "give each who asks a token of their own");
        }
        tokens.push(token);
    }
    tokens
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
