//! Challenges: the header `WWW-Authenticate` (RFC 9110, sections 11.2 to 11.6.1).
//!
//! A response can have several challenges: in several headers, and in one header with commas
//! between them. Commas also separate the parameters of one challenge. A word with a value is a
//! parameter of the current challenge, and a word without a value begins the next challenge.

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

use crate::field::{Parsed, skip_element, skip_empty_elements, skip_space, token, value};

/// The characters that end a value without quotes. Such a value may have characters that a token
/// must not have: some servers send a URL without quotes.
const END: [char; 3] = [' ', '\t', ','];

/// One way to authenticate that a server offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// The authentication scheme in lower case, such as `bearer`.
    pub scheme: String,
    /// The data of schemes without parameters, such as `Negotiate`.
    pub token68: Option<String>,
    /// The parameters, by their names in lower case. Of equal names, the last one counts, as in the
    /// clients that are written in Go.
    pub parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// The challenges in the headers of a response, in their order.
    pub fn all(headers: &HeaderMap) -> Vec<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter();
        values
            .flat_map(|value| Self::parse(&String::from_utf8_lossy(value.as_bytes())))
            .collect()
    }

    /// Reads the challenges in the value of one header. Malformed parts are skipped.
    pub fn parse(header: &str) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        let mut rest = skip_empty_elements(header);
        while !rest.is_empty() {
            let word = token(rest);
            rest = if word.value.is_empty() {
                skip_element(rest)
            } else if let Some(parameter) = value(word.rest, &END) {
                if let (Some(current), Some(text)) = (found.last_mut(), parameter.value) {
                    let name = word.value.to_ascii_lowercase();
                    current.parameters.insert(name, text);
                }
                parameter.rest
            } else {
                let data = token68(word.rest);
                found.push(Self {
                    scheme: word.value.to_ascii_lowercase(),
                    token68: data.value.map(str::to_owned),
                    parameters: BTreeMap::new(),
                });
                data.rest
            };
            rest = skip_empty_elements(rest);
        }
        found
    }

    /// The value of a parameter. `name` is in lower case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// Reads the `token68` behind the name of a scheme. It must be the whole element of the list.
fn token68(text: &str) -> Parsed<'_, Option<&str>> {
    let none = Parsed {
        value: None,
        rest: text,
    };
    let data = skip_space(text);
    if data.len() == text.len() {
        return none;
    }
    let is_data = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    let after = data.trim_start_matches(is_data);
    let rest = after.trim_start_matches('=');
    let is_whole = matches!(skip_space(rest).chars().next(), None | Some(','));
    if after.len() == data.len() || !is_whole {
        return none;
    }
    Parsed {
        value: Some(&data[..data.len() - rest.len()]),
        rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(header: &str) -> Vec<String> {
        let show = |challenge: &Challenge| {
            let data = challenge.token68.iter().map(|data| format!(" {data}"));
            let parameters = challenge.parameters.iter();
            let parameters = parameters.map(|(name, value)| format!(" {name}={value}"));
            let rest: String = data.chain(parameters).collect();
            format!("{}{rest}", challenge.scheme)
        };
        Challenge::parse(header).iter().map(show).collect()
    }

    /// The example of RFC 9110, section 11.6.1, and its variants.
    #[test]
    fn several_challenges_are_read_from_one_header() {
        let two = [
            "basic realm=simple",
            r#"newauth realm=apps title=Login to "apps" type=1"#,
        ];
        for header in [
            r#"Basic realm="simple", Newauth realm="apps", type=1, title="Login to \"apps\"""#,
            r#" , ,basic  realm = "simple" ,,	NEWAUTH Type=1,Realm="apps" , TITLE="Login to \"apps\"","#,
            r#"Basic realm=simple, Newauth realm=apps, type="1", title="\Login to \"apps\"""#,
            r#"Basic realm="simple" Newauth realm="apps" type=1 title="Login to \"apps\"""#,
        ] {
            assert_eq!(shown(header), two, "{header}");
        }
    }

    #[test]
    fn schemes_without_parameters_and_with_token68_are_read() {
        for (header, expected) in [
            ("Negotiate", &["negotiate"][..]),
            ("Negotiate, NTLM,Basic", &["negotiate", "ntlm", "basic"]),
            (
                r#"Negotiate a87421000492aa874209af8bc028==, Basic realm="x""#,
                &["negotiate a87421000492aa874209af8bc028==", "basic realm=x"],
            ),
            (
                r#"Bearer realm="https://a.example/t?x=1,2",service="r, x",scope=a, NTLM +/a="#,
                &[
                    "bearer realm=https://a.example/t?x=1,2 scope=a service=r, x",
                    "ntlm +/a=",
                ],
            ),
            (
                "Bearer realm=https://a.example/token,service=s",
                &["bearer realm=https://a.example/token service=s"],
            ),
            (r#"Basic realm="caf\é""#, &["basic realm=café"]),
            (r#"Basic realm="a", realm="b""#, &["basic realm=b"]),
        ] {
            assert_eq!(shown(header), expected, "{header}");
        }
    }

    #[test]
    fn malformed_parts_do_not_hide_other_challenges() {
        for (header, expected) in [
            ("", &[][..]),
            (r#"realm="x""#, &[]),
            (r#"Bearer realm="never closed, Basic realm=x"#, &["bearer"]),
            (r#"@@ "a, Bearer b", Basic realm="x""#, &["basic realm=x"]),
            (
                r#"Bearer realm=, service=s, Basic realm="x""#,
                &["bearer realm= service=s", "basic realm=x"],
            ),
            (
                r#"Bearer realm="a";b, Basic realm="x""#,
                &["bearer realm=a", "basic realm=x"],
            ),
        ] {
            assert_eq!(shown(header), expected, "{header}");
        }
    }

    #[test]
    fn challenges_of_all_headers_are_read_in_their_order() {
        let mut headers = HeaderMap::new();
        for value in [
            &b"Basic realm=\"Gr\xfc\xdfe\""[..],
            b"Bearer realm=\"r\", Digest",
        ] {
            headers.append(WWW_AUTHENTICATE, value.try_into().unwrap());
        }
        let all = Challenge::all(&headers);
        let schemes: Vec<&str> = all.iter().map(|one| one.scheme.as_str()).collect();
        assert_eq!(schemes, ["basic", "bearer", "digest"]);
        assert_eq!(all[1].parameter("realm"), Some("r"));
    }
}
