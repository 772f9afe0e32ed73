//! Who may use the admin API, each mistake at its place.

use super::*;
use std::{fs, os::unix::fs::PermissionsExt};
use tempfile::TempDir;

const SERVICES: &str = "listeners: [{ address: 127.0.0.1:1 }]\n\
    services: { s: { pools: { p: { backends: [a:1] } } } }\n";

fn read(admin: &str) -> Outcome {
    read_text(&format!("{SERVICES}admin: {{ {admin} }}\n"))
}

fn told(problems: &[Problem]) -> String {
    let told = |it: &Problem| format!("{}: {}; {}\n", it.path, it.message, it.fix);
    problems.iter().map(told).collect()
}

/// What the only problem says.
fn refused(admin: &str) -> String {
    let outcome = read(admin);
    assert_eq!(outcome.errors.len(), 1, "{admin}: {}", lines(&outcome.errors));
    told(&outcome.errors)
}

const CI: &str = "{ name: ci, file: ci.token, role: operator }";

#[test]
fn a_public_address_takes_tokens_or_a_permission() {
    let public = "address: 0.0.0.0:9900";
    assert!(refused(public).contains("nobody has to show that they may steer"));
    assert!(refused(&format!("{public}, tokens: []")).contains("nobody has to show"));
    for fine in ["address: 127.0.0.1:9900", "address: \"[::1]:9900\"", "address: unix:a.sock"] {
        assert_eq!(lines(&read(fine).errors), "", "{fine}");
    }
    let open = read(&format!("{public}, insecure: true"));
    assert!(open.spec.is_some() && open.warnings.is_empty());
    let guarded = read(&format!("{public}, tokens: [{CI}]"));
    assert!(guarded.spec.is_some());
    assert!(told(&guarded.warnings).contains("in the clear"), "{}", told(&guarded.warnings));
    let trusted = read(&format!("{public}, tokens: [{CI}], insecure: true"));
    assert!(trusted.warnings.is_empty());
    // One mistake is told once.
    assert!(refused(&format!("{public}, tokens: 1")).starts_with("admin.tokens: "));
    assert!(refused(&format!("{public}, tokns: [{CI}]")).contains("did you mean `tokens`"));
    assert!(
        refused(&format!("{public}, tokens: [{{ name: ci, file: gone, role: viewer }}]"))
            .contains("cannot be read")
    );
}

#[test]
fn tokens_have_a_name_of_their_own_and_a_role() {
    let refused = |tokens: &str| refused(&format!("tokens: [{tokens}]"));
    for name in ["file", "api", "rollout"] {
        let said = refused(&format!("{{ name: {name}, file: x.token, role: viewer }}"));
        assert!(said.contains("the author of other changes"), "{said}");
    }
    let said = refused(&format!("{CI}, {{ name: ci, file: b.token, role: viewer }}"));
    assert!(said.starts_with("admin.tokens[1].name: ") && said.contains("line 3"), "{said}");
    let said = refused(&format!("{CI}, {{ name: b, file: ci.token, role: viewer }}"));
    assert!(said.starts_with("admin.tokens[1].file: `ci` and `b` are the same token"), "{said}");
    let said = refused("{ name: b, file: b.token, role: admin }");
    assert!(said.contains("`viewer`") && said.contains("`operator`"), "{said}");
}

#[test]
fn token_files_must_have_a_good_token() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = |content: &str, mode| {
        let file = folder.path().join("a.token");
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        read_in(&folder)
    };
    for (content, says) in [
        ("", "there is no token"),
        ("\n", "there is no token"),
        ("hunter2", "has 7 characters, and can be guessed"),
        ("two words that are long", "something else than visible ASCII"),
    ] {
        let said = told(&outcome(content, 0o600).errors);
        assert!(said.starts_with("admin.tokens[0].file: ") && said.contains(says), "{said}");
        assert!(said.contains("openssl rand"), "{said}");
        assert!(!said.contains("hunter2"));
    }
    let good = outcome("a-good-token-0123\n", 0o600);
    assert!(good.errors.is_empty() && good.warnings.is_empty());
    let [file] = &good.files[..] else { panic!("{:?}", good.files) };
    assert!(file.path.ends_with("a.token") && file.hash.is_some());
    let open = outcome("a-good-token-0123\n", 0o644);
    assert!(told(&open.warnings).contains("chmod 600"), "{}", told(&open.warnings));
}

fn read_in(folder: &TempDir) -> Outcome {
    let text =
        format!("{SERVICES}admin: {{ tokens: [{{ name: a, file: a.token, role: viewer }}] }}\n");
    parse(&text, &folder.path().join("c.yaml"), Surroundings::of_clients())
}

#[test]
fn another_token_in_the_file_is_no_change_of_the_spec() {
    let folder = tempfile::tempdir().unwrap();
    let read = |content: &str| {
        fs::write(folder.path().join("a.token"), content).unwrap();
        read_in(&folder).spec.unwrap()
    };
    let before = read("a-good-token-0123");
    let after = read("another-good-token");
    assert_eq!(before, after);
    assert!(after.is_renewed(&before));
    let mut renewed = before.clone();
    renewed.renew_from(&after);
    assert!(!renewed.is_renewed(&after));
}

#[test]
fn a_token_never_appears() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.token"), "a-good-token-0123").unwrap();
    let spec = read_in(&folder).spec.unwrap();
    let written = document(&spec).to_string();
    assert!(written.contains("a.token") && !written.contains("a-good-token"), "{written}");
    assert!(!format!("{spec:?}").contains("a-good-token"));
}

#[test]
fn roles_of_unix_users() {
    let unix = "address: unix:a.sock, unix_roles:";
    let spec =
        read(&format!("{unix} [{{ user: deploy, role: operator }}, {{ role: viewer }}]")).spec;
    assert_eq!(spec.unwrap().admin.unix_roles.len(), 2);
    let said = refused(&format!("{unix} [{{ user: a, group: b, role: viewer }}]"));
    assert!(said.contains("for a user and for a group"), "{said}");
    let said = refused(&format!("{unix} [{{ user: a }}]"));
    assert!(said.contains("`role` is missing"), "{said}");
    let tcp = read("unix_roles: [{ role: viewer }]");
    assert!(told(&tcp.warnings).contains("for a unix socket"), "{}", told(&tcp.warnings));
}

const TLS: &str = "tls: { certificates: [{ cert: a.crt, key: a.key }] }";

#[test]
fn tls_and_certificates_of_clients() {
    let roles = "client_roles: [{ name: deploy, role: operator }, { role: viewer }]";
    let good = read(&format!("address: 0.0.0.0:9900, {TLS}, client_ca: c.crt, {roles}"));
    assert_eq!(lines(&good.errors), "");
    assert_eq!(lines(&good.warnings), "");
    let admin = good.spec.unwrap().admin;
    assert!(admin.is_guarded() && admin.client_roles.len() == 2);
    let tls = admin.tls.unwrap();
    assert!(!tls.resumption && !tls.client_auth.unwrap().required);
    let tokens = read(&format!("address: 0.0.0.0:9900, {TLS}, tokens: [{CI}]"));
    assert!(tokens.spec.is_some() && tokens.warnings.is_empty());

    for (admin, says) in [
        (format!("address: 0.0.0.0:9900, {TLS}"), "nobody has to show that they may steer"),
        (format!("{TLS}, client_ca: c.crt"), "nothing says what clients with a certificate may do"),
        (format!("{TLS}, {roles}"), "nobody vouches for them"),
        (format!("client_ca: c.crt, {roles}"), "certificates of clients need TLS"),
        (format!("address: unix:a.sock, {TLS}"), "nobody listens in on a unix socket"),
        ("tls: { certificates: [] }".to_owned(), "the list is empty"),
        ("tls: {}".to_owned(), "`certificates` is missing"),
        (format!("{TLS}, client_ca: gone, {roles}"), "cannot be read"),
        (format!("address: 0.0.0.0:9900, {TLS}, client_ca: gone, {roles}"), "cannot be read"),
    ] {
        let said = refused(&admin);
        assert!(said.contains(says), "{admin}: {said}");
    }
}
