//! Copies a file and counts its words: `word-count FROM TO [COUNT-FILE]`.
//!
//! An example of a plain command: an input artifact, an output artifact and an output parameter are
//! each a file.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let (from, to, count_file) = match args.as_slice() {
        [from, to] => (from, to, None),
        [from, to, count_file] => (from, to, Some(count_file)),
        _ => {
            eprintln!("usage: word-count FROM TO [COUNT-FILE]");
            return ExitCode::from(64);
        }
    };
    let counted = copy_and_count(from, to).and_then(|words| {
        println!("{words}");
        count_file.map_or(Ok(()), |file| fs::write(file, format!("{words}\n")))
    });
    match counted {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("word-count: {error}");
            ExitCode::FAILURE
        }
    }
}

fn copy_and_count(from: &str, to: &str) -> io::Result<u64> {
    let name =
        |path: &str, error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
    let mut input = BufReader::new(File::open(from).map_err(|error| name(from, error))?);
    let mut output = BufWriter::new(File::create(to).map_err(|error| name(to, error))?);
    let mut words = 0;
    let mut in_word = false;
    loop {
        let chunk = input.fill_buf()?;
        if chunk.is_empty() {
            output.flush()?;
            return Ok(words);
        }
        for byte in chunk {
            let is_word = !byte.is_ascii_whitespace();
            words += u64::from(is_word && !in_word);
            in_word = is_word;
        }
        output.write_all(chunk)?;
        let length = chunk.len();
        input.consume(length);
    }
}
