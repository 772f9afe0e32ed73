use super::{
    Detail, Keys, text,
    tls::{certificates, path},
};
use crate::{
    config::keys::{RoleKind, TlsVersionKind},
    spec::{
        Admin, AdminLimits, AuditFile, ClientRole, ListenerTls, TlsVersion, Token, UnixRole,
        UnixWho,
    },
};
use serde_json::Value;

pub(super) fn admin(admin: &Admin, detail: Detail) -> Keys {
    let defaults = Admin::default();
    let mut keys = Keys::new(detail);
    keys.other("address", &admin.address, &defaults.address, |address| text(&address.to_string()));
    keys.other("hosts", &admin.hosts, &defaults.hosts, |hosts| hosts.clone().into());
    keys.other("tokens", &admin.tokens, &defaults.tokens, |tokens| {
        tokens.iter().map(token).collect::<Vec<_>>().into()
    });
    if let Some(wanted) = &admin.tls {
        keys.set("tls", tls(wanted, detail));
    }
    if let Some(ca) = admin.client_ca() {
        keys.set("client_ca", path(&ca.file));
    }
    // Required where there is a `client_ca`, also when it is empty.
    if admin.client_ca().is_some() || !admin.client_roles.is_empty() {
        keys.set("client_roles", admin.client_roles.iter().map(client_role).collect::<Vec<_>>());
    }
    keys.other("unix_roles", &admin.unix_roles, &defaults.unix_roles, |roles| {
        roles.iter().map(unix_role).collect::<Vec<_>>().into()
    });
    keys.other("public_metrics", &admin.public_metrics, &false, |it| (*it).into());
    if let Some(file) = &admin.audit {
        keys.section("audit", audit(file, detail));
    }
    let AdminLimits { connections, connections_each } = defaults.limits;
    let mut limits = Keys::new(detail);
    limits.other("connections", &admin.limits.connections, &connections, |it| (*it).into());
    limits.other("connections_each", &admin.limits.connections_each, &connections_each, |it| {
        (*it).into()
    });
    keys.section("limits", limits);
    keys.other("insecure", &admin.insecure, &false, |it| (*it).into());
    keys
}

fn token(token: &Token) -> Value {
    let mut keys = Keys::new(Detail::Brief);
    keys.set("name", &*token.name);
    keys.set("file", path(&token.file));
    keys.set("role", RoleKind::word(&token.role));
    keys.into_value()
}

fn tls(tls: &ListenerTls, detail: Detail) -> Value {
    let mut keys = Keys::new(detail);
    keys.set("certificates", certificates(&tls.certificates, detail));
    keys.other("min_version", &tls.min_version, &TlsVersion::default(), |version| {
        TlsVersionKind::word(version).into()
    });
    keys.into_value()
}

fn audit(file: &AuditFile, detail: Detail) -> Keys {
    let mut keys = Keys::new(detail);
    keys.set("file", path(&file.path));
    let defaults = AuditFile::at(file.path.clone());
    keys.size("max_size", file.max_bytes, defaults.max_bytes);
    keys.number("keep", file.keep, defaults.keep);
    keys
}

fn client_role(role: &ClientRole) -> Value {
    let mut keys = Keys::new(Detail::Brief);
    if let Some(name) = &role.name {
        keys.set("name", text(name));
    }
    keys.set("role", RoleKind::word(&role.role));
    keys.into_value()
}

fn unix_role(role: &UnixRole) -> Value {
    let mut keys = Keys::new(Detail::Brief);
    match &role.who {
        UnixWho::Anybody => {}
        UnixWho::User(name) => keys.set("user", text(name)),
        UnixWho::Group(name) => keys.set("group", text(name)),
    }
    keys.set("role", RoleKind::word(&role.role));
    keys.into_value()
}
