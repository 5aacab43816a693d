//! The program. Only the allocator is here. All other code is in the library, so that tests can use
//! the library.

mod allocator;

use wasm_workflow_executor::cli::{self, Exit};

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

fn main() -> Exit {
    cli::main()
}
