//! The connections to the API server.
//!
//! `kube` verifies certificates with webpki alone. webpki refuses a self-signed certificate that is
//! an authority (`CA:TRUE`) as the certificate of a server. kubectl accepts such a certificate if
//! the kubeconfig lists it as `certificate-authority`. The verifier of [`Trust`] accepts it, too.
//! `kube` cannot use another verifier, so this file sets up the connections.

use std::sync::Arc;
use std::time::Duration;

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
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use tower::{BoxError, Service, ServiceBuilder};

use super::authority_file::AuthorityFile;

/// The default port of SOCKS proxies, as in Go and curl (RFC 1928, section 3).
const SOCKS_PORT: u16 = 1080;
/// Time after which the operating system probes a silent connection. Three probes that get no
/// answer end the connection, after twice this time.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The largest length of a user and of a password for a SOCKS proxy, in bytes (RFC 1929).
const MAX_SOCKS_LOGIN: usize = 255;

/// An API server.
pub(super) struct ApiServer {
    pub config: Config,
    /// The name of the configuration that lists the trusted certificates, for errors.
    pub authority: &'static str,
}

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
    #[error("user and password of its proxy are not UTF-8, or too long")]
    ProxyLogin,
}

/// The client for the API server.
pub(super) fn client(server: &ApiServer, timeout: Duration) -> Result<Client, TransportError> {
    let mut direct = HttpConnector::new();
    direct.enforce_http(false);
    direct.set_connect_timeout(Some(timeout));
    // A watch can be silent for a minute. Without probes, a dead connection would look like one.
    direct.set_keepalive(Some(KEEPALIVE));
    direct.set_keepalive_interval(Some(KEEPALIVE / 3));
    direct.set_keepalive_retries(Some(3));
    let Some(proxy) = &server.config.proxy_url else {
        return over(server, direct);
    };
    match proxy.scheme_str() {
        Some("http") => over(server, tunnel(proxy, direct)?),
        Some("https") => over(server, tunnel(proxy, https(server, direct)?)?),
        Some("socks5") => over(server, socks(proxy, direct)?),
        _ => Err(TransportError::Proxy),
    }
}

/// The client that sends requests over the connections of `connector`.
fn over<C>(server: &ApiServer, connector: C) -> Result<Client, TransportError>
where
    C: Service<http::Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    let client = legacy::Client::builder(TokioExecutor::new());
    let client = client.build::<_, Body>(https(server, connector)?);
    let config = &server.config;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(ClientBuilder::new(service, &config.default_namespace).build())
}

/// TLS over the connections of `connector`.
fn https<C>(server: &ApiServer, connector: C) -> Result<HttpsConnector<C>, TransportError> {
    let config = &server.config;
    let verifier = match config.accept_invalid_certs {
        true => None,
        false => Some(verifier(server)?),
    };
    let mut tls = config.rustls_client_config()?;
    if let Some(verifier) = verifier {
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

/// Trusts the certificate authority of the configuration. Without one, trusts the certificates of
/// the machine, as client-go does.
fn verifier(server: &ApiServer) -> Result<Arc<dyn ServerCertVerifier>, TransportError> {
    let config = &server.config;
    let Some(listed) = &config.root_cert else {
        return Ok(Trust::machine_and([""; 0], server.authority)?.verifier());
    };
    let listed = listed.iter().cloned().map(CertificateDer::from);
    let trust = Trust::only(listed.collect(), server.authority)?;
    Ok(match &config.root_cert_file {
        Some(file) => Arc::new(AuthorityFile::new(file.clone(), trust)),
        None => trust.verifier(),
    })
}

/// A connection by `CONNECT` (RFC 9110, 9.3.6), with user and password of the proxy's URL.
fn tunnel<C>(proxy: &http::Uri, connector: C) -> Result<Tunnel<C>, TransportError> {
    let tunnel = Tunnel::new(proxy.clone(), connector);
    let Some(Login { user, password }) = login(proxy)? else {
        return Ok(tunnel);
    };
    Ok(tunnel.with_auth(net::basic(&user, &password)))
}

/// A connection by SOCKS 5 (RFC 1928), with user and password of the proxy's URL.
fn socks<C>(proxy: &http::Uri, connector: C) -> Result<SocksV5<C>, TransportError> {
    let socks = SocksV5::new(socks_address(proxy)?, connector);
    match login(proxy)? {
        None => Ok(socks),
        Some(Login { user, password }) if user.len().max(password.len()) <= MAX_SOCKS_LOGIN => {
            Ok(socks.with_auth(user, password))
        }
        Some(_) => Err(TransportError::ProxyLogin),
    }
}

/// The URL of a SOCKS proxy with its port, and without user and password.
fn socks_address(proxy: &http::Uri) -> Result<http::Uri, TransportError> {
    let host = proxy.host().ok_or(TransportError::Proxy)?;
    let port = proxy.port_u16().unwrap_or(SOCKS_PORT);
    http::Uri::builder()
        .scheme("socks5")
        .authority(format!("{host}:{port}"))
        .path_and_query("/")
        .build()
        .map_err(|_| TransportError::Proxy)
}

/// User and password of a proxy.
struct Login {
    user: String,
    /// Empty if the URL has only a user.
    password: String,
}

/// User and password in the URL of a proxy.
fn login(proxy: &http::Uri) -> Result<Option<Login>, TransportError> {
    let authority = proxy.authority().map_or("", http::uri::Authority::as_str);
    let Some((login, _)) = authority.rsplit_once('@') else {
        return Ok(None);
    };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let decoded = |text| match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(TransportError::ProxyLogin),
    };
    Ok(Some(Login {
        user: decoded(user)?,
        password: decoded(password)?,
    }))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn server(proxy: &str) -> ApiServer {
        let mut config = Config::new("https://api.example:6443".parse().unwrap());
        config.proxy_url = Some(proxy.parse().unwrap());
        let authority = "`certificate-authority`";
        ApiServer { config, authority }
    }

    /// What the client sends to the proxy, with one part before each answer of the proxy.
    async fn sent(scheme: &str, login: &str, answers: &[&[u8]]) -> Vec<Vec<u8>> {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = proxy.local_addr().unwrap().port();
        let server = server(&format!("{scheme}://{login}127.0.0.1:{port}"));
        let client = client(&server, Duration::from_secs(5)).unwrap();
        let request = tokio::spawn(async move { client.apiserver_version().await });
        let (mut connection, _) = proxy.accept().await.unwrap();
        let mut parts = Vec::new();
        for answer in answers {
            let mut part = vec![0; 4096];
            let read = connection.read(&mut part).await.unwrap();
            part.truncate(read);
            parts.push(part);
            connection.write_all(answer).await.unwrap();
        }
        drop(connection);
        assert!(request.await.unwrap().is_err(), "the proxy hangs up");
        parts
    }

    #[tokio::test]
    async fn a_socks_proxy_gets_the_decoded_login() {
        let answers: [&[u8]; 2] = [&[5, 2], &[1, 1]];
        let parts = sent("socks5", "us%40er:p%3Aw@", &answers).await;
        assert_eq!(parts, [&b"\x05\x01\x02"[..], b"\x01\x05us@er\x03p:w"]);
        let parts = sent("socks5", "user@", &answers).await;
        assert_eq!(parts, [&b"\x05\x01\x02"[..], b"\x01\x04user\x00"]);
        let parts = sent("socks5", "", &[&[5, 0xff]]).await;
        assert_eq!(parts, [b"\x05\x01\x00"]);
    }

    #[tokio::test]
    async fn an_http_proxy_gets_the_decoded_login() {
        for (login, expected) in [
            ("us%40er:p%3Aw@", Some("us@er:p:w")),
            ("user@", Some("user:")),
            ("user:@", Some("user:")),
            ("user:a:b@", Some("user:a:b")),
            ("", None),
        ] {
            let answer = b"HTTP/1.1 407 x\r\n\r\n";
            let parts = sent("http", login, &[answer]).await;
            let request = String::from_utf8(parts.concat()).unwrap();
            assert!(
                request.starts_with("CONNECT api.example:6443 "),
                "{request}"
            );
            let sent = request
                .to_ascii_lowercase()
                .contains("proxy-authorization:");
            assert_eq!(sent, expected.is_some(), "{request}");
            let basic = expected.map_or_else(String::new, |login| STANDARD.encode(login));
            assert!(request.contains(&basic), "{request}");
        }
    }

    #[test]
    fn the_default_port_of_socks_is_1080() {
        for (proxy, expected) in [
            ("socks5://p", "socks5://p:1080/"),
            ("socks5://p/", "socks5://p:1080/"),
            ("socks5://u:w@p", "socks5://p:1080/"),
            ("socks5://p:9050", "socks5://p:9050/"),
            ("socks5://[::1]", "socks5://[::1]:1080/"),
        ] {
            let address = socks_address(&proxy.parse().unwrap()).unwrap();
            assert_eq!(address.to_string(), expected, "{proxy}");
        }
    }

    #[tokio::test]
    async fn a_login_that_a_proxy_cannot_get_is_an_error() {
        let long = "a".repeat(256);
        for proxy in [
            "http://%ff@p".to_owned(),
            format!("socks5://{long}@p"),
            format!("socks5://u:{long}@p"),
        ] {
            let refused = client(&server(&proxy), Duration::from_secs(1))
                .err()
                .unwrap();
            assert!(matches!(refused, TransportError::ProxyLogin), "{refused}");
            assert!(!refused.to_string().contains("aaa"));
        }
    }

    #[tokio::test]
    async fn an_empty_authority_is_an_error_with_its_name() {
        let mut server = server("http://p");
        server.config.root_cert = Some(Vec::new());
        server.authority = super::super::authority_file::AUTHORITY;
        let refused = client(&server, Duration::from_secs(1)).err().unwrap();
        assert_eq!(
            refused.to_string(),
            "`ca.crt` of the service account contains no certificates in PEM"
        );
    }
}
