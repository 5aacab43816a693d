//! The extended key usage of a certificate (RFC 5280, 4.2.1.12).
//!
//! webpki refuses authorities before it reads this extension, and has no function that returns the
//! extension.

/// Tags of DER (X.690).
const OBJECT_IDENTIFIER: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
/// The tag of the extensions in a certificate (RFC 5280, 4.1).
const EXTENSIONS: u8 = 0xa3;

/// The content of the object identifiers.
const EXTENDED_KEY_USAGE: &[u8] = b"\x55\x1d\x25";
const SERVER_AUTH: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x01";
const ANY: &[u8] = b"\x55\x1d\x25\x00";

/// Whether a server may use the certificate: its extended key usage has `serverAuth` or
/// `anyExtendedKeyUsage`, or the certificate does not limit its use. `false` also if the
/// certificate is malformed.
pub(crate) fn allows_servers(certificate: &[u8]) -> bool {
    read(certificate).is_some_and(|usage| match usage {
        Usage::Unlimited => true,
        Usage::Limited(purposes) => {
            Elements(purposes).any(|purpose| [SERVER_AUTH, ANY].contains(&purpose.content))
        }
    })
}

enum Usage<'a> {
    Unlimited,
    /// A list of object identifiers.
    Limited(&'a [u8]),
}

/// `None` if the certificate is malformed.
fn read(certificate: &[u8]) -> Option<Usage<'_>> {
    let certificate = first(certificate, SEQUENCE)?;
    let fields = first(certificate, SEQUENCE)?;
    let Some(extensions) = Elements(fields).find(|field| field.tag == EXTENSIONS) else {
        return Some(Usage::Unlimited);
    };
    for extension in Elements(first(extensions.content, SEQUENCE)?) {
        if first(extension.content, OBJECT_IDENTIFIER)? == EXTENDED_KEY_USAGE {
            let value = Elements(extension.content).find(|field| field.tag == OCTET_STRING)?;
            return Some(Usage::Limited(first(value.content, SEQUENCE)?));
        }
    }
    Some(Usage::Unlimited)
}

/// The content of the first element, which must have this tag.
fn first(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let element = Elements(bytes).next()?;
    (element.tag == tag).then_some(element.content)
}

/// An element of DER.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
}

/// The elements in the bytes. Ends before a malformed element.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&length, rest) = rest.split_first()?;
        let (length, rest) = if length < 0x80 {
            (usize::from(length), rest)
        } else {
            // The other bits are the number of the bytes that have the length.
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let add = |sum: usize, byte: &u8| sum.checked_mul(256)?.checked_add((*byte).into());
            (bytes.iter().try_fold(0, add)?, rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Element { tag, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
        let mut element = match (high, low) {
            (0, 0..0x80) => vec![tag, low],
            _ => vec![tag, 0x82, high, low],
        };
        element.extend(content);
        element
    }

    /// The fields that matter, of a certificate with a long subject.
    fn certificate(extensions: &[Vec<u8>]) -> Vec<u8> {
        let subject = element(SEQUENCE, &[&[0x05; 300]]);
        let list = element(SEQUENCE, &[&extensions.concat()]);
        let extensions = match extensions.is_empty() {
            true => Vec::new(),
            false => element(EXTENSIONS, &[&list]),
        };
        let fields = element(SEQUENCE, &[&element(0x02, &[&[1]]), &subject, &extensions]);
        element(SEQUENCE, &[&fields, &element(SEQUENCE, &[])])
    }

    fn extension(name: &[u8], value: &[u8]) -> Vec<u8> {
        let critical = [0x01, 0x01, 0xff];
        let name = element(OBJECT_IDENTIFIER, &[name]);
        element(
            SEQUENCE,
            &[&name, &critical, &element(OCTET_STRING, &[value])],
        )
    }

    fn usage(purposes: &[&[u8]]) -> Vec<u8> {
        let purposes: Vec<_> = purposes
            .iter()
            .map(|purpose| element(OBJECT_IDENTIFIER, &[purpose]))
            .collect();
        extension(
            EXTENDED_KEY_USAGE,
            &element(SEQUENCE, &[&purposes.concat()]),
        )
    }

    #[test]
    fn only_a_list_without_servers_forbids_servers() {
        const CLIENT_AUTH: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x02";
        let constraints = extension(b"\x55\x1d\x13", &element(SEQUENCE, &[&[0x01, 0x01, 0xff]]));
        for (extensions, expected) in [
            (vec![], true),
            (vec![constraints.clone()], true),
            (vec![constraints.clone(), usage(&[SERVER_AUTH])], true),
            (
                vec![usage(&[CLIENT_AUTH, SERVER_AUTH]), constraints.clone()],
                true,
            ),
            (vec![usage(&[ANY])], true),
            (vec![constraints, usage(&[CLIENT_AUTH])], false),
            (vec![usage(&[])], false),
        ] {
            let certificate = certificate(&extensions);
            assert_eq!(allows_servers(&certificate), expected, "{extensions:?}");
        }
    }

    #[test]
    fn a_malformed_certificate_does_not_allow_servers() {
        let whole = certificate(&[usage(&[SERVER_AUTH])]);
        for length in 0..whole.len() {
            assert!(!allows_servers(&whole[..length]), "{length}");
        }
        for malformed in [
            &[SEQUENCE, 0xff][..],
            &[SEQUENCE, 0x89, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(!allows_servers(malformed));
        }
    }
}
