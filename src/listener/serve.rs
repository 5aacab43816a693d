//! Accepts connections, and serves each with HTTP/1.1.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bounds::{Bounds, MAX_HEAD};
use super::connection::{Connection, ResponseBody};
use super::connections::{Admitted, Connections, Crowding};
use super::occurrences::Occurrences;
use super::spare_descriptors::SpareDescriptors;

/// Time between two searches for connections that are late.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Pause after the operating system could not accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Serves `router` on a listener until `shutdown`, and then until the last response is sent.
///
/// `bounds` limits the connections, times and bytes that callers can use. The handlers of the
/// router get the [`Connection`] as an extension of the request.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    shutdown: CancellationToken,
) {
    let server = Server {
        router,
        table: Arc::new(Connections::new(bounds)),
        spare: SpareDescriptors::new(bounds.spare_descriptors),
        sockets: Arc::new(Semaphore::new(bounds.sockets())),
        shutdown: shutdown.clone(),
        running: TaskTracker::new(),
        crowded: Occurrences::new(
            "a connection without the token was closed: too many are open",
            "more connections without the token were closed: too many are open",
        ),
        exhausted: Occurrences::new(
            "a connection had to wait: the process has no free file descriptor",
            "more connections had to wait: the process has no free file descriptor",
        ),
    };
    tokio::select! {
        () = server.accept(&listener) => {}
        () = server.sweep() => {}
        () = shutdown.cancelled() => {}
    }
    drop(listener);
    // A stranger must not delay the end of the process.
    server.table.close_unverified();
    server.running.close();
    server.running.wait().await;
}

struct Server {
    router: Router,
    table: Arc<Connections>,
    spare: SpareDescriptors,
    /// One permit for each open socket.
    sockets: Arc<Semaphore>,
    shutdown: CancellationToken,
    running: TaskTracker,
    /// Connections that were closed for a newer one.
    crowded: Occurrences,
    /// Connections that could not be accepted.
    exhausted: Occurrences,
}

impl Server {
    async fn accept(&self, listener: &TcpListener) {
        // The semaphore is never closed.
        while let Ok(socket) = Arc::clone(&self.sockets).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let admitted = self.table.admit(peer.ip());
                    if admitted.crowding == Crowding::Crowded {
                        self.crowded.log();
                    }
                    let serving = self.connection(stream, socket, admitted);
                    self.running.spawn(serving);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => self.make_room().await,
            }
        }
    }

    /// Frees a descriptor for the next connection.
    async fn make_room(&self) {
        self.exhausted.log();
        if !self.spare.release() {
            self.table.close_any();
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }

    /// Closes late connections until the future is dropped.
    async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            self.table.close_late(Instant::now());
            self.spare.refill();
        }
    }

    /// Serves one connection.
    fn connection(
        &self,
        stream: TcpStream,
        socket: OwnedSemaphorePermit,
        admitted: Admitted,
    ) -> impl Future<Output = ()> + Send + 'static {
        let connection = Connection::new(Arc::clone(&self.table), &admitted);
        let router = TowerToHyperService::new(self.router.clone());
        let shutdown = self.shutdown.clone();
        let spare = self.spare.clone();
        async move {
            serve_connection(stream, router, connection, admitted.close, shutdown).await;
            drop(socket);
            spare.refill();
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    router: TowerToHyperService<Router>,
    connection: Connection,
    close: CancellationToken,
    shutdown: CancellationToken,
) {
    // Replies are small and the agent waits for them, so they are sent without delay.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<Incoming>| {
        connection.begin_request();
        request.extensions_mut().insert(connection.clone());
        let response = router.call(request);
        let connection = connection.clone();
        async move {
            let mut response = response.await?;
            if !connection.keeps_alive() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response.map(|body| ResponseBody::new(body, connection)))
        }
    });
    let mut http = http1::Builder::new();
    // The times are in `Bounds`: hyper's own time for the head also ends idle connections.
    http.max_buf_size(MAX_HEAD).header_read_timeout(None);
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = async {
        tokio::select! {
            _ = serving.as_mut() => return,
            () = shutdown.cancelled() => serving.as_mut().graceful_shutdown(),
        }
        // An error ends only this connection.
        let _ = serving.await;
    };
    close.run_until_cancelled(ended).await;
}

/// Whether the error is about the connection that should be accepted, and not about the listener.
/// After these errors, a program should retry at once: see accept(2).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::TimedOut
    )
}
