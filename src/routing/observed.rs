use crate::spec::{AccessLog, Name, Spec, Tracing};
use std::sync::Arc;

/// What is written down of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The route that they came by; `None`: not by one that was chosen.
    pub route: Option<Name>,
    pub access_log: Option<Arc<AccessLog>>,
    pub tracing: Option<Arc<Tracing>>,
}

impl Observed {
    /// `None` where nothing is.
    pub(super) fn of(spec: &Spec) -> Option<Arc<Self>> {
        let (access_log, tracing) = (spec.access_log.clone(), spec.tracing.clone());
        let is_any = access_log.is_some() || tracing.is_some();
        is_any.then(|| Arc::new(Self { route: None, access_log, tracing }))
    }

    pub(super) fn by(&self, route: &Name) -> Arc<Self> {
        Arc::new(Self { route: Some(route.clone()), ..self.clone() })
    }
}
