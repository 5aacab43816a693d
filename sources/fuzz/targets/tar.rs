//! The reader of untrusted tar archives: budgets are enforced, and paths stay in the archive.
#![no_main]

use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use wasm_workflow_untrusted_tar::{Bounds, Error, Kind, Sparse, TarReader, Trailer, resolve_link};

const BOUNDS: Bounds = Bounds {
    entries: 1000,
    archive_bytes: 1 << 20,
    content_bytes: 1 << 20,
};

fuzz_target!(|archive: &[u8]| {
    for sparse in [Sparse::Refuse, Sparse::Expand] {
        let mut entries = 0;
        let mut bytes = 0;
        let _ = TarReader::new(archive, BOUNDS)
            .sparse(sparse)
            .trailer(Trailer::Drain(1 << 10))
            .for_each(|entry| {
                entries += 1;
                if let Ok(path) = entry.path() {
                    let inside =
                        |path: &str| path.split('/').all(|part| !matches!(part, "." | ".."));
                    assert!(inside(&path) && !path.starts_with('/'), "{path}");
                    let link = entry.link().and_then(|link| std::str::from_utf8(link).ok());
                    if let Some(target) = link.and_then(|link| resolve_link(&path, link)) {
                        assert!(inside(&target) && !target.starts_with('/'), "{target}");
                    }
                }
                // Half of the content is read, and the reader skips the rest.
                if entry.kind() == Kind::File {
                    bytes += io::copy(&mut entry.take(1 << 19), &mut io::sink())?;
                }
                Ok::<(), Error>(())
            });
        assert!(entries <= BOUNDS.entries && bytes <= BOUNDS.content_bytes);
    }
});
