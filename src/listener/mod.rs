//! An HTTP listener that strangers can reach. It limits connections, times and bytes, also before a
//! caller has presented the token.
//!
//! | file | contents |
//! |---|---|
//! | `bounds` | the numbers: connections, times and bytes of one listener |
//! | `connections` | the table of open connections, and which connection is closed first |
//! | `connection` | the handle of one connection, which a handler gets as a request extension |
//! | `serve` | accepts connections, and serves each with HTTP/1.1 |
//! | `spare_descriptors` | descriptors that are kept for the moment when the process has no other |
//! | `occurrences` | log lines about repeated events, with a bounded rate |
//!
//! HTTP/2 is off: neither Argo's agent nor the kubelet uses it without TLS.

mod bounds;
mod connection;
mod connections;
mod occurrences;
mod serve;
mod spare_descriptors;

pub use bounds::Bounds;
pub use connection::Connection;
pub use occurrences::Occurrences;
pub use serve::serve;
