//! Keys that were renamed before the first release, and sections that a later version will have.
//! A document with one of them is an error that says what to write.

use serde_json::Value;

use crate::text::DocumentError;

struct Renamed {
    old: &'static str,
    new: &'static str,
}

/// Paths from the root of the document. A key comes before the section that contains it.
const RENAMED: [Renamed; 12] = [
    renamed("limits.whole", "limits.total"),
    renamed("limits.steps", "capacity.steps"),
    renamed("limits.stepsMemory", "capacity.memory"),
    renamed("limits.diskFree", "capacity.minFreeDisk"),
    renamed("jobs.wait", "agent.wait"),
    renamed("jobs.orphan", "agent.orphanTimeout"),
    renamed("jobs.watch", "agent.workflowPollInterval"),
    renamed("jobs.patchRate", "agent.patchRate"),
    renamed("jobs", "agent"),
    renamed("sources.maxModule", "sources.maxModuleSize"),
    renamed("sources.maxStore", "sources.maxStoreSize"),
    renamed("sources.files", "sources.fileRoot"),
];

const NOT_YET_SUPPORTED: [&str; 2] = ["permissions", "providers"];

const fn renamed(old: &'static str, new: &'static str) -> Renamed {
    Renamed { old, new }
}

/// Refuses a document with a renamed key, or with a section that this version does not support.
pub(super) fn check(document: &Value) -> Result<(), DocumentError> {
    let present = |path: &str| {
        let pointer = format!("/{}", path.replace('.', "/"));
        document.pointer(&pointer).is_some()
    };
    if let Some(Renamed { old, new }) = RENAMED.iter().find(|key| present(key.old)) {
        return Err(DocumentError::new("", format!("`{old}` is now `{new}`")));
    }
    match NOT_YET_SUPPORTED.iter().find(|section| present(section)) {
        Some(section) => Err(DocumentError::new(
            *section,
            "this version does not support this section yet; remove it",
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Map, json};

    use super::*;
    use crate::config::Config;

    fn document_with(path: &str) -> Value {
        path.rsplit('.').fold(json!({}), |inner, key| {
            Value::Object(Map::from_iter([(key.to_owned(), inner)]))
        })
    }

    #[test]
    fn each_old_key_is_an_error_that_names_the_new_key() {
        for Renamed { old, new } in &RENAMED {
            let error = check(&document_with(old)).unwrap_err();
            assert_eq!(error.to_string(), format!("`{old}` is now `{new}`"));
        }
    }

    #[test]
    fn each_new_key_exists_and_no_old_key_does() {
        let printed = serde_json::to_value(Config::default()).unwrap();
        let mut known = BTreeSet::from(["sources.fileRoot".to_owned()]);
        for (section, keys) in printed.as_object().unwrap() {
            known.insert(section.clone());
            let keys = keys.as_object().unwrap().keys();
            known.extend(keys.map(|key| format!("{section}.{key}")));
        }
        for Renamed { old, new } in &RENAMED {
            assert!(known.contains(*new), "{new}");
            assert!(!known.contains(*old), "{old}");
        }
    }

    #[test]
    fn sections_of_later_versions_are_not_called_unknown() {
        for section in NOT_YET_SUPPORTED {
            assert_eq!(
                check(&document_with(section)).unwrap_err().to_string(),
                format!("`{section}`: this version does not support this section yet; remove it")
            );
        }
    }

    #[test]
    fn current_documents_pass() {
        check(&Value::Null).unwrap();
        check(&serde_json::to_value(Config::default()).unwrap()).unwrap();
    }
}
