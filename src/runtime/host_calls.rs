//! Makes the return of every host call a point at which the step can end.
//!
//! Compiled code looks at the epoch where a function or a loop begins. A straight line of host
//! calls has neither. So wasmtime calls the hook of this file when a host function returns.
//! wasmtime calls the hook for every host function: in core modules and components, in every
//! version of WASI, and for functions that are added later.
//!
//! The hook only compares two numbers until a tick has passed. The futures that it then returns
//! have no size, so they need no allocation.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use wasmtime::{CallHook, CallHookHandler, StoreContextMut};

use super::guest_state::GuestState;
use super::limits::{LimitGuard, Turn};

/// The hook of a step's store.
pub(super) struct HostCallHook(Arc<LimitGuard>);

impl HostCallHook {
    pub(super) fn new(guard: &Arc<LimitGuard>) -> Self {
        Self(Arc::clone(guard))
    }
}

type Handled<'a> = Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send + 'a>>;

/// The methods have the form that `async_trait` gives them. An `async fn` would allocate for each
/// call.
impl CallHookHandler<GuestState> for HostCallHook {
    fn handle_call_event<'hook, 'store, 'handled>(
        &'hook self,
        _: StoreContextMut<'store, GuestState>,
        event: CallHook,
    ) -> Handled<'handled>
    where
        'hook: 'handled,
        'store: 'handled,
        Self: 'handled,
    {
        if !event.exiting_host() {
            return Box::pin(Proceed);
        }
        match self.0.turn() {
            Ok(Turn::Continue) => Box::pin(Proceed),
            Ok(Turn::Yield) => Box::pin(async {
                tokio::task::yield_now().await;
                Ok(())
            }),
            Err(stop) => Box::pin(std::future::ready(Err(stop.into()))),
        }
    }
}

/// A future without a size that is ready.
struct Proceed;

impl Future for Proceed {
    type Output = wasmtime::Result<()>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(()))
    }
}
