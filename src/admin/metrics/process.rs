use metrics::{describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use rustix::time::{ClockId, clock_gettime};
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
        with_cpu_seconds(&self.recorder.render(), cpu_seconds())
    }

    /// To be called now and then, so that what was recorded does not pile up between two scrapes.
    pub(in crate::admin) fn upkeep(&self) {
        self.recorder.run_upkeep();
    }
}

/// User and system CPU time of all threads so far.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The recorder's counters are whole numbers, and whole seconds are too coarse for a rate.
fn with_cpu_seconds(text: &str, seconds: f64) -> String {
    let mut fine = String::with_capacity(text.len() + 16);
    for line in text.lines() {
        if line.starts_with("process_cpu_seconds_total ") {
            fine.push_str(&format!("process_cpu_seconds_total {seconds:.6}"));
        } else {
            fine.push_str(line);
        }
        fine.push('\n');
    }
    fine
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_finer_than_seconds() {
        let text = "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 3\n\nx 1\n";
        let fine =
            "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 3.250000\n\nx 1\n";
        assert_eq!(with_cpu_seconds(text, 3.25), fine);
        let before = cpu_seconds();
        assert!(before > 0.0 && cpu_seconds() >= before);
        let told = Process::new().render();
        let line = told.lines().find(|line| line.starts_with("process_cpu_seconds_total "));
        assert!(line.is_some_and(|line| line.contains('.')), "{told}");
    }
}
