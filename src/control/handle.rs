use super::{
    Change, ChangeError, Estate, Issuance, Lead, News, Once, Open, Outlook, Receipt, Reply, Store,
    View,
    predecessor::{Predecessor, Question},
};
use crate::spec::{Name, RolloutPlan, Spec};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::timeout,
};

/// For the process before this one to say what is in flight there.
const PREDECESSOR: Duration = Duration::from_secs(1);

/// What the control task is sent.
pub(super) enum Message {
    Apply(Box<Change>, Option<Once>, oneshot::Sender<Result<Reply, ChangeError>>),
    /// The file could not be loaded; what is in force stays.
    FileFailed(String),
    Issue(Issuance, oneshot::Sender<Result<(), ChangeError>>),
    HandOver {
        freeze: bool,
        answer: oneshot::Sender<Result<Estate, ChangeError>>,
    },
    TakeBack(oneshot::Sender<Result<(), ChangeError>>),
    TakeOver {
        estate: Estate,
        file: Option<Arc<Spec>>,
        history: Option<Vec<u8>>,
        answer: oneshot::Sender<Result<(), ChangeError>>,
    },
    Lead(Predecessor),
    /// Who is led; `None`: nobody is there any more.
    Led(oneshot::Sender<Option<mpsc::Sender<Question>>>),
    Follow(Estate, oneshot::Sender<Result<(), ChangeError>>),
    Alive(oneshot::Sender<()>),
    Forecast {
        service: Name,
        to: Name,
        from: Option<Name>,
        plan: Box<RolloutPlan>,
        answer: oneshot::Sender<Result<Outlook, ChangeError>>,
    },
}

/// How everybody else speaks to the control task.
#[derive(Clone)]
pub struct Handle {
    messages: mpsc::Sender<Message>,
    view: watch::Receiver<Arc<View>>,
    store: Store,
    news: broadcast::Sender<News>,
}

impl Handle {
    pub(super) fn new(
        messages: mpsc::Sender<Message>,
        view: watch::Receiver<Arc<View>>,
        store: Store,
        news: broadcast::Sender<News>,
    ) -> Self {
        Self { messages, view, store, news }
    }

    /// Makes a change and returns once it is in force everywhere: no request is routed by the old table
    /// any more. What it left behind still drains then.
    ///
    /// # Errors
    /// When it is not made; nothing has changed then.
    pub async fn apply(&self, change: Change) -> Result<Receipt, ChangeError> {
        match self.ask(|answer| Message::Apply(Box::new(change), None, answer)).await? {
            Reply::Made(receipt) => Ok(*receipt),
            // Without a key nothing is known.
            Reply::Known(_) => Err(ChangeError::KeyReused),
        }
    }

    /// The same, but a change whose key is known already is not made again. Who made it gives the answer to
    /// [`Store::remember`], for who asks again.
    ///
    /// # Errors
    /// When it is not made; nothing has changed then.
    pub async fn apply_once(&self, change: Change, once: Once) -> Result<Reply, ChangeError> {
        self.ask(|answer| Message::Apply(Box::new(change), Some(once), answer)).await
    }

    /// Shows that the file as it is now cannot be loaded; every error a line.
    pub async fn file_failed(&self, error: String) {
        // When the task has ended there is nobody left to show it to.
        let _ = self.messages.send(Message::FileFailed(error)).await;
    }

    /// Puts ordered certificates, and proofs for who issues them, in force; returns once every new handshake and
    /// request sees them. It is no new revision.
    ///
    /// # Errors
    /// When a listener cannot use them, or the control plane has ended.
    pub async fn issue(&self, issuance: Issuance) -> Result<(), ChangeError> {
        self.ask(|answer| Message::Issue(issuance, answer)).await
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, ChangeError>>) -> Message,
    ) -> Result<T, ChangeError> {
        let (answer, answered) = oneshot::channel();
        self.messages.send(message(answer)).await.map_err(|_| ChangeError::Ended)?;
        answered.await.map_err(|_| ChangeError::Ended)?
    }

    /// What is in force, for another process. With `freeze` every change is refused from then on, until
    /// [`Handle::take_back`], and the state is let go of, so that another process can open it.
    ///
    /// # Errors
    /// When the control plane has ended, or the state's thread.
    pub async fn hand_over(&self, freeze: bool) -> Result<Estate, ChangeError> {
        self.ask(|answer| Message::HandOver { freeze, answer }).await
    }

    /// The other process does not want it: changes are made here again.
    ///
    /// # Errors
    /// When the state cannot be opened, above all because the other process has it.
    pub async fn take_back(&self) -> Result<(), ChangeError> {
        self.ask(Message::TakeBack).await
    }

    /// Puts in force what another process has handed over, with what `file` changed since it was last loaded, and begins
    /// with the `history` that was kept there in memory alone. Returns once no request is routed by the old table any more.
    ///
    /// # Errors
    /// When it cannot be in force (nothing has changed then), or the control plane has ended.
    pub async fn take_over(
        &self,
        estate: Estate,
        file: Option<Arc<Spec>>,
        history: Option<Vec<u8>>,
    ) -> Result<(), ChangeError> {
        self.ask(|answer| Message::TakeOver { estate, file, history, answer }).await
    }

    /// Each change from now on; it is answered once it has been put in force there, or after some seconds.
    ///
    /// # Errors
    /// When the control plane has ended.
    pub async fn lead(&self) -> Result<Lead, ChangeError> {
        let (predecessor, lead) = Predecessor::new();
        self.messages.send(Message::Lead(predecessor)).await.map_err(|_| ChangeError::Ended)?;
        Ok(lead)
    }

    /// Puts in force what was changed in the process that has taken over from this one; the listeners stay. Returns
    /// once no request is routed by the old table any more.
    ///
    /// # Errors
    /// When it cannot be in force (nothing has changed then), or the control plane has ended.
    pub async fn follow(&self, estate: Estate) -> Result<(), ChangeError> {
        self.ask(|answer| Message::Follow(estate, answer)).await
    }

    /// What is in flight in the process that was here before this one, and in those before it; nothing once they have
    /// ended. `None`: nobody says.
    pub async fn open_before(&self) -> Option<Vec<Open>> {
        let asked = async {
            let (answer, answered) = oneshot::channel();
            // Without a control task nobody can know.
            self.messages.send(Message::Led(answer)).await.ok()?;
            let Some(questions) = answered.await.ok()? else { return Some(Vec::new()) };
            let (says, said) = oneshot::channel();
            // When it ends meanwhile nobody answers.
            let _ = questions.send(says).await;
            said.await.unwrap_or_else(|_| Some(Vec::new()))
        };
        timeout(PREDECESSOR, asked).await.ok().flatten()
    }

    /// Returns when the control task has got round to it; false when it has ended.
    pub async fn is_alive(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.messages.send(Message::Alive(answer)).await.is_ok() && answered.await.is_ok()
    }

    /// What a rollout by this plan could see at the present traffic, and how long it would take.
    ///
    /// # Errors
    /// When there are no such pools, or the control plane has ended.
    pub async fn forecast(
        &self,
        service: Name,
        to: Name,
        from: Option<Name>,
        plan: RolloutPlan,
    ) -> Result<Outlook, ChangeError> {
        let plan = Box::new(plan);
        self.ask(|answer| Message::Forecast { service, to, from, plan, answer }).await
    }

    /// What happens to rollouts from now on.
    pub fn rollout_news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// What is kept of changes.
    pub fn history(&self) -> &Store {
        &self.store
    }

    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// To wait for the next view.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }
}
