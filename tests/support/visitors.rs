//! People who come all the time.

use super::{Client, full, get};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;

/// They send some requests after the other, none faster than the other end of a wire would, and leave with this.
#[derive(Default)]
pub struct Visitors {
    pub counts: Arc<Counts>,
    come: Vec<JoinHandle<()>>,
}

#[derive(Default)]
pub struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Visitors {
    pub fn come(&mut self, address: SocketAddr) {
        for _ in 0..4 {
            self.come.push(tokio::spawn(visit(address, self.counts.clone())));
        }
    }

    pub fn answered(&self) -> u64 {
        self.counts.answered.load(Ordering::Relaxed)
    }

    pub fn failed(&self) -> u64 {
        self.counts.failed.load(Ordering::Relaxed)
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        self.come.iter().for_each(JoinHandle::abort);
    }
}

/// Whatever happens to their connection: on a machine that stood still for a minute it was idle for too long.
async fn visit(address: SocketAddr, counts: Arc<Counts>) {
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    loop {
        pace.tick().await;
        let Ok(mut client) = Client::of_h1(address).await else { continue };
        while let Ok(reply) = client.try_send(get("/").body(full("")).unwrap()).await {
            let counter = if reply.status == 200 { &counts.answered } else { &counts.failed };
            counter.fetch_add(1, Ordering::Relaxed);
            pace.tick().await;
        }
    }
}
