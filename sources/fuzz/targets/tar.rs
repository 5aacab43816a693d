//! The reader of untrusted tar archives: budgets are enforced, and paths stay in the archive.
#![no_main]

use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use wasm_workflow_untrusted_tar::{
    Bounds, Entry, Error, GzipReader, Kind, TarReader, Trailer, resolve_link,
};

const BOUNDS: Bounds = Bounds {
    entries: 1000,
    archive_bytes: 1 << 20,
    content_bytes: 1 << 20,
};

/// Treatment of the content of a file.
#[derive(Clone, Copy, PartialEq)]
enum Content {
    Read,
    /// Holes are skipped, and other parts are read.
    SkipHoles,
    /// Half of the content is read, and the reader skips the rest.
    ReadHalf,
}

/// Length of the content of an entry, as far as it is read. Holes are included.
fn length(entry: &mut Entry<'_>, content: Content) -> io::Result<u64> {
    let most = match content {
        Content::ReadHalf => 1 << 19,
        _ => u64::MAX,
    };
    let mut length = 0;
    let mut buffer = [0; 1000];
    while length < most {
        if content == Content::SkipHoles {
            length += entry.skip_hole()?;
        }
        match entry.read(&mut buffer)? {
            0 => break,
            count => length += count as u64,
        }
    }
    Ok(length)
}

/// Lengths of all files in an archive, up to the first error.
fn read(archive: impl Read, content: Content) -> (Vec<u64>, bool) {
    let mut entries = 0;
    let mut lengths = Vec::new();
    let read = TarReader::new(archive, BOUNDS)
        .trailer(Trailer::Drain(1 << 10))
        .for_each(|entry| {
            entries += 1;
            if let Ok(path) = entry.path() {
                let inside = |path: &str| path.split('/').all(|part| !matches!(part, "." | ".."));
                assert!(inside(&path) && !path.starts_with('/'), "{path}");
                let link = entry.link().and_then(|link| std::str::from_utf8(link).ok());
                if let Some(target) = link.and_then(|link| resolve_link(&path, link)) {
                    assert!(inside(&target) && !target.starts_with('/'), "{target}");
                }
            }
            let length = length(entry, content)?;
            assert!(entry.kind() == Kind::File || length == 0);
            lengths.push(length);
            Ok::<(), Error>(())
        });
    assert!(entries <= BOUNDS.entries);
    assert!(lengths.iter().sum::<u64>() <= BOUNDS.content_bytes);
    (lengths, read.is_ok())
}

fuzz_target!(|archive: &[u8]| {
    let whole = read(archive, Content::Read);
    assert_eq!(whole, read(archive, Content::SkipHoles));
    read(archive, Content::ReadHalf);
    read(GzipReader::new(archive), Content::Read);
});
