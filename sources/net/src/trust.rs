//! The certificates that a client trusts.

use std::sync::Arc;

use rustls::client::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::verifier::Verifier;
use crate::{Error, ErrorKind};

/// The certificates that a client trusts. Cheap to clone.
///
/// A trusted certificate, of the machine or of a list, has two uses:
///
/// - It is an authority: the client trusts the certificates that it issued.
/// - A server may present the trusted certificate itself, also if the certificate is an authority
///   (`CA:TRUE`), as `openssl req -x509` makes it. curl and Go accept such a certificate, too. Its
///   names, its validity period and its extended key usage are checked.
#[derive(Clone, Debug)]
pub struct Trust {
    verifier: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
    /// Where the operator or the author lists certificates, for hints.
    place: &'static str,
    /// The protocols that the client offers to a server (ALPN).
    protocols: &'static [&'static [u8]],
}

/// HTTP/2 and HTTP/1.1.
const ALL_PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];

/// A client certificate with its private key.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Trust {
    /// Trusts the machine's certificate authorities, and the certificates in `listed` (PEM).
    /// `place` names the configuration of `listed` in errors, such as `` `sources.ca` ``.
    ///
    /// # Errors
    ///
    /// A text in `listed` contains no certificate, or one that cannot be parsed.
    pub fn machine_and(
        listed: impl IntoIterator<Item = impl AsRef<str>>,
        place: &'static str,
    ) -> Result<Self, Error> {
        let mut certificates = Vec::new();
        for pem in listed {
            certificates.extend(certificates_in_pem(pem.as_ref().as_bytes(), place)?);
        }
        let machine = rustls_native_certs::load_native_certs();
        for error in machine.errors {
            tracing::debug!(%error, "a certificate authority of this machine cannot be read");
        }
        if machine.certs.is_empty() && certificates.is_empty() {
            // An image without certificate authorities can still use plain HTTP registries.
            tracing::warn!("this machine has no certificate authorities: HTTPS will fail");
        }
        Self::new(certificates, machine.certs, place)
    }

    /// Trusts only the certificates in `listed` (PEM).
    ///
    /// # Errors
    ///
    /// The text contains no certificate, or one that cannot be parsed.
    pub fn only_pem(listed: &str, place: &'static str) -> Result<Self, Error> {
        Self::only(certificates_in_pem(listed.as_bytes(), place)?, place)
    }

    /// Trusts only the certificates in `listed`.
    ///
    /// # Errors
    ///
    /// The list is empty, or a certificate cannot be parsed.
    pub fn only(listed: Vec<CertificateDer<'static>>, place: &'static str) -> Result<Self, Error> {
        if listed.is_empty() {
            return Err(no_certificates(place));
        }
        Self::new(listed, Vec::new(), place)
    }

    /// Accepts all certificates: the client does not know which server it talks to.
    pub fn any_certificate() -> Self {
        let provider = provider();
        Self {
            verifier: Arc::new(Verifier::any(&provider)),
            provider,
            place: "",
            protocols: ALL_PROTOCOLS,
        }
    }

    fn new(
        listed: Vec<CertificateDer<'static>>,
        machine: Vec<CertificateDer<'static>>,
        place: &'static str,
    ) -> Result<Self, Error> {
        let provider = provider();
        let verifier = Verifier::new(listed, machine, &provider).map_err(|error| {
            let message = format!("a certificate in {place} cannot be used ({error})");
            Error::new(ErrorKind::InvalidConfig, message)
        })?;
        Ok(Self {
            verifier: Arc::new(verifier),
            provider,
            place,
            protocols: ALL_PROTOCOLS,
        })
    }

    /// Offers only HTTP/1.1 to servers.
    #[must_use]
    pub fn with_http1_only(self) -> Self {
        Self {
            protocols: &[b"http/1.1"],
            ..self
        }
    }

    /// The verifier, for a client that has its own TLS configuration.
    pub fn verifier(&self) -> Arc<dyn ServerCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// The name of the configuration with the listed certificates.
    pub(crate) fn place(&self) -> &'static str {
        self.place
    }

    /// Sets the trusted certificates and the client certificate of a client.
    ///
    /// # Errors
    ///
    /// The client certificate and its key do not fit together.
    pub fn configure(
        &self,
        builder: reqwest::ClientBuilder,
        identity: Option<Identity>,
    ) -> Result<reqwest::ClientBuilder, Error> {
        Ok(builder.tls_backend_preconfigured(self.client_config(identity)?))
    }

    pub(crate) fn client_config(&self, identity: Option<Identity>) -> Result<ClientConfig, Error> {
        let unusable = |error: rustls::Error| {
            Error::new(ErrorKind::InvalidConfig, "TLS cannot be set up").caused_by(error)
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier());
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { chain, key }) => {
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    let message = "the client certificate and its key do not fit together";
                    Error::new(ErrorKind::InvalidConfig, message).caused_by(error)
                })?
            }
        };
        config.alpn_protocols = self.protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }
}

/// The cryptography of this program.
fn provider() -> Arc<CryptoProvider> {
    // Fails if another part of the program installed a provider; that provider is then used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let provider = CryptoProvider::get_default().cloned();
    provider.unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()))
}

impl Identity {
    /// Reads a certificate chain and its private key from one text in PEM. `None` if one of them is
    /// missing.
    pub fn from_pem(pem: &str) -> Option<Self> {
        Some(Self {
            chain: certificates_in_pem(pem.as_bytes(), "the client certificate").ok()?,
            key: PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()?,
        })
    }
}

/// Reads certificates in PEM. `place` names the configuration of the certificates in errors, such
/// as `` `sources.ca` ``.
///
/// # Errors
///
/// The text contains no certificate, or malformed PEM.
pub fn certificates_in_pem(pem: &[u8], place: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    certificates
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| no_certificates(place))
}

fn no_certificates(place: &str) -> Error {
    let message = format!("{place} contains no certificates in PEM");
    Error::new(ErrorKind::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    /// A self-signed certificate (`CA:TRUE`) for `kubernetes.default.svc`, valid from 2026 to 2126.
    const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\n\
MIIBljCCATygAwIBAgIUMvybgtWmSlMQhGgsMNQk5brVzGMwCgYIKoZIzj0EAwIw\n\
DjEMMAoGA1UEAwwDb25lMCAXDTI2MTEzMDAxMjgwOFoYDzIxMjYxMTA2MDEyODA4\n\
WjAOMQwwCgYDVQQDDANvbmUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQnhjCT\n\
ZiuVpWB3ojK6/jJGtnz1rZbWVn9hEr671prwnSCa0UJ/IIzQTFP5DGOsxdDB5+Qk\n\
s46Zx5LXtds2R5SCo3YwdDAdBgNVHQ4EFgQUa18a205bBtaNYtEw0gZX2JNWqlgw\n\
HwYDVR0jBBgwFoAUa18a205bBtaNYtEw0gZX2JNWqlgwDwYDVR0TAQH/BAUwAwEB\n\
/zAhBgNVHREEGjAYghZrdWJlcm5ldGVzLmRlZmF1bHQuc3ZjMAoGCCqGSM49BAMC\n\
A0gAMEUCICKOZicrpDvRd2UdcSHx/L21ZVRG26hxkmRQctqC3zNRAiEA1axLFT+H\n\
JGZkTu21j4AW+VRHzlN/LG+v/xIwNQhrSSw=\n\
-----END CERTIFICATE-----";

    #[test]
    fn a_certificate_of_the_machine_is_trusted_on_its_own_server() {
        let certificate = CertificateDer::from_pem_slice(AUTHORITY.as_bytes()).unwrap();
        let accepts = |listed: &[CertificateDer<'static>],
                       machine: &[CertificateDer<'static>],
                       name: &'static str,
                       seconds: u64| {
            let trust = Trust::new(listed.to_vec(), machine.to_vec(), "the test").unwrap();
            let name = ServerName::try_from(name).unwrap();
            let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            let verifier = trust.verifier();
            let verified = verifier.verify_server_cert(&certificate, &[], &name, &[], now);
            verified.is_ok()
        };
        let known = std::slice::from_ref(&certificate);
        let name = "kubernetes.default.svc";
        let year_2050 = 2_524_608_000;
        for [listed, machine] in [[known, &[]], [&[], known], [known, known]] {
            assert!(accepts(listed, machine, name, year_2050));
            assert!(!accepts(listed, machine, "other.example", year_2050));
            assert!(!accepts(listed, machine, name, 0), "not valid yet");
        }
        assert!(!accepts(&[], &[], name, year_2050));
    }

    #[test]
    fn a_text_without_certificates_is_an_error() {
        let read = |pem: &str| certificates_in_pem(pem.as_bytes(), "`ca`");
        assert_eq!(read(&[AUTHORITY, AUTHORITY].join("\n")).unwrap().len(), 2);
        let key = AUTHORITY.replace("CERTIFICATE", "PUBLIC KEY");
        for wrong in ["", "MIIBljCCATygAwIBAgI", &key, &AUTHORITY[..200]] {
            let error = read(wrong).unwrap_err().to_string();
            assert_eq!(error, "`ca` contains no certificates in PEM", "{wrong}");
        }
        assert!(Trust::only(Vec::new(), "`ca`").is_err());
    }
}
