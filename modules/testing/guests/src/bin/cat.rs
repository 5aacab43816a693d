//! Prints files. This guest is not hostile.

fn main() {
    for file in std::env::args().skip(1) {
        print!("{}", std::fs::read_to_string(file).unwrap());
    }
}
