//! Certificates and keys that are read with the file, each mistake at its place.

use super::*;
use std::{fs, path::PathBuf, time::Duration};
use tempfile::TempDir;

/// Files `a` and `b`, each a certificate and its key.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for name in ["a", "b"] {
            let (cert, key) = a_certificate(&format!("{name}.example"));
            folder.write(&format!("{name}.crt"), cert);
            folder.write(&format!("{name}.key"), key);
        }
        folder
    }

    fn write(&self, name: &str, content: String) {
        fs::write(self.path(name), content).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read_at(&self, tls: &str, pool: &str, now: fn() -> SystemTime) -> Outcome {
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:1, tls: {{ {tls} }} }}]\n\
             services: {{ s: {{ pools: {{ p: {{ backends: [a:1], tls: {{ {pool} }} }} }} }} }}\n"
        );
        let surroundings = Surroundings { now, ..Surroundings::of_clients() };
        parse(&text, &self.path("c.yaml"), surroundings)
    }

    fn read(&self, tls: &str, pool: &str) -> Outcome {
        self.read_at(tls, pool, SystemTime::now)
    }

    /// What is wrong with this `tls` of a listener: path, message and fix.
    fn refused(&self, tls: &str) -> String {
        told(&self.read(tls, "").errors)
    }
}

fn told(problems: &[Problem]) -> String {
    let told = |it: &Problem| format!("{}: {}; {}\n", it.path, it.message, it.fix);
    problems.iter().map(told).collect()
}

const PAIR_A: &str = "certificates: [{ cert: a.crt, key: a.key }]";

#[test]
fn a_good_listener_and_pool() {
    let folder = Folder::new();
    let outcome = folder.read(
        &format!("{PAIR_A}, client_ca: b.crt, client_auth: optional"),
        "ca: a.crt, cert: b.crt, key: b.key",
    );
    assert_eq!(told(&outcome.errors), "");
    let spec = outcome.spec.unwrap();
    let tls = spec.listeners[0].tls.as_ref().unwrap();
    assert_eq!(tls.certificates[0].pair.names.to_string(), "a.example");
    assert!(!tls.client_auth.as_ref().unwrap().required);
    let identity = spec.services["s"].pools["p"].tls.as_ref().unwrap().identity.clone();
    assert_eq!(identity.unwrap().pair.names.to_string(), "b.example");
    let files: Vec<PathBuf> = outcome.files.iter().map(|file| file.path.clone()).collect();
    let named = ["a.crt", "a.key", "b.crt", "a.crt", "b.crt", "b.key"];
    assert_eq!(files, named.map(|name| folder.path(name)));
    assert!(outcome.files.iter().all(|file| file.hash.is_some()));
}

#[test]
fn files_that_are_of_no_use() {
    let folder = Folder::new();
    folder.write("empty", String::new());
    let key = fs::read_to_string(folder.path("a.key")).unwrap();
    folder.write("encrypted", key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
    for (cert, key, place, says) in [
        ("none.crt", "a.key", "cert", "cannot be read: No such file"),
        ("a.crt", "none.key", "key", "cannot be read: No such file"),
        ("empty", "a.key", "cert", "there is no certificate in `empty`"),
        ("a.key", "a.key", "cert", "there is no certificate in `a.key`"),
        ("a.crt", "empty", "key", "there is no private key in `empty`"),
        ("a.crt", "encrypted", "key", "the key in `encrypted` is encrypted"),
        ("a.crt", "b.key", "key", "the key in `b.key` is not the certificate's"),
        (".", "a.key", "cert", "cannot be read: it is not a regular file"),
    ] {
        let refused = folder.refused(&format!("certificates: [{{ cert: {cert}, key: {key} }}]"));
        let place = format!("listeners[0].tls.certificates[0].{place}: ");
        assert!(refused.starts_with(&place) && refused.contains(says), "{cert} {key}: {refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
    }
    // Both at once.
    let refused = folder.refused("certificates: [{ cert: x, key: y }], client_ca: empty");
    assert_eq!(refused.lines().count(), 3, "{refused}");
}

#[test]
fn what_belongs_together() {
    let folder = Folder::new();
    let refused = folder.refused(&format!("{PAIR_A}, client_auth: optional"));
    assert!(refused.starts_with("listeners[0].tls.client_auth: "), "{refused}");
    assert!(refused.contains("add `client_ca`"), "{refused}");
    for (pool, says) in [("cert: a.crt", "add `key`"), ("key: a.key", "add `cert`")] {
        let refused = told(&folder.read(PAIR_A, pool).errors);
        assert!(refused.contains(says), "{refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
    }
}

#[test]
fn dates_are_warned_of() {
    let folder = Folder::new();
    let in_the_past = || SystemTime::UNIX_EPOCH;
    // rcgen's certificates end in the year 4096.
    let in_the_future = || SystemTime::UNIX_EPOCH + Duration::from_secs(100_000_000_000);
    let at = |now| folder.read_at(PAIR_A, "", now);
    assert_eq!(told(&at(SystemTime::now).warnings), "");
    for (now, says) in [
        (in_the_past as fn() -> SystemTime, "`a.crt` is not valid before 1975-01-01T00:00:00Z"),
        (in_the_future, "`a.crt` expired at 4096-01-01T00:00:00Z"),
    ] {
        let outcome = at(now);
        assert!(outcome.spec.is_some());
        let warned = told(&outcome.warnings);
        assert!(warned.starts_with("listeners[0].tls.certificates[0].cert: "), "{warned}");
        assert!(warned.contains(says), "{warned}");
    }
}

#[test]
fn renewed_files_are_no_change_of_the_spec() {
    let folder = Folder::new();
    let read = || folder.read(PAIR_A, "ca: b.crt").spec.unwrap();
    let before = read();
    let (cert, key) = a_certificate("new.example");
    folder.write("a.crt", cert);
    folder.write("a.key", key);
    let after = read();
    assert_eq!(before, after);
    assert_eq!(changes(&before, &after), []);
    assert!(after.is_renewed(&before) && !after.is_renewed(&read()));
    let mut renewed = before.clone();
    renewed.renew_from(&after);
    assert!(!renewed.is_renewed(&after));
    folder.write("b.crt", a_certificate("ca").0);
    assert!(read().is_renewed(&after), "an authority too");
}

/// What is wrong with listeners and `acme` of these texts: path, message and fix.
fn ordered(listeners: &str, acme: &str) -> String {
    let text = format!(
        "listeners: [{listeners}]\n{acme}\nservices: {{ s: {{ pools: {{ p: {{ backends: [a:1] }} }} }} }}\n"
    );
    told(&read_text(&text).errors)
}

#[test]
fn certificates_that_are_ordered() {
    const BOTH: &str = "{ address: 127.0.0.1:1 }, { address: 127.0.0.1:2, tls: { acme: true } }";
    const SECURE: &str = "{ address: 127.0.0.1:2, tls: { acme: true } }";
    const GOOD: &str = "acme: { terms_agreed: true, state: x, hosts: [a.example] }";
    assert_eq!(ordered(BOTH, GOOD), "");
    for (listeners, acme, path, says) in [
        (SECURE, GOOD, "acme: ", "every listener speaks TLS"),
        (BOTH, "", "listeners[1]: ", "add `acme` to the file"),
        (BOTH, "acme: { state: x, hosts: [a] }", "acme.terms_agreed: ", "is missing"),
        (
            BOTH,
            "acme: { terms_agreed: false, state: x, hosts: [a] }",
            "acme.terms_agreed: ",
            "write `terms_agreed: true`",
        ),
        (
            BOTH,
            "acme: { terms_agreed: true, state: x, hosts: ['*.a.example'] }",
            "acme.hosts[0]: ",
            "is a wildcard",
        ),
        (
            BOTH,
            "acme: { terms_agreed: true, state: x, hosts: [192.0.2.1] }",
            "acme.hosts[0]: ",
            "is an address",
        ),
        (
            BOTH,
            "acme: { terms_agreed: true, state: x, hosts: [a, [b, A]] }",
            "acme.hosts[1]: ",
            "`a` is in two certificates",
        ),
        (
            BOTH,
            "acme: { terms_agreed: true, state: x, hosts: [[a, a]] }",
            "acme.hosts[0][1]: ",
            "in the list already",
        ),
        (
            BOTH,
            "acme: { terms_agreed: true, state: x, hosts: [a], directory: 'http://ca.example/' }",
            "acme.directory: ",
            "use a URL by https",
        ),
        (
            BOTH,
            "acme: { terms_agreed: true, state: x, hosts: [a], contacts: [ops@example.com] }",
            "acme.contacts[0]: ",
            "use a mail address as a URL",
        ),
        (
            BOTH,
            "acme: { terms_agreed: true, state: x, hosts: [a], ca: none }",
            "acme.ca: ",
            "cannot be read",
        ),
    ] {
        let wrong = ordered(listeners, acme);
        assert!(wrong.starts_with(path) && wrong.contains(says), "{acme}: {wrong}");
        assert_eq!(wrong.lines().count(), 1, "{wrong}");
    }
    let wrong = ordered("{ address: 127.0.0.1:1, tls: {} }", "");
    assert!(wrong.starts_with("listeners[0].tls.certificates: the key `certificates` is missing"));
    assert!(wrong.contains("or `acme: true`"), "{wrong}");
    let outcome = read_text(&format!(
        "listeners: [{{ address: 127.0.0.1:1 }}]\n{GOOD}\n\
         services: {{ s: {{ pools: {{ p: {{ backends: [a:1] }} }} }} }}\n"
    ));
    assert!(outcome.spec.is_some());
    assert!(told(&outcome.warnings).contains("add `tls: { acme: true }`"), "{outcome:?}");
    let secure = "acme: { terms_agreed: true, state: x, hosts: [a], challenge: tls-alpn-01 }";
    assert_eq!(ordered(SECURE, secure), "");
}
