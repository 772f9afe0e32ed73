//! What is written down of requests.

use super::super::{
    keys,
    kinds::LogTargetPath,
    reader::{Field, Reader},
};
use crate::spec::{AccessLog, LogField, LogTarget, Share, Tracing};
use std::sync::Arc;

/// `None` where there is none, or something was reported.
pub(super) fn access_log(
    reader: &Reader<'_>,
    field: Field<keys::AccessLogSection>,
) -> Option<Arc<AccessLog>> {
    let keys = field.value()?;
    let to = match keys.to.or(LogTargetPath::Stdout) {
        LogTargetPath::Stdout => LogTarget::Stdout,
        LogTargetPath::Stderr => LogTarget::Stderr,
        LogTargetPath::File(path) => LogTarget::File(reader.directory.join(path).into()),
    };
    Some(Arc::new(AccessLog {
        to,
        format: keys.format.or(Default::default()),
        fields: keys.fields.value().unwrap_or_else(LogField::by_default),
        sample: keys.sample.or(Share::ALL),
        queue: keys.queue.or(AccessLog::QUEUE),
    }))
}

/// The same.
pub(super) fn tracing(field: Field<keys::TracingSection>) -> Option<Arc<Tracing>> {
    let keys = field.value()?;
    Some(Arc::new(Tracing {
        otlp: keys.otlp.value()?,
        sample: keys.sample.or(Share::ALL),
        queue: keys.queue.or(Tracing::QUEUE),
    }))
}
