//! Sleeps in a host call for eleven days, which is longer than any time limit of a test.

fn main() {
    std::thread::sleep(std::time::Duration::from_secs(1_000_000));
}
