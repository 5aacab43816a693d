//! Lets a step end whenever a host call returns, and counts the stacks of the step.
//!
//! Compiled code compares the epoch where a function or a loop begins, and in long instructions. A
//! straight line of host calls contains no such place. So wasmtime calls the hook of this file when
//! a host function returns. wasmtime calls the hook for every host function: in core modules and
//! components, in every version of WASI, and for functions that are added later.
//!
//! wasmtime also calls the hook when the host calls the module, and when such a call returns. A
//! call that waits keeps its stack. So the number of these calls is an upper estimate of the
//! stacks.
//!
//! Until the next tick, the hook only compares a few numbers. In this case, the hook returns a
//! future without a size, which needs no allocation.

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
        mut store: StoreContextMut<'store, GuestState>,
        event: CallHook,
    ) -> Handled<'handled>
    where
        'hook: 'handled,
        'store: 'handled,
        Self: 'handled,
    {
        match event {
            CallHook::CallingHost => return Box::pin(Proceed),
            CallHook::CallingWasm => {
                if let Err(error) = store.data_mut().limiter.enter() {
                    return Box::pin(std::future::ready(Err(error)));
                }
            }
            CallHook::ReturningFromWasm => {
                store.data_mut().limiter.leave();
                return Box::pin(Proceed);
            }
            CallHook::ReturningFromHost => {}
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
