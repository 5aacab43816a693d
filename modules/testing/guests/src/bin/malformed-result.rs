//! Writes what its argument says as its result.

fn main() {
    let result = std::env::args().nth(1).unwrap_or_else(|| "{\"phase\": \"Succ".to_owned());
    std::fs::write("/work/result.json", result).unwrap();
}
