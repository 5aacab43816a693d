//! Waits in a host call for longer than anybody will.

fn main() {
    std::thread::sleep(std::time::Duration::from_secs(1_000_000));
}
