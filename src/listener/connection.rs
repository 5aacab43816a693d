//! The handle of one connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::connections::{Admitted, ConnectionId, Connections, Phase};

/// A connection, as the handler of a request sees it: an extension of the request. Clones belong to
/// the same connection.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: Arc<Connections>,
    id: ConnectionId,
    /// Whether another request may follow the present one.
    keeps_alive: AtomicBool,
}

impl Connection {
    pub(super) fn new(table: Arc<Connections>, admitted: &Admitted) -> Self {
        Self(Arc::new(Inner {
            table,
            id: admitted.id,
            keeps_alive: AtomicBool::new(false),
        }))
    }

    /// Notes that the present request has the token. Without this call, the connection is closed
    /// after the response.
    pub fn verify(&self) {
        self.0.keeps_alive.store(true, Ordering::Relaxed);
        self.0.table.verify(self.0.id);
    }

    /// Notes that the body of the request is read from now on. The connection may be closed while
    /// its body is read, if there are too many connections or bytes.
    pub fn begin_body(&self) {
        self.enter(Phase::Body);
    }

    /// Sets the number of bytes of the body that are in memory.
    pub fn hold(&self, bytes: usize) {
        self.0.table.hold(self.0.id, bytes);
    }

    /// Notes that the body is no longer in memory.
    pub fn end_body(&self) {
        self.enter(Phase::Handling);
    }

    /// Closes the connection after the response: the rest of the request is not read.
    pub fn close_after_response(&self) {
        self.0.keeps_alive.store(false, Ordering::Relaxed);
    }

    pub(super) fn begin_request(&self) {
        self.0.keeps_alive.store(false, Ordering::Relaxed);
        self.enter(Phase::Handling);
    }

    pub(super) fn keeps_alive(&self) -> bool {
        self.0.keeps_alive.load(Ordering::Relaxed)
    }

    fn enter(&self, phase: Phase) {
        self.0.table.enter(self.0.id, phase);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.table.remove(self.id);
    }
}

/// The body of a response. When it ends, the connection is idle.
#[derive(Debug)]
pub(super) struct ResponseBody {
    body: Body,
    connection: Connection,
}

impl ResponseBody {
    pub(super) fn new(body: Body, connection: Connection) -> Self {
        Self { body, connection }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.connection.enter(Phase::Idle);
    }
}
