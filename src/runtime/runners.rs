//! The threads that steps run on: as many as steps may run at once.
//!
//! Each has a small async runtime of its own for timers and guests' host calls. A step holds its thread from staging in to
//! staging out, so what it does there may block.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Address space, not memory: removing a directory takes a frame for each level, and a guest can make a hundred thousand.
const STACK: usize = 256 << 20;

type Job = Box<dyn FnOnce(&Runtime) + Send>;

/// The threads and their queue. They end when this is dropped and the queue is empty.
#[derive(Debug)]
pub struct Runners {
    queue: Sender<Job>,
    count: u32,
}

impl Runners {
    /// Starts `count` threads.
    pub fn start(count: u32) -> std::io::Result<Self> {
        let (queue, jobs) = unbounded();
        for number in 0..count {
            let jobs = jobs.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
            let thread = std::thread::Builder::new().name(format!("runner-{number}")).stack_size(STACK);
            thread.spawn(move || work(&jobs, &runtime))?;
        }
        Ok(Self { queue, count })
    }

    /// How many steps can run at once.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Runs `job` on the next free thread. Its first value is sent back as soon as it is there; the second, what only has to
    /// be cleaned up, is dropped on the thread afterwards, while the caller goes on. `None` when the job panicked.
    pub async fn run<T, R>(&self, job: impl FnOnce(&Runtime) -> (T, R) + Send + 'static) -> Option<T>
    where
        T: Send + 'static,
        R: 'static,
    {
        let (send, receive) = oneshot::channel();
        let job = move |runtime: &Runtime| {
            let (value, remains) = job(runtime);
            // Nobody waits any more: the value is dropped like the rest.
            let _ = send.send(value);
            drop(remains);
        };
        self.queue.send(Box::new(job)).ok()?;
        receive.await.ok()
    }
}

fn work(jobs: &Receiver<Job>, runtime: &Runtime) {
    for job in jobs {
        // A defect in one step must not take the thread from the next ones.
        if catch_unwind(AssertUnwindSafe(|| job(runtime))).is_err() {
            tracing::error!("a step panicked; this is a defect of this program");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_costs_no_thread() {
        let runners = Runners::start(1).unwrap();
        assert_eq!(runners.run(|_| -> ((), ()) { panic!("on purpose") }).await, None);
        assert_eq!(runners.run(|runtime| (runtime.block_on(async { 5 }), ())).await, Some(5));
    }

    #[tokio::test]
    async fn the_value_does_not_wait_for_the_cleaning() {
        struct Slow(std::sync::mpsc::Receiver<()>);
        impl Drop for Slow {
            fn drop(&mut self) {
                let _ = self.0.recv();
            }
        }
        let runners = Runners::start(1).unwrap();
        let (finish, wait) = std::sync::mpsc::channel();
        assert_eq!(runners.run(move |_| (1, Slow(wait))).await, Some(1));
        finish.send(()).unwrap();
    }
}
