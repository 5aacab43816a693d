//! Errors of starting and running the program.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::cluster::Fenced;
use crate::kubernetes::KubernetesError;

/// Why the program cannot start or continue.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A port cannot be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Address of the port.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A directory cannot be created.
    #[error("`{}` cannot be created: {source}", path.display())]
    CreateDirectory {
        /// Path of the directory.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A directory is not private to the user.
    #[error(
        "`{}` must belong to this user and have mode 0700",
        _0.display()
    )]
    NotPrivate(PathBuf),
    /// The kubeconfig file cannot be used.
    #[error(transparent)]
    Kubeconfig(KubernetesError),
    /// The client for the Kubernetes API cannot be set up.
    #[error(transparent)]
    Kubernetes(KubernetesError),
    /// `serve --cluster` runs without access to the Kubernetes API.
    #[error("--cluster needs the Kubernetes API")]
    NoKubernetes,
    /// The replica has lost its Lease.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The sources of modules cannot be set up.
    #[error(transparent)]
    Sources(#[from] sources::Error),
    /// The client for `http` templates cannot be set up.
    #[error(transparent)]
    HttpClient(net::Error),
    /// The executor cannot be set up.
    #[error("the executor cannot be set up: {message}")]
    Executor {
        /// Message with all causes.
        message: String,
        /// What the reader can do about the error.
        hint: String,
    },
    /// The operating system refuses signal handlers or reports an error of a port.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A task panicked.
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
}

impl AppError {
    /// The error of an executor that should have `steps` slots. `message` has all causes.
    pub(super) fn executor(message: String, steps: u32) -> Self {
        let hint = format!(
            "{steps} steps at once need address space and memory mappings; lower \
             `capacity.steps`, or raise the machine's vm.max_map_count"
        );
        Self::Executor { message, hint }
    }

    /// What the reader can do about the error.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::NotPrivate(_) => Some(
                "change its mode and owner, or choose other directories with --cache-dir and \
                 --scratch-dir",
            ),
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Some(
                "another process uses this port; choose other ports with --bind and --admin-bind",
            ),
            Self::Executor { hint, .. } => Some(hint),
            Self::Sources(error) => error.hint(),
            Self::NoKubernetes => Some(
                "run it in a pod with a service account, or name a kubeconfig file with \
                 --kubeconfig (WASM_WORKFLOW_KUBECONFIG)",
            ),
            Self::Kubeconfig(_) => Some(
                "correct the file, or name another one with --kubeconfig \
                 (WASM_WORKFLOW_KUBECONFIG)",
            ),
            _ => None,
        }
    }

    /// Whether the user's flags or configuration are wrong.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Kubeconfig(_) | Self::NoKubernetes => true,
            Self::Sources(error) => error.kind() == sources::ErrorKind::InvalidConfig,
            _ => false,
        }
    }
}
