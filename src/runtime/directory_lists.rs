//! Limits the open lists of directories in WASI 0.2.
//!
//! `read-directory` of wasmtime-wasi collects the names of all entries, and keeps them until the
//! guest drops the stream. These names are not charged to the step's memory. So this file limits
//! the number of streams that a guest may have at once.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::WasiFilesystemView;
use wasmtime_wasi::p2::ReaddirIterator;
use wasmtime_wasi::p2::bindings::filesystem::types::{Descriptor, ErrorCode, Host, HostDescriptor};

use super::guest_state::GuestState;

/// Maximum number of lists that one guest may have open.
const MAX_LISTS: usize = 16;
/// The interface, with the version of wasmtime-wasi. wasmtime links older versions to it, too.
const INTERFACE: &str = "wasi:filesystem/types@0.2.12";

/// A guest has too many lists open.
#[derive(Debug, thiserror::Error)]
#[error("it has more than {MAX_LISTS} open lists of a directory")]
struct TooManyLists;

/// Replaces `read-directory` of wasmtime-wasi in the linker.
pub(super) fn replace(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(INTERFACE)?.func_wrap_async(
        "[method]descriptor.read-directory",
        |mut store: StoreContextMut<'_, GuestState>, (directory,): (Resource<Descriptor>,)| {
            Box::new(async move { Ok((read_directory(store.data_mut(), directory).await?,)) })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

async fn read_directory(
    state: &mut GuestState,
    directory: Resource<Descriptor>,
) -> wasmtime::Result<Result<Resource<ReaddirIterator>, ErrorCode>> {
    let table = state.wasi.ctx().table;
    // Forget the dropped lists. wasmtime can use the number of a dropped list again.
    state.open_lists.retain(|number| {
        let list = Resource::<ReaddirIterator>::new_borrow(*number);
        table.get(&list).is_ok()
    });
    if state.open_lists.len() >= MAX_LISTS {
        return Err(TooManyLists.into());
    }
    let mut filesystem = state.filesystem();
    match filesystem.read_directory(directory).await {
        Ok(list) => {
            if !state.open_lists.contains(&list.rep()) {
                state.open_lists.push(list.rep());
            }
            Ok(Ok(list))
        }
        Err(error) => filesystem.convert_error_code(error).map(Err),
    }
}
