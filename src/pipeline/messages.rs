//! Texts that are cut to a length: messages, results and the end of standard error.

use sources::Digest;

use crate::runtime::Captured;
use crate::step::{Outcome, OutputLimits};

/// Maximum length of standard error in a message, in bytes.
const STDERR_IN_MESSAGE: usize = 600;

/// The end of standard error, at most 600 bytes. `None` if standard error is empty.
pub(super) fn stderr_tail(stderr: &Captured) -> Option<String> {
    let text = String::from_utf8_lossy(&stderr.tail);
    let tail = last_bytes(text.trim(), STDERR_IN_MESSAGE);
    (!tail.is_empty()).then(|| tail.to_owned())
}

/// The last `limit` bytes of standard output, without one newline at the end.
pub(super) fn result_of_stdout(stdout: &Captured, limit: usize) -> String {
    let text = String::from_utf8_lossy(&stdout.tail);
    last_bytes(text.strip_suffix('\n').unwrap_or(&text), limit).to_owned()
}

/// The last `limit` bytes of a text, or fewer so that no character is cut.
pub(super) fn last_bytes(text: &str, limit: usize) -> &str {
    let start = text.len().saturating_sub(limit);
    let start = (start..=text.len()).find(|start| text.is_char_boundary(*start));
    &text[start.unwrap_or(text.len())..]
}

/// The first `limit` bytes of a text, or fewer so that no character is cut.
pub(super) fn first_bytes(text: &str, limit: usize) -> &str {
    let end = limit.min(text.len());
    let end = (0..=end).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// Cuts a message to `limit` bytes.
pub(super) fn clip(message: &mut String, limit: usize) {
    if message.len() > limit {
        *message = format!("{}…", first_bytes(message, limit.saturating_sub(3)));
    }
}

/// Cuts the message of an outcome, and appends the digest of the module.
pub(super) fn finish_message(outcome: &mut Outcome, module: &Digest, limits: &OutputLimits) {
    let suffix = format!("module {}", module.short());
    let room = limits.message.saturating_sub(suffix.len() + 6);
    let message = outcome.message.trim();
    let cut = first_bytes(message, room);
    outcome.message = match (cut.is_empty(), cut.len() < message.len()) {
        (true, _) => suffix,
        (false, true) => format!("{cut}… ({suffix})"),
        (false, false) => format!("{cut} ({suffix})"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(last_bytes("aäb", 2), "b");
        assert_eq!(last_bytes("aäb", 3), "äb");
        assert_eq!(first_bytes("aäb", 2), "a");
        assert_eq!(first_bytes("", 5), "");
        assert_eq!(last_bytes("", 5), "");
    }

    #[test]
    fn one_newline_is_removed_from_the_end_of_standard_output() {
        let stdout = |text: &str| Captured {
            tail: text.as_bytes().to_vec(),
        };
        assert_eq!(result_of_stdout(&stdout("a\n\n"), 100), "a\n");
        assert_eq!(result_of_stdout(&stdout("abc"), 2), "bc");
    }
}
