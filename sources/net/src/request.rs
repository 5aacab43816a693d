//! A request that the client may send more than once.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH,
};
use url::Url;

use crate::Caching;

/// A body of at least this size, in bytes, is sent by the client for uploads.
const LARGE_CONTENT: usize = 1 << 20;

/// The content of a `POST` or `PUT`.
#[derive(Clone, Debug)]
pub struct Content {
    /// The media type.
    pub media_type: &'static str,
    /// The bytes.
    pub bytes: Bytes,
}

/// A request that can be sent again without harm: it reads, or it uploads the same content.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The URL.
    pub url: Url,
    /// The accepted media types.
    pub accept: Vec<&'static str>,
    /// The header `Authorization`, made by [`sensitive`]. A redirect to another server leaves it
    /// out.
    pub authorization: Option<HeaderValue>,
    /// Further headers. A redirect to another server leaves them out.
    pub headers: HeaderMap,
    /// Whether a redirect is an error. For requests that carry a secret in their URL or content, or
    /// get one.
    pub refuse_redirects: bool,
    /// The validators of a cached response: the server sends the content only if it changed.
    pub unless: Option<Caching>,
    /// The content of a `POST` or `PUT`. A redirect sends the content to another server. Content
    /// with a secret needs `refuse_redirects`.
    pub content: Option<Content>,
}

impl Request {
    /// A `GET` without credentials.
    pub fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            accept: Vec::new(),
            authorization: None,
            headers: HeaderMap::new(),
            refuse_redirects: false,
            unless: None,
            content: None,
        }
    }

    /// A `POST` without credentials.
    pub fn post(url: Url, media_type: &'static str, bytes: Bytes) -> Self {
        Self {
            method: Method::POST,
            content: Some(Content { media_type, bytes }),
            ..Self::get(url)
        }
    }

    /// Whether the content takes long to send.
    pub(crate) fn is_upload(&self) -> bool {
        self.content
            .as_ref()
            .is_some_and(|content| content.bytes.len() >= LARGE_CONTENT)
    }

    /// The request of the HTTP library for `url`: the request's own URL, or the target of a
    /// redirect.
    ///
    /// `same_origin` is false after a redirect to another server. Credentials and further headers
    /// are then left out.
    pub(crate) fn build(&self, url: Url, same_origin: bool) -> reqwest::Request {
        let mut headers = HeaderMap::new();
        if same_origin {
            headers.clone_from(&self.headers);
            if let Some(value) = &self.authorization {
                headers.insert(AUTHORIZATION, value.clone());
            }
        }
        // Digests are computed over the content without a content coding.
        headers
            .entry(ACCEPT_ENCODING)
            .or_insert(HeaderValue::from_static("identity"));
        if !self.accept.is_empty()
            && let Ok(value) = HeaderValue::from_str(&self.accept.join(", "))
        {
            headers.insert(ACCEPT, value);
        }
        self.add_validators(&mut headers);
        let mut request = reqwest::Request::new(self.method.clone(), url);
        if let Some(content) = &self.content {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content.media_type));
            *request.body_mut() = Some(content.bytes.clone().into());
        }
        *request.headers_mut() = headers;
        request
    }

    fn add_validators(&self, headers: &mut HeaderMap) {
        let Some(cached) = &self.unless else { return };
        let validators = [
            (IF_NONE_MATCH, &cached.etag),
            (IF_MODIFIED_SINCE, &cached.last_modified),
        ];
        for (name, value) in validators {
            if let Some(value) = value
                .as_deref()
                .and_then(|value| HeaderValue::from_str(value).ok())
            {
                headers.insert(name, value);
            }
        }
    }
}

/// A header value that logs do not show. `None` if the text cannot be a header value.
pub fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
