//! That the table says what the reader does, key by key.

use super::*;
use crate::config::{
    keys::File,
    shape::{Key, Presence, Section, Shape},
};

/// The beginning of a file by which certificates are ordered.
const ORDERS: &str = "{ \"acme\": { terms_agreed: true, state: x, hosts: [a.example], \
                      challenge: tls-alpn-01 }, ";

/// Texts `KEY: YAML` of one mapping.
type Entries = Vec<(String, String)>;

/// One of two without which there is no TLS.
const PAIR: (&str, &str) = ("certificates", "[{ cert: a.crt, key: a.key }]");

const ADMIN_TLS: (&str, &str) = ("tls", "{ certificates: [{ cert: a.crt, key: a.key }] }");

/// What the other keys of a section must be, so that `key` may stand there.
fn company(section: &Section, key: &str) -> Entries {
    let more: &[(&str, &str)] = match (section.name, key) {
        ("Route", "redirect") => &[],
        ("Route", "rewrite") => &[("service", "shop"), ("match", "{ path_prefix: /shop }")],
        ("Route", _) => &[("service", "shop")],
        ("Listener", "proxy_protocol") => &[("trusted_proxies", "[10.0.0.0/8]")],
        ("Pin", "methods") => &[("path", "/x")],
        ("Pin", _) => &[("methods", "[PUT]")],
        ("HealthCheck", "interval" | "timeout" | "healthy_after" | "unhealthy_after") => {
            &[("path", "/health")]
        }
        ("Sticky", "issue" | "salt") => &[("cookie", "user")],
        ("ListenerTls", "certificates") => &[],
        ("ListenerTls", "client_auth") => &[PAIR, ("client_ca", "a.crt")],
        ("ListenerTls", _) => &[PAIR],
        ("Step", "bake") => &[("share", "5")],
        ("Admin", "client_ca") => &[ADMIN_TLS, ("client_roles", "[]")],
        ("Admin", "client_roles") => &[ADMIN_TLS, ("client_ca", "a.crt")],
        ("PoolTls", "cert") => &[("key", "a.key")],
        ("PoolTls", "key") => &[("cert", "a.crt")],
        ("Sticky", "max_age") => &[("cookie", "user"), ("issue", "true")],
        _ => &[],
    };
    let required = section.keys.iter().filter(|it| it.presence == Presence::Required);
    required
        .map(|it| (it.name, it.example))
        .chain(more.iter().copied())
        .filter(|(name, _)| *name != key)
        .map(|(name, yaml)| (name.to_owned(), yaml.to_owned()))
        .collect()
}

fn mapping(entries: &Entries) -> String {
    let entries: Vec<String> =
        entries.iter().map(|(key, yaml)| format!("\"{key}\": {yaml}")).collect();
    format!("{{ {} }}", entries.join(", "))
}

/// A key and a file around it.
struct Spot {
    section: &'static Section,
    key: &'static Key,
    path: String,
    /// The file, with `@` where the mapping with the key belongs.
    template: String,
}

impl Spot {
    /// The file with this key (unless `value` is `None`) and what must stand beside it.
    fn file(&self, value: Option<&str>) -> String {
        self.file_with(self.key.name, value)
    }

    fn file_with(&self, key: &str, value: Option<&str>) -> String {
        let mut entries = company(self.section, key);
        entries.extend(value.map(|value| (key.to_owned(), value.to_owned())));
        let file = self.template.replace('@', &mapping(&entries));
        match (self.section.name, key) {
            // The other half of it stands elsewhere.
            ("ListenerTls", "acme") => file.replacen('{', ORDERS, 1),
            _ => file,
        }
    }
}

/// Every key of the table, in each place where it may stand.
fn spots() -> Vec<Spot> {
    const FILE: &Section = &File::SECTION;
    let mut spots = Vec::new();
    add_section(FILE, "", "@", &mut spots);
    spots
}

fn add_section(section: &'static Section, at: &str, template: &str, spots: &mut Vec<Spot>) {
    for key in section.keys {
        let path = if at.is_empty() { key.name.into() } else { format!("{at}.{}", key.name) };
        let mut entries = company(section, key.name);
        entries.push((key.name.into(), "@".into()));
        let within = template.replace('@', &mapping(&entries));
        add_shape(&key.shape, &path, &within, spots);
        spots.push(Spot { section, key, path, template: template.to_owned() });
    }
}

fn add_shape(shape: &'static Shape, path: &str, template: &str, spots: &mut Vec<Spot>) {
    match shape {
        Shape::Section(section) => add_section(section, path, template, spots),
        Shape::List { of, .. } => {
            add_shape(of, &format!("{path}[0]"), &template.replace('@', "[@]"), spots);
        }
        Shape::Map { of, .. } => {
            // The names that the examples refer to.
            let name = if path == "services" { "shop" } else { "blue" };
            let template = template.replace('@', &format!("{{ {name}: @ }}"));
            add_shape(of, &format!("{path}.{name}"), &template, spots);
        }
        Shape::Either(shapes) => {
            shapes.iter().for_each(|shape| add_shape(shape, path, template, spots));
        }
        _ => {}
    }
}

#[test]
fn each_key_has_an_effect() {
    let mut count = 0;
    for spot in &spots() {
        let Spot { key, path, .. } = spot;
        count += 1;
        let with = parsed(&spot.file(Some(key.example)));
        let without = read_text(&spot.file(None));
        assert_ne!(Some(&with), without.spec.as_ref(), "{path} does nothing");
        if key.presence == Presence::Required {
            let [error] = &without.errors[..] else { panic!("{path}: {:?}", without.errors) };
            assert_eq!(error.message, format!("the key `{}` is missing", key.name));
            assert_eq!(&error.path, path);
        }
    }
    assert!(count > 80, "{count}");
}

#[test]
fn each_default_is_what_absence_means() {
    let mut count = 0;
    for spot in &spots() {
        let Presence::Default(default) = spot.key.presence else { continue };
        count += 1;
        let with = parsed(&spot.file(Some(default)));
        assert_eq!(with, parsed(&spot.file(None)), "{}: {default}", spot.path);
    }
    assert!(count > 30, "{count}");
}

#[test]
fn any_other_key_is_an_error() {
    for spot in &spots() {
        let outcome = read_text(&spot.file_with("zzz", Some("1")));
        let said = outcome.errors.iter().any(|it| it.message == "the key `zzz` is unknown");
        assert!(said, "beside {}", spot.path);
    }
}
