//! Keys of a container that authors write below `plugin.wasm` out of habit.
//!
//! The keys are those of Kubernetes' `Container` and of Argo's templates.

/// What replaces a key of a container. `None` if the key is not one of a container.
pub(super) fn replacement(key: &str) -> Option<&'static str> {
    Some(match key {
        "image" => "name the module: `module: oci://REGISTRY/NAME:TAG`",
        "imagePullPolicy" => "it is `pull.policy` here",
        "imagePullSecrets" => "the names of the Secrets are in `pull.secrets` here",
        "command" => "a module has one entry point; write its arguments under `args`",
        "source" | "script" => {
            "an interpreter that is a module reads its script from `stdin`, or as an input artifact"
        }
        "resources" => {
            "write `limits.memory`, `limits.time` and `limits.disk`; a module has no requests"
        }
        "envFrom" => "list each variable under `env`",
        "workingDir" => "the working directory is always `/`",
        "volumes" | "volumeMounts" | "volumeDevices" => {
            "a module has no volumes; declare files as artifacts under `inputs` and `outputs`"
        }
        "ports" | "livenessProbe" | "readinessProbe" | "startupProbe" | "lifecycle" => {
            "a module is not a server; remove the key"
        }
        "securityContext" => "a module is always in a sandbox; remove the key",
        "sidecars" | "initContainers" => "a module has no pod of its own; use another step",
        "inputs"
        | "outputs"
        | "timeout"
        | "activeDeadlineSeconds"
        | "retryStrategy"
        | "memoize"
        | "metadata" => "the key belongs to the template, beside `plugin`",
        _ => return None,
    })
}
