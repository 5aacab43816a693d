//! Tries to read files of the host, and to leave links through which the host would read its own
//! files. Prints each attempt that worked.

use std::fs;

fn main() {
    for path in [
        "/etc/passwd",
        "/../etc/passwd",
        "../../../../etc/passwd",
        "/proc/self/environ",
        "/tmp/../../etc/passwd",
    ] {
        if fs::read(path).is_ok() {
            println!("read {path}");
        }
    }
    let targets = ["/etc/passwd", "../../../../../../../../etc/passwd"];
    for (number, target) in targets.into_iter().enumerate() {
        #[expect(deprecated, reason = "the only portable way to make a link in WASI")]
        if fs::soft_link(target, format!("/tmp/link{number}")).is_ok() {
            if fs::read(format!("/tmp/link{number}")).is_ok() {
                println!("read through a link to {target}");
            }
            // The host collects an output from this path.
            #[expect(deprecated, reason = "as above")]
            let _ = fs::soft_link(target, "/out/secret");
        }
    }
}
