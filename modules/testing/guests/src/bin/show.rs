//! Prints its arguments, environment, standard input and root directory. This guest is not hostile.

use std::io::Read;

fn main() {
    print!("args ");
    for argument in std::env::args() {
        print!("{argument}|");
    }
    println!();
    let mut variables: Vec<_> = std::env::vars().collect();
    variables.sort();
    for (name, value) in variables {
        println!("env {name}={value}");
    }
    let mut stdin = String::new();
    std::io::stdin().read_to_string(&mut stdin).unwrap();
    println!("stdin {stdin}");
    let mut entries: Vec<_> = std::fs::read_dir("/")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for entry in entries {
        println!("dir {}", entry.display());
    }
}
