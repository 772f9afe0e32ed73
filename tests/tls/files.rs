//! From the files to the handshakes, with everything between as in production but the process.

use crate::{api::Api, stage::*, support::*};
use crossfade::{
    admin,
    config::{self, load},
};
use std::{fs, path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;

struct Edge {
    folder: TempDir,
    api: Api,
}

impl Edge {
    /// A proxy whose file is watched, and the certificate that it names.
    async fn start(backend: &Backend, pem: &Pem) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "threads: 1\n\
             listeners: [{{ address: 127.0.0.1:0, tls: {{ certificates: [{{ cert: a.crt, key: a.key }}] }} }}]\n\
             services: {{ shop: {{ pools: {{ blue: {{ backends: [\"{}\"] }} }} }} }}\n",
            backend.address
        );
        fs::write(folder.path().join("c.yaml"), text).unwrap();
        write(&folder, pem);
        let loaded = load(&folder.path().join("c.yaml"));
        let spec = loaded.outcome.spec.clone().expect("a good file");
        let (reloader, mut changes) = config::watch(&loaded, Duration::from_millis(50));
        let api = Api::with(spec, Some(reloader)).await;
        let (handle, audit) = (api.proxy.handle.clone(), api.audit.clone());
        tokio::spawn(async move {
            while let Some(loaded) = changes.recv().await {
                admin::follow(&handle, &audit, loaded.outcome).await;
            }
        });
        Self { folder, api }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The names that a new client is shown.
    async fn shown(&self, ca: &Ca) -> String {
        let config = Arc::new(client_config(ca, &[], None));
        shown_names(&shake(&self.api.proxy, &config, "a.example").await.expect("a handshake"))
    }

    async fn has_line(&self, line: &str) -> bool {
        self.api.get("/metrics").await.text.lines().any(|have| have == line)
    }
}

fn write(folder: &TempDir, pem: &Pem) {
    fs::write(folder.path().join("a.crt"), &pem.cert).unwrap();
    fs::write(folder.path().join("a.key"), &pem.key).unwrap();
}

async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

#[tokio::test]
async fn files_that_change_are_in_force_and_files_that_are_broken_are_not() {
    let ca = Ca::new();
    let backend = Backend::named("blue").await;
    let edge = Edge::start(&backend, &ca.issue(&["a.example"])).await;
    assert_eq!(edge.shown(&ca).await, "DNSName(a.example)");

    write(&edge.folder, &ca.issue(&["a.example", "b.example"]));
    eventually("the new certificate is shown", async || {
        edge.shown(&ca).await == "DNSName(a.example),DNSName(b.example)"
    })
    .await;
    let status = edge.api.get("/v1/status").await.json();
    assert_eq!(status["revision"], 1);
    let certificate = &status["listeners"][0]["certificates"][0];
    assert_eq!(certificate["names"], serde_json::json!(["a.example", "b.example"]));
    assert_eq!(certificate["not_after"], "4096-01-01T00:00:00Z");

    // A key that is another certificate's.
    fs::write(edge.path("a.key"), ca.issue(&["a.example"]).key).unwrap();
    let failed = "crossfade_config_last_reload_successful 0";
    eventually("it is told", async || edge.has_line(failed).await).await;
    assert_eq!(edge.shown(&ca).await, "DNSName(a.example),DNSName(b.example)");
    let status = edge.api.get("/v1/status").await.json();
    let error = status["config"]["error"].as_str().unwrap();
    let place = format!("{}:2:", edge.path("c.yaml").display());
    assert!(error.starts_with(&place), "{error}");
    assert!(error.contains("listeners[0].tls.certificates[0].key: the key in `a.key` is not"));

    write(&edge.folder, &ca.issue(&["a.example", "c.example"]));
    eventually("it is mended", async || {
        edge.shown(&ca).await == "DNSName(a.example),DNSName(c.example)"
    })
    .await;
    let succeeded = "crossfade_config_last_reload_successful 1";
    eventually("it is told", async || edge.has_line(succeeded).await).await;
}

#[tokio::test]
async fn metrics_of_tls() {
    let ca = Ca::new();
    let backend = Backend::named("blue").await;
    let pem = ca.issue_with(&["*.a.example", "a.example"], |params| {
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    });
    let edge = Edge::start(&backend, &pem).await;
    let config = Arc::new(client_config(&ca, &[], None));
    for _ in 0..2 {
        let mut stream = shake(&edge.api.proxy, &config, "a.example").await.unwrap();
        let (reply, _) = exchange(&mut stream, "GET / HTTP/1.0\r\nHost: a.example\r\n\r\n").await;
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    }
    edge.api.proxy.raw("GET / HTTP/1.1\r\n\r\n").await;
    let listener = format!("listener=\"{}\"", edge.api.proxy.address);
    for line in [
        format!("crossfade_tls_handshakes_total{{{listener},resumed=\"false\"}} 1"),
        format!("crossfade_tls_handshakes_total{{{listener},resumed=\"true\"}} 1"),
        format!("crossfade_tls_handshake_failures_total{{{listener},reason=\"not_tls\"}} 1"),
        format!("crossfade_tls_handshake_failures_total{{{listener},reason=\"timeout\"}} 0"),
        format!(
            "crossfade_certificate_expiry_timestamp_seconds{{{listener},name=\"a.example\"}} 4102444800"
        ),
    ] {
        eventually(&line, async || edge.has_line(&line).await).await;
    }
}

/// What PUT /v1/config is given, GET gives back; files are named, keys never shown.
#[tokio::test]
async fn the_api_names_files_and_shows_no_secrets() {
    let ca = Ca::new();
    let backend = Backend::named("blue").await;
    let pem = ca.issue(&["a.example"]);
    let edge = Edge::start(&backend, &pem).await;
    let answer = edge.api.get("/v1/config").await;
    let secret = pem.key.lines().nth(1).unwrap();
    assert!(!answer.text.contains(secret) && !answer.text.contains("PRIVATE"));
    let mut document = answer.json();
    let certificate = document["listeners"][0]["tls"]["certificates"][0].clone();
    assert_eq!(certificate["key"], edge.path("a.key").display().to_string());
    // The same certificate, read anew.
    let renewed = ca.issue(&["a.example", "d.example"]);
    write(&edge.folder, &renewed);
    document["listeners"][0]["tls"]["min_version"] = "1.3".into();
    let answer = edge.api.put("/v1/config", document.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(edge.shown(&ca).await, "DNSName(a.example),DNSName(d.example)");

    document["listeners"][0]["tls"]["certificates"][0]["key"] = "/nowhere.key".into();
    let answer = edge.api.put("/v1/config", document).await;
    assert_eq!(answer.status, 422);
    assert!(answer.text.contains("the key `/nowhere.key` cannot be read"), "{}", answer.text);
}
