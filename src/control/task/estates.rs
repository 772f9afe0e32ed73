//! How what is in force passes from one process to the next.

use super::Control;
use crate::{
    control::{
        ChangeError, Estate, StoreError, desired::Desired, making::Prepared, rollout::keep_traffic,
        start::step, store::Step,
    },
    spec::Spec,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a change waits for the process before this one, which has nothing else to do but to wait for the one before
/// it, if that is still there.
const PREDECESSOR: Duration = Duration::from_secs(3);
const BEFORE_THE_PREDECESSOR: Duration = Duration::from_secs(1);

impl Control {
    /// What is in force. With `freeze` nothing changes it from then on, and the state is let go of, until it is taken
    /// back or this process follows the one that took over.
    ///
    /// # Errors
    /// When the state cannot be let go of.
    pub(super) async fn hand_over(&mut self, freeze: bool) -> Result<Estate, ChangeError> {
        if freeze {
            self.store.close().await?;
            self.frozen = true;
            for waiting in std::mem::take(&mut self.waiting) {
                self.answer(waiting, Err(ChangeError::Upgrading));
            }
        }
        Ok(self.estate())
    }

    /// The other process did not take over.
    ///
    /// # Errors
    /// When the state cannot be opened again; nothing is changed here then.
    pub(super) async fn take_back(&mut self) -> Result<(), ChangeError> {
        // What is kept in memory alone was not let go of.
        if self.frozen && self.store.directory().is_some() {
            self.store.reopen(None).await?;
        }
        self.frozen = false;
        Ok(())
    }

    fn estate(&self) -> Estate {
        let Desired { spec, file_base, salts } = self.desired.clone();
        let (revision, holds) = (self.revision, self.holds.held());
        Estate { revision, spec, file_base, salts, holds, rollouts: self.rollouts.all() }
    }

    /// Puts in force what another process has handed over, with what `file` changed since; `history` is what was kept
    /// there in memory alone. What only a restart can change is as this process began.
    ///
    /// # Errors
    /// When that cannot be in force; nothing has changed then.
    pub(super) async fn take_over(
        &mut self,
        estate: &Estate,
        file: Option<&Arc<Spec>>,
        history: Option<Vec<u8>>,
    ) -> Result<(), ChangeError> {
        let mut rollouts = estate.rollouts.clone();
        let inherited = Desired::inherit(estate, file).map_err(ChangeError::Invalid)?;
        let (mut desired, mut revision) = inherited;
        keep_traffic(&mut rollouts, &estate.spec, &mut desired)
            .map_err(|why| ChangeError::Invalid(vec![why]))?;
        let mut spec = Spec::clone(&desired.spec);
        spec.keep_for_restart(&self.desired.spec);
        if spec != *desired.spec {
            desired.spec = Arc::new(spec);
            // Unless the file has changed something already.
            revision = estate.revision + 1;
        }
        let Prepared { listeners, connectors } = self.prepare(&desired.spec)?;
        let kept = self.store.reopen(history).await?;
        let file = desired.file_base.clone().filter(|it| estate.file_base.as_ref() != Some(it));
        let step = match kept {
            Some(kept) if kept.revision == estate.revision && revision == estate.revision => {
                Step { file, ..Step::default() }
            }
            Some(kept) if kept.revision == estate.revision => {
                step(revision, Some(estate.spec.clone()), &desired, file)
            }
            // Another directory than before: with a history of its own, or none.
            Some(kept) => {
                revision = revision.max(kept.revision + 1);
                let before = Some(Arc::new(kept.content.spec));
                step(revision, before, &desired, desired.file_base.clone())
            }
            None => step(revision, None, &desired, desired.file_base.clone()),
        };
        self.store.keep(step).await.unwrap_or(Err(StoreError::Closed))?;
        self.connectors = connectors;
        self.rollouts.resume(rollouts, Instant::now());
        self.holds.follow(&estate.holds, Instant::now());
        self.publish(desired, listeners, revision).await;
        self.revision = revision;
        (self.recheck, self.frozen) = (true, false);
        self.tell_untold();
        self.show();
        Ok(())
    }

    /// Puts in force what was changed in the process that has taken over. It has its own listeners.
    ///
    /// # Errors
    /// When that cannot be in force; nothing has changed then.
    pub(super) async fn follow(&mut self, estate: Estate) -> Result<(), ChangeError> {
        let Estate { revision, spec, file_base, salts, holds, rollouts } = estate;
        let mut spec = Arc::unwrap_or_clone(spec);
        spec.listeners.clone_from(&self.desired.spec.listeners);
        self.connectors = self.connectors.next(&spec).map_err(ChangeError::Invalid)?;
        let desired = Desired { spec: Arc::new(spec), file_base, salts };
        self.rollouts.resume(rollouts, Instant::now());
        self.holds.follow(&holds, Instant::now());
        self.publish(desired, self.listeners.clone(), revision).await;
        self.revision = revision;
        self.show();
        self.tell(BEFORE_THE_PREDECESSOR).await;
        Ok(())
    }

    /// No request is routed by an older table there either, once this returns.
    pub(in crate::control) async fn tell_predecessor(&mut self) {
        self.tell(PREDECESSOR).await;
    }

    async fn tell(&mut self, patience: Duration) {
        let estate = self.estate();
        let Some(predecessor) = &mut self.predecessor else { return };
        if !predecessor.tell(estate, patience).await {
            // Nothing is in flight there any more.
            self.predecessor = None;
        }
    }
}
