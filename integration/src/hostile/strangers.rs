//! Callers whose requests never end.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

/// A request that has only just begun.
pub const BEGINNING: &str = "POST /api/v1/template.execute HTTP/1.1\r\nHost: x\r\n";

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}

/// Opens a connection whose reads and writes take at most two seconds.
pub fn connect(url: &str) -> TcpStream {
    try_connect(url).unwrap()
}

fn try_connect(url: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address(url), Duration::from_secs(10))?;
    let times = Some(Duration::from_secs(2));
    stream.set_write_timeout(times)?;
    stream.set_read_timeout(times)?;
    Ok(stream)
}

/// Opens `number` connections that send `bytes`, and keeps them open. A connection may break while
/// it sends.
pub async fn flood(url: &str, number: usize, bytes: Vec<u8>) -> Vec<TcpStream> {
    raise_own_limit();
    let url = url.to_owned();
    let opened = move || {
        let one = |_| {
            let mut stream = try_connect(&url).ok()?;
            let _ = stream.write_all(&bytes);
            Some(stream)
        };
        (0..number).filter_map(one).collect()
    };
    tokio::task::spawn_blocking(opened).await.unwrap()
}

/// The attacking process itself needs a descriptor for each connection.
fn raise_own_limit() {
    static RAISED: Once = Once::new();
    RAISED.call_once(|| {
        let raised = Command::new("prlimit")
            .args(["--pid", &std::process::id().to_string(), "--nofile=8192:"])
            .status();
        assert!(raised.unwrap().success());
    });
}

/// Header lines with values of `length` bytes.
pub fn headers(number: usize, length: usize) -> String {
    let line = |number| format!("X{number}: {}\r\n", "y".repeat(length));
    (0..number).map(line).collect::<Vec<_>>().concat()
}
