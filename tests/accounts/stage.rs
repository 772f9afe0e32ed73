//! A proxy whose access log goes to a file of the test.

use crate::support::*;
use crossfade::spec::{AccessLog, LogField, LogTarget, PlainField, Spec};
use serde_json::Value;
use std::{fs, path::PathBuf, sync::Arc};
use tempfile::TempDir;

pub(crate) struct Stage {
    pub(crate) proxy: Proxy,
    pub(crate) folder: TempDir,
}

/// Everything that a line can say, and one field of the request.
pub(crate) fn all_fields() -> Vec<LogField> {
    let all = PlainField::ALL.iter().copied().map(LogField::Plain);
    all.chain([LogField::Header("user-agent".into())]).collect()
}

impl Stage {
    /// `change`: what is special about the log.
    pub(crate) async fn start(mut spec: Spec, change: impl FnOnce(&mut AccessLog)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut log = AccessLog::new(LogTarget::File(folder.path().join("access.log").into()));
        log.fields = all_fields();
        change(&mut log);
        spec.access_log = Some(Arc::new(log));
        Self { proxy: Proxy::start(spec).await, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The lines, once there are so many.
    pub(crate) async fn lines(&self, count: usize) -> Vec<Value> {
        self.lines_of("access.log", count).await
    }

    pub(crate) async fn lines_of(&self, name: &str, count: usize) -> Vec<Value> {
        let what = format!("{count} lines in {name}");
        until(&what, || self.text(name).matches('\n').count() >= count).await;
        let text = self.text(name);
        let all: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert_eq!(all.len(), count, "{text}");
        all
    }

    /// The last of so many lines.
    pub(crate) async fn line(&self, count: usize) -> Value {
        self.lines(count).await.pop().unwrap()
    }
}

/// That a line says all of this.
pub(crate) fn assert_says(line: &Value, expected: &Value) {
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(line.get(key).unwrap_or(&Value::Null), value, "{key} of {line}");
    }
}
