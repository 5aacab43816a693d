//! Verification of the certificates of servers.

use std::collections::HashSet;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::extended_key_usage::allows_servers;

/// Verifies the certificate of a server with one of two rules. The signature of the handshake is
/// always verified: the server must have the private key.
#[derive(Debug)]
pub(crate) struct Verifier {
    rule: Rule,
    algorithms: WebPkiSupportedAlgorithms,
}

/// The certificates that are accepted.
#[derive(Debug)]
enum Rule {
    Any,
    Trusted(Trusted),
}

/// Accepts certificates that a trusted authority issued, and the trusted certificates themselves.
///
/// webpki refuses a trusted certificate that a server presents itself in two cases: if the
/// certificate is an authority, and if another authority issued it. In these cases, this verifier
/// checks the certificate's names, its validity period and its extended key usage. The signature of
/// the certificate needs no check, because exactly these bytes are trusted.
#[derive(Debug)]
struct Trusted {
    /// `None` if there are no authorities.
    issued: Option<Arc<WebPkiServerVerifier>>,
    certificates: HashSet<CertificateDer<'static>>,
}

impl Verifier {
    /// Accepts all certificates.
    pub(crate) fn any(provider: &CryptoProvider) -> Self {
        Self {
            rule: Rule::Any,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// Trusts the `listed` certificates and those of the `machine`. A certificate of the machine
    /// that cannot be parsed is not used as an authority.
    ///
    /// # Errors
    ///
    /// A certificate in `listed` cannot be parsed.
    pub(crate) fn new(
        listed: Vec<CertificateDer<'static>>,
        machine: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in &listed {
            roots.add(certificate.clone())?;
        }
        roots.add_parsable_certificates(machine.iter().cloned());
        let issued = if roots.is_empty() {
            None
        } else {
            let builder =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            let built = builder.build();
            Some(built.map_err(|error| Error::General(error.to_string()))?)
        };
        Ok(Self {
            rule: Rule::Trusted(Trusted {
                issued,
                certificates: listed.into_iter().chain(machine).collect(),
            }),
            algorithms: provider.signature_verification_algorithms,
        })
    }

    /// Checks the names, the validity period and the extended key usage of a trusted certificate.
    fn verify_trusted(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        // webpki has no function for the validity period alone. It checks the period first, then
        // whether the certificate is an authority, then the extended key usage, and then searches
        // the issuer. Without authorities, the search always fails.
        let verified = verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &RootCertStore::empty(),
            &[],
            now,
            self.algorithms.all,
        );
        match verified {
            Ok(()) | Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
            // webpki does not read the usage of an authority, and does not know that `any` includes
            // servers.
            Err(error) if is_authority(&error) || is_purpose(&error) => {
                if !allows_servers(certificate) {
                    return Err(CertificateError::InvalidPurpose.into());
                }
            }
            Err(error) => return Err(error),
        }
        verify_server_name(&parsed, name)
    }
}

/// Whether webpki refused the certificate of a server because the certificate is an authority.
fn is_authority(error: &Error) -> bool {
    webpki_error(error) == Some(&webpki::Error::CaUsedAsEndEntity)
}

/// Whether webpki refused the certificate of a server because of its extended key usage.
fn is_purpose(error: &Error) -> bool {
    use CertificateError::{InvalidPurpose, InvalidPurposeContext};
    matches!(
        error,
        Error::InvalidCertificate(InvalidPurpose | InvalidPurposeContext { .. })
    )
}

/// The error of webpki for which rustls has no name.
pub(crate) fn webpki_error(error: &Error) -> Option<&webpki::Error> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let trusted = match &self.rule {
            Rule::Any => return Ok(ServerCertVerified::assertion()),
            Rule::Trusted(trusted) => trusted,
        };
        if trusted.certificates.contains(certificate) {
            self.verify_trusted(certificate, name, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        match &trusted.issued {
            Some(issued) => {
                issued.verify_server_cert(certificate, intermediates, name, ocsp_response, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
