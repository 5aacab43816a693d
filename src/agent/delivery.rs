//! A reply on its way.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::adoption::Parked;

/// What a job came to, for one call. Dropped, it is left for the next; delivered, it is consumed.
#[derive(Debug)]
pub struct Delivery<T> {
    value: T,
    parked: Parked<T>,
}

impl<T> Delivery<T> {
    pub(super) fn new(value: T, parked: Parked<T>) -> Self {
        Self { value, parked }
    }

    /// What it is.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Leaves it for a call after that time.
    pub fn later(self, after: Duration) {
        self.parked.leave_for(after);
    }

    /// The body of a reply, which consumes it when it is taken to be sent.
    pub fn into_body(self, bytes: Bytes) -> DeliveryBody<T> {
        DeliveryBody {
            bytes: Some(bytes),
            parked: self.parked,
        }
    }
}

/// One piece of a body.
#[derive(Debug)]
pub struct DeliveryBody<T> {
    bytes: Option<Bytes>,
    parked: Parked<T>,
}

impl<T> Body for DeliveryBody<T>
where
    Self: Unpin,
{
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(bytes) = self.bytes.take() else {
            return Poll::Ready(None);
        };
        self.parked.consume();
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
