use super::{Detail, Keys, text, tls::path};
use crate::{
    config::keys::RoleKind,
    spec::{Admin, Token, UnixRole, UnixWho},
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
    keys.other("unix_roles", &admin.unix_roles, &defaults.unix_roles, |roles| {
        roles.iter().map(unix_role).collect::<Vec<_>>().into()
    });
    keys.other("public_metrics", &admin.public_metrics, &false, |it| (*it).into());
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
