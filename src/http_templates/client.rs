//! Sends the request of a template, follows redirects, and reads the response.

use std::time::Duration;

use futures::StreamExt;
use net::{Guarded, Hosts, MAX_REDIRECTS, Trust, keeps_credentials, take_login};
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_LOCATION, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderValue, LOCATION,
};
use reqwest::{Method, StatusCode, Url};

use super::task_error::TaskError;
use crate::argo::HttpTemplate;
use crate::config::NamespaceRules;
use crate::text::units::{ByteSize, Time};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The clients for requests of templates. Both send requests only to allowed addresses, and with
/// HTTP/1.1: in HTTP/2, the header `Host` would contradict the URL.
#[derive(Debug)]
pub(super) struct Clients {
    verifying: Guarded,
    /// Accepts all certificates: for `insecureSkipVerify`.
    unverified: Guarded,
}

/// The response to the request of a template.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The body. Bytes that are not UTF-8 are replaced.
    pub(super) body: String,
}

impl Clients {
    pub(super) fn new(hosts: &Hosts, authorities: &[String]) -> Result<Self, net::Error> {
        let verified = Trust::machine_and(authorities, "`sources.ca`")?.with_http1_only();
        let client = |trust: &Trust| Guarded::new(hosts.clone(), builder, trust, None);
        Ok(Self {
            verifying: client(&verified)?,
            unverified: client(&Trust::any_certificate().with_http1_only())?,
        })
    }

    /// The client for a template in this namespace.
    pub(super) fn of(
        &self,
        http: &HttpTemplate,
        namespace: &str,
        rules: &NamespaceRules,
    ) -> Guarded {
        let client = match http.insecure_skip_verify {
            true => &self.unverified,
            false => &self.verifying,
        };
        let hosts = rules.narrow(namespace, client.hosts().clone());
        client.with_hosts(hosts)
    }
}

/// Sends the request with these headers. A body of more than `limit` bytes is an error.
pub(super) async fn send(
    client: &Guarded,
    http: &HttpTemplate,
    headers: HeaderMap,
    limit: usize,
) -> Result<Response, TaskError> {
    let sent = send_without_time_limit(client, http, headers, limit);
    let Some(time) = http.timeout() else {
        return sent.await;
    };
    let sent = tokio::time::timeout(time, sent).await;
    sent.unwrap_or_else(|_| {
        let time = Time(time);
        Err(TaskError::failed(format!(
            "time limit of {time} exceeded (`timeoutSeconds`)"
        )))
    })
}

async fn send_without_time_limit(
    client: &Guarded,
    http: &HttpTemplate,
    headers: HeaderMap,
    limit: usize,
) -> Result<Response, TaskError> {
    let asked_for_coding = headers
        .get(ACCEPT_ENCODING)
        .is_some_and(|coding| coding != "identity");
    if let Some(host) = headers.get(HOST) {
        client
            .hosts()
            .check_name(&String::from_utf8_lossy(host.as_bytes()))?;
    }
    let mut message = Message::new(http, headers)?;
    for _ in 0..=MAX_REDIRECTS {
        let response = client.execute(message.request()).await?;
        match message.redirected(&response)? {
            Some(next) => message = next,
            None => return read(response, &message.url, asked_for_coding, limit).await,
        }
    }
    Err(net::too_many_redirects(&message.url).into())
}

fn builder() -> reqwest::ClientBuilder {
    // Without a read timeout: a server may answer after minutes. The task has a time limit.
    net::client_builder()
        .connect_timeout(CONNECT_TIMEOUT)
        // The connections of many hosts would use many descriptors.
        .pool_max_idle_per_host(0)
}

/// One request of a chain of redirects.
#[derive(Clone, Debug)]
struct Message {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Message {
    fn new(http: &HttpTemplate, headers: HeaderMap) -> Result<Self, TaskError> {
        // The URL can contain credentials, so errors do not show it.
        let mut url = Url::parse(&http.url)
            .map_err(|error| TaskError::failed(format!("`http.url` is not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TaskError::failed(
                "`http.url` must begin with `https://` or `http://`".to_owned(),
            ));
        }
        let mut headers = headers;
        if let Some(value) = take_login(&mut url) {
            headers.entry(AUTHORIZATION).or_insert(value);
        }
        let method = match http.method.as_str() {
            "" => Method::GET,
            method => Method::from_bytes(method.as_bytes())
                .map_err(|_| TaskError::failed("`http.method` cannot be a method".to_owned()))?,
        };
        Ok(Self {
            method,
            url,
            headers,
            body: match &http.body_from {
                Some(source) => source.bytes.clone(),
                None => http.body.clone().into_bytes(),
            },
        })
    }

    fn request(&self) -> reqwest::Request {
        let mut request = reqwest::Request::new(self.method.clone(), self.url.clone());
        *request.headers_mut() = self.headers.clone();
        if !self.body.is_empty() {
            *request.body_mut() = Some(self.body.clone().into());
        } else if matches!(self.method, Method::POST | Method::PUT | Method::PATCH) {
            // As in Go: some servers require the length.
            let none = HeaderValue::from_static("0");
            request.headers_mut().insert(CONTENT_LENGTH, none);
        }
        request
    }

    /// The next request, if the response is a redirect. The rules are those of Go's client
    /// (`redirectBehavior` in `net/http/client.go`): after 301, 302 and 303, the request becomes a
    /// `GET` without a body.
    fn redirected(&self, response: &reqwest::Response) -> Result<Option<Self>, TaskError> {
        let keeps_method = match response.status().as_u16() {
            301..=303 => matches!(self.method, Method::GET | Method::HEAD),
            307 | 308 => true,
            _ => return Ok(None),
        };
        let Some(location) = response.headers().get(LOCATION) else {
            return Ok(None);
        };
        let mut next = self.clone();
        next.url = location
            .to_str()
            .ok()
            .and_then(|location| self.url.join(location).ok())
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| {
                TaskError::failed("the server sends a redirect to no valid URL".to_owned())
            })?;
        let login = take_login(&mut next.url);
        if self.url.scheme() == "https" && next.url.scheme() == "http" {
            return Err(TaskError::failed(format!(
                "the server redirects from HTTPS to plain HTTP, to `{}`; name an HTTPS URL",
                net::display_url(&next.url)
            )));
        }
        if !keeps_method {
            next.method = Method::GET;
            next.body.clear();
            for header in [
                CONTENT_TYPE,
                CONTENT_ENCODING,
                CONTENT_LANGUAGE,
                CONTENT_LOCATION,
            ] {
                next.headers.remove(header);
            }
        }
        if self.url.origin() != next.url.origin() {
            next.headers.remove(HOST);
        }
        if !keeps_credentials(&self.url, &next.url) {
            next.remove_credentials();
        }
        if let Some(value) = login {
            next.headers.insert(AUTHORIZATION, value);
        }
        Ok(Some(next))
    }

    /// Removes the headers that another server must not get.
    fn remove_credentials(&mut self) {
        let secrets: Vec<_> = self
            .headers
            .iter()
            .filter(|(name, value)| value.is_sensitive() || [AUTHORIZATION, COOKIE].contains(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in secrets {
            self.headers.remove(name);
        }
    }
}

async fn read(
    response: reqwest::Response,
    url: &Url,
    asked_for_coding: bool,
    limit: usize,
) -> Result<Response, TaskError> {
    let status = response.status();
    let headers = response.headers().clone();
    let shown = net::display_url(url);
    let interrupted = format!("the connection to {shown} was interrupted");
    let stream = response.bytes_stream().map(move |chunk| {
        chunk.map_err(|error| {
            let message = interrupted.clone();
            net::Error::new(net::ErrorKind::Unavailable, message).caused_by(error.without_url())
        })
    });
    let body = net::Body {
        length: None,
        stream: stream.boxed(),
    };
    // Go's client undoes a coding only if the caller did not ask for one.
    let body = match asked_for_coding {
        true => body,
        false => net::decoded(body, &headers, &shown)?,
    };
    let bytes = body.bytes(limit as u64, "the response").await;
    let bytes = bytes.map_err(|error| match error.kind() {
        net::ErrorKind::TooLarge => too_large(limit),
        _ => error.into(),
    })?;
    Ok(Response {
        status,
        headers,
        body: text(bytes.into(), limit)?,
    })
}

/// The text of a body. Bytes that are not UTF-8 are replaced, which can make the text longer.
fn text(bytes: Vec<u8>, limit: usize) -> Result<String, TaskError> {
    let text = String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    match text.len() > limit {
        true => Err(too_large(limit)),
        false => Ok(text),
    }
}

fn too_large(limit: usize) -> TaskError {
    let limit = ByteSize(limit as u64);
    TaskError::failed(format!(
        "the response is larger than {limit} (`limits.result`)"
    ))
}
