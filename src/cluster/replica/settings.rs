//! Settings of a replica.

use std::time::Duration;

use sources::Digest;

use crate::argo::task_set::{COMPLETED, INSTANCE_ID};
use crate::cluster::members::Identity;
use crate::kubernetes::Selection;

/// How much earlier than the others a replica knows that its Lease has ended.
const FENCE_MARGIN: Duration = Duration::from_secs(10);

/// Settings of a replica.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Id of this replica: the uid of its pod.
    pub replica: String,
    /// Name of the pod of this replica. `None` outside a pod.
    pub pod: Option<String>,
    /// Namespace of the TaskSets; `None` for all namespaces.
    pub namespace: Option<String>,
    /// Label selector that TaskSets must match, as in the API; empty for all TaskSets.
    pub selector: String,
    /// Id of the controller whose TaskSets are served; `None` for the controller without an id.
    pub instance_id: Option<String>,
    /// Whether `http` templates are run, too.
    pub http_templates: bool,
    /// Number of steps that run at a time.
    pub slots: usize,
    /// Time after which the controller reads results: its `DEFAULT_REQUEUE_TIME`.
    pub requeue_time: Duration,
    /// Time after which other replicas take the TaskSets of a replica that does not renew its
    /// Lease.
    pub lease_duration: Duration,
}

impl Settings {
    /// Names of the replica. `namespace` is the one of its pod.
    pub(super) fn identity(&self, namespace: &str) -> Identity {
        Identity {
            replica: self.replica.clone(),
            pod: self.pod.clone(),
            namespace: namespace.to_owned(),
            serves: self.serves(),
            duration: self.lease_duration,
            fence_after: self.fence_after(),
        }
    }

    /// The tasks of these settings, as a label value. Replicas with the same text serve the same
    /// tasks.
    pub(super) fn serves(&self) -> String {
        let all = self.selection("");
        let mut text = format!("{}\n{}", all.namespace.unwrap_or_default(), all.labels);
        if self.http_templates {
            text.push_str("\nhttp");
        }
        Digest::of(text.as_bytes()).hex()[..16].to_owned()
    }

    /// Time since the last renewal of the Lease after which this replica must be silent.
    pub(super) fn fence_after(&self) -> Duration {
        self.lease_duration.saturating_sub(FENCE_MARGIN)
    }

    /// The TaskSets of these settings that have these labels too.
    pub(super) fn selection(&self, labels: &str) -> Selection {
        let instance = match &self.instance_id {
            Some(id) => format!("{INSTANCE_ID}={id}"),
            None => format!("!{INSTANCE_ID}"),
        };
        let mut all = format!("{COMPLETED}!=true,{instance},{labels}");
        if !self.selector.is_empty() {
            all.push(',');
            all.push_str(&self.selector);
        }
        Selection {
            namespace: self.namespace.clone(),
            labels: all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_the_settings_selects() {
        let mut settings = Settings {
            replica: "r".into(),
            pod: None,
            namespace: None,
            selector: String::new(),
            instance_id: None,
            http_templates: false,
            slots: 1,
            requeue_time: Duration::ZERO,
            lease_duration: Duration::from_secs(45),
        };
        assert_eq!(
            settings.selection("a=b").labels,
            "workflows.argoproj.io/completed!=true,!workflows.argoproj.io/controller-instanceid,a=b"
        );
        settings.instance_id = Some("i".into());
        settings.selector = "team in (x,y)".into();
        assert_eq!(
            settings.selection("a=b").labels,
            "workflows.argoproj.io/completed!=true,workflows.argoproj.io/controller-instanceid=i,a=b,team in (x,y)"
        );
    }
}
