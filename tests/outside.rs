//! Whom rollouts ask and tell, on real sockets: gates that are asked elsewhere, and hooks.

mod support;

use crossfade::{
    control::outside::{Outside, Patience, Teller, Telling, Told},
    rollout::Answer,
    spec::{GateTime, Hook, HookEvent, PrometheusGate, WebhookGate},
};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc::UnboundedReceiver, watch},
    time::timeout,
};

/// Of a question that is answered at once.
const AMPLE: Duration = PATIENCE;

/// Of one that is not.
const SHORT: Duration = Duration::from_millis(50);

fn query(url: &str, query: &str, max: f64) -> PrometheusGate {
    PrometheusGate {
        name: "q".into(),
        url: url.into(),
        query: query.into(),
        max,
        interval: PrometheusGate::INTERVAL,
        timeout: AMPLE,
    }
}

fn why(answer: Answer) -> String {
    match answer {
        Answer::Inconclusive(why) => why,
        other => panic!("{other:?} is an answer"),
    }
}

fn at(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// The one that Debian has, with nothing in it; it ends with whoever holds it.
struct Prometheus {
    url: String,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// `None`, loudly, where it is not installed (Debian's package `prometheus`); with CROSSFADE_PROMETHEUS=required
    /// that is an error.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("p.yml"), "global: {}\n").unwrap();
        let spawned = Command::new("prometheus")
            .args(["--config.file=p.yml", "--storage.tsdb.path=data"])
            .args(["--web.listen-address=127.0.0.1:0", "--web.route-prefix=/below"])
            .arg("--web.external-url=http://localhost/below")
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let process = match spawned {
            Ok(process) => process,
            Err(error) => {
                let required = std::env::var("CROSSFADE_PROMETHEUS");
                assert!(required.as_deref() != Ok("required"), "no prometheus: {error}");
                eprintln!("!!!! SKIPPED: prometheus is not installed, so none is asked");
                return None;
            }
        };
        let mut prometheus = Self { url: String::new(), process, _folder: folder };
        let mut lines = BufReader::new(prometheus.process.stderr.take().unwrap()).lines();
        // It says both, in either order.
        let mut is_ready = false;
        while prometheus.url.is_empty() || !is_ready {
            let line = lines.next().expect("prometheus runs").unwrap();
            if let Some((_, address)) = line.split_once("msg=\"Listening on\" address=") {
                prometheus.url = format!("http://{}/below", address.trim());
            }
            is_ready |= line.contains("Server is ready to receive web requests");
        }
        // Who does not read it makes it wait.
        thread::spawn(move || lines.for_each(drop));
        Some(prometheus)
    }
}

#[tokio::test]
async fn a_real_prometheus() {
    let started = tokio::task::spawn_blocking(Prometheus::start).await.unwrap();
    let Some(prometheus) = started else { return };
    let outside = Outside::new().unwrap();
    let ask = async |promql: &str, max| {
        outside.ask_prometheus(&query(&prometheus.url, promql, max)).await
    };
    assert_eq!(ask("vector(0.5)", 0.5).await, Answer::Pass("0.5, which is not above 0.5".into()));
    let above = Answer::Fail("2.25, which is above 2".into());
    assert_eq!(ask("scalar(vector(2)) + 0.25", 2.0).await, above);
    assert!(matches!(ask("vector(1) / 0", 1e9).await, Answer::Fail(_)), "infinite");
    let two = "vector(1) or label_replace(vector(2), \"a\", \"b&c=d +\", \"\", \"\")";
    for (promql, says) in [
        ("sum(rate(nothing_of_the_kind[1m]))", "the answer is empty"),
        ("vector(0) / 0", "which is no number"),
        (two, "has 2 numbers, not one"),
        ("\"text\"", "is a string, not one number"),
        ("up[5m]", "is a matrix, not one number"),
        ("sum(", "the answer is 400 Bad Request: "),
    ] {
        let said = why(ask(promql, 1.0).await);
        assert!(said.contains(says), "{promql}: {said}");
    }
    let root = prometheus.url.trim_end_matches("/below");
    let said = why(outside.ask_prometheus(&query(root, "vector(1)", 1.0)).await);
    assert!(said.starts_with("the answer is 404"), "the path of the URL counts: {said}");
}

/// Answers with this status and text, whatever it is asked.
async fn answering(status: u16, text: String) -> Backend {
    Backend::start(move |_| {
        let body = full(text.clone());
        async move { Response::builder().status(status).body(body).unwrap() }
    })
    .await
}

#[tokio::test]
async fn what_prometheus_must_not_answer() {
    let outside = Outside::new().unwrap();
    let good = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"0"]}}"#;
    let long = format!("{good}{}", " ".repeat(1 << 20));
    for (status, text, says) in [
        (200, good, ""),
        (503, good, "the answer is 503 Service Unavailable, and not Prometheus's"),
        (503, "<html>", "the answer is 503 Service Unavailable"),
        (200, "<html>", "the answer is not JSON"),
        (200, &long, "the answer is longer than 1048576 bytes"),
        (302, "", "the answer is 302 Found"),
    ] {
        let server = answering(status, text.to_owned()).await;
        let answer = outside.ask_prometheus(&query(&at(server.address), "x", 1.0)).await;
        match says {
            "" => assert_eq!(answer, Answer::Pass("0, which is not above 1".into())),
            _ => assert_eq!(why(answer), says, "{text:.20}"),
        }
    }
    let nobody = query(&at(vacant_address()), "x", 1.0);
    let said = why(outside.ask_prometheus(&nobody).await);
    assert!(said.starts_with("no connection: Connection refused"), "{said}");
    let in_the_clear = answering(200, good.to_owned()).await;
    let by_tls = query(&format!("https://{}", in_the_clear.address), "x", 1.0);
    let said = why(outside.ask_prometheus(&by_tls).await);
    assert!(said.starts_with("no connection: "), "{said}");
}

/// Reads whatever is said and never answers, or with so much of an answer.
async fn silent_after(start: &'static str) -> Backend {
    Backend::raw(move |mut stream| async move {
        let mut void = [0; 1024];
        // Whoever has not asked yet does not expect an answer.
        if stream.read(&mut void).await.is_err()
            || stream.write_all(start.as_bytes()).await.is_err()
        {
            return;
        }
        while stream.read(&mut void).await.is_ok_and(|count| count > 0) {}
    })
    .await
}

#[tokio::test]
async fn who_is_silent_is_not_waited_for() {
    let outside = Outside::new().unwrap();
    for start in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"] {
        let silent = silent_after(start).await;
        let url = at(silent.address);
        let gate = PrometheusGate { timeout: SHORT, ..query(&url, "x", 1.0) };
        let asked = timeout(PATIENCE, outside.ask_prometheus(&gate)).await;
        assert_eq!(why(asked.unwrap()), "no answer within 50ms");
        let gate = WebhookGate { timeout: SHORT, ..webhook(&url) };
        let asked = timeout(PATIENCE, outside.ask_webhook(&gate, &json!({}))).await;
        assert_eq!(why(asked.unwrap()), "no answer within 50ms");
    }
}

fn webhook(url: &str) -> WebhookGate {
    WebhookGate {
        name: "smoke".into(),
        url: url.into(),
        when: GateTime::Before,
        interval: WebhookGate::INTERVAL,
        timeout: AMPLE,
        key_file: None,
    }
}

/// What somebody was sent.
#[derive(Clone, Debug)]
struct Sent {
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Sent {
    async fn read(request: Request<Incoming>) -> Self {
        let (head, body) = request.into_parts();
        assert_eq!(head.method, "POST");
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Self { path: head.uri.to_string(), headers: head.headers, body }
    }

    fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether somebody who has this key has signed it: as docs/rollouts.md tells it.
    fn is_signed_by(&self, key: &str) -> bool {
        let header = |name: &str| self.headers[name].to_str().unwrap();
        let mut signed = format!("{}.", header("x-crossfade-timestamp")).into_bytes();
        signed.extend_from_slice(&self.body);
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.as_bytes());
        let hex = header("x-crossfade-signature").strip_prefix("sha256=").unwrap();
        let tag: Vec<u8> = (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        aws_lc_rs::hmac::verify(&key, &signed, &tag).is_ok()
    }
}

/// Somebody who is told things.
struct Hearer {
    server: Backend,
    heard: Arc<Mutex<Vec<Sent>>>,
}

impl Hearer {
    /// Answers with these statuses, one after the other, and with the last from then on.
    async fn start(statuses: &'static [u16]) -> Self {
        let heard = Arc::<Mutex<Vec<Sent>>>::default();
        let list = heard.clone();
        let server = Backend::start(move |request| {
            let list = list.clone();
            async move {
                let sent = Sent::read(request).await;
                let mut list = list.lock().unwrap();
                let status = *statuses.get(list.len()).or(statuses.last()).unwrap();
                list.push(sent);
                Response::builder().status(status).body(full("heard")).unwrap()
            }
        })
        .await;
        Self { server, heard }
    }

    fn url(&self) -> String {
        format!("http://{}/hook?team=a", self.server.address)
    }

    fn heard(&self) -> Vec<Sent> {
        self.heard.lock().unwrap().clone()
    }

    fn ids(&self) -> Vec<String> {
        let id = |sent: &Sent| sent.json()["id"].as_str().unwrap().to_owned();
        self.heard().iter().map(id).collect()
    }
}

#[tokio::test]
async fn a_webhook_says_yes_by_200_alone() {
    let outside = Outside::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let key_file = directory.path().join("key");
    std::fs::write(&key_file, "a secret\n").unwrap();
    let hearer = Hearer::start(&[200, 204, 503, 307]).await;
    let gate = WebhookGate { key_file: Some(key_file.clone()), ..webhook(&hearer.url()) };
    let body = json!({ "service": "shop" });
    assert_eq!(outside.ask_webhook(&gate, &body).await, Answer::Pass("answers 200".into()));
    for not in [204, 503, 307] {
        let said = Answer::Fail(format!("answers {not}"));
        assert_eq!(outside.ask_webhook(&gate, &body).await, said);
    }
    let [first, ..] = &hearer.heard()[..] else { panic!("nothing was heard") };
    assert_eq!((&*first.path, first.json()), ("/hook?team=a", body.clone()));
    assert!(first.is_signed_by("a secret") && !first.is_signed_by("another"));

    std::fs::remove_file(&key_file).unwrap();
    let said = why(outside.ask_webhook(&gate, &body).await);
    assert!(said.contains("cannot be read"), "{said}");
    assert_eq!(hearer.heard().len(), 4, "nothing is sent without its signature");
    let said = why(outside.ask_webhook(&webhook(&at(vacant_address())), &body).await);
    assert!(said.starts_with("no connection: "), "{said}");
}

const QUICK: Patience = Patience {
    answer: AMPLE,
    first: Duration::from_millis(1),
    longest: Duration::from_millis(4),
    whole: Duration::from_secs(3600),
};

fn hook(url: &str) -> Hook {
    Hook { on: vec![HookEvent::Step], url: url.into(), key_file: None }
}

fn telling(rollout: &str, number: u64, hooks: &[Hook]) -> Telling {
    Telling {
        hooks: hooks.to_vec(),
        rollout: rollout.into(),
        number,
        service: "shop".into(),
        event: HookEvent::Step,
        state: "running".into(),
        from: "blue".into(),
        to: "green".into(),
        step: 2,
        weights: [("blue".into(), 75), ("green".into(), 25)].into_iter().collect(),
        reason: Some("all gates hold".into()),
        author: "ci".into(),
        at: "2026-11-21T18:00:00Z".parse().unwrap(),
    }
}

fn told(rollout: &str, number: u64) -> Told {
    Told { rollout: rollout.into(), number, given_up: Vec::new() }
}

fn teller(patience: Patience) -> (Teller, UnboundedReceiver<Told>) {
    Teller::start(Outside::new().unwrap(), patience)
}

async fn next(results: &mut UnboundedReceiver<Told>) -> Told {
    timeout(PATIENCE, results.recv()).await.expect("told in time").expect("the teller is there")
}

#[tokio::test]
async fn a_hook_is_told_until_it_has_heard_and_in_order() {
    let hearer = Hearer::start(&[500, 404, 302, 204, 200]).await;
    let (teller, mut results) = teller(QUICK);
    for number in [1, 2] {
        assert!(teller.tell(telling("r1", number, &[hook(&hearer.url())])));
    }
    for number in [1, 2] {
        assert_eq!(next(&mut results).await, told("r1", number));
    }
    assert_eq!(hearer.ids(), ["r1/1", "r1/1", "r1/1", "r1/1", "r1/2"]);
    let [first, .., last] = &hearer.heard()[..] else { panic!("nothing was heard") };
    assert_eq!(first.headers["idempotency-key"], "r1/1");
    assert_eq!(
        first.json(),
        json!({ "id": "r1/1", "rollout": "r1", "service": "shop", "event": "step", "state": "running",
            "from": "blue", "to": "green", "step": 2, "weights": { "blue": 75, "green": 25 },
            "reason": "all gates hold", "author": "ci", "at": "2026-11-21T18:00:00Z" })
    );
    assert!(!last.headers.contains_key("x-crossfade-signature"), "there is no key");
    assert_eq!(teller.tally().delivered, 2);
}

#[tokio::test]
async fn what_nobody_wants_to_hear_is_through_at_once_and_what_several_want_at_last() {
    let (one, other) = (Hearer::start(&[503, 200]).await, Hearer::start(&[200]).await);
    let (teller, mut results) = teller(QUICK);
    assert!(teller.tell(telling("r1", 1, &[])));
    assert_eq!(next(&mut results).await, told("r1", 1));
    assert!(teller.tell(telling("r1", 2, &[hook(&one.url()), hook(&other.url())])));
    assert_eq!(next(&mut results).await, told("r1", 2));
    assert_eq!((one.ids().len(), other.ids().len()), (2, 1));
}

#[tokio::test]
async fn who_does_not_hear_delays_nobody_else() {
    let (deaf, hearer) = (Hearer::start(&[503]).await, Hearer::start(&[200]).await);
    let (teller, mut results) = teller(QUICK);
    assert!(teller.tell(telling("r1", 1, &[hook(&deaf.url())])));
    until("the deaf one is told again", || deaf.heard().len() > 3).await;
    assert!(teller.tell(telling("r1", 2, &[hook(&deaf.url()), hook(&hearer.url())])));
    assert!(
        teller.tell(telling("r1", 3, &[hook(&hearer.url())])),
        "another hook of the same rollout"
    );
    assert_eq!(next(&mut results).await, told("r1", 3));
    assert!(teller.tell(telling("r2", 1, &[hook(&hearer.url())])));
    assert_eq!(next(&mut results).await, told("r2", 1));
    assert_eq!(hearer.ids(), ["r1/2", "r1/3", "r2/1"]);
    assert!(deaf.ids().iter().all(|id| id == "r1/1"), "nothing overtakes it");
}

#[tokio::test]
async fn what_is_never_heard_is_given_up_and_the_next_one_told() {
    let patience = Patience { whole: Duration::from_millis(7), ..QUICK };
    let hearer = Hearer::start(&[500, 500, 500, 500, 200]).await;
    let (teller, mut results) = teller(patience);
    let (plain, mut signed) = (hook(&hearer.url()), hook(&hearer.url()));
    signed.key_file = Some("/nowhere/key".into());
    for (number, hook) in [(1, &plain), (2, &signed), (3, &plain)] {
        assert!(teller.tell(telling("r1", number, std::slice::from_ref(hook))));
    }
    let given_up = next(&mut results).await;
    assert_eq!((given_up.number, given_up.given_up), (1, vec![(plain.url, "answers 500".into())]));
    assert!(next(&mut results).await.given_up[0].1.contains("cannot be read"));
    assert_eq!(next(&mut results).await, told("r1", 3));
    assert_eq!(hearer.ids(), ["r1/1", "r1/1", "r1/1", "r1/1", "r1/3"], "1 + 2 + 4 ms of pauses");
    let tally = teller.tally();
    assert_eq!((tally.delivered, tally.given_up, tally.refused), (1, 2, 0));
}

#[tokio::test]
async fn a_thousand_wait_and_no_more() {
    let (hang_up, hung_up) = watch::channel(false);
    let silent = Backend::raw(move |stream| {
        let mut hung_up = hung_up.clone();
        async move {
            hung_up.wait_for(|it| *it).await.unwrap();
            drop(stream);
        }
    })
    .await;
    let hook = hook(&at(silent.address));
    let (teller, mut results) = teller(Patience { whole: Duration::ZERO, ..QUICK });
    let both = [hook.clone(), hook.clone()];
    assert_eq!((0..501).filter(|&number| teller.tell(telling("r", number, &both))).count(), 500);
    assert!(!teller.tell(telling("r", 501, &both[..1])));
    assert_eq!(teller.tally().refused, 3);
    hang_up.send_replace(true);
    assert_eq!(next(&mut results).await.given_up.len(), 2);
    assert!(teller.tell(telling("r", 502, &both)), "there is a place again");
    // Nobody can tell any more: what waits is told all the same, and then it ends.
    drop(teller);
    let mut rest = 0;
    while timeout(PATIENCE, results.recv()).await.expect("in time").is_some() {
        rest += 1;
    }
    assert_eq!(rest, 500);
}
