//! The threads that run guests.
//!
//! A guest may block its thread, for example in a file call. So each slot of the `scheduler` has a
//! thread of its own, a *runner*. Each runner has a small tokio runtime for the guest's timers and
//! host calls. The server's async threads do not wait for guests.
//!
//! The hand-over to a runner and back wakes a thread twice. This costs more than a small guest. So
//! a job that is expected to be short is first polled once on the caller's thread:
//!
//! - If the job is done after this poll, no other thread is involved.
//! - If not, the job is moved to a runner. This happens when the guest waits in a host call, or
//!   when the next tick of the epoch, after 10 ms at most, makes the guest yield (see `run`).
//!
//! At most all but one of the callers' threads poll jobs at the same time. So one of these threads
//! is always free for other work.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};

use super::admission::{Capacity, SlotRequest};
use super::scheduler::{Scheduler, Slot};

type Job = Box<dyn FnOnce(&Runtime) + Send>;

/// The runner threads and their scheduler. The threads end when this is dropped and their jobs are
/// done.
#[derive(Debug)]
pub struct Runners {
    /// There are as many runners as slots. So a job that has a slot always finds an idle runner.
    scheduler: Arc<Scheduler>,
    /// Permits to poll a job on a caller's thread.
    inline_permits: Semaphore,
    queue: Sender<Job>,
}

impl Runners {
    /// Starts one thread for each step of `capacity`. `caller_threads` is the number of threads
    /// that call [`Runners::run`].
    pub fn start(capacity: Capacity, caller_threads: usize) -> std::io::Result<Self> {
        let (queue, jobs) = unbounded();
        for number in 0..capacity.steps {
            let jobs = jobs.clone();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(4)
                .build()?;
            let thread = std::thread::Builder::new().name(format!("runner-{number}"));
            thread.spawn(move || work(&jobs, &runtime))?;
        }
        Ok(Self {
            scheduler: Scheduler::new(capacity),
            inline_permits: Semaphore::new(caller_threads.saturating_sub(1)),
            queue,
        })
    }

    /// Waits for a slot. When the returned future is dropped, no slot is taken.
    pub async fn acquire(&self, request: SlotRequest) -> Slot {
        self.scheduler.acquire(request).await
    }

    /// Runs `job` in `slot`, and releases the slot when the job is done. Returns `None` if the job
    /// panicked.
    ///
    /// If `is_short`, the job is first polled on the caller's thread. `on_overrun` is called if the
    /// job was not done after this poll.
    ///
    /// When the returned future is dropped, a job that a runner has taken runs to its end.
    pub async fn run<T: Send + 'static>(
        &self,
        slot: Slot,
        is_short: bool,
        on_overrun: impl Fn(),
        mut job: impl Future<Output = T> + Unpin + Send + 'static,
    ) -> Option<T> {
        if is_short && let Ok(_permit) = self.inline_permits.try_acquire() {
            match poll_once(Pin::new(&mut job))? {
                Poll::Ready(value) => return Some(value),
                Poll::Pending => on_overrun(),
            }
        }
        self.run_on_runner(slot, job).await
    }

    async fn run_on_runner<T: Send + 'static>(
        &self,
        slot: Slot,
        job: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (send, receive) = oneshot::channel();
        let job = move |runtime: &Runtime| {
            let value = runtime.block_on(job);
            drop(slot);
            // The send fails if the caller no longer waits. The value is then dropped.
            let _ = send.send(value);
        };
        self.queue.send(Box::new(job)).ok()?;
        receive.await.ok()
    }
}

/// Polls a job once. Returns `None` if the job panicked.
///
/// The waker does nothing: a job that is pending is polled again by the runner, with the runner's
/// waker.
fn poll_once<T>(job: Pin<&mut impl Future<Output = T>>) -> Option<Poll<T>> {
    let poll = || job.poll(&mut Context::from_waker(Waker::noop()));
    catch_unwind(AssertUnwindSafe(poll)).ok()
}

/// Nice value of the runners. Guests get less processor time than the threads that answer requests,
/// where both compete for a processor. A CPU quota of the container applies to all threads
/// together.
const NICE: i32 = 10;

fn work(jobs: &Receiver<Job>, runtime: &Runtime) {
    // On Linux the nice value is an attribute of the thread, not of the process (setpriority(2),
    // BUGS).
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "cannot lower the priority of guest threads");
    }
    for job in jobs {
        // The thread survives a panic, because later jobs need it.
        if catch_unwind(AssertUnwindSafe(|| job(runtime))).is_err() {
            tracing::error!("a step panicked; this is a defect of this program");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::super::admission::Class;
    use super::*;

    const REQUEST: SlotRequest = SlotRequest {
        class: Class {
            tenant: None,
            template: 0,
        },
        memory: 0,
    };

    fn runners(steps: u32, caller_threads: usize) -> Runners {
        Runners::start(Capacity { steps, memory: 0 }, caller_threads).unwrap()
    }

    async fn run<T: Send + 'static>(
        runners: &Runners,
        is_short: bool,
        job: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let slot = runners.acquire(REQUEST).await;
        runners.run(slot, is_short, || (), Box::pin(job)).await
    }

    #[tokio::test]
    async fn a_panic_loses_no_slot_and_no_thread() {
        let runners = runners(1, 2);
        for is_short in [true, false] {
            assert_eq!(
                run(&runners, is_short, async { panic!("on purpose") }).await,
                None::<()>
            );
            assert_eq!(run(&runners, is_short, async { 5 }).await, Some(5));
        }
    }

    #[tokio::test]
    async fn a_job_that_blocks_delays_only_the_next_job() {
        let runners = Arc::new(runners(1, 2));
        let (open, gate) = std::sync::mpsc::channel();
        let blocking = {
            let runners = Arc::clone(&runners);
            tokio::spawn(async move { run(&runners, false, async move { gate.recv() }).await })
        };
        tokio::time::sleep(Duration::from_millis(10)).await;
        {
            let next = run(&runners, true, async {});
            tokio::pin!(next);
            assert!(
                futures::poll!(&mut next).is_pending(),
                "the only slot is taken"
            );
        }
        open.send(7).unwrap();
        assert_eq!(blocking.await.unwrap(), Some(Ok(7)));
        assert_eq!(
            run(&runners, true, async { 8 }).await,
            Some(8),
            "the job that was dropped while it waited holds no slot"
        );
    }

    /// The first poll has a waker that does nothing, and registers the timer with the caller's
    /// runtime. The job is woken all the same.
    #[tokio::test]
    async fn a_short_job_that_waits_continues_on_a_runner() {
        let overruns = AtomicUsize::new(0);
        let job = async {
            let first_thread = std::thread::current().id();
            tokio::time::sleep(Duration::from_millis(5)).await;
            first_thread != std::thread::current().id()
        };
        let runners = runners(1, 2);
        let on_overrun = || overruns.store(1, Ordering::SeqCst);
        let slot = runners.acquire(REQUEST).await;
        let moved = runners.run(slot, true, on_overrun, Box::pin(job)).await;
        assert_eq!(moved, Some(true));
        assert_eq!(overruns.into_inner(), 1);
    }

    #[tokio::test]
    async fn the_last_caller_thread_polls_no_job() {
        let here = std::thread::current().id();
        let job = || async { std::thread::current().id() };
        assert_ne!(run(&runners(1, 1), true, job()).await, Some(here));
        assert_eq!(run(&runners(1, 2), true, job()).await, Some(here));
    }
}
