//! Where steps run, and how many at once.
//!
//! A guest may block, so its place is a thread of its own, and the server's async threads go on meanwhile. But handing a step over and
//! getting its result back wakes a thread twice, which costs more than a small guest takes. So a job that is expected to be short begins
//! where it is. When it is not done at once, because it waits or because the epoch's next tick finds it busy, it goes on on a thread like
//! the others.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};

use super::scheduler::{Capacity, Claim, Place, Places};

type Job = Box<dyn FnOnce(&Runtime) + Send>;

/// The threads for steps, each with a small async runtime for guests' timers and host calls. They end when this is dropped and
/// their jobs are done.
#[derive(Debug)]
pub struct Runners {
    /// One for each thread: a job that has a place finds a thread, and so many run at once, wherever they do.
    places: Arc<Places>,
    /// How many jobs may begin on callers' threads at once: one of those threads is always free for other work.
    beginnings: Semaphore,
    queue: Sender<Job>,
}

impl Runners {
    /// Starts a thread for each step that there is a place for, for callers on `callers` threads.
    pub fn start(capacity: Capacity, callers: usize) -> std::io::Result<Self> {
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
            places: Places::new(capacity),
            beginnings: Semaphore::new(callers.saturating_sub(1)),
            queue,
        })
    }

    /// Runs `job` as soon as there is a place for what it claims. `None` when it panicked. When the caller goes away, a job
    /// that waits for a place is dropped, and one that has a thread goes on to its end.
    ///
    /// A job that is `short`, when it gets its place, begins on the caller's own thread. `overran` is called when it was not done there.
    pub async fn run<T: Send + 'static>(
        &self,
        claim: Claim,
        short: impl Fn() -> bool,
        overran: impl Fn(),
        job: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let place = self.places.take(claim).await;
        let mut job = Box::pin(job);
        if short()
            && let Ok(_beginning) = self.beginnings.try_acquire()
        {
            match begin(job.as_mut())? {
                Poll::Ready(done) => return Some(done),
                Poll::Pending => overran(),
            }
        }
        self.go_on(place, job).await
    }

    async fn go_on<T: Send + 'static>(
        &self,
        place: Place,
        job: Pin<Box<impl Future<Output = T> + Send + 'static>>,
    ) -> Option<T> {
        let (send, receive) = oneshot::channel();
        let job = move |runtime: &Runtime| {
            let value = runtime.block_on(job);
            drop(place);
            // Nobody waits any more: the value is dropped.
            let _ = send.send(value);
        };
        self.queue.send(Box::new(job)).ok()?;
        receive.await.ok()
    }
}

/// The job's first slice. Nobody is woken when it waits: who goes on asks again. `None` when it panicked.
fn begin<T>(job: Pin<&mut impl Future<Output = T>>) -> Option<Poll<T>> {
    let poll = || job.poll(&mut Context::from_waker(Waker::noop()));
    catch_unwind(AssertUnwindSafe(poll)).ok()
}

/// Guests give way to what answers the agent, as far as they share processors; a quota on those counts for all threads.
const NICE: i32 = 10;

fn work(jobs: &Receiver<Job>, runtime: &Runtime) {
    // On Linux this is the thread's own (setpriority(2), BUGS).
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "guests have the priority of everything else");
    }
    for job in jobs {
        // A defect in one step must not take the thread from the next ones.
        if catch_unwind(AssertUnwindSafe(|| job(runtime))).is_err() {
            tracing::error!("a step panicked; this is a defect of this program");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    const CLAIM: Claim = Claim {
        class: 0,
        memory: 0,
    };

    fn runners(steps: u32, callers: usize) -> Runners {
        Runners::start(Capacity { steps, memory: 0 }, callers).unwrap()
    }

    async fn run<T: Send + 'static>(
        runners: &Runners,
        short: bool,
        job: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        runners.run(CLAIM, || short, || (), job).await
    }

    #[tokio::test]
    async fn a_panic_costs_no_place_and_no_thread() {
        let runners = runners(1, 2);
        for short in [true, false] {
            assert_eq!(
                run(&runners, short, async { panic!("on purpose") }).await,
                None::<()>
            );
            assert_eq!(run(&runners, short, async { 5 }).await, Some(5));
        }
    }

    #[tokio::test]
    async fn a_job_that_blocks_holds_up_nobody_but_the_next_job() {
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
                "the only place is taken"
            );
        }
        open.send(7).unwrap();
        assert_eq!(blocking.await.unwrap(), Some(Ok(7)));
        assert_eq!(
            run(&runners, true, async { 8 }).await,
            Some(8),
            "the one that was dropped while it waited holds no place"
        );
    }

    /// A job that waits is woken again, though it began where nobody would have, and among another runtime's timers.
    #[tokio::test]
    async fn a_short_job_that_waits_goes_on_elsewhere() {
        let overran = AtomicUsize::new(0);
        let job = async {
            let here = std::thread::current().id();
            tokio::time::sleep(Duration::from_millis(5)).await;
            here != std::thread::current().id()
        };
        let runners = runners(1, 2);
        let elsewhere = runners
            .run(CLAIM, || true, || overran.store(1, Ordering::SeqCst), job)
            .await;
        assert_eq!((elsewhere, overran.into_inner()), (Some(true), 1));
    }

    /// Where the caller's thread is the only one, nothing begins on it.
    #[tokio::test]
    async fn one_thread_stays_free() {
        let here = std::thread::current().id();
        let job = || async { std::thread::current().id() };
        assert_ne!(run(&runners(1, 1), true, job()).await, Some(here));
        assert_eq!(run(&runners(1, 2), true, job()).await, Some(here));
    }
}
