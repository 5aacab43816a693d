//! Tries to reach the host's files, and to leave links that make the host reach them. Prints what worked.

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
            // A link where the host will look for an output.
            #[expect(deprecated, reason = "as above")]
            let _ = fs::soft_link(target, "/out/secret");
        }
    }
}
