//! Pebble: an issuer of certificates (ACME) to test with, and the DNS that leads it here.

use crate::{stage::*, support::*};
use crossfade::{
    control::View,
    spec::{Acme, AcmeChallenge, Certificate, Engine, Listener, ListenerTls, Name, Spec},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::json;
use std::{
    env, fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// An issuer that runs, and where it looks for proofs.
pub struct Pebble {
    process: Child,
    dns: Child,
    /// Vouches for the issuer's own address, not for what it issues.
    pub ca: Ca,
    ports: Ports,
    _folder: TempDir,
}

/// Known before anybody listens there: issuer and proxy must know of each other.
#[derive(Clone, Copy)]
pub struct Ports {
    pub directory: u16,
    pub management: u16,
    pub dns: u16,
    pub http: u16,
    pub tls: u16,
}

impl Ports {
    pub fn free() -> Self {
        let [directory, management, dns, http, tls] =
            std::array::from_fn(|_| vacant_address().port());
        Self { directory, management, dns, http, tls }
    }

    fn url(self) -> Name {
        format!("https://127.0.0.1:{}/dir", self.directory).into()
    }
}

fn is_installed(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(tool).is_file())
}

impl Pebble {
    /// `None`, loudly, where it is not installed (Debian's package `pebble`); with CROSSFADE_PEBBLE=required that is
    /// an error. `good_for`: seconds, of what it issues.
    pub async fn start(ports: Ports, ca: Ca, good_for: u64) -> Option<Self> {
        if !["pebble", "pebble-challtestsrv"].into_iter().all(is_installed) {
            assert!(
                env::var("CROSSFADE_PEBBLE").as_deref() != Ok("required"),
                "pebble is not installed"
            );
            eprintln!("!!!! SKIPPED: pebble is not installed, so no certificate is ordered");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let own = ca.issue(&["127.0.0.1"]);
        let path = |name: &str| folder.path().join(name);
        fs::write(path("cert.pem"), &own.cert).unwrap();
        fs::write(path("key.pem"), &own.key).unwrap();
        let settings = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{}", ports.directory),
            "managementListenAddress": format!("127.0.0.1:{}", ports.management),
            "certificate": path("cert.pem"), "privateKey": path("key.pem"),
            "httpPort": ports.http, "tlsPort": ports.tls,
            "certificateValidityPeriod": good_for,
        }});
        fs::write(path("pebble.json"), settings.to_string()).unwrap();
        let dns = format!("127.0.0.1:{}", ports.dns);
        let nothing = ["-management", "", "-http01", "", "-https01", "", "-tlsalpn01", ""];
        let names = Command::new("pebble-challtestsrv")
            .args(["-dns01", &dns, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(nothing)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = Command::new("pebble")
            .args(["-dnsserver", &dns, "-config"])
            .arg(path("pebble.json"))
            .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_AUTHZREUSE", "0")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pebble = Self { process, dns: names, ca, ports, _folder: folder };
        let listens = |port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        until("pebble listens", || {
            [ports.directory, ports.management, ports.dns].into_iter().all(listens)
        })
        .await;
        Some(pebble)
    }

    /// The authority of what it issues; another one each time that it starts.
    pub async fn root(&self) -> CertificateDer<'static> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.ports.management));
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = TlsConnector::from(Arc::new(client_config(&self.ca, &[], None)));
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        stream.write_all(b"GET /roots/0 HTTP/1.0\r\n\r\n").await.unwrap();
        let mut reply = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut reply)).await.unwrap().unwrap();
        CertificateDer::from_pem_slice(&reply).unwrap()
    }

    /// Trusts what it issues.
    pub async fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root().await).unwrap();
        let mut config = client_config(&self.ca, &["http/1.1"], None);
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            crossfade::spec::crypto_provider().clone(),
        );
        config.dangerous().set_certificate_verifier(verifier.build().unwrap());
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    }

    /// Ends it; whoever ordered there is on their own.
    pub fn end(mut self) -> Ca {
        self.kill();
        std::mem::replace(&mut self.ca, Ca::new())
    }

    fn kill(&mut self) {
        for process in [&mut self.process, &mut self.dns] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A proxy's spec, with the listener that speaks TLS first and one in the clear.
pub fn acme_spec(backend: &Backend, engine: Engine, ports: Ports, acme: Acme) -> Spec {
    let mut tls = ListenerTls::new(Vec::new());
    tls.acme = true;
    let mut spec = tls_spec(backend, engine, tls);
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    spec.listeners[0].address = address(ports.tls);
    spec.listeners.push(Listener::new(address(ports.http)));
    spec.acme = Some(acme);
    spec
}

pub fn acme(ca: &Ca, ports: Ports, state: &Path, hosts: &[&[&str]]) -> Acme {
    let hosts = hosts.iter().map(|names| names.iter().map(|name| (*name).into()).collect());
    Acme {
        directory: ports.url(),
        ca: Some(ca.authority()),
        contacts: vec!["mailto:ops@example.com".into()],
        state: state.into(),
        hosts: hosts.collect(),
        challenge: AcmeChallenge::Http01,
        renew_before: None,
    }
}

/// What is shown on the listener that speaks TLS.
pub fn shown(proxy: &Proxy) -> Vec<Certificate> {
    let tls = proxy.live.published.read(|snapshot| snapshot.listeners[0].tls.clone());
    tls.unwrap().certificates.all().to_vec()
}

/// Orders so far of the certificate for `host` that brought one, and that did not.
fn orders(view: &View, host: &str) -> Option<(u64, u64)> {
    let order = view.orders.iter().find(|order| order.hosts.iter().any(|name| **name == *host));
    order.map(|order| (order.issued, order.failed))
}

/// Waits until so many orders for `host` have brought a certificate, and have not.
pub async fn ordered(proxy: &Proxy, host: &str, issued: u64, failed: u64) {
    orders_are(proxy, host, |orders| orders == (issued, failed)).await;
}

/// Waits until an order for `host` has brought a certificate, however many have not.
pub async fn issued(proxy: &Proxy, host: &str) {
    orders_are(proxy, host, |(issued, _)| issued > 0).await;
}

async fn orders_are(proxy: &Proxy, host: &str, as_wanted: impl Fn((u64, u64)) -> bool) {
    // Between the second try and the third are 20 s.
    let patience = 2 * PATIENCE;
    let mut views = proxy.handle.views();
    let arrives = views.wait_for(|view| orders(view, host).is_some_and(&as_wanted));
    let arrived = timeout(patience, arrives).await.is_ok();
    assert!(arrived, "{host}: {:?}", proxy.handle.view().orders);
}

/// Long enough for tests.
pub const YEAR: u64 = 365 * 86_400;
