//! Two versions of a shop, the binary before them, and people who come.

use crate::{
    stage::{Served, Stage},
    support::{Backend, Body, PATIENCE, full, get, text},
};
use http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, task::JoinHandle, time::sleep};

/// Between two looks at what the process says of itself.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) struct Shop {
    pub(crate) stage: Stage,
    pub(crate) served: Option<Served>,
    _backends: [Vec<Backend>; 2],
    pub(crate) fails: Arc<AtomicBool>,
    pub(crate) dawdles: Arc<AtomicBool>,
    pub(crate) answered: Arc<AtomicU64>,
    pub(crate) failed: Arc<AtomicU64>,
    visitors: Vec<JoinHandle<()>>,
}

/// A version of which some backends run.
async fn version(
    name: &'static str,
    fails: &Arc<AtomicBool>,
    dawdles: &Arc<AtomicBool>,
) -> Backend {
    let (fails, dawdles) = (fails.clone(), dawdles.clone());
    Backend::start(move |_| {
        let (fails, dawdles) = (fails.load(Ordering::Relaxed), dawdles.load(Ordering::Relaxed));
        async move {
            if dawdles {
                sleep(Duration::from_millis(150)).await;
            }
            let mut reply = text(name);
            if fails {
                *reply.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            reply
        }
    })
    .await
}

impl Shop {
    /// `config` makes a configuration of the addresses of both versions.
    pub(crate) async fn open(config: impl FnOnce(&[String], &[String]) -> String) -> Self {
        let (fails, dawdles) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let never = Arc::<AtomicBool>::default();
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            old.push(version("old", &never, &never).await);
            new.push(version("new", &fails, &dawdles).await);
        }
        let addresses = |backends: &[Backend]| -> Vec<String> {
            backends.iter().map(|backend| backend.address.to_string()).collect()
        };
        let stage = Stage::new(&config(&addresses(&old), &addresses(&new)));
        let served = Some(stage.start());
        let (answered, failed) = (Arc::default(), Arc::default());
        let _backends = [old, new];
        Self { stage, served, _backends, fails, dawdles, answered, failed, visitors: Vec::new() }
    }

    pub(crate) fn served(&self) -> &Served {
        self.served.as_ref().expect("it runs")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let status = self.served().get("/v1/status");
        status["listeners"][0]["address"].as_str().unwrap().parse().unwrap()
    }

    /// So many people, each of whom comes again this often; whoever meets a closed door knocks again.
    pub(crate) fn visit(&mut self, people: usize, each: Duration) {
        let address = self.address();
        for _ in 0..people {
            let (answered, failed) = (self.answered.clone(), self.failed.clone());
            self.visitors.push(tokio::spawn(async move {
                let mut pace = tokio::time::interval(each);
                loop {
                    let Ok(stream) = TcpStream::connect(address).await else {
                        sleep(LOOK).await;
                        continue;
                    };
                    let io = TokioIo::new(stream);
                    let shaken = hyper::client::conn::http1::handshake(io).await;
                    let Ok((mut sender, connection)) = shaken else { continue };
                    tokio::spawn(connection);
                    loop {
                        pace.tick().await;
                        let request: Request<Body> = get("/").body(full("")).unwrap();
                        if sender.ready().await.is_err() {
                            break;
                        }
                        let Ok(reply) = sender.send_request(request).await else { break };
                        let counter = if reply.status() == 200 { &answered } else { &failed };
                        counter.fetch_add(1, Ordering::Relaxed);
                        if http_body_util::BodyExt::collect(reply.into_body()).await.is_err() {
                            break;
                        }
                    }
                }
            }));
        }
    }

    pub(crate) fn start(&self, body: &Value) -> Value {
        self.served().change("POST", "/v1/services/shop/rollout", &body.to_string())
    }

    pub(crate) fn verb(&self, verb: &str) {
        self.served().change("POST", &format!("/v1/services/shop/rollout/{verb}"), "{}");
    }

    pub(crate) fn rollout(&self) -> Value {
        self.served().get("/v1/services/shop/rollout")
    }

    /// Of the pools, in their order.
    pub(crate) fn weights(&self) -> Vec<u64> {
        let service = self.served().get("/v1/services/shop");
        let pools = service["pools"].as_array().unwrap().iter();
        pools.map(|pool| pool["weight"].as_u64().unwrap()).collect()
    }

    /// The rollout as soon as this holds of it.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let rollout = self.rollout();
            if holds(&rollout) {
                return rollout;
            }
            assert!(began.elapsed() < 4 * PATIENCE, "{what}: {rollout:#}\n{}", self.stage.log());
            sleep(LOOK).await;
        }
    }

    pub(crate) async fn until_state(&self, state: &str) -> Value {
        self.until(state, |rollout| rollout["state"] == state).await
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.visitors.iter().for_each(JoinHandle::abort);
    }
}

/// Old has all the weight. One core, so that nothing is faster than the machine.
pub(crate) fn config(old: &[String], new: &[String], rollout: &str) -> String {
    let list = |addresses: &[String]| format!("[{}]", addresses.join(", "));
    format!(
        "threads: 1
listeners: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: unix:admin.sock }}
state: {{ directory: state }}
services:
  shop:
    pools:
      old: {{ version: v1, weight: 100, backends: {} }}
      new: {{ version: v2, weight: 0, backends: {} }}
    rollout: {rollout}
routes: [{{ name: all, match: {{ path_prefix: / }}, service: shop }}]
",
        list(old),
        list(new)
    )
}

/// What is told of a rollout, in its order.
pub(crate) fn told(rollout: &Value) -> Vec<(String, u64)> {
    let notices = rollout["notices"].as_array().unwrap().iter();
    notices
        .map(|notice| {
            (notice["event"].as_str().unwrap().to_owned(), notice["step"].as_u64().unwrap())
        })
        .collect()
}

/// Time and guards decide, soon.
pub(crate) fn soon(to: &str) -> Value {
    json!({ "to": to, "first_touch": null, "min_requests": 20, "warm_up": "0s",
        "gates": { "regression": "off" } })
}
