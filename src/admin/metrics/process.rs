use metrics::{describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use std::sync::OnceLock;

/// The recorder of the process; there can be one only.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// The families that live as long as the process.
pub(in crate::admin) struct Process {
    recorder: &'static PrometheusHandle,
    collector: Collector,
}

impl Process {
    pub(in crate::admin) fn new() -> Self {
        let recorder = RECORDER.get_or_init(install);
        Self { recorder, collector: Collector::default() }
    }

    pub(super) fn render(&self) -> String {
        self.collector.collect();
        self.recorder.render()
    }

    /// To be called now and then, so that what was recorded does not pile up between two scrapes.
    pub(in crate::admin) fn upkeep(&self) {
        self.recorder.run_upkeep();
    }
}

fn install() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::error!("another metrics recorder is installed: process_* metrics are missing");
    }
    Collector::default().describe();
    describe_gauge!("crossfade_build_info", "Always 1; the label says which version runs.");
    gauge!("crossfade_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    handle
}
