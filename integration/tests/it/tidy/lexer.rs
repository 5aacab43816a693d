//! A lexer for the paths in Rust source: words, punctuation and groups in brackets.
//!
//! Comments, literals and lifetimes are left out. A crate for this task is one that macros use too.
//! With such a crate, Cargo would build all procedural macros again for the tests.

/// A token of the source.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// An identifier or a keyword.
    Word(String),
    /// One character of punctuation.
    Punct(char),
    /// The tokens between two brackets, and the opening bracket.
    Group(char, Vec<Token>),
}

impl Token {
    /// Whether the token is this punctuation.
    pub(super) fn is(&self, punct: char) -> bool {
        *self == Self::Punct(punct)
    }
}

/// Splits the source into tokens.
pub(super) fn tokens(source: &str) -> Vec<Token> {
    let mut open = Vec::new();
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        if let Some(after) = without_skipped(rest) {
            rest = after;
            continue;
        }
        let word: String = rest.chars().take_while(|c| is_word(*c)).collect();
        rest = &rest[word.len().max(next.len_utf8())..];
        match next {
            // A number, or the digits after its point.
            _ if next.is_ascii_digit() => {}
            _ if !word.is_empty() => tokens.push(Token::Word(word)),
            '(' | '[' | '{' => open.push((next, std::mem::take(&mut tokens))),
            ')' | ']' | '}' => {
                let (bracket, before) = open.pop().expect("brackets match");
                let inner = std::mem::replace(&mut tokens, before);
                tokens.push(Token::Group(bracket, inner));
            }
            _ if next.is_whitespace() => {}
            _ => tokens.push(Token::Punct(next)),
        }
    }
    assert!(open.is_empty(), "brackets match");
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text behind the comment, literal or lifetime at its beginning.
fn without_skipped(text: &str) -> Option<&str> {
    if text.starts_with("//") {
        return Some(text.find('\n').map_or("", |end| &text[end..]));
    }
    if let Some(comment) = text.strip_prefix("/*") {
        return Some(after_comment(comment));
    }
    let prefix = text
        .find(|c: char| !"bcr".contains(c))
        .unwrap_or(text.len());
    if prefix <= 2 {
        let literal = &text[prefix..];
        let hashes = literal.find(|c| c != '#').unwrap_or(literal.len());
        if text[..prefix].contains('r') && literal[hashes..].starts_with('"') {
            let end = format!("\"{}", &literal[..hashes]);
            let content = &literal[hashes + 1..];
            let at = content.find(&end).expect("a raw string ends");
            return Some(&content[at + end.len()..]);
        }
        if let Some(content) = literal.strip_prefix('"') {
            return Some(after_quote(content, '"'));
        }
    }
    let quoted = text.strip_prefix('b').unwrap_or(text).strip_prefix('\'')?;
    let mut chars = quoted.chars();
    let is_char = chars.next() == Some('\\') || chars.next() == Some('\'');
    if is_char {
        return Some(after_quote(quoted, '\''));
    }
    // A lifetime.
    text.strip_prefix('\'')
        .map(|name| name.trim_start_matches(is_word))
}

/// The text behind the closing quote. A backslash escapes the next character.
fn after_quote(text: &str, quote: char) -> &str {
    let mut escaped = false;
    let end = text.find(|c| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    &text[end.expect("a literal ends") + 1..]
}

/// The text behind a block comment, which can contain others.
fn after_comment(text: &str) -> &str {
    let mut depth = 1;
    let mut rest = text;
    while depth > 0 {
        let at = rest.find(['*', '/']).expect("a comment ends");
        rest = &rest[at..];
        let step = match rest.get(..2) {
            Some("*/") => -1,
            Some("/*") => 1,
            _ => 0,
        };
        depth += step;
        rest = &rest[if step == 0 { 1 } else { 2 }..];
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_lifetimes_and_comments_are_left_out() {
        let source = r##"
            a /* b /* c */ */ 'x' '\'' '"' b'd' "e \" f" r#"g " h"# br"i" 'j k: 1.5e3 // l "
            { m!["}"] }
        "##;
        let word = |word: &str| Token::Word(word.to_owned());
        let expected = vec![
            word("a"),
            word("k"),
            Token::Punct(':'),
            Token::Punct('.'),
            Token::Group(
                '{',
                vec![word("m"), Token::Punct('!'), Token::Group('[', Vec::new())],
            ),
        ];
        assert_eq!(tokens(source), expected);
    }
}
