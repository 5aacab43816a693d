//! The part of an object that a response holds.

/// `Content-Range: bytes 0-3/10` (RFC 9110, 14.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    /// First byte of the part.
    pub(super) start: u64,
    /// First byte after the part.
    pub(super) end: u64,
    /// Size of the whole object.
    pub(super) object_size: u64,
}

impl ContentRange {
    /// Reads a header. `None` if the header is invalid, or does not name the size of the object.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (start, last) = range.split_once('-')?;
        let start = start.parse().ok()?;
        let last: u64 = last.parse().ok()?;
        let object_size = size.parse().ok()?;
        (start <= last && last < object_size).then_some(Self {
            start,
            end: last + 1,
            object_size,
        })
    }

    /// Whether the part is the whole object.
    pub(super) fn is_whole(&self) -> bool {
        self.start == 0 && self.end == self.object_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_content_ranges_are_ignored() {
        assert_eq!(
            ContentRange::parse("bytes 0-3/10"),
            Some(ContentRange {
                start: 0,
                end: 4,
                object_size: 10
            })
        );
        for text in [
            "bytes 0-3/*",
            "bytes */10",
            "bytes 3-0/10",
            "bytes 0-10/10",
            "0-3/10",
            "bytes 0-3",
            "",
        ] {
            assert_eq!(ContentRange::parse(text), None, "{text}");
        }
    }
}
