//! Values of flags that several commands have.

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
