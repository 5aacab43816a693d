//! The error for a request without a response.

use std::error;
use std::io;

use rustls::CertificateError;
use url::Url;

use crate::authority::{authority, origin};
use crate::proxies::shown;
use crate::verifier::webpki_error;
use crate::{Error, ErrorKind};

/// The longest list of a certificate's names in an error.
const SHOWN_NAMES: usize = 5;
/// The longest name of a certificate in an error, in characters.
const SHOWN_NAME: usize = 100;

/// The error for a request without a response. An error of the address guard is returned as it is.
/// `proxy` is the proxy of the request. `trusted_by` names the configuration that lists trusted
/// certificates.
pub(crate) fn no_response(
    url: &Url,
    proxy: Option<&Url>,
    trusted_by: &str,
    error: reqwest::Error,
) -> Error {
    let origin = origin(url);
    let via = proxy.map_or_else(String::new, |proxy| {
        format!(" through the proxy `{}`", shown(proxy))
    });
    if let Some(denied) = find::<Error>(&error) {
        return denied.clone();
    }
    match find::<rustls::Error>(&error).cloned() {
        Some(refused @ rustls::Error::InvalidCertificate(_)) => {
            let host = url.host_str().unwrap_or_default();
            let Explanation { problem, hint } = explain(&refused, host, trusted_by);
            let message = format!("the certificate of {origin}{via} {problem}");
            let refused =
                Error::new(ErrorKind::Unavailable, message).caused_by(error.without_url());
            match hint.as_str() {
                "" => refused.permanent(),
                hint => refused.permanent().with_hint(hint),
            }
        }
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            let message = format!("{origin} does not use TLS{via}; the server may use plain HTTP");
            Error::new(ErrorKind::Unavailable, message)
                .with_hint(format!(
                    "if the server uses plain HTTP, allow it with `--insecure-registry {host}`, or \
                     ask the operator to list it under `sources.insecure`; begin URLs of files with \
                     `http://`",
                    host = authority(url)
                ))
                .permanent()
        }
        _ => {
            let cause = causes(&error).last().map(ToString::to_string);
            let cause = cause.unwrap_or_default();
            if let Some(proxy) = proxy
                && cause.contains("proxy authorization required")
            {
                return no_login(proxy);
            }
            let message = match error.is_timeout() {
                true => format!("{origin} does not answer in time{via}"),
                false => format!("{origin} cannot be reached{via} ({cause})"),
            };
            Error::new(ErrorKind::Unavailable, message)
                .with_hint(match proxy {
                    None => "check the name and that the server is up and reachable from here",
                    Some(_) => {
                        "check the proxy in the environment, and that it allows this host; hosts \
                         in `NO_PROXY` are reached without it"
                    }
                })
                .caused_by(error.without_url())
        }
    }
}

/// The error for a proxy that demands another user and password (407).
pub(crate) fn no_login(proxy: &Url) -> Error {
    let proxy = shown(proxy);
    let message =
        format!("the proxy `{proxy}` demands a user and a password, or refuses them (407)");
    Error::new(ErrorKind::Unavailable, message)
        .with_hint(
            "write them into the environment variable with the proxy: \
             `http://USER:PASSWORD@HOST:PORT`",
        )
        .permanent()
}

/// Why the client refuses a certificate.
struct Explanation {
    /// The predicate of the sentence "the certificate of … …".
    problem: String,
    /// Empty if there is no advice.
    hint: String,
}

impl Explanation {
    fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            hint: hint.into(),
        }
    }
}

fn explain(error: &rustls::Error, host: &str, trusted_by: &str) -> Explanation {
    use CertificateError as Certificate;
    if webpki_error(error) == Some(&webpki::Error::UnsupportedCertVersion) {
        return Explanation::new(
            "is an X.509 certificate of version 1, which has no field for the server's names",
            for_name(host),
        );
    }
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return Explanation::new(format!("is not trusted ({error})"), "");
    };
    match certificate {
        Certificate::UnknownIssuer => Explanation::new(
            "is not trusted: no trusted authority issued the certificate",
            format!(
                "if the certificate's authority is private, ask the operator to add the authority \
                 to {trusted_by}; if the certificate signed itself, add the certificate"
            ),
        ),
        Certificate::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            Explanation::new(
                format!(
                    "is not valid for `{host}`: the certificate has no `subjectAltName`, and the \
                     common name (CN) is not used"
                ),
                for_name(host),
            )
        }
        Certificate::NotValidForNameContext { presented, .. } => Explanation::new(
            format!(
                "is not valid for `{host}`: its names are {}",
                names(presented)
            ),
            format!(
                "use one of these names for the server, or {}",
                for_name(host)
            ),
        ),
        Certificate::NotValidForName => {
            Explanation::new(format!("is not valid for `{host}`"), for_name(host))
        }
        Certificate::Expired | Certificate::ExpiredContext { .. } => Explanation::new(
            "has expired",
            "renew the certificate; if it is not expired, correct the clock of this machine",
        ),
        Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => Explanation::new(
            "is not valid yet",
            "correct the clock of this machine, or issue the certificate again",
        ),
        Certificate::InvalidPurpose | Certificate::InvalidPurposeContext { .. } => {
            Explanation::new(
                "is not a certificate for servers",
                "issue the certificate with `extendedKeyUsage=serverAuth`, or without \
                 `extendedKeyUsage`",
            )
        }
        _ if webpki_error(error) == Some(&webpki::Error::CaUsedAsEndEntity) => Explanation::new(
            "is not trusted: the certificate is an authority that is not on the list of trusted \
             certificates",
            format!("ask the operator to add the certificate to {trusted_by}"),
        ),
        _ => Explanation::new(format!("is not trusted ({error})"), ""),
    }
}

fn for_name(host: &str) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let kind = match host.parse::<std::net::IpAddr>() {
        Ok(_) => "IP",
        Err(_) => "DNS",
    };
    format!("issue the certificate with `subjectAltName={kind}:{host}`")
}

/// The names of a certificate, which webpki shows as `DnsName("a")` and `IpAddress(10.0.0.1)`.
fn names(presented: &[String]) -> String {
    let shown = presented.iter().take(SHOWN_NAMES).map(|name| {
        let name = name.split_once('(').map_or(name.as_str(), |(_, name)| name);
        let name = name.trim_end_matches(')').trim_matches('"');
        let name: String = name
            .chars()
            .filter(|c| !c.is_control())
            .take(SHOWN_NAME)
            .collect();
        format!("`{name}`")
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    match presented.len().saturating_sub(SHOWN_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The error and its causes, the innermost last.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn error::Error + 'static)> {
    let first: &(dyn error::Error + 'static) = error;
    std::iter::successors(Some(first), |cause| cause.source())
}

/// The first error of this type among the causes. The content of an I/O error is not its cause, and
/// is searched, too.
fn find<E: error::Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    causes(error).find_map(|cause| {
        let content = std::iter::successors(Some(cause), |cause| {
            let content = cause.downcast_ref::<io::Error>()?.get_ref()?;
            Some(content as &(dyn error::Error + 'static))
        });
        content
            .into_iter()
            .find_map(|content| content.downcast_ref())
    })
}
