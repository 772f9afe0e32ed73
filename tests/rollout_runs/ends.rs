//! How rollouts end, and that a crash in the middle is no end.

use crate::shop::{Shop, config, soon, told};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::{sync::atomic::Ordering, time::Duration};

const OFTEN: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_version_goes_all_the_way_through_a_crash() {
    let plan = "{ steps: [5, 25, 50, 100], bake: 2s }";
    let mut shop = Shop::open(|old, new| config(old, new, plan)).await;
    shop.visit(8, OFTEN);
    shop.start(&soon("new"));
    let before = shop.until("it is in its third step", |it| it["step"] == 3).await;
    shop.served.take().unwrap().kill();
    shop.served = Some(shop.stage.start());
    let after = shop.rollout();
    assert_eq!((&after["id"], &after["step"]), (&before["id"], &before["step"]));
    assert_eq!(shop.weights(), [50, 50]);
    // The port is another one, so the people of before are gone.
    shop.visit(8, OFTEN);
    goes_all_the_way(&shop).await;
    let undone = shop.served().change("POST", "/v1/undo", "{}");
    assert_eq!(shop.weights(), [100, 0], "one command, one swap: {undone}");
}

/// From step to step, each once, and nobody notices.
async fn goes_all_the_way(shop: &Shop) {
    let end = shop.until_state("promoted").await;
    assert_eq!(shop.weights(), [0, 100]);
    // On a busy machine a step waits for its requests.
    let steps = told(&end).into_iter().filter(|(event, _)| event != "waiting");
    let steps: Vec<_> = steps.map(|(event, step)| format!("{event} {step}")).collect();
    assert_eq!(steps, ["started 0", "step 1", "step 2", "step 3", "step 4", "promoted 4"]);
    assert_eq!(shop.failed(), 0);
}

/// Ends a process that nobody else ends.
struct Ends(u64);

impl Drop for Ends {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0).ok().and_then(Pid::from_raw);
        // It may have ended by itself.
        let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_goes_on_in_the_process_that_takes_over() {
    let plan = "{ steps: [5, 25, 50, 100], bake: 2s }";
    let mut shop = Shop::open(|old, new| config(old, new, plan)).await;
    shop.visit(8, OFTEN);
    shop.start(&soon("new"));
    let before = shop.until("it is in its second step", |it| it["step"] == 2).await;
    let upgraded = shop.served().change("POST", "/v1/upgrade", "{}");
    let _ends = Ends(upgraded["pid"].as_u64().unwrap());
    let after = shop.rollout();
    assert_eq!(after["id"], before["id"]);
    let seen = |it: &serde_json::Value| it["canary"]["requests"].as_u64().unwrap();
    assert!(seen(&after) >= seen(&before), "{after:#}");
    goes_all_the_way(&shop).await;
    assert!(shop.served().get("/v1/status")["revision"].as_u64() > Some(5));
}

/// With the judgement as it is by default, at about a hundred requests a second.
async fn fails_in_the_second_step(rescue: bool) -> Shop {
    let plan =
        format!("{{ steps: [5, 25, 50, 100], bake: 1s, min_requests: 1, rescue: {rescue} }}");
    let mut shop = Shop::open(|old, new| config(old, new, &plan)).await;
    shop.visit(10, Duration::from_millis(100));
    shop.start(&json!({ "to": "new", "first_touch": null }));
    shop.verb("promote");
    shop.until("a quarter", |it| it["step"] == 2 && it["canary"]["requests"].as_u64() > Some(20))
        .await;
    shop.fails.store(true, Ordering::Relaxed);
    let end = shop.until_state("aborted").await;
    assert_eq!(shop.weights(), [100, 0]);
    assert!(end["canary"]["errors"].as_u64() > Some(0), "{end:#}");
    shop
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_begins_to_fail_costs_few_answers() {
    let shop = fails_in_the_second_step(false).await;
    let failed = shop.failed();
    assert!((1..200).contains(&failed), "{failed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_none_where_stable_rescues() {
    let shop = fails_in_the_second_step(true).await;
    assert_eq!(shop.failed(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_gets_slower_is_caught() {
    let plan = "{ steps: [50, 100], bake: 10m, warm_up: 0s }";
    let mut shop = Shop::open(|old, new| config(old, new, plan)).await;
    shop.visit(20, OFTEN);
    shop.start(&json!({ "to": "new", "first_touch": null }));
    shop.until("stable is known", |it| it["stable"]["requests"].as_u64() > Some(2000)).await;
    shop.dawdles.store(true, Ordering::Relaxed);
    let end = shop.until_state("aborted").await;
    assert_eq!(end["why"]["code"], "latency", "{end:#}");
    assert_eq!(shop.failed(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_traffic_it_holds() {
    let plan = "{ steps: [25, 100], bake: 1s }";
    let shop = Shop::open(|old, new| config(old, new, plan)).await;
    shop.start(&json!({ "to": "new", "first_touch": null }));
    let waiting = shop.until_state("waiting").await;
    assert_eq!(shop.weights(), [75, 25]);
    assert!(waiting["lacks"][0]["text"].as_str().unwrap().contains("more requests"), "{waiting:#}");
    shop.verb("abort");
    assert_eq!(shop.weights(), [100, 0]);
}
