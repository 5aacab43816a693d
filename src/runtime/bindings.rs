//! Types and calls of the step world, generated from `wit/`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated code"
)]

wasmtime::component::bindgen!({
    path: "wit",
    world: "step",
    exports: { default: async },
});
