//! Ids of TaskSets and of their tasks. Cheap to clone.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::kubernetes::Metadata;

/// Unique id of a TaskSet: `metadata.uid`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SetUid(Arc<str>);

/// Id of a node: a key of `spec.tasks`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NodeId(Arc<str>);

/// One task of one TaskSet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TaskKey {
    /// The TaskSet.
    pub(super) set: SetUid,
    /// The node.
    pub(super) node: NodeId,
}

impl SetUid {
    /// The uid of a TaskSet with this metadata.
    pub(super) fn of(metadata: &Metadata) -> Self {
        metadata.uid.as_str().into()
    }
}

impl TaskKey {
    pub(super) fn new(set: &SetUid, node: &NodeId) -> Self {
        Self {
            set: set.clone(),
            node: node.clone(),
        }
    }
}

macro_rules! text {
    ($id:ident) => {
        impl From<&str> for $id {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl Deref for $id {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $id {
            fn borrow(&self) -> &str {
                self
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self)
            }
        }
    };
}

text!(SetUid);
text!(NodeId);
