//! The program. Everything is in the library, so that tests reach it.

use wasm_workflow_executor::cli::{self, Exit};

fn main() -> Exit {
    cli::main()
}
