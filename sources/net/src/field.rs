//! The parts that structured header fields have in common (RFC 9110, section 5.6).

/// Optional and bad whitespace (RFC 9110, section 5.6.3).
const WHITESPACE: [char; 2] = [' ', '\t'];

/// The text without whitespace at its start.
pub(crate) fn skip_space(text: &str) -> &str {
    text.trim_start_matches(WHITESPACE)
}

/// The text without the whitespace and the commas at its start: a list may have empty elements.
pub(crate) fn skip_empty_elements(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', ','])
}

/// The text behind the current element of a list: behind the next comma that is not in quotes.
pub(crate) fn skip_element(text: &str) -> &str {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => return &text[at + 1..],
            _ => {}
        }
    }
    ""
}

/// A part of a header field, and the text behind it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parsed<'a, T> {
    pub(crate) value: T,
    pub(crate) rest: &'a str,
}

/// Reads a `token` (RFC 9110, section 5.6.2). The value is empty if the text begins with another
/// character.
pub(crate) fn token(text: &str) -> Parsed<'_, &str> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    let (value, rest) = text.split_at(end);
    Parsed { value, rest }
}

/// Reads `= value`, with whitespace around the `=`. The value is a quoted string, or everything up
/// to one of the characters in `end`.
///
/// Returns `None` if the text does not begin with `=`. The value is `None` if its quotes are not
/// closed; no text is left then.
pub(crate) fn value<'a>(text: &'a str, end: &[char]) -> Option<Parsed<'a, Option<String>>> {
    let text = skip_space(skip_space(text).strip_prefix('=')?);
    if let Some(quoted) = text.strip_prefix('"') {
        return Some(quoted_string(quoted));
    }
    let end = text.find(end).unwrap_or(text.len());
    let (value, rest) = text.split_at(end);
    Some(Parsed {
        value: Some(value.to_owned()),
        rest,
    })
}

/// Reads the rest of a quoted string behind its first quote (RFC 9110, section 5.6.4).
fn quoted_string(text: &str) -> Parsed<'_, Option<String>> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let rest = &text[at + 1..];
                return Parsed {
                    value: Some(value),
                    rest,
                };
            }
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    Parsed {
        value: None,
        rest: "",
    }
}
