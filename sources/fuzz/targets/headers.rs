//! The headers `WWW-Authenticate` and `Link`. A challenge that is written again is read as the same
//! challenge.
#![no_main]

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue, header::LINK};
use libfuzzer_sys::fuzz_target;
use url::Url;
use wasm_workflow_net::{Authority, Challenge, next_page};

/// Writes challenges as RFC 9110 says.
fn written(challenges: &[Challenge]) -> String {
    let mut text = String::new();
    for challenge in challenges {
        write!(text, ", {}", challenge.scheme).expect("a text grows");
        let mut separator = " ";
        if let Some(data) = &challenge.token68 {
            write!(text, " {data}").expect("a text grows");
            separator = ", ";
        }
        for (name, value) in &challenge.parameters {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            write!(text, "{separator}{name}=\"{value}\"").expect("a text grows");
            separator = ", ";
        }
    }
    text
}

fuzz_target!(|text: &str| {
    let challenges = Challenge::parse(text);
    assert_eq!(Challenge::parse(&written(&challenges)), challenges);
    if let Ok(value) = HeaderValue::from_str(text) {
        let base: Url = "https://r.example/v2/a/tags/list".parse().expect("a URL");
        let _ = next_page(&HeaderMap::from_iter([(LINK, value)]), &base);
    }
    if let Ok(host) = text.parse::<Authority>() {
        assert_eq!(host.to_string().parse().as_ref(), Ok(&host));
    }
});
