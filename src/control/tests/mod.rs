//! The control task as a whole: real changes, tickets taken by hand.

mod changes;
mod commands;
mod drains;
mod merging;

use super::{testing::*, *};
use crate::{
    live::{Live, LiveBackend},
    spec::{Name, Spec},
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{task::JoinHandle, time::timeout};

/// A control plane without a data plane: the tests take the tickets.
struct Rig {
    live: Arc<Live>,
    handle: Handle,
    task: JoinHandle<()>,
}

async fn rig(spec: Spec) -> Rig {
    let file = FileStatus { path: Some(PathBuf::from("crossfade.yaml")), ..FileStatus::default() };
    let Started { live, handle, task } = start(spec, 2, file).await.unwrap();
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
