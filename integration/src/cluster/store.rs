//! Objects with versions, as etcd and the API server keep them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::merge_patch;
use crate::task_set_schema;

/// Kind, namespace and name of an object: `("workflowtasksets", "argo", "wf")`.
pub type Key = (String, String, String);

/// A change of an object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version that the change made.
    pub version: u64,
    /// Key of the object.
    pub key: Key,
    /// The object before; `None` if the change created it.
    pub before: Option<Arc<Value>>,
    /// The object after; `None` if the change deleted it.
    pub after: Option<Arc<Value>>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status of the answer.
    pub code: u16,
    /// Message of the answer.
    pub message: String,
}

/// All objects. Clones share them.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Mutex<Content>>,
    version: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Default)]
struct Content {
    objects: BTreeMap<Key, Arc<Value>>,
    changes: Vec<Change>,
    /// Changes up to this version are not known any more.
    compacted: u64,
    version: u64,
}

/// The part of an object that a patch can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status.
    Main,
    /// Only the status.
    Status,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            shared: Arc::default(),
            version: Arc::new(watch::channel(0).0),
        }
    }
}

impl Store {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.shared.lock().expect("the objects")
    }

    /// Is notified of each new version.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The object, if it exists.
    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.content().objects.get(key).cloned()
    }

    /// All objects of a kind, and the version of the list.
    pub fn list(&self, kind: &str) -> (Vec<Arc<Value>>, u64) {
        let content = self.content();
        let objects = content.objects.iter().filter(|((of, ..), _)| of == kind);
        (
            objects.map(|(_, object)| Arc::clone(object)).collect(),
            content.version,
        )
    }

    /// The changes of a kind after a version, and the version of the last change. `None` if they
    /// are not known any more.
    pub fn changes(&self, kind: &str, after: u64) -> Option<(Vec<Change>, u64)> {
        let content = self.content();
        if after < content.compacted {
            return None;
        }
        let new = content.changes.iter();
        let new = new.filter(|change| change.version > after && change.key.0 == kind);
        Some((new.cloned().collect(), content.version))
    }

    /// Forgets all changes so far: watches of older versions get status 410.
    pub fn compact(&self) {
        let mut content = self.content();
        content.compacted = content.version;
        content.changes.clear();
    }

    /// Creates an object, with a uid of its own.
    pub fn create(&self, key: &Key, mut object: Value) -> Result<Arc<Value>, Refusal> {
        let mut content = self.content();
        if content.objects.contains_key(key) {
            return Err(refusal(409, "the object already exists"));
        }
        let uid = format!("{}-{}", key.2, content.version + 1);
        let metadata = json!({"namespace": key.1, "name": key.2, "uid": uid, "generation": 1});
        merge_patch::apply(&mut object["metadata"], &metadata);
        Ok(self
            .put(&mut content, key, Some(object))
            .expect("an object"))
    }

    /// Deletes an object, if it exists.
    pub fn delete(&self, key: &Key) {
        let mut content = self.content();
        if content.objects.contains_key(key) {
            self.put(&mut content, key, None);
        }
    }

    /// Applies a merge patch, as the API server does. A patch that changes nothing makes no
    /// version.
    pub fn patch(&self, key: &Key, part: Part, patch: &Value) -> Result<Arc<Value>, Refusal> {
        let mut content = self.content();
        let Some(before) = content.objects.get(key).cloned() else {
            return Err(refusal(404, &format!("{} \"{}\" not found", key.0, key.2)));
        };
        for field in ["resourceVersion", "uid"] {
            let expected = patch["metadata"][field].as_str();
            if expected.is_some_and(|expected| before["metadata"][field] != expected) {
                let message = format!("the object has been modified: {field}");
                return Err(refusal(409, &message));
            }
        }
        let mut patched = (*before).clone();
        merge_patch::apply(&mut patched, patch);
        let mut after = (*before).clone();
        match part {
            Part::Status => after["status"] = patched["status"].clone(),
            Part::Main => {
                patched["status"] = before["status"].clone();
                after = patched;
                if after["spec"] != before["spec"] {
                    let generation = before["metadata"]["generation"].as_u64();
                    after["metadata"]["generation"] = (generation.unwrap_or(0) + 1).into();
                }
            }
        }
        after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        if let Some(message) = task_set_refusal(key, &before, patch) {
            let code = if message.contains("too large") {
                500
            } else {
                422
            };
            return Err(refusal(code, &message));
        }
        if after == *before {
            return Ok(before);
        }
        Ok(self.put(&mut content, key, Some(after)).expect("an object"))
    }

    fn put(&self, content: &mut Content, key: &Key, object: Option<Value>) -> Option<Arc<Value>> {
        content.version += 1;
        let version = content.version;
        let after = object.map(|mut object| {
            object["metadata"]["resourceVersion"] = version.to_string().into();
            Arc::new(object)
        });
        let before = match &after {
            Some(after) => content.objects.insert(key.clone(), Arc::clone(after)),
            None => content.objects.remove(key),
        };
        content.changes.push(Change {
            version,
            key: key.clone(),
            before,
            after: after.clone(),
        });
        self.version.send_replace(version);
        after
    }
}

fn refusal(code: u16, message: &str) -> Refusal {
    Refusal {
        code,
        message: message.to_owned(),
    }
}

/// Why the API server refuses results in a patch of a task set.
fn task_set_refusal(key: &Key, before: &Value, patch: &Value) -> Option<String> {
    if key.0 != "workflowtasksets" {
        return None;
    }
    let map = |value: &Value| -> BTreeMap<String, Value> {
        serde_json::from_value(value.clone()).unwrap_or_default()
    };
    let tasks = map(&before["spec"]["tasks"]);
    let status = map(&before["status"]["nodes"]);
    let mut nodes = map(&patch["status"]["nodes"]);
    nodes.retain(|_, node| !node.is_null());
    task_set_schema::refusal(&tasks, &status, &nodes)
}
