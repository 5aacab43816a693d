//! The `plugin.wasm` block of a template: the part that a workflow author writes for this executor.
//!
//! `wasm` has the whole block, `module` its key `module`, and each kind of module has a file of its
//! own. The JSON Schema, [`super::schema()`], is generated from these types.

mod bindle;
mod container_keys;
mod env;
mod http;
mod limits;
mod module;
mod oci;
mod permissions;
mod pull;
mod result;
mod secret_name;
mod string_or_map;
mod wapm;
mod wasm;

pub use limits::{impossible_memory, impossible_time};
pub use result::ResultFormat;
pub use wasm::{Wasm, read};
