//! PAX records: extensions of the next header (POSIX.1-2001, `pax`, "pax Extended Header").

use crate::error::Error;

/// Records that change what an entry means.
#[derive(Debug, Default)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    /// Number of bytes behind the header, without padding.
    pub(crate) size: Option<u64>,
    /// Length of the file, by star. star writes this record for its sparse files.
    pub(crate) real_size: Option<u64>,
    pub(crate) sparse: SparseRecords,
}

/// Records of GNU tar about a sparse file
/// (<https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html>).
#[derive(Debug, Default)]
pub(crate) struct SparseRecords {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    /// Path of the file. The header of the entry has an invented path.
    pub(crate) name: Option<Vec<u8>>,
    /// Length of the file.
    pub(crate) size: Option<u64>,
    /// Number of segments.
    pub(crate) blocks: Option<u64>,
    /// The offset and the length of each segment, one after the other.
    pub(crate) map: Vec<u64>,
    /// Whether a record of the map was read.
    pub(crate) has_map: bool,
}

impl Pax {
    /// Reads the records of the header of type `x` before an entry.
    pub(crate) fn parse(records: &[u8]) -> Result<Self, Error> {
        let mut pax = Self::default();
        for_each_record(records, |key, value| pax.set(key, value))?;
        Ok(pax)
    }

    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), Error> {
        // An empty value removes the record.
        let text = || (!value.is_empty()).then(|| value.to_vec());
        let number = || match value {
            [] => Ok(None),
            value => decimal(value).map(Some).ok_or_else(|| invalid(key)),
        };
        match key {
            "path" => self.path = text(),
            "linkpath" => self.link = text(),
            "size" => self.size = number()?,
            "SCHILY.realsize" => self.real_size = number()?,
            "GNU.sparse.major" => self.sparse.major = number()?,
            "GNU.sparse.minor" => self.sparse.minor = number()?,
            "GNU.sparse.name" => self.sparse.name = text(),
            "GNU.sparse.size" | "GNU.sparse.realsize" => self.sparse.size = number()?,
            "GNU.sparse.numblocks" => self.sparse.blocks = number()?,
            "GNU.sparse.offset" | "GNU.sparse.numbytes" | "GNU.sparse.map" => {
                return self.sparse.add(key, value);
            }
            _ if is_unsupported(key) => return Err(unsupported(key)),
            _ => {}
        }
        Ok(())
    }
}

impl SparseRecords {
    /// Adds one number (format 0.0) or the whole map (format 0.1).
    fn add(&mut self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.has_map = true;
        let is_in_order = match key {
            "GNU.sparse.offset" => self.map.len().is_multiple_of(2),
            "GNU.sparse.numbytes" => !self.map.len().is_multiple_of(2),
            _ => self.map.is_empty(),
        };
        if !is_in_order {
            return Err(invalid(key));
        }
        if key != "GNU.sparse.map" {
            self.map.push(decimal(value).ok_or_else(|| invalid(key))?);
        } else if !value.is_empty() {
            for number in value.split(|byte| *byte == b',') {
                self.map.push(decimal(number).ok_or_else(|| invalid(key))?);
            }
        }
        Ok(())
    }
}

/// Checks the records of a global header (type `g`). It applies to all entries after it. Readers
/// do not agree on global paths and sizes, so such records are errors. Other records, for example
/// the comment of `git archive`, change nothing.
pub(crate) fn check_global(records: &[u8]) -> Result<(), Error> {
    for_each_record(records, |key, _| {
        match is_unsupported(key)
            || matches!(key, "path" | "linkpath" | "size" | "SCHILY.realsize")
            || key.starts_with("GNU.sparse.")
        {
            true => Err(Error::unsupported(format!(
                "the archive has a global PAX header with the keyword `{key}`"
            ))),
            false => Ok(()),
        }
    })
}

/// Whether the record changes the content of an entry in a way that this crate does not know. Other
/// unknown records hold times, owners, extended attributes and comments.
fn is_unsupported(key: &str) -> bool {
    key.starts_with("GNU.sparse.")
        || key == "SUN.holesdata"
        // One file in several archives.
        || matches!(
            key,
            "GNU.volume.filename" | "GNU.volume.size" | "GNU.volume.offset" | "SCHILY.offset"
        )
}

fn unsupported(key: &str) -> Error {
    Error::unsupported(format!("the archive has the PAX keyword `{key}`"))
}

fn invalid(key: &str) -> Error {
    Error::damaged(format!("the PAX record `{key}` is invalid"))
}

/// Calls `each` with the key and the value of each record. A record is `LENGTH KEY=VALUE` and a
/// newline. The length is the length of the whole record.
fn for_each_record(
    records: &[u8],
    mut each: impl FnMut(&str, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let malformed = || Error::damaged("a PAX header is malformed");
    let mut rest = records;
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ');
        let space = space.ok_or_else(malformed)?;
        let length = decimal(&rest[..space]).and_then(|length| usize::try_from(length).ok());
        let (record, after) = length
            .and_then(|length| rest.split_at_checked(length))
            .ok_or_else(malformed)?;
        let record = record
            .get(space + 1..)
            .and_then(|record| record.strip_suffix(b"\n"))
            .ok_or_else(malformed)?;
        let equals = record.iter().position(|byte| *byte == b'=');
        let (key, value) = record.split_at(equals.ok_or_else(malformed)?);
        each(&String::from_utf8_lossy(key), &value[1..])?;
        rest = after;
    }
    Ok(())
}

/// A decimal number up to `i64::MAX`.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })?;
    i64::try_from(number).is_ok().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn records_are_read_to_the_byte() {
        let pax = Pax::parse(b"12 path=a=b\n11 size=42\n13 comment=x\n8 path=\n").unwrap();
        assert_eq!((pax.path, pax.size), (None, Some(42)));
        let pax = Pax::parse(b"12 path=a\nb\n14 linkpath=l\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(pax.link.as_deref(), Some(&b"l"[..]));
    }

    #[test]
    fn malformed_records_are_errors() {
        for records in [
            &b"12path=a\n"[..],
            b"99 path=a\n",
            b"0 path=a\n",
            b"2 path=a\n",
            b"10 path=abc",
            b"8 path\n\n",
            b"-5 path=a\n",
            b"99999999999999999999 path=a\n",
            b"10 size=-1\n",
            b"11 size=1.5\n",
            b"28 size=18446744073709551616\n",
            b"23 GNU.sparse.offset=1\n23 GNU.sparse.offset=2\n",
            b"25 GNU.sparse.numbytes=1\n",
            b"22 GNU.sparse.map=1,,2\n",
        ] {
            let error = Pax::parse(records).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Unreadable,
                "{}: {error}",
                String::from_utf8_lossy(records)
            );
        }
    }

    #[test]
    fn unknown_records_that_change_the_content_are_refused_by_name() {
        for (key, expected) in [
            ("SUN.holesdata", false),
            ("GNU.sparse.codec", false),
            ("GNU.volume.offset", false),
            ("LIBARCHIVE.creationtime", true),
            ("SCHILY.xattr.user.x", true),
            ("mtime", true),
        ] {
            let length = key.len() + "00 =1\n".len();
            let record = format!("{length} {key}=1\n");
            for parsed in [
                Pax::parse(record.as_bytes()).map(drop),
                check_global(record.as_bytes()),
            ] {
                assert_eq!(parsed.is_ok(), expected, "{key}");
                if let Err(error) = parsed {
                    assert_eq!(error.kind(), ErrorKind::Unsupported);
                    assert!(error.to_string().contains(key), "{error}");
                }
            }
        }
        let error = check_global(b"11 path=ab\n").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
}
