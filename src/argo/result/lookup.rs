//! Finds the use of a result in the Workflow, through the Kubernetes API.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::future::Cache;

use super::uses::{TemplateUses, decide};
use super::{ResultRequest, ResultUse, node_name, nodes};
use crate::argo::workflow::WorkflowObject;
use crate::kubernetes::Kubernetes;
use crate::step::Workflow;

/// Time for which the uses of templates in a workflow are cached. They do not change.
const USES_TTL: Duration = Duration::from_mins(10);
/// Time after which a Workflow is read again that could not be read.
const UNREADABLE_TTL: Duration = Duration::from_mins(1);
/// Time for which all steps of a workflow share one read of its nodes.
const NODES_TTL: Duration = Duration::from_millis(400);
/// The controller records a node after it has requested the step, usually some milliseconds later.
/// So the nodes are read again after these times.
const AGAIN_AFTER: [Duration; 7] = [
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(160),
    Duration::from_millis(300),
    Duration::from_millis(450),
    Duration::from_millis(450),
];
/// Most workflows in the caches of small values.
const MAX_CACHED: u64 = 10_000;
/// Most Workflows in the cache of whole objects.
const MAX_OBJECTS: u64 = 8;

/// Finds out how workflows use the results of steps.
#[derive(Debug)]
pub struct ResultUses {
    kubernetes: Option<Kubernetes>,
    uses: Cache<String, Arc<TemplateUses>>,
    unreadable: Cache<String, ()>,
    objects: Cache<String, Option<Arc<ReadWorkflow>>>,
}

/// A Workflow, as one read found it.
#[derive(Debug)]
struct ReadWorkflow {
    workflow: WorkflowObject,
    uses: Arc<TemplateUses>,
    at: Instant,
}

impl ResultUses {
    /// Makes empty caches. `kubernetes` is the access to the API, if any.
    pub fn new(kubernetes: Option<Kubernetes>) -> Self {
        Self {
            kubernetes,
            uses: cache(MAX_CACHED, USES_TTL),
            unreadable: cache(MAX_CACHED, UNREADABLE_TTL),
            objects: cache(MAX_OBJECTS, NODES_TTL),
        }
    }

    /// The use of the result of one step: from the Workflow, or else from the template's `id`.
    pub async fn of(&self, request: &ResultRequest) -> ResultUse {
        if let Some(found) = self.in_workflow(request).await {
            return found;
        }
        match node_name::at_start(&request.id, &request.workflow.name) {
            Some(place) if place.in_loop => ResultUse::Loop,
            Some(_) => ResultUse::Single,
            None => ResultUse::Unknown,
        }
    }

    /// Takes a Workflow that was read for another purpose, so that its steps need no further read.
    pub async fn learn(&self, workflow: WorkflowObject) {
        let metadata = &workflow.metadata;
        let scope = Workflow {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
        }
        .scope();
        if let Some(read) = analysed(workflow).await
            && read.uses.is_complete()
        {
            self.uses.insert(scope, Arc::clone(&read.uses)).await;
        }
    }

    async fn in_workflow(&self, request: &ResultRequest) -> Option<ResultUse> {
        let kubernetes = self.kubernetes.as_ref()?;
        let scope = request.workflow.scope();
        if let Some(uses) = self.uses.get(&scope).await
            && let Some(found) = uses.of_template(&request.template)
        {
            return Some(found);
        }
        let mut newest = NODES_TTL;
        let waits = AGAIN_AFTER.into_iter().map(Some).chain([None]);
        for wait in waits {
            if self.unreadable.contains_key(&scope) {
                return None;
            }
            self.forget_older_than(&scope, newest).await;
            let read = self.read(kubernetes, request);
            let workflow = self.objects.get_with(scope.clone(), read).await;
            let Some(read) = workflow else {
                self.unreadable.insert(scope, ()).await;
                return None;
            };
            if read.uses.is_complete() {
                let uses = Arc::clone(&read.uses);
                self.uses.insert(scope.clone(), uses).await;
            }
            let found = read.uses.of_template(&request.template);
            if found.is_some() {
                return found;
            }
            let found = of_nodes(Arc::clone(&read), request.clone()).await;
            if found.is_some() || read.workflow.nodes_are_elsewhere() {
                return found;
            }
            let Some(wait) = wait else { break };
            tokio::time::sleep(wait).await;
            newest = wait;
        }
        None
    }

    /// Removes a Workflow from the cache that was read before this time.
    async fn forget_older_than(&self, scope: &str, age: Duration) {
        if let Some(Some(read)) = self.objects.get(scope).await
            && read.at.elapsed() > age
        {
            self.objects.invalidate(scope).await;
        }
    }

    /// Reads the Workflow. `None` if it does not exist or may not be read.
    async fn read(
        &self,
        kubernetes: &Kubernetes,
        request: &ResultRequest,
    ) -> Option<Arc<ReadWorkflow>> {
        let workflow = &request.workflow;
        let read = WorkflowObject::read(kubernetes, &workflow.namespace, &workflow.name).await;
        let is_other =
            |uid: &str| !uid.is_empty() && !workflow.uid.is_empty() && uid != workflow.uid;
        match read {
            Ok(read) if !is_other(&read.metadata.uid) => analysed(read).await,
            Ok(_) => None,
            Err(error) => {
                tracing::info!(
                    %error,
                    "the Workflow cannot be read: results of its steps are sent by the rule for \
                     `result` in the template"
                );
                None
            }
        }
    }
}

fn cache<T: Clone + Send + Sync + 'static>(entries: u64, ttl: Duration) -> Cache<String, T> {
    let builder = Cache::builder().max_capacity(entries);
    builder.time_to_live(ttl).build()
}

/// Finds the uses of templates. A large Workflow takes long.
async fn analysed(workflow: WorkflowObject) -> Option<Arc<ReadWorkflow>> {
    let at = Instant::now();
    let analyse = move || {
        let uses = Arc::new(TemplateUses::of(&workflow));
        Arc::new(ReadWorkflow { workflow, uses, at })
    };
    tokio::task::spawn_blocking(analyse).await.ok()
}

/// The use by the nodes of the Workflow. Decompressing the nodes of a large Workflow takes long.
async fn of_nodes(read: Arc<ReadWorkflow>, request: ResultRequest) -> Option<ResultUse> {
    let find = move || {
        let nodes = read.workflow.nodes()?;
        decide(&nodes::uses(&read.workflow, &nodes, &request))
    };
    tokio::task::spawn_blocking(find).await.ok().flatten()
}
