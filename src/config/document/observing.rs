use super::{Detail, Keys, text, tls::path};
use crate::{
    config::{
        keys::LogFormatKind,
        kinds::{LogFieldKind, SampleKind},
    },
    spec::{AccessLog, LogField, LogFormat, LogTarget, Share, Tracing},
};
use serde_json::{Number, Value};

pub(super) fn access_log(log: &AccessLog, detail: Detail) -> Value {
    let mut keys = Keys::new(detail);
    // One of its keys at least: a mapping without any is as good as none to some readers.
    keys.set(
        "to",
        match &log.to {
            LogTarget::Stdout => "stdout".into(),
            LogTarget::Stderr => "stderr".into(),
            LogTarget::File(file) => path(file),
        },
    );
    keys.other("format", &log.format, &LogFormat::default(), |it| LogFormatKind::word(it).into());
    keys.other("fields", &log.fields, &LogField::by_default(), |fields| {
        fields.iter().map(|field| text(&LogFieldKind::word(field))).collect::<Vec<_>>().into()
    });
    sample(&mut keys, log.sample);
    keys.number("queue", log.queue, AccessLog::QUEUE);
    keys.into_value()
}

pub(super) fn tracing(tracing: &Tracing, detail: Detail) -> Value {
    let mut keys = Keys::new(detail);
    keys.set("otlp", text(&tracing.otlp));
    sample(&mut keys, tracing.sample);
    keys.number("queue", tracing.queue, Tracing::QUEUE);
    keys.into_value()
}

fn sample(keys: &mut Keys, share: Share) {
    keys.other("sample", &share, &Share::ALL, |share| {
        Number::from_f64(share.as_f64())
            .map_or_else(|| SampleKind::word(*share).into(), Value::Number)
    });
}
