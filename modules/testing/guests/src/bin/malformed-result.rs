//! Writes its first argument to `/work/result.json`, and exits with its second argument as exit
//! code.

use std::{env, fs, process};

fn main() {
    fs::write(
        "/work/result.json",
        env::args()
            .nth(1)
            .unwrap_or_else(|| "{\"phase\": \"Succ".to_owned()),
    )
    .unwrap();
    process::exit(env::args().nth(2).map_or(0, |code| code.parse().unwrap()));
}
