//! The files of config/examples, with short times.

use crate::shop::{Shop, soon, told};
use serde_json::{Value, json};
use std::{fs, time::Duration};

/// The example of this name, with minutes as seconds, for these backends.
fn example(name: &str, old: &[String], new: &[String]) -> String {
    let path = format!("{}/config/examples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let mut text = fs::read_to_string(path).unwrap();
    for (long, short) in
        [("10m", "2s"), ("5m", "2s"), ("1m", "2s"), ("30s", "2s"), ("delay: 10s", "delay: 1s")]
    {
        text = text.replace(long, short);
    }
    for (nth, (old, new)) in old.iter().zip(new).enumerate() {
        text = text.replace(&format!("127.0.0.1:900{}", nth + 1), old);
        text = text.replace(&format!("127.0.0.1:901{}", nth + 1), new);
    }
    text = text.replace("127.0.0.1:8080", "127.0.0.1:0");
    text = text.replace("health_check: { path: /health/ready", "health_check: { path: /");
    text = text.lines().filter(|line| !line.starts_with("state:")).collect::<Vec<_>>().join("\n");
    format!(
        "{text}\nadmin: {{ address: unix:admin.sock }}\nstate: {{ directory: state }}\nthreads: 1\n"
    )
}

async fn open(name: &str) -> Shop {
    let mut shop = Shop::open(|old, new| example(name, old, new)).await;
    let ready = |shop: &Shop| shop.served().try_ask("GET", "/readyz", "", &[]).map(|it| it.status);
    while ready(&shop) != Some(200) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shop.visit(8, Duration::from_millis(10));
    shop
}

fn start(shop: &Shop, to: &str) {
    let body = Value::Object(soon(to).as_object().unwrap().clone());
    // Newcomers pass their first checks soon.
    let path = "/v1/services/shop/rollout?wait_healthy=10s";
    shop.served().change("POST", path, &body.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canary() {
    let shop = open("canary").await;
    start(&shop, "canary");
    let end = shop.until_state("promoted").await;
    assert_eq!(told(&end).last().unwrap(), &("promoted".to_owned(), 4));
    assert_eq!((shop.weights(), shop.failed()), (vec![0, 100], 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blue_green_and_the_way_back() {
    let shop = open("blue-green").await;
    start(&shop, "green");
    shop.until_state("paused").await;
    assert_eq!(shop.weights(), [100, 0], "green is only looked at");
    shop.verb("promote");
    assert_eq!(shop.weights(), [0, 100]);
    shop.until_state("promoted").await;
    shop.served().change("POST", "/v1/undo", "{}");
    assert_eq!((shop.weights(), shop.failed()), (vec![100, 0], 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_by_two() {
    let shop = open("rolling").await;
    start(&shop, "v2");
    let end = shop.until_state("promoted").await;
    assert_eq!(told(&end).last().unwrap(), &("promoted".to_owned(), 2), "two batches");
    assert_eq!((shop.weights(), shop.failed()), (vec![0, 100], 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_resume_and_undo_to_a_revision() {
    let shop = open("pause-and-undo").await;
    let first = shop.served().get("/v1/status")["revision"].clone();
    start(&shop, "green");
    shop.verb("pause");
    shop.until_state("paused").await;
    shop.verb("resume");
    shop.until("its pause", |it| it["step"] == 2 && it["state"] == "paused").await;
    assert_eq!(shop.weights(), [90, 10]);
    shop.verb("promote");
    shop.until_state("promoted").await;
    let body = json!({ "to_revision": first, "service": "shop" });
    shop.served().change("POST", "/v1/undo", &body.to_string());
    assert_eq!((shop.weights(), shop.failed()), (vec![100, 0], 0));
}
