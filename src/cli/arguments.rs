//! Values of flags that several commands have.

use std::collections::BTreeMap;

use super::Failure;

/// The value of a flag such as `-p NAME=VALUE`.
#[derive(Clone, Debug)]
pub(super) struct NameValue {
    pub(super) name: String,
    pub(super) value: String,
}

/// Parses `NAME=VALUE`. The value may be empty, the name may not.
pub(super) fn name_value(text: &str) -> Result<NameValue, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(NameValue {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
        _ => Err("it must look like NAME=VALUE".to_owned()),
    }
}

/// The values of a repeatable flag by name. A name that is given twice is an error.
pub(super) fn unique(flag: &str, given: &[NameValue]) -> Result<BTreeMap<String, String>, Failure> {
    let mut unique = BTreeMap::new();
    for NameValue { name, value } in given {
        if unique.insert(name.clone(), value.clone()).is_some() {
            return Err(Failure::usage(format!("{flag} {name}=… is given twice")));
        }
    }
    Ok(unique)
}
