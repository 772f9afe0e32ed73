//! Under a service manager, and as the first process of a container.

use super::{Shop, script};
use crate::stage::{BINARY, Stage, get_on};
use rustix::process::{Signal, geteuid};
use serde_json::json;
use std::{
    fs,
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// What a service manager is told.
struct Told {
    socket: UnixDatagram,
    _directory: TempDir,
}

impl Told {
    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("something is said");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// Until something is said that begins so; not counting signs of life.
    fn expect(&self, beginning: &str) -> String {
        loop {
            let said = self.next();
            if said.starts_with(beginning) {
                return said;
            }
            assert!(said == "WATCHDOG=1" || said.starts_with("EXTEND_TIMEOUT_USEC="), "{said}");
        }
    }
}

async fn notified(shop: &Shop, watchdog: &str) -> (Stage, Told) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let config = shop.config();
    let stage = Stage::with(&config, |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", watchdog);
    })
    .await;
    (stage, Told { socket, _directory: directory })
}

#[tokio::test]
async fn the_service_manager_is_told_who_serves() {
    let shop = Shop::open().await;
    let (mut stage, told) = notified(&shop, "9000000").await;
    told.expect("READY=1");
    stage.signal(stage.first.id(), Signal::HUP);
    assert!(told.expect("RELOADING=1").contains("\nMONOTONIC_USEC="));
    told.expect("READY=1");

    let second = stage.upgrade().await;
    let said = told.expect("MAINPID=");
    assert!(said.starts_with(&format!("MAINPID={second}\nREADY=1")), "{said}");
    assert!(stage.first_ended().await.success());
    // The old one has nothing more to say: the next word is the new one's.
    stage.signal(second, Signal::TERM);
    assert!(told.expect("STOPPING=1").contains("\nEXTEND_TIMEOUT_USEC=25000000"));
    stage.ended(second).await;
}

#[tokio::test]
async fn a_process_that_hangs_is_not_said_to_be_alive() {
    let shop = Shop::open().await;
    let (stage, told) = notified(&shop, "3000000").await;
    while told.next() != "WATCHDOG=1" {}
    stage.signal(stage.first.id(), Signal::STOP);
    let socket = &told.socket;
    // What was said before is still to be read.
    socket.set_nonblocking(true).unwrap();
    stage.until("it is silent", || socket.recv(&mut [0; 100]).is_err().then_some(())).await;
    stage.signal(stage.first.id(), Signal::CONT);
    socket.set_nonblocking(false).unwrap();
    while told.next() != "WATCHDOG=1" {}
}

/// Starts it as a service manager would that has opened its listener's socket: as descriptor 3.
fn activate(command: &mut Command, socket: &TcpListener) {
    let shell =
        format!("exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec {BINARY} serve c.yaml");
    let mut activated = Command::new("/bin/sh");
    activated.args(["-c", &shell]).stdin(OwnedFd::from(socket.try_clone().unwrap()));
    *command = activated;
}

#[tokio::test]
async fn sockets_of_the_service_manager_are_used_and_outlive_the_proxy() {
    let shop = Shop::open().await;
    // As it would be bound: without SO_REUSEPORT, so that each thread but one has to share it.
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let config = shop.config().replacen("127.0.0.1:0", &address.to_string(), 1);
    let mut stage = Stage::with(&config, |command| activate(command, &socket)).await;
    assert_eq!(stage.proxy(), address);
    for _ in 0..20 {
        assert!(stage.get("/").await.ends_with("blue"));
    }
    let second = stage.upgrade().await;
    assert!(stage.first_ended().await.success());
    assert!(stage.get("/").await.ends_with("blue"));
    stage.signal(second, Signal::TERM);
    stage.ended(second).await;

    // Whoever comes now waits for the next process.
    let mut waiting = TcpStream::connect(address).await.unwrap();
    let stage = Stage::with(&config, |command| activate(command, &socket)).await;
    assert!(get_on(&mut waiting, "/").await.ends_with("blue"));
    drop(stage);
}

#[tokio::test]
async fn a_second_start_at_the_same_address_is_refused_with_what_would_help() {
    let shop = Shop::open().await;
    let stage = Stage::start(&shop.config()).await;
    let taken = [("127.0.0.1:0", stage.proxy().to_string()), ("127.0.0.2:0", stage.admin())];
    for (any, place) in taken {
        let config = shop.config().replace(any, &place);
        let mut other = Stage::begin(&config, |_| {});
        assert_eq!(other.first_ended().await.code(), Some(1));
        let log = other.log();
        assert!(log.contains(&place) && log.contains("Address already in use"), "{log}");
    }
}

/// Whether this machine lets us be the first process of somewhere; says so if not.
fn can_be_first() -> bool {
    let possible = geteuid().is_root()
        && Command::new("unshare")
            .args(["--pid", "--fork", "true"])
            .status()
            .is_ok_and(|it| it.success());
    if !possible {
        eprintln!("SKIPPED: to be the first process needs root and unshare(1)");
    }
    possible
}

fn contained(command: &mut Command, shell: &str) {
    let mut unshared = Command::new("unshare");
    unshared.args(["--pid", "--fork", "--mount-proc", "--kill-child", "/bin/sh", "-c", shell]);
    *command = unshared;
    command.stdin(Stdio::null());
}

/// The numbers that processes have here, of those whose command line contains this.
fn processes(part: &str) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_one = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').any(|word| word == part) && line.starts_with(BINARY)
    };
    numbers.filter(is_one).collect()
}

#[tokio::test]
async fn the_first_process_of_a_container_looks_after_the_others() {
    if !can_be_first() {
        return;
    }
    let shop = Shop::open().await;
    // A stray that the first process has to reap, and a name by which the processes are found.
    let marker = format!("{}.yaml", shop.blue.address.port());
    let shell = format!("ln -s c.yaml {marker}; sh -c 'sleep 0.1 &'; exec {BINARY} serve {marker}");
    let mut stage = Stage::with(&shop.config(), |command| contained(command, &shell)).await;
    let both = processes(&marker);
    assert_eq!(both.len(), 2, "the parent and the proxy");
    // The number that it has in there.
    let inner = stage.upgrade().await;
    assert!(inner > 1);
    let second = stage
        .until("the old one ends", || {
            let now = processes(&marker);
            let new: Vec<_> = now.iter().filter(|pid| !both.contains(pid)).copied().collect();
            (now.len() == 2 && new.len() == 1).then(|| new[0])
        })
        .await;
    assert!(stage.get("/").await.ends_with("blue"));
    let first = *processes(&marker).iter().find(|pid| **pid != second).unwrap();
    assert!(both.contains(&first));

    // Signals reach whoever serves.
    stage.signal(first, Signal::USR2);
    stage.until_logged("another process has taken over", 2).await;
    stage.until("the second ends", || (!processes(&marker).contains(&second)).then_some(())).await;
    assert!(stage.get("/").await.ends_with("blue"));
    let zombies = || {
        let status =
            |pid: u32| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
        let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
        children.filter(|pid| status(*pid).contains("State:\tZ")).count()
    };
    stage.until("all are reaped", || (zombies() == 0).then_some(())).await;
    stage.signal(first, Signal::TERM);
    assert_eq!(stage.first_ended().await.code(), Some(0));
    assert!(processes(&marker).is_empty());
}

#[tokio::test]
async fn the_first_process_ends_as_the_last_one_did() {
    if !can_be_first() {
        return;
    }
    let shop = Shop::open().await;
    let mut stage = Stage::begin(&shop.config(), |command| {
        contained(command, &format!("exec {BINARY} serve none.yaml"));
    });
    assert_eq!(stage.first_ended().await.code(), Some(2));

    let marker = format!("{}.yaml", shop.green.address.port());
    let shell = format!("ln -s c.yaml {marker}; exec {BINARY} serve {marker}");
    let mut stage = Stage::with(&shop.config(), |command| contained(command, &shell)).await;
    let dies = script(&stage.path("dies"), "exit 7");
    let (status, _) = stage.ask("POST", "/v1/upgrade", json!({ "binary": dies })).await;
    assert_eq!(status, 409);
    assert!(stage.get("/").await.ends_with("blue"), "who has failed is reaped, and that is all");
    let first = processes(&marker).into_iter().min().unwrap();
    let serving = processes(&marker).into_iter().find(|pid| *pid != first).unwrap();
    stage.signal(serving, Signal::KILL);
    assert_eq!(stage.first_ended().await.code(), Some(137));
}
