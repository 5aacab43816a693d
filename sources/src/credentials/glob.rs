//! Go's `path/filepath.Match`, for one label of a host name. The kubelet matches hosts with it.

/// Whether `text` matches `pattern`.
///
/// `*`, `?`, `[a-z]`, `[^a-z]` and `\` have the same meaning as in Go. A malformed pattern matches
/// nothing.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    run(&pattern, &text).unwrap_or(false)
}

/// The error for a malformed pattern.
struct Malformed;

/// Matches with backtracking: if the text after a `*` does not match, the `*` takes one more
/// character. Only the last `*` is tried again, so the time never grows exponentially.
fn run(pattern: &[char], text: &[char]) -> Result<bool, Malformed> {
    let mut p = 0;
    let mut t = 0;
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p == pattern.len() && t == text.len() {
            return Ok(true);
        }
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        let matched = match (pattern.get(p), text.get(t)) {
            (Some(_), Some(&c)) => one(&pattern[p..], c)?,
            _ => None,
        };
        match (matched, star) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((after, from))) if from < text.len() => {
                star = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
            (None, _) => return Ok(false),
        }
    }
}

/// The length of the first element of `pattern`. `None` if the element does not match `c`.
fn one(pattern: &[char], c: char) -> Result<Option<usize>, Malformed> {
    match pattern {
        ['?', ..] => Ok(Some(1)),
        ['\\', escaped, ..] => Ok((*escaped == c).then_some(2)),
        ['\\'] => Err(Malformed),
        ['[', rest @ ..] => class(rest, c),
        [literal, ..] => Ok((*literal == c).then_some(1)),
        [] => Ok(None),
    }
}

/// The length of a character class, with its brackets. `rest` is the pattern after the `[`. `None`
/// if the class does not match `c`.
fn class(rest: &[char], c: char) -> Result<Option<usize>, Malformed> {
    let negated = rest.first() == Some(&'^');
    let mut at = usize::from(negated);
    let mut found = false;
    let first = at;
    loop {
        if rest.get(at) == Some(&']') && at > first {
            return Ok((found != negated).then_some(at + 2));
        }
        let low = element(rest, &mut at)?;
        let high = if rest.get(at) == Some(&'-') {
            at += 1;
            element(rest, &mut at)?
        } else {
            low
        };
        found |= (low..=high).contains(&c);
    }
}

/// One character of a class, perhaps escaped. Moves `at` behind it.
fn element(rest: &[char], at: &mut usize) -> Result<char, Malformed> {
    if rest.get(*at) == Some(&'\\') {
        *at += 1;
    } else if matches!(rest.get(*at), Some('-' | ']')) {
        return Err(Malformed);
    }
    let element = rest.get(*at).copied().ok_or(Malformed)?;
    *at += 1;
    Ok(element)
}

#[cfg(test)]
mod tests {
    use super::matches;

    /// The cases without a slash in Go's test of `filepath.Match`.
    #[test]
    fn like_go() {
        let cases = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "aäb", true),
            ("a[^a]b", "aäb", true),
            ("a???b", "aäb", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "z", false),
            ("[]a]", "]", false),
            ("[-]", "-", false),
            ("[x-]", "x", false),
            ("\\", "a", false),
            ("[a-b-c]", "a", false),
            ("[", "a", false),
            ("a[", "ab", false),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        assert!(!matches(&"*a".repeat(40), &"a".repeat(39)));
    }
}
