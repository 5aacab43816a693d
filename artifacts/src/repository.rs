//! Artifact repositories as Argo writes them
//! (`pkg/apis/workflow/v1alpha1/artifact_repository_types.go`). They occur in the controller's
//! configuration, in the `ConfigMap` `artifact-repositories`, and in the status of Workflows.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::location::DirectoryRepository;
use crate::s3::S3Location;
use crate::{Error, ErrorKind, Repository};

/// Argo's default `keyFormat`.
const DEFAULT_KEY_FORMAT: &str = "{{workflow.name}}/{{pod.name}}";

/// An artifact repository: the store for artifacts without a location of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ArtifactRepository {
    /// Whether the output of modules is stored as an artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_logs: Option<bool>,
    /// A bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<Box<S3Location>>,
    /// A directory on the executor's own machine. Argo does not have this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectoryRepository>,
    #[serde(skip_serializing)]
    artifactory: Option<Value>,
    #[serde(skip_serializing)]
    azure: Option<Value>,
    #[serde(skip_serializing)]
    gcs: Option<Value>,
    #[serde(skip_serializing)]
    hdfs: Option<Value>,
    #[serde(skip_serializing)]
    oss: Option<Value>,
    #[serde(skip_serializing)]
    plugin: Option<Value>,
}

/// Store for artifacts without a location of their own, and the format of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryDestination {
    /// Store that holds the artifacts.
    pub repository: Repository,
    /// `keyFormat`: a template for keys, with Argo's variables such as `{{workflow.name}}`.
    pub key_format: String,
}

impl ArtifactRepository {
    /// The store and the format of keys. `None` if the repository names no store.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] for a kind of store that is not supported, or an invalid
    /// bucket.
    pub fn destination(&self) -> Result<Option<RepositoryDestination>, Error> {
        let unsupported = [
            ("artifactory", &self.artifactory),
            ("azure", &self.azure),
            ("gcs", &self.gcs),
            ("hdfs", &self.hdfs),
            ("oss", &self.oss),
            ("plugin", &self.plugin),
        ];
        if let Some((kind, _)) = unsupported.into_iter().find(|(_, value)| value.is_some()) {
            let message =
                format!("the artifact repository is of the kind `{kind}`, which is not supported");
            return Err(
                Error::new(ErrorKind::InvalidConfig, message).with_hint(alternative_to(kind))
            );
        }
        if let Some(s3) = &self.s3 {
            s3.check()?;
            let key_format = match (s3.key_format.as_str(), s3.key_prefix.trim_matches('/')) {
                ("", "") => DEFAULT_KEY_FORMAT.to_owned(),
                ("", prefix) => format!("{prefix}/{DEFAULT_KEY_FORMAT}"),
                (format, _) => format.to_owned(),
            };
            return Ok(Some(RepositoryDestination {
                repository: Repository::S3(Box::new(s3.without_keys())),
                key_format,
            }));
        }
        let directory = self.directory.clone();
        Ok(directory.map(|directory| RepositoryDestination {
            repository: Repository::Directory(directory),
            key_format: DEFAULT_KEY_FORMAT.to_owned(),
        }))
    }
}

/// Advice for users of a kind of artifact that is not supported.
pub fn alternative_to(kind: &str) -> &'static str {
    match kind {
        "gcs" => "use `s3` with the endpoint storage.googleapis.com and HMAC keys",
        "oss" => "use `s3` with the endpoint of the service and its keys",
        "azure" => "use `http` with a shared access signature, or a gateway with an S3 interface",
        "artifactory" => "use `http` with `auth.basicAuth`",
        "git" => {
            "use `http` with the Git server's archive of a revision, or clone in a container step"
        }
        "hdfs" => "use `http` with WebHDFS",
        _ => "use `s3`, `http` or `raw`",
    }
}
