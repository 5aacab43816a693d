//! Values of the flags of `manifest`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sources::Reference;
use sources::reference::OciReference;

use crate::cli::Failure;
use crate::cli::cluster_flags::is_label_value;
use crate::kubernetes::is_dns_subdomain;

/// An environment variable with a value from a Secret.
#[derive(Clone, Debug)]
pub(super) struct EnvFromSecret {
    /// Name of the variable.
    pub(super) name: String,
    /// Name of the Secret, in the workflow's namespace.
    pub(super) secret: String,
    /// Key in the Secret.
    pub(super) key: String,
}

impl EnvFromSecret {
    /// The variable of a container.
    pub(super) fn variable(&self) -> Value {
        let Self { name, secret, key } = self;
        json!({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
    }
}

/// Refuses a variable that is given twice.
pub(super) fn each_once(env: &[EnvFromSecret]) -> Result<(), Failure> {
    let mut names = BTreeSet::new();
    match env.iter().find(|env| !names.insert(&env.name)) {
        Some(twice) => {
            let message = format!("--env {}=… is given twice", twice.name);
            Err(Failure::usage(message))
        }
        None => Ok(()),
    }
}

/// Parses the value of a label.
pub(super) fn label(text: &str) -> Result<String, String> {
    match is_label_value(text) {
        true => Ok(text.to_owned()),
        false => Err("it must be the value of a label in Kubernetes: letters, digits, `-`, `_` and `.`, and at most 63 characters".to_owned()),
    }
}

/// A service account.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Parses `NAMESPACE/ACCOUNT`.
pub(super) fn account(text: &str) -> Result<Account, String> {
    let Some((of, account)) = text.split_once('/') else {
        return Err("it must look like NAMESPACE/ACCOUNT, such as argo/argo".to_owned());
    };
    Ok(Account {
        namespace: namespace(of)?,
        name: name(account)?,
    })
}

/// Parses the name of a namespace.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    if text.contains('.') || text.len() > 63 {
        return Err(
            "it must be the name of a namespace: lower case letters, digits and `-`".to_owned(),
        );
    }
    name(text)
}

/// Parses the name of an image.
pub(super) fn image(text: &str) -> Result<String, String> {
    let (repository, _) = text.split_once('@').unwrap_or((text, ""));
    // Brackets are around an address of IPv6.
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:/@-[]".contains(c);
    let name = repository
        .rsplit('/')
        .next()
        .and_then(|last| last.split(':').next())
        .unwrap_or_default();
    let lower = !name.is_empty() && !name.contains(char::is_uppercase);
    match text.chars().all(plain) && lower {
        true => Ok(text.to_owned()),
        false => Err(
            "it must be an image, such as registry.example.com/wasm-workflow-executor:0.1.0"
                .to_owned(),
        ),
    }
}

fn is_variable(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(plain) && name.starts_with(|c: char| !c.is_ascii_digit())
}

/// Parses `NAME=SECRET/KEY`.
pub(super) fn variable(text: &str) -> Result<EnvFromSecret, String> {
    let parts = text
        .split_once('=')
        .and_then(|(name, from)| Some((name, from.split_once('/')?)));
    match parts {
        Some((name, (secret, key)))
            if is_variable(name) && is_dns_subdomain(secret) && !key.is_empty() =>
        {
            Ok(EnvFromSecret {
                name: name.to_owned(),
                secret: secret.to_owned(),
                key: key.to_owned(),
            })
        }
        _ => Err(
            "it must look like NAME=SECRET/KEY, such as AWS_ACCESS_KEY_ID=artifacts/accessKey"
                .to_owned(),
        ),
    }
}

/// Parses the name of an object.
pub(super) fn name(text: &str) -> Result<String, String> {
    match is_dns_subdomain(text) {
        true => Ok(text.to_owned()),
        false => {
            Err("it must be the name of an object in Kubernetes: lower case letters, digits, `-` and `.`".to_owned())
        }
    }
}

/// Parses the place of modules in a registry: `HOST` or `HOST/PATH`. The parser of module references
/// decides whether the host and the path are valid.
pub(super) fn registry(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let host = text.split('/').next().unwrap_or_default();
    let names_host = host.contains(['.', ':']) || host == "localhost";
    let module = format!("oci://{text}/module:1").parse::<Reference>();
    let oci = module
        .as_ref()
        .ok()
        .and_then(Reference::as_kind::<OciReference>);
    match oci {
        Some(oci) if names_host && oci.digest().is_none() => Ok(text.to_owned()),
        _ => Err(
            "it must be a registry, such as registry.example.com or registry.example.com/team"
                .to_owned(),
        ),
    }
}
