//! Tests of the calls.

use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::*;
use crate::agent::delivery::DeliveryBody;
use crate::executions::Registry;
use crate::text::units::Time;

/// Executions that end when the gate opens, and a count of those that were started. The reply of
/// an execution is its number.
struct Fixture {
    calls: Calls,
    registry: Registry,
    started: Arc<AtomicUsize>,
    gate: watch::Sender<bool>,
    shutdown: CancellationToken,
    pending_limit: Option<Duration>,
}

impl Fixture {
    fn new(orphan_timeout: Duration) -> Self {
        let settings = AgentSettings {
            wait: Time(Duration::from_millis(300)),
            orphan_timeout: Time(orphan_timeout),
            ..AgentSettings::default()
        };
        let shutdown = CancellationToken::new();
        Self {
            calls: Calls::new(settings, Room::new(ROOM), shutdown.clone()),
            registry: Registry::default(),
            started: Arc::default(),
            gate: watch::channel(false).0,
            shutdown,
            pending_limit: None,
        }
    }

    async fn call(&self, exclusive: bool) -> CallReply {
        self.answer(exclusive).await.reply
    }

    async fn answer(&self, exclusive: bool) -> Answer {
        let call = CallInfo {
            key: CallKey::of(b"bytes"),
            exclusive,
            memory: MEMORY,
            workflow: "uid".to_owned(),
            owner: Arc::default(),
            pending_limit: self.pending_limit,
        };
        let number = Arc::clone(&self.started);
        let registry = self.registry.clone();
        let mut gate = self.gate.subscribe();
        let start = move |names: StepNames, cancel: CancelHandle| async move {
            let _registration = registry.register(names, cancel.clone());
            let number = number.fetch_add(1, Ordering::SeqCst);
            let timed_out = tokio::select! {
                _ = gate.wait_for(|open| *open) => false,
                () = cancel.token().cancelled() => true,
            };
            CallResult {
                reply: number.to_string().into(),
                timed_out,
            }
        };
        self.calls.call(call, start).await
    }

    fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    async fn open(&self) {
        self.gate.send_replace(true);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// The room of all executions, and the memory of one, in bytes.
const ROOM: usize = 1 << 20;
const MEMORY: usize = 10 << 10;
const LONG: Duration = Duration::from_mins(1);

/// Hands the reply over as a connection does, and returns the execution's number.
fn deliver(reply: CallReply) -> Option<usize> {
    match reply {
        CallReply::Requeue(_) | CallReply::Abandoned => None,
        CallReply::Done(delivery) => {
            let number = std::str::from_utf8(delivery.reply()).unwrap().parse();
            take(delivery.into_body());
            Some(number.unwrap())
        }
    }
}

/// Takes the frame of a body, as a connection does.
fn take(mut body: DeliveryBody) {
    let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
    let _ = http_body::Body::poll_frame(std::pin::Pin::new(&mut body), context);
}

#[tokio::test]
async fn a_call_after_the_delay_adopts_the_execution_and_an_earlier_call_does_not() {
    let f = Fixture::new(LONG);
    assert!(matches!(
        f.call(false).await,
        CallReply::Requeue(MIN_REQUEUE)
    ));
    tokio::time::sleep(MIN_REQUEUE).await;
    assert!(matches!(
        f.call(false).await,
        CallReply::Requeue(MIN_REQUEUE)
    ));
    assert_eq!(f.started(), 1);
    assert!(
        matches!(f.call(false).await, CallReply::Requeue(_)),
        "an early call is from another node"
    );
    assert_eq!(f.started(), 2);
    f.open().await;
    tokio::time::sleep(MIN_REQUEUE).await;
    assert_eq!(deliver(f.call(false).await), Some(0));
    assert_eq!(deliver(f.call(false).await), Some(1));
    assert_eq!(
        deliver(f.call(false).await),
        Some(2),
        "a retry of the node runs again"
    );
    assert_eq!(f.calls.room.bytes(), 0);
}

#[tokio::test]
async fn identical_nodes_get_an_execution_each() {
    let f = Fixture::new(LONG);
    let (first, second) = tokio::join!(f.call(false), f.call(false));
    assert!(deliver(first).is_none() && deliver(second).is_none());
    assert_eq!(f.started(), 2);
    let ids: Vec<_> = f
        .registry
        .running()
        .into_iter()
        .map(|running| running.names.execution)
        .collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
    f.open().await;
    tokio::time::sleep(MIN_REQUEUE).await;
    let mut delivered: Vec<_> = [f.call(false).await, f.call(false).await]
        .into_iter()
        .filter_map(deliver)
        .collect();
    delivered.sort_unstable();
    assert_eq!((delivered, f.started()), (vec![0, 1], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_concurrent_calls_share_an_exclusive_execution() {
    let f = Arc::new(Fixture::new(LONG));
    for round in 0..50 {
        f.gate.send_replace(false);
        let calls = (0..8).map(|_| {
            let f = Arc::clone(&f);
            tokio::spawn(async move {
                drop(tokio::time::timeout(Duration::from_millis(5), f.call(true)).await);
            })
        });
        futures::future::join_all(calls).await;
        assert_eq!(f.started(), round + 1);
        f.open().await;
        assert_eq!(deliver(f.call(true).await), Some(round));
    }
}

#[tokio::test]
async fn an_exclusive_execution_is_shared_until_it_is_delivered() {
    let f = Fixture::new(LONG);
    let (first, second) = tokio::join!(f.call(true), f.call(true));
    assert!(deliver(first).is_none() && deliver(second).is_none());
    f.open().await;
    assert_eq!((deliver(f.call(true).await), f.started()), (Some(0), 1));
    assert_eq!(
        (deliver(f.call(true).await), f.started()),
        (Some(1), 2),
        "the first execution was acknowledged"
    );
}

#[tokio::test]
async fn a_result_that_was_not_delivered_is_kept_for_the_next_call() {
    let f = Fixture::new(LONG);
    f.open().await;
    drop(f.call(false).await);
    let CallReply::Done(delivery) = f.call(false).await else {
        panic!("the execution has ended")
    };
    drop(delivery.into_body());
    assert_eq!((deliver(f.call(false).await), f.started()), (Some(0), 1));
}

#[tokio::test]
async fn an_execution_outlives_a_caller_that_disconnects() {
    let f = Fixture::new(LONG);
    let disconnected = tokio::time::timeout(Duration::from_millis(10), f.call(false)).await;
    assert!(disconnected.is_err());
    f.open().await;
    assert_eq!((deliver(f.call(false).await), f.started()), (Some(0), 1));
}

/// The phase `Running` is due until a connection has taken a reply with this phase.
#[tokio::test]
async fn running_is_reported_until_the_report_is_delivered() {
    for exclusive in [false, true] {
        let f = Fixture {
            pending_limit: Some(LONG),
            ..Fixture::new(LONG)
        };
        let disconnected = tokio::time::timeout(Duration::from_millis(10), f.call(exclusive)).await;
        assert!(disconnected.is_err());
        let body = |report| DeliveryBody::of_running(Bytes::new(), report);
        drop(body(f.answer(exclusive).await.running.unwrap()));
        tokio::time::sleep(MIN_REQUEUE).await;
        take(body(f.answer(exclusive).await.running.unwrap()));
        tokio::time::sleep(MIN_REQUEUE).await;
        assert!(f.answer(exclusive).await.running.is_none());
        assert_eq!(f.started(), 1);
    }
}

/// The agent writes a phase into the node even after the controller has ended the node.
#[tokio::test]
async fn running_is_not_reported_after_the_pending_limit_or_the_end_of_the_execution() {
    for (pending_limit, ends) in [
        (None, false),
        (Some(Duration::from_millis(900)), false),
        (Some(LONG), true),
    ] {
        let f = Fixture {
            pending_limit,
            ..Fixture::new(LONG)
        };
        // The first reply is not delivered.
        let first = f.answer(true).await.running;
        assert_eq!(first.is_some(), pending_limit.is_some());
        drop(first);
        assert_eq!(
            f.answer(true).await.running.is_some(),
            pending_limit.is_some()
        );
        match ends {
            true => f.open().await,
            false => tokio::time::sleep(MIN_REQUEUE).await,
        }
        assert!(f.answer(true).await.running.is_none(), "{pending_limit:?}");
        assert_eq!(f.started(), 1);
    }
}

#[tokio::test]
async fn a_full_room_stops_new_executions_and_not_deliveries() {
    let f = Fixture::new(LONG);
    assert!(matches!(
        f.call(false).await,
        CallReply::Requeue(MIN_REQUEUE)
    ));
    f.open().await;
    tokio::time::sleep(MIN_REQUEUE).await;
    let room = f.calls.room.clone();
    let fill = || {
        let template = |number: usize| TemplateKey::of("uid", &number.to_string());
        (0..1000)
            .map_while(|number| room.take(template(number), MEMORY))
            .collect::<Vec<_>>()
    };
    let others = fill();
    assert_eq!(deliver(f.call(false).await), Some(0));
    let more = fill();
    assert!(matches!(
        f.call(false).await,
        CallReply::Requeue(MAX_REQUEUE)
    ));
    drop((others, more));
    assert_eq!(f.calls.room.bytes(), 0);
    assert_eq!(deliver(f.call(false).await), Some(1));
}

#[tokio::test]
async fn an_abandoned_execution_gets_an_empty_reply() {
    let f = Fixture::new(LONG);
    assert!(matches!(f.call(false).await, CallReply::Requeue(_)));
    let [running] = f.registry.running().try_into().unwrap();
    running.cancel.abandon();
    tokio::time::sleep(MIN_REQUEUE).await;
    assert!(matches!(f.call(false).await, CallReply::Abandoned));
    assert_eq!(f.registry.running().len(), 0);
    assert_eq!(f.calls.room.bytes(), 0);
}

#[tokio::test]
async fn results_of_a_stopping_process_are_not_delivered() {
    let f = Fixture::new(LONG);
    let (first, ()) = tokio::join!(f.call(false), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        f.shutdown.cancel();
    });
    assert!(matches!(first, CallReply::Requeue(MIN_REQUEUE)));
    tokio::time::sleep(MIN_REQUEUE).await;
    assert!(
        matches!(f.call(false).await, CallReply::Requeue(MIN_REQUEUE)),
        "a call that adopts the execution gets no result"
    );
    assert_eq!(f.started(), 1, "no new execution starts");
}

/// The calls for long steps are answered early, and a short step is answered with its result.
#[tokio::test]
async fn a_call_beyond_the_limit_takes_the_place_of_the_call_that_has_waited_longest() {
    let f = Fixture::new(LONG);
    let began = Instant::now();
    let mut waiting: FuturesUnordered<_> = (0..MAX_WAITING).map(|_| f.call(false)).collect();
    let beyond = async {
        tokio::task::yield_now().await;
        f.call(false).await
    };
    let mut beyond = pin!(beyond);
    let answered = tokio::select! {
        reply = waiting.next() => reply.unwrap(),
        reply = &mut beyond => panic!("the new call waits: {reply:?}"),
    };
    assert!(matches!(answered, CallReply::Requeue(_)));
    let took = began.elapsed();
    assert!(
        took >= SHORT_WAIT && took < Duration::from_millis(250),
        "{took:?}"
    );
    f.open().await;
    assert!(deliver(beyond.await).is_some());
}

#[tokio::test]
async fn an_execution_without_calls_is_cancelled() {
    let f = Fixture::new(Duration::from_millis(100));
    let disconnected = tokio::time::timeout(Duration::from_millis(10), f.call(false)).await;
    assert!(disconnected.is_err());
    f.calls
        .table
        .sweep(Instant::now() + Duration::from_secs(20));
    assert!(f.calls.room.bytes() > 0, "the agent may still call");
    f.calls
        .table
        .sweep(Instant::now() + Duration::from_secs(31));
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(f.calls.room.bytes(), 0);
    f.open().await;
    assert_eq!(
        deliver(f.call(false).await),
        Some(1),
        "the next call starts a new execution"
    );
    f.shutdown.cancel();
}

#[test]
fn the_requeue_delay_grows_with_the_age_of_the_execution() {
    let seconds = |seconds| requeue_delay(Duration::from_secs(seconds)).as_secs();
    assert_eq!(
        [
            seconds(0),
            seconds(5),
            seconds(20),
            seconds(60),
            seconds(6000)
        ],
        [1, 1, 5, 15, 15]
    );
}

/// A front end can panic outside its own guard, for example while it writes the reply.
#[tokio::test]
async fn a_panic_is_an_error_and_not_a_requeue() {
    let f = Fixture::new(LONG);
    let call = CallInfo {
        key: CallKey::of(b"panics"),
        exclusive: false,
        memory: MEMORY,
        workflow: "uid".to_owned(),
        owner: Arc::default(),
        pending_limit: None,
    };
    let panics = |_, _| std::future::poll_fn(|_| -> Poll<CallResult> { panic!("a defect") });
    let reply = f.calls.call(call, panics).await.reply;
    let CallReply::Done(delivery) = reply else {
        panic!("the execution has ended: {reply:?}");
    };
    let reply = std::str::from_utf8(delivery.reply()).unwrap();
    assert!(
        reply.contains("\"Error\"") && reply.contains("defect"),
        "{reply}"
    );
}
