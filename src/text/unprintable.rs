//! Characters that a terminal or a viewer of the log does not show as they are.

/// Whether the character can begin a new line, control a terminal, change the order of the text
/// around it, or hide text.
///
/// These are the control characters, the line and paragraph separators, and format characters of
/// Unicode: marks for right-to-left text (UAX #9), zero-width and invisible characters, and tags.
/// The joiners of emoji and of Persian words are not among them.
pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The position of the first unprintable character.
pub(crate) fn find_unprintable(text: &str) -> Option<usize> {
    // Almost every text is printable ASCII. This test of its bytes is several times as fast.
    match text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        true => None,
        false => text.find(is_unprintable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_and_bidirectional_marks_are_unprintable() {
        for c in "\n\r\t\u{b}\u{c}\u{1b}\u{7f}\u{85}\u{9b}\u{2028}\u{2029}\u{202e}\u{2066}\u{200f}\u{e0041}".chars() {
            assert!(is_unprintable(c), "{c:?}");
            assert_eq!(find_unprintable(&format!("aä{c}")), Some(3));
        }
    }

    #[test]
    fn letters_marks_and_joiners_are_printable() {
        for c in "aäé…क्\u{301}\u{200d}\u{200c}👩\u{fe0f}\u{a0}עب".chars() {
            assert!(!is_unprintable(c), "{c:?}");
            assert_eq!(find_unprintable(&format!("a{c}")), None);
        }
    }
}
