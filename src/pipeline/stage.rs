//! One stage of a step: its span, its duration, and its early end.
//!
//! All stages of the pipeline go through [`StepContext::stage`] or [`StepContext::observe`]. So
//! they are traced, measured, cancelled and worded in the same way. `stage` ends the work at the
//! deadline and at the cancellation. `observe` is for work that ends itself then: the runtime ends
//! a guest, and reports what the guest wrote until then.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::step::{Stage, Step, StepError};
use crate::telemetry::Metrics;
use crate::text::units::Time;

/// The time that a step gets to end itself after its deadline or its cancellation.
const GRACE: Duration = Duration::from_secs(1);

/// The deadline and the cancellation of a step, as Go's `context.Context` has them.
#[derive(Clone, Debug)]
pub(super) struct StepContext {
    cancel: CancellationToken,
    /// From the template's `timeout`. Waiting for a slot is included.
    timeout: Option<Deadline>,
    /// From the operator's `limits.total`. `None` while the step waits for a slot.
    total: Option<Deadline>,
    /// The stage that began last. All clones of the context share it.
    current: Arc<Mutex<Stage>>,
    metrics: Metrics,
}

/// The time at which a step must have ended, and the limit that sets this time.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Instant,
    limit: Limit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    /// The template's `timeout`.
    Timeout(Duration),
    /// The operator's `limits.total`.
    Total(Duration),
}

impl Deadline {
    /// `None` when the time is too far in the future to be represented.
    fn after(start: Instant, time: Duration, limit: Limit) -> Option<Self> {
        Some(Self {
            at: start.checked_add(time)?,
            limit,
        })
    }
}

impl StepContext {
    /// The context of a step that started at `started`.
    pub(super) fn new(
        step: &Step,
        started: Instant,
        cancel: CancellationToken,
        metrics: &Metrics,
    ) -> Self {
        let total = step.limits.total;
        Self {
            cancel,
            timeout: step
                .timeout
                .and_then(|time| Deadline::after(started, time, Limit::Timeout(time))),
            total: Deadline::after(started, total, Limit::Total(total)),
            current: first_stage(),
            metrics: metrics.clone(),
        }
    }

    /// A context without a deadline that is never cancelled.
    pub(super) fn unbounded(metrics: &Metrics) -> Self {
        Self {
            cancel: CancellationToken::new(),
            timeout: None,
            total: None,
            current: first_stage(),
            metrics: metrics.clone(),
        }
    }

    /// The context while the step waits for a slot. `limits.total` does not include this time.
    pub(super) fn while_queued(&self) -> Self {
        Self {
            total: None,
            ..self.clone()
        }
    }

    /// The context of a step that has its slot now and waited since `queued`.
    pub(super) fn after_queue(self, queued: Instant) -> Self {
        let waited = queued.elapsed();
        let total = self.total.and_then(|total| {
            Some(Deadline {
                at: total.at.checked_add(waited)?,
                ..total
            })
        });
        Self { total, ..self }
    }

    /// The token that is cancelled when the step is to end.
    pub(super) fn cancellation(&self) -> &CancellationToken {
        &self.cancel
    }

    /// The time at which the step must have ended.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.earliest().map(|deadline| deadline.at)
    }

    fn earliest(&self) -> Option<Deadline> {
        let deadlines = self.timeout.into_iter().chain(self.total);
        deadlines.min_by_key(|deadline| deadline.at)
    }

    /// Fails when the step is cancelled or its deadline has passed.
    pub(super) fn check(&self, stage: Stage) -> Result<(), StepError> {
        if self.cancel.is_cancelled() {
            return Err(cancelled(stage));
        }
        match self.deadline() {
            Some(deadline) if deadline <= Instant::now() => Err(self.deadline_exceeded(stage)),
            _ => Ok(()),
        }
    }

    /// Runs the work of one stage, and ends the work at the deadline and at the cancellation.
    pub(super) fn stage<T>(
        &self,
        stage: Stage,
        work: impl Future<Output = Result<T, StepError>>,
    ) -> impl Future<Output = Result<T, StepError>> {
        self.stage_with_details(stage, work, String::new)
    }

    /// Like [`stage`](Self::stage). `details` is appended to the message when the deadline ends the
    /// work.
    ///
    /// Pin large work (`pin!`) before it is passed here: each function that takes a future by value
    /// stores the future once more, and a step copies its future several times.
    pub(super) async fn stage_with_details<T>(
        &self,
        stage: Stage,
        work: impl Future<Output = Result<T, StepError>>,
        details: impl FnOnce() -> String,
    ) -> Result<T, StepError> {
        let observed = self.start(stage);
        let ended = tokio::select! {
            biased;
            ended = work.instrument(observed.span()) => ended,
            () = self.cancel.cancelled() => Err(cancelled(stage)),
            () = self.deadline_reached() => Err(self.deadline_exceeded(stage).and(&details())),
        };
        observed.end();
        ended
    }

    /// Runs the work of one stage that ends itself at the deadline and at the cancellation.
    pub(super) async fn observe<F: Future>(&self, stage: Stage, work: F) -> F::Output {
        let observed = self.start(stage);
        let output = work.instrument(observed.span()).await;
        observed.end();
        output
    }

    /// Runs the stages in the slot, which end themselves at the deadline and at the cancellation.
    /// Gives up when they have not ended one second after the template's `timeout` or the
    /// cancellation: a call that blocks holds them up. The error names the stage that blocks.
    pub(super) async fn with_grace<T>(
        &self,
        stages: impl Future<Output = Result<T, StepError>>,
    ) -> Result<T, StepError> {
        let timeout = reached(self.timeout.map(|deadline| deadline.at));
        tokio::select! {
            biased;
            ended = stages => ended,
            () = with_grace(self.cancel.cancelled()) => Err(cancelled(self.current())),
            () = with_grace(timeout) => Err(self.deadline_exceeded(self.current())),
        }
    }

    fn start(&self, stage: Stage) -> Observed {
        *self.current.lock() = stage;
        Observed::start(stage, self.metrics.clone())
    }

    fn current(&self) -> Stage {
        *self.current.lock()
    }

    async fn deadline_reached(&self) {
        reached(self.deadline()).await;
    }

    /// The error of a step whose deadline was reached in `stage`.
    fn deadline_exceeded(&self, stage: Stage) -> StepError {
        let message = self.deadline_message(stage);
        match stage {
            Stage::Run | Stage::Collect | Stage::StageOut => StepError::failed(stage, message),
            _ => StepError::error(stage, message),
        }
    }

    /// The message for a step whose deadline was reached in `stage`.
    pub(super) fn deadline_message(&self, stage: Stage) -> String {
        let limit = match self.earliest().map(|deadline| deadline.limit) {
            Some(Limit::Timeout(time)) => format!("timeout of {}", Time(time)),
            Some(Limit::Total(time)) => format!(
                "the limit of {} for the whole step (`limits.total`)",
                Time(time)
            ),
            None => "time limit".to_owned(),
        };
        format!("{limit} exceeded during {}", stage.name())
    }
}

/// A stage that is traced and measured.
struct Observed {
    stage: Stage,
    started: Instant,
    metrics: Metrics,
}

impl Observed {
    fn start(stage: Stage, metrics: Metrics) -> Self {
        Self {
            stage,
            started: Instant::now(),
            metrics,
        }
    }

    fn span(&self) -> Span {
        tracing::debug_span!("stage", stage = self.stage.name())
    }

    /// Writes the duration of the stage to the log and to the metrics.
    fn end(self) {
        let duration = self.started.elapsed();
        self.metrics.stage_ended(self.stage, duration);
        let microseconds = duration.as_micros();
        tracing::debug!(stage = self.stage.name(), microseconds, "stage ended");
    }
}

fn first_stage() -> Arc<Mutex<Stage>> {
    Arc::new(Mutex::new(Stage::Resolve))
}

/// Waits until the time. Waits for ever if there is no time.
async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

async fn with_grace(event: impl Future<Output = ()>) {
    event.await;
    tokio::time::sleep(GRACE).await;
}

/// The error of a step that was cancelled in `stage`.
pub(super) fn cancelled(stage: Stage) -> StepError {
    StepError::error(stage, "the step was cancelled")
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::step::Phase;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_millis(40);

    fn context(timeout: Option<Duration>, total: Duration) -> StepContext {
        let now = Instant::now();
        StepContext {
            cancel: CancellationToken::new(),
            timeout: timeout.and_then(|time| Deadline::after(now, time, Limit::Timeout(time))),
            total: Deadline::after(now, total, Limit::Total(total)),
            current: first_stage(),
            metrics: Metrics::new(1),
        }
    }

    async fn error(context: &StepContext, stage: Stage) -> StepError {
        let work = pending::<Result<(), _>>();
        context.stage(stage, work).await.unwrap_err()
    }

    #[tokio::test]
    async fn the_earlier_limit_ends_a_stage_and_is_named() {
        let timeout = error(&context(Some(SHORT), LONG), Stage::Fetch).await;
        assert_eq!(timeout.to_string(), "timeout of 20ms exceeded during fetch");
        assert_eq!(timeout.phase(), Phase::Error);
        let total = error(&context(Some(LONG), SHORT), Stage::StageOut).await;
        assert_eq!(
            total.to_string(),
            "the limit of 20ms for the whole step (`limits.total`) exceeded during stage_out"
        );
        assert_eq!(
            total.phase(),
            Phase::Failed,
            "the module has started by then"
        );
    }

    #[tokio::test]
    async fn waiting_for_a_slot_counts_for_the_timeout_and_not_for_the_total() {
        let context = context(Some(LONG), SHORT);
        let queued = Instant::now();
        let message = error(&context.while_queued(), Stage::Queue).await;
        assert_eq!(message.to_string(), "timeout of 40ms exceeded during queue");
        let before = context.total.unwrap().at;
        let after = context.after_queue(queued).total.unwrap().at;
        assert!(after >= before + SHORT);
    }

    #[tokio::test]
    async fn cancellation_ends_a_stage_and_finished_work_wins() {
        let context = context(None, LONG);
        context.cancellation().cancel();
        let cancelled = error(&context, Stage::Compile).await;
        assert_eq!(cancelled.to_string(), "the step was cancelled");
        assert_eq!(cancelled.stage(), Stage::Compile);
        assert!(context.check(Stage::Queue).is_err());
        assert!(context.stage(Stage::Run, ready(Ok(()))).await.is_ok());
    }

    #[tokio::test]
    async fn work_that_blocks_is_given_up_with_the_phase_of_its_stage() {
        for (stage, phase) in [(Stage::StageIn, Phase::Error), (Stage::Run, Phase::Failed)] {
            let context = context(Some(SHORT), LONG);
            let blocked = context.observe(stage, pending::<Result<(), _>>());
            let error = context.with_grace(blocked).await.unwrap_err();
            assert_eq!((error.stage(), error.phase()), (stage, phase));
        }
    }
}
