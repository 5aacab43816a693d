//! Delivery of a reply: acknowledge when the connection takes the body.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::adoption::{Held, RunningReport};

/// A result for one call. Dropping it releases the execution for the next call.
#[derive(Debug)]
pub struct Delivery {
    reply: Bytes,
    held: Held,
}

impl Delivery {
    pub(super) fn new(reply: Bytes, held: Held) -> Self {
        Self { reply, held }
    }

    /// Body of the reply.
    pub fn reply(&self) -> &Bytes {
        &self.reply
    }

    /// Postpones the delivery: releases the execution for a call after `delay`.
    pub fn postpone(self, delay: Duration) {
        self.held.release_after(delay);
    }

    /// The body of an HTTP response. The result is acknowledged when the connection takes the
    /// body.
    pub fn into_body(self) -> DeliveryBody {
        DeliveryBody {
            reply: Some(self.reply),
            news: News::Result(self.held),
        }
    }
}

/// A body of one frame that acknowledges its news when the frame is taken.
#[derive(Debug)]
pub struct DeliveryBody {
    reply: Option<Bytes>,
    news: News,
}

/// What the agent learns from a reply.
#[derive(Debug)]
enum News {
    Result(Held),
    Running(RunningReport),
}

impl DeliveryBody {
    /// The body of a reply with the phase `Running`.
    pub fn of_running(reply: Bytes, report: RunningReport) -> Self {
        Self {
            reply: Some(reply),
            news: News::Running(report),
        }
    }
}

impl Body for DeliveryBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(reply) = self.reply.take() else {
            return Poll::Ready(None);
        };
        match &self.news {
            News::Result(held) => held.acknowledge(),
            News::Running(report) => report.acknowledge(),
        }
        Poll::Ready(Some(Ok(Frame::data(reply))))
    }

    fn is_end_stream(&self) -> bool {
        self.reply.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.reply.as_ref().map_or(0, |reply| reply.len() as u64))
    }
}
