//! Reads a kubeconfig file, with the proxies of the environment.
//!
//! The loader of `kube` is not used: it compares `NO_PROXY` with the address of the proxy in place
//! of the server's, and refuses a list in `NO_PROXY` with an empty entry.

use std::path::Path;

use kube::Config;
use kube::config::{ExecAuthCluster, Kubeconfig, KubeconfigError};
use net::{Proxies, certificates_in_pem};
use reqwest::Url;

use super::error::KubernetesError;
use super::transport::ApiServer;

/// Why the content of a kubeconfig cannot be used. The text has no secrets.
#[derive(Debug, thiserror::Error)]
enum ContentError {
    #[error("the current context `{0}` is not in the file")]
    NoContext(String),
    #[error("the cluster `{0}` is not in the file")]
    NoCluster(String),
    #[error("`server` of the cluster is not a URL")]
    Server,
    /// The URL of a proxy may contain a password.
    #[error("the proxy is not a URL")]
    Proxy,
    /// The certificate authority is not PEM.
    #[error("{0}")]
    Certificates(#[from] net::Error),
    /// `certificate-authority` or its data cannot be read.
    #[error(transparent)]
    Cluster(#[from] KubeconfigError),
}

/// Reads the file. Its current context chooses cluster, user and namespace.
///
/// # Errors
///
/// The file cannot be used, or a proxy in the environment is malformed.
pub(super) fn read(file: &Path) -> Result<ApiServer, KubernetesError> {
    let shown = file.display();
    let kubeconfig = Kubeconfig::read_from(file).map_err(|error| {
        KubernetesError::Unusable(match error {
            KubeconfigError::ReadConfig(error, _) => {
                format!("the kubeconfig `{shown}` cannot be read: {error}")
            }
            error => format!("the kubeconfig `{shown}`: {error}"),
        })
    })?;
    let proxies =
        Proxies::from_env().map_err(|error| KubernetesError::Unusable(error.to_string()))?;
    api_server(&kubeconfig, &proxies)
        .map_err(|error| KubernetesError::Unusable(format!("the kubeconfig `{shown}`: {error}")))
}

/// The API server of the current context.
fn api_server(kubeconfig: &Kubeconfig, proxies: &Proxies) -> Result<ApiServer, ContentError> {
    let name = kubeconfig.current_context.as_deref().unwrap_or_default();
    let mut contexts = kubeconfig.contexts.iter();
    let context = contexts
        .find(|entry| entry.name == name)
        .and_then(|entry| entry.context.as_ref())
        .ok_or_else(|| ContentError::NoContext(name.to_owned()))?;
    let name = context.cluster.as_str();
    let mut clusters = kubeconfig.clusters.iter();
    let mut cluster = clusters
        .find(|entry| entry.name == name)
        .and_then(|entry| entry.cluster.clone())
        .ok_or_else(|| ContentError::NoCluster(name.to_owned()))?;
    // As in client-go, an empty text is no data.
    let data = &mut cluster.certificate_authority_data;
    data.take_if(|data| data.is_empty());
    let authority = match data {
        Some(_) => "`certificate-authority-data`",
        None => "`certificate-authority`",
    };
    let server = cluster.server.as_deref().unwrap_or_default();
    let url: Url = server.parse().map_err(|_| ContentError::Server)?;
    let uri = server.parse().map_err(|_| ContentError::Server)?;
    let mut config = Config::new(uri);
    config.proxy_url = proxy(cluster.proxy_url.as_deref(), &url, proxies)
        .map(|proxy| proxy.parse())
        .transpose()
        .map_err(|_| ContentError::Proxy)?;
    config.default_namespace = context
        .namespace
        .clone()
        .unwrap_or_else(|| "default".to_owned());
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
    config.disable_compression = cluster.disable_compression.unwrap_or(false);
    config.tls_server_name.clone_from(&cluster.tls_server_name);
    let for_exec = ExecAuthCluster::try_from(&cluster)?;
    if let Some(pem) = &for_exec.certificate_authority_data {
        let certificates = certificates_in_pem(pem, authority)?;
        config.root_cert = Some(certificates.iter().map(|der| der.to_vec()).collect());
    }
    // As in client-go, a user that does not exist is no error.
    let user = context.user.as_ref().and_then(|user| {
        let mut users = kubeconfig.auth_infos.iter();
        users.find(|entry| entry.name == *user)?.auth_info.clone()
    });
    config.auth_info = user.unwrap_or_default();
    if let Some(exec) = &mut config.auth_info.exec
        && exec.provide_cluster_info
    {
        exec.cluster = Some(for_exec);
    }
    Ok(ApiServer { config, authority })
}

/// The proxy for the server. `proxy-url` of the cluster is used for every address, as in Go's
/// client.
fn proxy(of_cluster: Option<&str>, server: &Url, proxies: &Proxies) -> Option<String> {
    let of_cluster = of_cluster.filter(|url| !url.is_empty());
    let url = of_cluster.or_else(|| proxies.proxy(server).map(Url::as_str))?;
    // kube knows only `socks5`, and resolves names itself.
    Some(url.replacen("socks5h://", "socks5://", 1))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    fn read(cluster: &serde_json::Value) -> Result<Config, ContentError> {
        let kubeconfig = json!({
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "nobody", "namespace": "argo"}}],
            "clusters": [{"name": "k", "cluster": cluster}],
            "users": [],
        });
        let kubeconfig = serde_json::from_value(kubeconfig).unwrap();
        api_server(&kubeconfig, &Proxies::default()).map(|server| server.config)
    }

    #[test]
    fn a_certificate_authority_that_is_not_pem_is_an_error_with_its_key() {
        let not_pem = tempfile::NamedTempFile::new().unwrap();
        let file = not_pem.path().to_str().unwrap();
        let data = STANDARD.encode("MIIBljCCATygAwIBAgI");
        for (cluster, key) in [
            (
                json!({"certificate-authority-data": data}),
                "`certificate-authority-data`",
            ),
            (
                json!({"certificate-authority": file}),
                "`certificate-authority`",
            ),
            (
                json!({"certificate-authority-data": data, "certificate-authority": file}),
                "`certificate-authority-data`",
            ),
            (
                json!({"certificate-authority-data": "", "certificate-authority": file}),
                "`certificate-authority`",
            ),
        ] {
            let mut server = cluster;
            server["server"] = json!("https://localhost");
            let error = read(&server).unwrap_err().to_string();
            assert_eq!(error, format!("{key} contains no certificates in PEM"));
        }
        let empty = json!({"server": "https://localhost", "certificate-authority-data": ""});
        assert!(read(&empty).unwrap().root_cert.is_none());
    }

    #[test]
    fn the_current_context_chooses_the_cluster() {
        let config =
            read(&json!({"server": "https://10.1.2.3:6443", "tls-server-name": "k"})).unwrap();
        assert_eq!(config.cluster_url.to_string(), "https://10.1.2.3:6443/");
        assert_eq!(config.default_namespace, "argo");
        assert_eq!(config.tls_server_name.as_deref(), Some("k"));
        assert!(config.proxy_url.is_none());
        assert_eq!(
            read(&json!({"server": "https://"}))
                .unwrap_err()
                .to_string(),
            "`server` of the cluster is not a URL"
        );
        let empty = Kubeconfig::default();
        assert_eq!(
            super::api_server(&empty, &Proxies::default())
                .err()
                .unwrap()
                .to_string(),
            "the current context `` is not in the file"
        );
    }

    #[test]
    fn the_proxy_of_the_cluster_is_used() {
        for (given, expected) in [
            ("http://user:pw@p:3128", Some("http://user:pw@p:3128/")),
            ("socks5h://p:1080", Some("socks5://p:1080/")),
            ("", None),
        ] {
            let config = read(&json!({"server": "https://localhost", "proxy-url": given})).unwrap();
            let proxy = config.proxy_url.map(|proxy| proxy.to_string());
            assert_eq!(proxy.as_deref(), expected, "{given}");
        }
    }
}
