//! The program. Everything but the allocator is in the library, so that tests reach it.

mod allocator;

use wasm_workflow_executor::cli::{self, Exit};

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

fn main() -> Exit {
    cli::main()
}
