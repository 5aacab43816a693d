//! The rules of `encoding/json`, one by one.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Outer {
    text: String,
    flag: bool,
    count: u64,
    float: f64,
    maybe: Option<i64>,
    list: Vec<String>,
    map: BTreeMap<String, String>,
    inner: Inner,
    inners: Vec<Inner>,
    by_name: BTreeMap<String, Inner>,
    any: Value,
    choice: Choice,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Choice {
    #[default]
    A,
    B,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Inner {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Needed {
    #[allow(dead_code, reason = "only the error is tested")]
    name: String,
}

fn outer(json: &str) -> Outer {
    from_slice(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn error<T: serde::de::DeserializeOwned + std::fmt::Debug>(json: &str) -> String {
    from_slice::<T>(json.as_bytes()).unwrap_err().to_string()
}

#[test]
fn null_is_absence_for_every_type() {
    let nulls = r#"{"text": null, "flag": null, "count": null, "float": null, "maybe": null, "list": null,
        "map": null, "inner": null, "inners": null, "byName": null, "any": null, "choice": null}"#;
    assert_eq!(outer(nulls), Outer::default());
    assert_eq!(outer("null"), Outer::default());
    assert_eq!(
        error::<Needed>(r#"{"name": null}"#),
        "the key `name` is missing"
    );
}

#[test]
fn null_in_a_list_or_a_map_is_the_zero_value() {
    let read = outer(
        r#"{"list": ["a", null], "map": {"a": null}, "inners": [null], "byName": {"a": null}}"#,
    );
    assert_eq!(read.list, ["a", ""]);
    assert_eq!(read.map["a"], "");
    assert_eq!(read.inners, [Inner::default()]);
    assert_eq!(read.by_name["a"], Inner::default());
}

#[test]
fn keys_of_fields_match_in_any_case_and_the_exact_key_wins() {
    assert_eq!(
        outer(r#"{"TEXT": "a", "BYNAME": {"A": {"NAME": "n"}}}"#).text,
        "a"
    );
    for json in [
        r#"{"text": "a", "Text": "b", "TEXT": "c"}"#,
        r#"{"Text": "b", "TEXT": "c", "text": "a"}"#,
    ] {
        assert_eq!(outer(json).text, "a", "{json}");
    }
    // The key of a map is not a field.
    let read = outer(r#"{"map": {"Text": "b", "text": "a"}}"#);
    assert_eq!(read.map.len(), 2);
}

#[test]
fn unknown_keys_are_ignored_and_of_equal_keys_the_last_wins() {
    assert_eq!(outer(r#"{"x": [{}], "text": "a", "text": "b"}"#).text, "b");
    assert_eq!(outer(r#"{"any": {"A": [null, 1]}}"#).any["A"][1], 1);
}

#[test]
fn bytes_that_are_not_utf_8_are_replaced() {
    let read: Outer = from_slice(b"{\"text\": \"a\xff\"}").unwrap();
    assert_eq!(read.text, "a\u{fffd}");
}

#[test]
fn errors_name_the_path_and_the_types_and_no_value() {
    for (json, expected) in [
        (r#"{"text": 5}"#, "`text`: expected a text, found a number"),
        (
            r#"{"inners": [{}, {"name": {"secret": 1}}]}"#,
            "`inners[1].name`: expected a text, found a map",
        ),
        (
            r#"{"count": "secret"}"#,
            "`count`: expected a whole number, 0 or more, found a text",
        ),
        (
            r#"{"count": -1}"#,
            "`count`: expected a whole number, 0 or more, found a number that does not fit",
        ),
        (
            r#"{"list": "secret"}"#,
            "`list`: expected a list, found a text",
        ),
        (
            r#"{"list": ["a", {"secret": 1}]}"#,
            "`list[1]`: expected a text, found a map",
        ),
        (
            r#"{"float": [1]}"#,
            "`float`: expected a number, found a list",
        ),
        (
            r#"{"flag": "secret"}"#,
            "`flag`: expected a boolean, found a text",
        ),
        (
            r#"{"maybe": true}"#,
            "`maybe`: expected a whole number, found a boolean",
        ),
        (
            r#"{"choice": ["secret"]}"#,
            "`choice`: expected a text, found a list",
        ),
        (
            r#"{"choice": "secret"}"#,
            "`choice`: expected one of `a`, `b`",
        ),
        (r#"["secret"]"#, "expected a map, found a list"),
        (r#"{"text": secret"#, "not JSON, at line 1 column 10"),
        ("{} {}", "not JSON, at line 1 column 4"),
        ("", "not JSON, at line 1 column 0"),
    ] {
        assert_eq!(error::<Outer>(json), expected, "{json}");
    }
}
