//! The access log while another process takes over, and somebody moves its file away.

use crate::{Shop, stage::Stage, support::Backend};
use rustix::process::Signal;
use std::fs;

const LOG: &str = "threads: 1\naccess_log: { to: access.log, format: text, fields: [path] }";

/// The paths of the requests that have a line.
fn paths(stage: &Stage, name: &str) -> Vec<String> {
    let text = fs::read_to_string(stage.path(name)).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "half a line: {text}");
    let path = |line: &str| line.strip_prefix("path=").expect(line).to_owned();
    text.lines().map(path).collect()
}

fn holds(pid: u32, stage: &Stage, name: &str) -> bool {
    let held = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let path = fs::canonicalize(stage.path(name)).unwrap();
    held.flatten().any(|it| fs::read_link(it.path()).is_ok_and(|it| it == path))
}

/// Whoever serves is told that the file has another name; the process before it is told as well, or is not.
#[tokio::test]
async fn its_file_is_opened_anew_by_the_process_that_serves_and_no_line_is_lost() {
    for is_old_told in [false, true] {
        let (blue, word) = Backend::waiting("blue").await;
        let shop = Shop { blue, green: Backend::named("green").await };
        let mut stage = Stage::start(&shop.config_with(LOG)).await;
        let first = stage.first.id();
        let is_there = |stage: &Stage, name: &str, path: &str| {
            paths(stage, name).iter().any(|it| it == path).then_some(())
        };
        let held = stage.get("/held");
        let rest = async {
            stage.until("it waits", || (shop.blue.count() == 1).then_some(())).await;
            stage.cutover("green").await;
            stage.get("/before").await;
            let second = stage.upgrade().await;
            stage.get("/after").await;
            stage.until("their lines", || is_there(&stage, "access.log", "/after")).await;
            stage.until("their lines", || is_there(&stage, "access.log", "/before")).await;

            fs::rename(stage.path("access.log"), stage.path("moved.log")).unwrap();
            let told: &[u32] = if is_old_told { &[second, first] } else { &[second] };
            for pid in told {
                assert!(holds(*pid, &stage, "moved.log"));
                stage.signal(*pid, Signal::USR1);
                let has_let_go = || (!holds(*pid, &stage, "moved.log")).then_some(());
                stage.until("it lets go of the file", has_let_go).await;
            }
            stage.get("/moved").await;
            stage.until("a new file", || is_there(&stage, "access.log", "/moved")).await;
            word.notify_one();
        };
        let (held, ()) = tokio::join!(held, rest);
        assert!(held.ends_with("blue"), "{held}");
        assert!(stage.first_ended().await.success());
        let (moved, new) = (paths(&stage, "moved.log"), paths(&stage, "access.log"));
        let is_in_the_new = new.iter().any(|path| path == "/held");
        assert!(is_in_the_new || !is_old_told, "{moved:?} {new:?}");
        let mut all = [moved, new].concat();
        all.sort_unstable();
        assert_eq!(all, ["/after", "/before", "/held", "/moved"]);
    }
}
