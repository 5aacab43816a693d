//! The connections to the API server.
//!
//! `kube` verifies certificates with webpki alone. webpki refuses a self-signed certificate that is
//! an authority (`CA:TRUE`) as the certificate of a server. kubectl accepts such a certificate if
//! the kubeconfig lists it as `certificate-authority`, and the verifier of [`Trust`] does so, too.
//! `kube` takes no other verifier, so the connections are set up here.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::rt::{Read, Write};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use net::Trust;
use percent_encoding::percent_decode_str;
use reqwest::header::HeaderValue;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use tower::{BoxError, Service, ServiceBuilder};

use super::authority_file::AuthorityFile;

/// Why the client cannot be set up. The text has no secrets.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    #[error(transparent)]
    Config(#[from] kube::Error),
    #[error("{0}")]
    Certificate(#[from] net::Error),
    #[error("`tls-server-name` of the cluster is not the name of a server")]
    ServerName,
    /// The URL of the proxy may contain a password.
    #[error("its proxy is not supported: the scheme must be `http`, `https` or `socks5`")]
    Proxy,
}

/// The client for the API server of the configuration.
pub(super) fn client(config: &Config, timeout: Duration) -> Result<Client, TransportError> {
    let mut direct = HttpConnector::new();
    direct.enforce_http(false);
    direct.set_connect_timeout(Some(timeout));
    let Some(proxy) = &config.proxy_url else {
        return over(config, direct);
    };
    match proxy.scheme_str() {
        Some("http") => over(config, tunnel(proxy, direct)),
        Some("https") => over(config, tunnel(proxy, https(config, direct)?)),
        Some("socks5") => over(config, SocksV5::new(proxy.clone(), direct)),
        _ => Err(TransportError::Proxy),
    }
}

/// The client that sends requests over the connections of `connector`.
fn over<C>(config: &Config, connector: C) -> Result<Client, TransportError>
where
    C: Service<http::Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    let client = legacy::Client::builder(TokioExecutor::new());
    let client = client.build::<_, Body>(https(config, connector)?);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(ClientBuilder::new(service, &config.default_namespace).build())
}

/// TLS over the connections of `connector`.
fn https<C>(config: &Config, connector: C) -> Result<HttpsConnector<C>, TransportError> {
    let mut tls = config.rustls_client_config()?;
    if let Some(listed) = &config.root_cert
        && !config.accept_invalid_certs
    {
        let listed = listed.iter().cloned().map(CertificateDer::from);
        let trust = Trust::only(listed.collect(), "`certificate-authority`")?;
        let verifier: Arc<dyn ServerCertVerifier> = match &config.root_cert_file {
            Some(file) => Arc::new(AuthorityFile::new(file.clone(), trust)),
            None => trust.verifier(),
        };
        tls.dangerous().set_certificate_verifier(verifier);
    }
    let mut builder = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone().try_into();
        let name = name.map_err(|_| TransportError::ServerName)?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(builder.enable_http1().wrap_connector(connector))
}

/// A connection by `CONNECT` (RFC 9110, 9.3.6), with user and password of the proxy's URL.
fn tunnel<C>(proxy: &http::Uri, connector: C) -> Tunnel<C> {
    let tunnel = Tunnel::new(proxy.clone(), connector);
    let authority = proxy.authority().map_or("", http::uri::Authority::as_str);
    let login = authority.rsplit_once('@').map(|(login, _)| {
        let login: Vec<u8> = percent_decode_str(login).collect();
        format!("Basic {}", STANDARD.encode(login))
    });
    match login.and_then(|login| HeaderValue::from_str(&login).ok()) {
        Some(login) => tunnel.with_auth(login),
        None => tunnel,
    }
}
