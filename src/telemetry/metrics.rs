//! Metrics of a process, in the text format of `OpenMetrics`
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
//!
//! Names and units follow <https://prometheus.io/docs/practices/naming/>. No metric names a node, a
//! workflow, a namespace or a module: anyone who reaches the admin port can read them.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::step::{Phase, Stage};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Label = [(&'static str, &'static str); 1];

/// The metrics of a process. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    slots: Gauge,
    open: Gauge,
    waiting: Gauge,
    running: Gauge,
    steps: Family<Label, Counter>,
    /// By the number of the stage.
    stages: Vec<Histogram>,
    cluster: Cluster,
}

/// Metrics of `serve --cluster`.
#[derive(Debug)]
struct Cluster {
    task_sets: Gauge,
    task_set_bytes: Histogram,
    pick_up: Histogram,
    claims: Family<Label, Counter>,
    writes: Family<Label, Counter>,
    write: Histogram,
    http_templates: Family<Label, Counter>,
}

/// A step that is counted until the value is dropped.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Makes histograms of durations, from 0.1 ms to 100 s.
#[derive(Clone, Copy, Debug)]
struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(0.0001, 4.0, 11))
    }
}

impl Metrics {
    /// Makes the metrics of a process with this number of slots.
    pub fn new(slots: u32) -> Self {
        let mut registry = Registry::with_prefix("wasm_workflow");
        let mut metrics = Inner {
            slots: Gauge::default(),
            open: Gauge::default(),
            waiting: Gauge::default(),
            running: Gauge::default(),
            steps: Family::default(),
            stages: Vec::new(),
            cluster: Cluster::new(),
            registry: Registry::default(),
        };
        metrics.slots.set(i64::from(slots));
        registry.register(
            "slots",
            "Steps that can run at the same time",
            metrics.slots.clone(),
        );
        registry.register(
            "steps_open",
            "Steps that have been accepted and have not ended",
            metrics.open.clone(),
        );
        registry.register(
            "steps_waiting",
            "Steps that have been accepted and do not run yet",
            metrics.waiting.clone(),
        );
        registry.register(
            "steps_running",
            "Steps that have a slot",
            metrics.running.clone(),
        );
        registry.register(
            "steps",
            "Steps that have ended, by phase",
            metrics.steps.clone(),
        );
        let stages = Family::<Label, Histogram, Seconds>::new_with_constructor(Seconds);
        registry.register_with_unit(
            "stage",
            "Duration of a stage of a step",
            Unit::Seconds,
            stages.clone(),
        );
        let of_stage = |stage: Stage| stages.get_or_create(&[("stage", stage.name())]).clone();
        metrics.stages = Stage::ALL.map(of_stage).to_vec();
        metrics.cluster.register(&mut registry);
        Self(Arc::new(Inner {
            registry,
            ..metrics
        }))
    }

    /// All metrics as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.0.registry);
        text
    }

    /// A step has been accepted. It ends when the returned value is dropped.
    pub fn step_opens(&self) -> Counted {
        counted(&self.0.open)
    }

    /// A step waits until the returned value is dropped.
    pub fn step_waits(&self) -> Counted {
        counted(&self.0.waiting)
    }

    /// A step runs until the returned value is dropped.
    pub fn step_runs(&self) -> Counted {
        counted(&self.0.running)
    }

    /// A step has ended.
    pub fn step_ended(&self, phase: Phase) {
        self.0.steps.get_or_create(&phase_label(phase)).inc();
    }

    /// A stage of a step has ended.
    pub fn stage_ended(&self, stage: Stage, duration: Duration) {
        if let Some(histogram) = self.0.stages.get(stage as usize) {
            histogram.observe(duration.as_secs_f64());
        }
    }

    /// A task with an `http` template has ended.
    pub fn http_template_ended(&self, phase: Phase) {
        let ended = &self.0.cluster.http_templates;
        ended.get_or_create(&phase_label(phase)).inc();
    }

    /// The replica owns this number of TaskSets.
    pub fn task_sets(&self, number: usize) {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.0.cluster.task_sets.set(number);
    }

    /// A TaskSet that the replica owns has this size.
    pub fn task_set_bytes(&self, bytes: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a size below 2^53")]
        self.0.cluster.task_set_bytes.observe(bytes as f64);
    }

    /// A task has started, this time after the replica first saw it.
    pub fn task_picked_up(&self, after: Duration) {
        self.0.cluster.pick_up.observe(after.as_secs_f64());
    }

    /// A claim of a TaskSet has ended: `owned`, `not_ours`, `gone`,
    /// `conflict` or `failed`.
    pub fn claim_ended(&self, result: &'static str) {
        let claims = &self.0.cluster.claims;
        claims.get_or_create(&[("result", result)]).inc();
    }

    /// A write of results has ended: `written`, `conflict`, `refused`, `gone` or `failed`.
    pub fn write_ended(&self, result: &'static str, duration: Duration) {
        let cluster = &self.0.cluster;
        cluster.writes.get_or_create(&[("result", result)]).inc();
        cluster.write.observe(duration.as_secs_f64());
    }
}

impl Cluster {
    fn new() -> Self {
        Self {
            task_sets: Gauge::default(),
            // From 1 KiB to 2 MiB.
            task_set_bytes: Histogram::new(exponential_buckets(1024.0, 2.0, 12)),
            pick_up: Seconds.new_metric(),
            claims: Family::default(),
            writes: Family::default(),
            write: Seconds.new_metric(),
            http_templates: Family::default(),
        }
    }

    fn register(&self, registry: &mut Registry) {
        let mut add = |name: &str, help: &str, metric: Family<Label, Counter>| {
            registry.register(name, help, metric);
        };
        add(
            "claims",
            "Claims of TaskSets that have ended, by result",
            self.claims.clone(),
        );
        add(
            "patches",
            "Writes of results that have ended, by result",
            self.writes.clone(),
        );
        add(
            "http_templates",
            "Tasks with an http template that have ended, by phase",
            self.http_templates.clone(),
        );
        registry.register(
            "task_sets_owned",
            "TaskSets that this replica owns",
            self.task_sets.clone(),
        );
        registry.register_with_unit(
            "task_set",
            "Size of an owned TaskSet, at each version",
            Unit::Bytes,
            self.task_set_bytes.clone(),
        );
        registry.register_with_unit(
            "pick_up",
            "Time for which a task waits for memory",
            Unit::Seconds,
            self.pick_up.clone(),
        );
        registry.register_with_unit(
            "patch",
            "Duration of a write of results",
            Unit::Seconds,
            self.write.clone(),
        );
    }
}

fn phase_label(phase: Phase) -> Label {
    let phase = match phase {
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
        Phase::Error => "Error",
    };
    [("phase", phase)]
}

fn counted(gauge: &Gauge) -> Counted {
    gauge.inc();
    Counted(gauge.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_each_metric_with_its_unit() {
        let metrics = Metrics::new(16);
        let _open = metrics.step_opens();
        let _waiting = metrics.step_waits();
        drop(metrics.step_runs());
        metrics.step_ended(Phase::Failed);
        metrics.stage_ended(Stage::Run, Duration::from_millis(3));
        metrics.claim_ended("owned");
        metrics.http_template_ended(Phase::Succeeded);
        metrics.write_ended("written", Duration::from_millis(7));
        metrics.task_set_bytes(2000);
        let text = metrics.text();
        for line in [
            "wasm_workflow_slots 16",
            "wasm_workflow_steps_open 1",
            "wasm_workflow_steps_waiting 1",
            "wasm_workflow_steps_running 0",
            "wasm_workflow_steps_total{phase=\"Failed\"} 1",
            "wasm_workflow_stage_seconds_count{stage=\"run\"} 1",
            "wasm_workflow_claims_total{result=\"owned\"} 1",
            "wasm_workflow_http_templates_total{phase=\"Succeeded\"} 1",
            "wasm_workflow_patches_total{result=\"written\"} 1",
            "wasm_workflow_task_set_bytes_bucket{le=\"2048.0\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
