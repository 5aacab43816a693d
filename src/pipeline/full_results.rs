//! The templates whose steps must not start, because too many results wait for delivery.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A template of a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TemplateKey(u64);

impl TemplateKey {
    /// The key of a template. `workflow` is the scope of the workflow: see
    /// [`Workflow::scope`](crate::step::Workflow::scope).
    pub fn of(workflow: &str, template: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (workflow, template).hash(&mut hasher);
        Self(hasher.finish())
    }

    /// The class of the template's steps and modules, for the scheduler and the compile workers.
    pub(super) fn class(self) -> u64 {
        self.0
    }
}

/// The templates whose steps must not start. The default value has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FullResults {
    /// No step may start.
    pub all: bool,
    /// No step of these templates may start.
    pub templates: HashSet<TemplateKey>,
}

impl FullResults {
    /// Whether steps of this template must wait.
    pub fn stops(&self, template: TemplateKey) -> bool {
        self.all || self.templates.contains(&template)
    }
}
