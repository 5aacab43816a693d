//! Calls itself until the stack overflows.

fn deeper(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if depth == u64::MAX {
        0
    } else {
        deeper(depth + 1) + frame[(depth % 64) as usize]
    }
}

fn main() {
    println!("{}", deeper(0));
}
