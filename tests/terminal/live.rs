//! A rollout that is waited for on a terminal.

use crate::{
    pty::Terminal,
    shop::{Shop, config},
};
use rustix::process::Signal;
use std::time::Duration;

const WAIT: [&str; 6] = ["rollout", "start", "shop", "--to", "new", "--wait"];

const SIZE: (u16, u16) = (120, 24);

async fn open() -> Shop {
    let plan = "{ steps: [50, 100], bake: 10m, first_touch: null, min_requests: 20, warm_up: 0s }";
    let mut shop = Shop::open(|old, new| config(old, new, plan)).await;
    shop.visit(4, Duration::from_millis(10));
    shop
}

/// A terminal in which the rollout is seen to run.
async fn watched(shop: &Shop) -> Terminal {
    let terminal = Terminal::run(&shop.stage, &WAIT, SIZE);
    let terminal = tokio::task::spawn_blocking(move || {
        for words in ["shop: running", "POOL", "stable", "canary", "evidence against new"] {
            terminal.until_says(words);
        }
        terminal
    });
    terminal.await.unwrap()
}

async fn ended(mut terminal: Terminal) -> (Terminal, Option<i32>) {
    let end = tokio::task::spawn_blocking(move || {
        let status = terminal.end();
        (terminal, status.code())
    });
    end.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_side_by_side_until_somebody_aborts() {
    let shop = open().await;
    let terminal = watched(&shop).await;
    let canary_has = |screen: &str| {
        let row = screen.lines().find(|line| line.starts_with("new ") && line.contains("canary"));
        row.is_some_and(|row| row.split_whitespace().nth(3).is_some_and(|it| it != "0"))
    };
    let terminal = tokio::task::spawn_blocking(move || {
        terminal.until("its requests are counted", canary_has);
        terminal
    });
    let terminal = terminal.await.unwrap();
    shop.verb("abort");
    let (terminal, code) = ended(terminal).await;
    assert_eq!(code, Some(3));
    terminal.until_says("aborted");
    assert!(terminal.is_usual());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promoted_is_0_and_an_interrupted_wait_is_4() {
    let shop = open().await;
    let terminal = watched(&shop).await;
    terminal.signal(Signal::INT);
    let (terminal, code) = ended(terminal).await;
    assert_eq!(code, Some(4), "{}", terminal.screen());
    terminal.until_says("the rollout goes on");
    assert_eq!(shop.rollout()["state"], "running");

    let status = Terminal::run(&shop.stage, &["rollout", "promote", "shop", "--wait"], SIZE);
    let status = tokio::task::spawn_blocking(move || {
        status.until_says("shop: ");
        status
    });
    let status = status.await.unwrap();
    while shop.rollout()["state"] != "promoted" {
        shop.served().try_ask("POST", "/v1/services/shop/rollout/promote", "{}", &[]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (status, code) = ended(status).await;
    assert_eq!(code, Some(0), "{}", status.screen());
}

/// It takes the half minute that a restart may take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_stays_away_is_5() {
    let mut shop = open().await;
    let terminal = watched(&shop).await;
    shop.served.take().unwrap().kill();
    let (terminal, code) = ended(terminal).await;
    assert_eq!(code, Some(5), "{}", terminal.screen());
    terminal.until_says("cannot reach the admin API");
    assert!(terminal.is_usual());
}
