//! Front end for a whole cluster: watches the TaskSets of all Workflows, and writes the results of
//! their tasks.
//!
//! Argo's controller writes the open tasks of a Workflow into an object, the `WorkflowTaskSet`. Its
//! agent, a pod for each Workflow, usually serves them. `serve --cluster` serves them without that
//! pod:
//!
//! | file | contents |
//! |---|---|
//! | [`index`] | decides when a task starts and when it is cancelled; no I/O |
//! | [`candidates`], [`target`], [`claim`] | make this replica the owner of a TaskSet |
//! | [`members`] | the replicas that are alive; the Lease of this one |
//! | [`waiting`] | tasks that wait for memory |
//! | [`execution`] | runs one task |
//! | [`pace`], [`writer`] | write results in batches |
//! | [`results`] | the form of a result |
//! | [`replica`] | the loop that connects these parts |

mod backoff;
mod candidates;
mod claim;
mod execution;
mod ids;
mod index;
mod members;
mod pace;
mod replica;
mod results;
mod target;
mod waiting;
mod writer;

pub use execution::TaskRunners;
pub use replica::{Fenced, Replica, Settings};
