//! Watches the objects of one kind: a list, and then each change.
//!
//! A list is reported page by page, so that only one page is in memory.
//!
//! The protocol is that of
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>.

use std::collections::HashSet;
use std::fmt::Write;
use std::pin::pin;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use http::Request;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::client::{Kubernetes, MAX_OBJECT_BYTES};
use super::request::{ApiError, accepting, collection};
use super::resource::{Resource, Stored, Version};

/// Number of objects in one answer to a list. An object can have megabytes, but its metadata is
/// small.
const PAGE: u64 = 10;
const PAGE_OF_METADATA: u64 = 500;
/// Most bytes of the metadata of one object: labels, annotations and managed fields.
const MAX_METADATA_BYTES: u64 = 512 << 10;
/// Shortest time between two watches without an event in between.
const PAUSE: Duration = Duration::from_millis(200);
/// Time after which the server ends a watch.
const WATCH_SECONDS: u64 = 240;
/// Longest wait for the answer to a list. A server without a cache reads all objects for a label
/// selector.
const LIST_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest wait for the head of the answer to a watch.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Number of watches of one version that fail. Then the objects are listed again: the server may
/// not know the version.
const MAX_FAILURES: u32 = 3;

/// Objects of one kind.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Namespace of the objects; `None` for all namespaces.
    pub namespace: Option<String>,
    /// Label selector, as in the API; empty for all objects.
    pub labels: String,
}

/// What a watch reports.
#[derive(Clone, Debug)]
pub enum WatchEvent<T> {
    /// An object that is in a list, or that was created or changed.
    Applied(Stored<T>),
    /// An object that was deleted, or does not belong to the selection any more.
    Deleted(Removed),
    /// The end of a list. An object that is not in the list does not exist, or does not belong to
    /// the selection any more.
    Listed(Listed),
}

/// An object that was deleted, or does not belong to a selection any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Name of the object.
    pub name: String,
    /// Unique id of the object.
    pub uid: String,
    /// The version of this change.
    pub version: Version,
}

/// The objects of a list.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// The unique ids of the objects.
    pub uids: HashSet<String>,
    /// Version of the list. A later object has a later version.
    pub version: Version,
}

/// An answer to a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct List {
    metadata: ListMetadata,
    /// `null` in an empty list of metadata.
    items: Option<Vec<Box<RawValue>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    resource_version: String,
    r#continue: String,
}

/// The pages of a list.
#[derive(Debug, Default)]
struct Pages {
    next: Next,
    /// Version of the list: a watch continues from it.
    version: String,
}

/// The next page of a list.
#[derive(Debug, Default)]
enum Next {
    #[default]
    First,
    At(String),
    None,
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
struct Line {
    r#type: String,
    object: Box<RawValue>,
}

/// What the watch itself needs of an object. The rest of the object may have any form and depth: it
/// must not stop the watch of the other objects.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AnyObject {
    metadata: AnyMetadata,
    code: u16,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AnyMetadata {
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
}

/// How a watch ended.
enum End {
    /// The receiver of the events does not exist any more.
    Closed,
    /// The server ended the watch, which is normal.
    OfServer,
    /// The version is too old for the server: the objects must be listed again.
    Expired,
}

impl Kubernetes {
    /// Watches objects until the receiver of the events is dropped. Errors are logged, and the
    /// watch begins again after a delay of up to 30 s.
    pub async fn watch<T: Resource>(
        &self,
        selection: Selection,
        events: mpsc::Sender<WatchEvent<T>>,
    ) {
        let delays = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(Duration::from_millis(500))
            .with_max_delay(Duration::from_secs(30))
            .without_max_times();
        let mut delay = delays.build();
        let mut version = None;
        let mut failures = 0;
        while !events.is_closed() {
            let watched_from = version.clone();
            let watched = match version.take() {
                Some(known) => self.follow(&selection, known, &mut version, &events).await,
                None => self.report_all(&selection, &mut version, &events).await,
            };
            match watched {
                Ok(End::Closed) => return,
                Ok(End::OfServer) => {
                    delay = delays.build();
                    failures = 0;
                    // A server or a proxy that ends watches at once must not be flooded.
                    if version == watched_from {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                Ok(End::Expired) => {
                    version = None;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    let kind = T::KIND;
                    let namespace = selection.namespace.as_deref().unwrap_or("all");
                    tracing::warn!(kind, namespace, %error, "objects cannot be watched; the watch begins again");
                    failures = match version == watched_from {
                        true => failures + 1,
                        false => 1,
                    };
                    if failures >= MAX_FAILURES {
                        version = None;
                    }
                    tokio::time::sleep(delay.next().unwrap_or_default()).await;
                }
            }
        }
    }

    /// Reports the list of all objects, and sets the version from which to watch.
    async fn report_all<T: Resource>(
        &self,
        selection: &Selection,
        version: &mut Option<String>,
        events: &mpsc::Sender<WatchEvent<T>>,
    ) -> Result<End, ApiError> {
        let mut pages = Pages::default();
        let mut uids = HashSet::new();
        while let Some(page) = self.next_page::<T>(selection, &mut pages).await? {
            for item in page {
                let any: AnyObject = exact(item.get().as_bytes()).unwrap_or_default();
                uids.insert(any.metadata.uid);
                if let Some(object) = parsed(&item)
                    && events.send(WatchEvent::Applied(object)).await.is_err()
                {
                    return Ok(End::Closed);
                }
            }
        }
        *version = Some(pages.version.clone());
        let listed = Listed {
            uids,
            version: pages.version.as_str().into(),
        };
        let sent = events.send(WatchEvent::Listed(listed)).await;
        Ok(sent.map_or(End::Closed, |()| End::OfServer))
    }

    /// Lists objects.
    pub async fn list<T: Resource>(
        &self,
        selection: &Selection,
    ) -> Result<Vec<Stored<T>>, ApiError> {
        let mut pages = Pages::default();
        let mut objects = Vec::new();
        while let Some(page) = self.next_page::<T>(selection, &mut pages).await? {
            objects.extend(page.iter().filter_map(|item| parsed(item)));
        }
        Ok(objects)
    }

    /// The next page of a list. `None` after the last one.
    async fn next_page<T: Resource>(
        &self,
        selection: &Selection,
        pages: &mut Pages,
    ) -> Result<Option<Vec<Box<RawValue>>>, ApiError> {
        let (page, largest) = match T::METADATA_ONLY {
            true => (PAGE_OF_METADATA, MAX_METADATA_BYTES),
            false => (PAGE, MAX_OBJECT_BYTES),
        };
        let mut query = format!("limit={page}");
        match &pages.next {
            Next::First => {}
            Next::At(token) => parameter(&mut query, "continue", token),
            Next::None => return Ok(None),
        }
        let request = Request::get(selection.url::<T>(query)?);
        let request = accepting::<T>(request, true);
        let answer = self
            .send_within(LIST_TIMEOUT, request, Vec::new(), page * largest)
            .await?;
        let List { metadata, items } = exact(&answer)?;
        pages.version = metadata.resource_version;
        pages.next = match metadata.r#continue.is_empty() {
            true => Next::None,
            false => Next::At(metadata.r#continue),
        };
        Ok(Some(items.unwrap_or_default()))
    }

    /// Reports each change since `known`. Sets the version from which to continue.
    async fn follow<T: Resource>(
        &self,
        selection: &Selection,
        known: String,
        version: &mut Option<String>,
        events: &mpsc::Sender<WatchEvent<T>>,
    ) -> Result<End, ApiError> {
        let mut query =
            format!("watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}");
        parameter(&mut query, "resourceVersion", &known);
        *version = Some(known);
        let request = accepting::<T>(Request::get(selection.url::<T>(query)?), false);
        let open = tokio::time::timeout(OPEN_TIMEOUT, self.open(request, Vec::new()));
        let answer = open
            .await
            .map_err(|_| no_answer("the watch was not answered", self))?;
        let mut answer = pin!(match answer {
            Err(ApiError::Refused { code: 410, .. }) => return Ok(End::Expired),
            answer => answer?,
        });
        let mut line = Vec::new();
        loop {
            line.clear();
            let next = tokio::time::timeout(T::LONGEST_SILENCE, read_line(&mut answer, &mut line));
            let next = tokio::select! {
                () = events.closed() => return Ok(End::Closed),
                next = next => next.map_err(|_| no_answer("the watch is silent", self))?,
            };
            next.map_err(|error| no_answer(&error.to_string(), self))?;
            if line.is_empty() {
                return Ok(End::OfServer);
            }
            let Line { r#type, object } = exact(&line)?;
            let any: AnyObject = exact(object.get().as_bytes())?;
            let event = match r#type.as_str() {
                "ERROR" if any.code == 410 => return Ok(End::Expired),
                "ERROR" => {
                    return Err(ApiError::Refused {
                        code: any.code,
                        message: any.message,
                    });
                }
                "ADDED" | "MODIFIED" => parsed(&object).map(WatchEvent::Applied),
                "DELETED" => Some(WatchEvent::Deleted(Removed {
                    name: any.metadata.name,
                    uid: any.metadata.uid,
                    version: any.metadata.resource_version.as_str().into(),
                })),
                _ => None,
            };
            *version = Some(any.metadata.resource_version);
            if let Some(event) = event
                && events.send(event).await.is_err()
            {
                return Ok(End::Closed);
            }
        }
    }
}

fn no_answer(message: &str, kubernetes: &Kubernetes) -> ApiError {
    ApiError::NoAnswer(format!("{message}{}", kubernetes.via()))
}

/// Reads a line with its end. The line is empty at the end of the stream.
async fn read_line(
    stream: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> std::io::Result<()> {
    let limit = 2 * MAX_OBJECT_BYTES;
    stream.take(limit).read_until(b'\n', line).await?;
    if !line.is_empty() && !line.ends_with(b"\n") {
        let message = "the watch ended in the middle of a line, or a line is too long";
        return Err(std::io::Error::other(message));
    }
    Ok(())
}

/// Parses what the API server itself wrote around objects.
fn exact<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(json).map_err(|error| {
        // The error's own text can quote the document.
        let (line, column) = (error.line(), error.column());
        ApiError::NoAnswer(format!(
            "the answer of the API server is not a list or a watch, at line {line} column {column}"
        ))
    })
}

/// Reads an object of a list or a watch. An object that is not as expected is left out: the other
/// objects go on.
fn parsed<T: Resource>(object: &RawValue) -> Option<Stored<T>> {
    let json = object.get().as_bytes();
    Stored::parse(json)
        .map_err(|error| {
            let any: AnyObject = exact(json).unwrap_or_default();
            let AnyMetadata {
                namespace, name, ..
            } = any.metadata;
            let kind = T::KIND;
            tracing::warn!(kind, namespace, name, %error, "object ignored: it cannot be parsed");
        })
        .ok()
}

impl Selection {
    /// Path and query of the collection.
    fn url<T: Resource>(&self, mut query: String) -> Result<String, ApiError> {
        if !self.labels.is_empty() {
            parameter(&mut query, "labelSelector", &self.labels);
        }
        let path = collection::<T>(self.namespace.as_deref())?;
        Ok(format!("{path}?{query}"))
    }
}

/// Appends a parameter to the query of a URL.
fn parameter(query: &mut String, name: &str, value: &str) {
    let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
    let _ = write!(query, "&{name}={value}");
}
