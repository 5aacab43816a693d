//! The names of a step in the log.

use std::sync::Arc;

use tracing::Span;

use super::{ExecutionId, Workflow};

/// Maximum length of the template's `id` in the log, in characters.
const ID_CHARS: usize = 200;

/// The template and the Workflow that a step belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Namespace of the Workflow.
    pub namespace: String,
    /// Name of the Workflow.
    pub workflow: String,
    /// Uid of the Workflow; empty if Argo did not send it.
    pub uid: String,
    /// Name of the template.
    pub template: String,
    /// The beginning of the template's `id`, at most 200 characters. `None` if the template has no
    /// `id`.
    pub id: Option<String>,
}

impl Owner {
    /// The owner with these names. An empty `id` is no `id`.
    pub fn new(workflow: &Workflow, template: &str, id: Option<&str>) -> Self {
        let id = id.filter(|id| !id.is_empty());
        Self {
            namespace: workflow.namespace.clone(),
            workflow: workflow.name.clone(),
            uid: workflow.uid.clone(),
            template: template.to_owned(),
            id: id.map(|id| id.chars().take(ID_CHARS).collect()),
        }
    }
}

/// The names of one execution of a step. Each log line of the step has them as the same fields:
/// `execution`, `namespace`, `workflow`, `template`, and `id` if the template has one. Argo's agent
/// does not send the id of the node.
#[derive(Clone, Debug)]
pub struct StepNames {
    /// Id of the execution.
    pub execution: ExecutionId,
    /// Template and Workflow of the execution.
    pub owner: Arc<Owner>,
}

impl StepNames {
    /// The span of the execution. It gives the names to the log lines of all code that runs for the
    /// step.
    ///
    /// The span has the level `info`, so it takes no time if the log has a higher level. Lines that
    /// a step writes at a higher level contain the names themselves (`step_event!`).
    pub fn span(&self) -> Span {
        let owner = &*self.owner;
        tracing::info_span!(
            "step",
            execution = %self.execution,
            namespace = owner.namespace,
            workflow = owner.workflow,
            template = owner.template,
            id = owner.id,
        )
    }
}

/// Writes a log line of a step, with the names of the step as fields:
/// `step_event!(WARN, names, phase = %phase, "the message")`.
macro_rules! step_event {
    ($level:ident, $names:expr, $($field:tt)+) => {{
        let names: &$crate::step::StepNames = $names;
        $crate::step::owner_event!(
            $level,
            &names.owner,
            {execution = %names.execution,}
            $($field)+
        )
    }};
}

/// Writes a log line of a request that has no execution, with the names of its Workflow and its
/// template as fields: `owner_event!(INFO, owner, phase = %phase, "the message")`.
macro_rules! owner_event {
    ($level:ident, $owner:expr, {$($first:tt)*} $($field:tt)+) => {{
        let owner: &$crate::step::Owner = $owner;
        // Without the span, whose names the line would have twice.
        ::tracing::event!(
            parent: None,
            ::tracing::Level::$level,
            $($first)*
            namespace = owner.namespace,
            workflow = owner.workflow,
            template = owner.template,
            id = owner.id,
            $($field)+
        )
    }};
    ($level:ident, $owner:expr, $($field:tt)+) => {
        $crate::step::owner_event!($level, $owner, {} $($field)+)
    };
}

pub(crate) use {owner_event, step_event};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_id_is_no_id_and_a_long_id_is_cut() {
        let owner = |id| Owner::new(&Workflow::default(), "t", id).id;
        assert_eq!(owner(None), None);
        assert_eq!(owner(Some("")), None);
        assert_eq!(owner(Some("wf.step(0)")).as_deref(), Some("wf.step(0)"));
        let long = "ä".repeat(1000);
        assert_eq!(owner(Some(&long)).unwrap().chars().count(), ID_CHARS);
    }
}
