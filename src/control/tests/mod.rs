//! The control task as a whole: real changes, tickets taken by hand.

mod changes;
mod commands;
mod drains;
mod health;
mod history;
mod lingering;
mod merging;
mod random;

use super::{testing::*, *};
use crate::{
    live::{Live, LiveBackend, Snapshot},
    spec::{Name, Spec},
};
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

/// A control plane without a data plane: the tests take the tickets.
struct Rig {
    live: Arc<Live>,
    handle: Handle,
    task: JoinHandle<()>,
}

async fn rig(spec: Spec) -> Rig {
    let file = FileStatus { path: Some(PathBuf::from("crossfade.yaml")), ..FileStatus::default() };
    let Started { live, handle, task } = start(spec, 2, file, FORMAT).await.unwrap();
    Rig { live, handle, task }
}

impl Rig {
    async fn apply(&self, command: Command) -> Result<Receipt, ChangeError> {
        self.handle.apply(change(command)).await
    }

    /// The backend on this port as the current snapshot has it.
    fn backend(&self, port: u16) -> Arc<LiveBackend> {
        self.try_backend(port).expect("a backend in the table")
    }

    fn try_backend(&self, port: u16) -> Option<Arc<LiveBackend>> {
        self.live.published.read(|snapshot| {
            assert_parallel(snapshot);
            let pools = snapshot.services.iter().flat_map(|service| &service.pools);
            let mut backends = pools.flat_map(|pool| &pool.backends);
            backends.find(|backend| backend.address == address(port)).cloned()
        })
    }

    /// Waits until the view is as `wanted`.
    async fn until(&self, wanted: impl Fn(&View) -> bool) -> Arc<View> {
        let mut views = self.handle.views();
        let view = timeout(PATIENCE, views.wait_for(|view| wanted(view)));
        view.await.expect("in time").expect("the task is there").clone()
    }
}

/// The table and the live parts speak of the same things in the same order.
fn assert_parallel(snapshot: &Snapshot) {
    assert_eq!(snapshot.services.len(), snapshot.table.services.len());
    for (live, table) in snapshot.services.iter().zip(&snapshot.table.services) {
        assert_eq!(live.name, table.name);
        assert_eq!(live.pools.len(), table.pools.len());
        for (live, table) in live.pools.iter().zip(&table.pools) {
            assert_eq!((&live.pool.name, &live.pool.version), (&table.name, &table.version));
            let live: Vec<_> = live.backends.iter().map(|backend| &backend.address).collect();
            let table: Vec<_> = table.backends.iter().map(|backend| &backend.address).collect();
            assert_eq!(live, table);
        }
    }
}

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `holds`, looking every few milliseconds.
async fn eventually(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("in time");
}

/// A backend that only answers probes.
struct Probed {
    port: u16,
    /// What it answers; 0: nothing.
    status: Arc<AtomicU16>,
    heads: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl Probed {
    async fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (status, heads) = (Arc::new(AtomicU16::new(status)), Arc::default());
        let server = tokio::spawn(Self::serve(listener, status.clone(), Arc::clone(&heads)));
        Self { port, status, heads, server }
    }

    async fn serve(listener: TcpListener, status: Arc<AtomicU16>, heads: Arc<Mutex<Vec<String>>>) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (status, heads) = (status.clone(), heads.clone());
            tokio::spawn(async move {
                // A probe that gave up has closed its connection.
                let _ = Self::answer(stream, &status, &heads).await;
            });
        }
    }

    async fn answer(
        mut stream: TcpStream,
        status: &AtomicU16,
        heads: &Mutex<Vec<String>>,
    ) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        heads.lock().unwrap().push(String::from_utf8(head).unwrap());
        let status = status.load(Ordering::SeqCst);
        if status == 0 {
            std::future::pending::<()>().await;
        }
        // More is announced than ever comes: nobody may wait for the body.
        let reply = format!("HTTP/1.1 {status} X\r\ncontent-length: 1000000\r\n\r\n");
        stream.write_all(reply.as_bytes()).await?;
        stream.read_u8().await.map(drop)
    }

    fn set(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn probes(&self) -> usize {
        self.heads.lock().unwrap().len()
    }
}

fn quick_check() -> crate::spec::HealthCheck {
    crate::spec::HealthCheck {
        interval: Duration::from_millis(10),
        timeout: Duration::from_secs(5),
        healthy_after: 2,
        unhealthy_after: 2,
        ..crate::spec::HealthCheck::new("/up?deep=1")
    }
}

/// A shop whose pools are checked: blue at weight 100, green at 0.
fn checked(blue: &[u16], green: &[u16]) -> crate::spec::Service {
    let pools = [("blue", pool("v1", 100, blue)), ("green", pool("v2", 0, green))];
    let mut shop = service(&pools);
    shop.health_check = Some(quick_check());
    shop.timeouts.drain = Duration::from_secs(60);
    shop
}
