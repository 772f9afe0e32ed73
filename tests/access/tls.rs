use crate::{api::eventually, stage::*, support::*};
use rcgen::{CertificateParams, DnType, IsCa, Issuer};
use std::fs;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An authority, and where what it issues is put.
struct Ca {
    issuer: Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// `NAME.crt` and `NAME.key`, for the machine and with the common name.
    fn issue(&self, folder: &TempDir, name: &str) -> (String, String) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        (
            write(folder, &format!("{name}.crt"), &cert),
            write(folder, &format!("{name}.key"), &key.serialize_pem()),
        )
    }
}

fn write(folder: &TempDir, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

/// A process with this in its `admin`, and where it is asked.
async fn served(backend: &Backend, folder: TempDir, admin: &str) -> (Served, String) {
    let admin = format!("address: 127.0.0.1:0, {admin}");
    let served = Served::start(folder, &config_of(backend, &admin));
    let address = served.admin_address().await;
    (served, format!("https://{address}"))
}

const TLS: &str = "tls: { certificates: [{ cert: admin.crt, key: admin.key }] }";

#[tokio::test]
async fn tokens_by_tls_and_files_that_change() {
    let (ca, other) = (Ca::new(), Ca::new());
    let folder = tempfile::tempdir().unwrap();
    ca.issue(&folder, "admin");
    let ca_file = write(&folder, "ca.crt", &ca.pem);
    let other_file = write(&folder, "other.crt", &other.pem);
    write(&folder, "ci.token", OPERATOR);
    let backend = Backend::named("blue").await;
    let tokens = "tokens: [{ name: ci, file: ci.token, role: operator }]";
    let (served, admin) = served(&backend, folder, &format!("{TLS}, {tokens}")).await;
    let environment = [("CROSSFADE_ADMIN", &*admin), ("CROSSFADE_TOKEN", OPERATOR)];
    let status =
        async |words: &[&str]| run(&[words, &["status"]].concat(), &environment, None).await;

    let done = status(&["--ca", &ca_file]).await;
    assert_eq!(done.code, 0, "{}", done.err);
    let stranger = status(&["--ca", &other_file]).await;
    assert_eq!(stranger.code, 5);
    assert!(stranger.err.contains("vouches for it with --ca"), "{}", stranger.err);
    let in_the_clear = admin.replace("https", "http");
    let told = run(&["--admin", &in_the_clear, "status"], &[], None).await;
    assert_eq!(told.code, 1);
    assert!(told.err.contains("use https://"), "{}", told.err);
    let elsewhere = [("CROSSFADE_ADMIN", &*format!("https://{}", backend.address))];
    let plain = run(&["--ca", &ca_file, "status"], &elsewhere, None).await;
    assert_eq!(plain.code, 5, "a server without TLS");
    assert!(plain.err.contains("then use http://"), "{}", plain.err);

    // Renewed, by another authority.
    other.issue(&served.folder, "admin");
    eventually("the new certificate is shown", async || {
        status(&["--ca", &other_file]).await.code == 0
    })
    .await;
    assert_eq!(status(&["--ca", &ca_file]).await.code, 5);
}

#[tokio::test]
async fn a_client_certificate_is_as_good_as_a_token() {
    let (ca, other) = (Ca::new(), Ca::new());
    let folder = tempfile::tempdir().unwrap();
    ca.issue(&folder, "admin");
    let ca_file = write(&folder, "ca.crt", &ca.pem);
    write(&folder, "clients.crt", &ca.pem);
    write(&folder, "ci.token", OPERATOR);
    let [deploy, eye, nobody] = ["deploy", "eye", "nobody"].map(|name| ca.issue(&folder, name));
    let forged = tempfile::tempdir().unwrap();
    let forged = other.issue(&forged, "deploy");
    let backend = Backend::named("blue").await;
    let clients = "client_ca: clients.crt, client_roles: [{ name: deploy, role: operator }, \
        { name: eye, role: viewer }], tokens: [{ name: ci, file: ci.token, role: operator }]";
    let (served, admin) = served(&backend, folder, &format!("{TLS}, {clients}")).await;
    let ask = async |pair: Option<&(String, String)>, words: &[&str], token: &str| {
        let mut all = vec!["--admin", &admin, "--ca", &ca_file, "-o", "json"];
        if let Some((cert, key)) = pair {
            all.extend(["--cert", cert, "--key", key]);
        }
        run(&[&all, words].concat(), &[("CROSSFADE_TOKEN", token)], None).await
    };
    let cutover = ["cutover", "shop", "green"];

    let made = ask(Some(&deploy), &cutover, "").await;
    assert_eq!(made.code, 0, "{}", made.err);
    let receipt: serde_json::Value = serde_json::from_str(&made.out).unwrap();
    assert_eq!(receipt["author"], "deploy");
    assert_eq!(ask(Some(&eye), &["status"], "").await.code, 0);
    let viewer = ask(Some(&eye), &cutover, "").await;
    assert_eq!(viewer.code, 1);
    assert!(viewer.err.contains("needs the role operator"), "{}", viewer.err);
    let stranger = ask(Some(&nobody), &["status"], "").await;
    assert_eq!(stranger.code, 1);
    assert!(stranger.err.contains("admin.client_roles"), "{}", stranger.err);
    let without = ask(None, &["status"], "").await;
    assert_eq!(without.code, 1);
    assert!(without.err.contains("--token-file"), "{}", without.err);
    assert_eq!(ask(None, &["healthcheck"], "").await.code, 0, "a probe has no certificate");
    assert_eq!(ask(None, &cutover, OPERATOR).await.code, 0, "a token is good enough");
    assert_eq!(ask(Some(&deploy), &cutover, "a-wrong-token-0123").await.code, 1);
    let forger = ask(Some(&forged), &["status"], "").await;
    assert_eq!(forger.code, 5, "{}", forger.err);
    assert!(forger.err.contains("admin.client_ca"), "{}", forger.err);

    // Others vouch for clients from now on.
    fs::write(served.path("clients.crt"), &other.pem).unwrap();
    eventually("the forger is no forger any more", async || {
        ask(Some(&forged), &["status"], "").await.code == 0
    })
    .await;
    assert_eq!(ask(Some(&deploy), &["status"], "").await.code, 5);
}

#[tokio::test]
async fn what_is_no_handshake_is_closed_and_hurts_nobody() {
    let ca = Ca::new();
    let folder = tempfile::tempdir().unwrap();
    ca.issue(&folder, "admin");
    let ca_file = write(&folder, "ca.crt", &ca.pem);
    let backend = Backend::named("blue").await;
    let (_served, admin) = served(&backend, folder, TLS).await;
    let address = admin.trim_start_matches("https://");
    for garbage in [&b"\0\0\0"[..], b"\x16\x03\x01\xff\xff", b"\x16\x03\x01\0\x05hello", b""] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end too.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "{garbage:?}");
    }
    let ran =
        run(&["--admin", &admin, "--ca", &ca_file, "cutover", "shop", "green"], &[], None).await;
    assert_eq!(ran.code, 0, "loopback without tokens: {}", ran.err);
}
