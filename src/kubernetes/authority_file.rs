//! Verification with the certificate authority of a pod's service account.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use net::{Trust, certificates_in_pem};
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// The name of the file's content in errors.
pub(super) const AUTHORITY: &str = "`ca.crt` of the service account";

/// Accepts the certificates in a file, and certificates that these authorities issued. The kubelet
/// replaces the file when the authority changes. So each connection looks at the file's metadata,
/// and reads the file if it changed. If the file cannot be read, the last authority stays in use.
#[derive(Debug)]
pub(super) struct AuthorityFile {
    file: PathBuf,
    last: Mutex<Last>,
}

/// The authority that is in use.
#[derive(Debug)]
struct Last {
    trust: Trust,
    /// The version of the file with this authority. `None` if the authority is not from the file.
    version: Option<Version>,
}

/// Metadata that changes when a file is replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds of the last change (`ctime` in inode(7)). Programs cannot set it.
    changed: [i64; 2],
}

impl From<Metadata> for Version {
    fn from(file: Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            changed: [file.ctime(), file.ctime_nsec()],
        }
    }
}

impl AuthorityFile {
    /// `first` is used until the file can be read.
    pub(super) fn new(file: PathBuf, first: Trust) -> Self {
        Self {
            file,
            last: Mutex::new(Last {
                trust: first,
                version: None,
            }),
        }
    }

    /// Reads the file if it changed since it was last read. The version is taken before the file is
    /// read. So if the file changes during the reading, the next connection reads it again.
    fn read_if_changed(&self) -> io::Result<()> {
        let version = Version::from(std::fs::metadata(&self.file)?);
        let mut last = self.last.lock();
        if last.version == Some(version) {
            return Ok(());
        }
        let pem = std::fs::read(&self.file)?;
        let certificates = certificates_in_pem(&pem, AUTHORITY).map_err(io::Error::other)?;
        last.trust = Trust::only(certificates, AUTHORITY).map_err(io::Error::other)?;
        last.version = Some(version);
        Ok(())
    }

    fn last(&self) -> Arc<dyn ServerCertVerifier> {
        self.last.lock().trust.verifier()
    }
}

impl ServerCertVerifier for AuthorityFile {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Err(error) = self.read_if_changed() {
            let file = self.file.display();
            tracing::warn!(%file, %error, "the certificate authority of the Kubernetes API cannot be read again");
        }
        self.last()
            .verify_server_cert(certificate, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.last()
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.last()
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.last().supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject;

    use super::*;

    /// Self-signed certificates (`CA:TRUE`) for `kubernetes.default.svc`, valid from 2026 to 2126.
    const ONE: &str = "-----BEGIN CERTIFICATE-----\n\
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
    const TWO: &str = "-----BEGIN CERTIFICATE-----\n\
MIIBlzCCATygAwIBAgIUbxy+nURvRgUMx83QAyKmGvVj+30wCgYIKoZIzj0EAwIw\n\
DjEMMAoGA1UEAwwDdHdvMCAXDTI2MTEzMDAxMjgwOFoYDzIxMjYxMTA2MDEyODA4\n\
WjAOMQwwCgYDVQQDDAN0d28wWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATBuHVn\n\
msP3jgv/A591nWsE26qhfnWC1tuRa1Ge1bPa1IKx5jpYgzmpTBaNlOFzOXHtKOWO\n\
y79R8GMs97u/kV0Ao3YwdDAdBgNVHQ4EFgQUz8TTYJc+l/cHykZVS9mNX02eL1ow\n\
HwYDVR0jBBgwFoAUz8TTYJc+l/cHykZVS9mNX02eL1owDwYDVR0TAQH/BAUwAwEB\n\
/zAhBgNVHREEGjAYghZrdWJlcm5ldGVzLmRlZmF1bHQuc3ZjMAoGCCqGSM49BAMC\n\
A0kAMEYCIQC3yNNq5L18oIsB1mtnOhScdq86Luz4HmtxDIpr4VhBPgIhAO/vvaQi\n\
CbzwQUeScxn1u5vOopNRYOIP+1Kpe6VeJxRm\n\
-----END CERTIFICATE-----";

    #[test]
    fn the_file_is_read_again_when_it_changed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.crt");
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let first = Trust::only(vec![der(ONE)], "the test").unwrap();
        let verifier = AuthorityFile::new(file.clone(), first);
        let accepts = |pem: &str| {
            let name = "kubernetes.default.svc".try_into().unwrap();
            let year_2050 = UnixTime::since_unix_epoch(Duration::from_hours(80 * 365 * 24));
            let verified = verifier.verify_server_cert(&der(pem), &[], &name, &[], year_2050);
            verified.is_ok()
        };
        assert!(accepts(ONE) && !accepts(TWO), "the file does not exist yet");
        std::fs::write(&file, TWO).unwrap();
        assert!(!accepts(ONE) && accepts(TWO));
        let version = verifier.last.lock().version;
        assert!(version.is_some());
        verifier.last.lock().trust = Trust::only(vec![der(ONE)], "the test").unwrap();
        assert!(accepts(ONE), "a file that did not change is not read again");
        // As the kubelet does: another file gets the name.
        let next = directory.path().join("next");
        std::fs::write(&next, TWO).unwrap();
        std::fs::rename(&next, &file).unwrap();
        assert!(!accepts(ONE) && accepts(TWO));
        std::fs::write(&file, [ONE, TWO].join("\n")).unwrap();
        assert!(accepts(ONE) && accepts(TWO));
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----").unwrap();
        assert!(accepts(ONE) && accepts(TWO), "the file is damaged");
    }
}
