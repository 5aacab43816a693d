//! From what a reference resolved to, to the module: downloaded, bounded, hashed, stored and unpacked.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use futures::StreamExt;
use net::Body;
use tokio::sync::OwnedSemaphorePermit;

use crate::credentials::Keyring;
use crate::inner::Inner;
use crate::source::{Context, Streamed};
use crate::source_table::AnySource;
use crate::store::{Writer, mismatch};
use crate::unpack::{self, Content, Unpacked};
use crate::{
    Digest, Ephemeral, Error, ErrorKind, FetchedModule, Package, Part, Reference, Requester,
    Resolved, Unpack,
};

/// The number of times that a broken download is started again.
const RETRIES: usize = 2;
const FIRST_DELAY: Duration = Duration::from_millis(400);

impl Inner {
    pub(crate) async fn fetch(
        &self,
        resolved: &Resolved,
        requester: &Requester,
    ) -> Result<FetchedModule, Error> {
        let source = self.sources.get(&resolved.origin)?;
        let sizes = resolved.parts.iter().filter_map(|part| part.size);
        let (largest, all) = sizes.fold((0, 0u64), |(largest, all), size| {
            (size.max(largest), all.saturating_add(size))
        });
        if largest > self.max_module_bytes {
            return Err(too_large(largest, self.max_module_bytes));
        }
        if all > self.max_module_bytes.saturating_mul(4) {
            return Err(too_large(all, self.max_module_bytes));
        }
        let module = if let Some(ephemeral) = &resolved.ephemeral {
            self.unpack_ephemeral(ephemeral, resolved).await?
        } else if self.sources.is_local(&resolved.origin) {
            self.unpack_local(source, resolved).await?
        } else {
            let keyrings = self.keyrings(&resolved.origin, requester).await?;
            self.download_missing(source, resolved, &keyrings).await?;
            let mut module = self.unpack_stored(resolved).await?;
            if module.is_none() {
                // The disk lost or changed some of it: once more.
                self.download_missing(source, resolved, &keyrings).await?;
                module = self.unpack_stored(resolved).await?;
            }
            let module =
                module.ok_or_else(|| Error::new(ErrorKind::Store, "was stored and is gone"))?;
            self.remember(resolved, requester).await;
            module
        };
        self.packages
            .insert(resolved.package_key(), Arc::clone(&module.package))
            .await;
        Ok(module)
    }

    /// Stores content whose digest nobody said, and resolves the reference to it.
    pub(crate) async fn store_body(
        &self,
        reference: &Reference,
        streamed: Streamed,
    ) -> Result<Resolved, Error> {
        let Streamed {
            body,
            unpack,
            caching,
            expected,
            origin,
        } = streamed;
        let store = self.store.clone();
        let writer = blocking(move || store.writer(None)).await?;
        let writer = self.receive(body, writer, None).await?;
        let (size, no_store) = (writer.written(), caching.no_store);
        let (digest, ephemeral) = blocking(move || match no_store {
            true => {
                Ok(writer.into_unlinked_file()).map(|(digest, ephemeral)| (digest, Some(ephemeral)))
            }
            false => writer.commit().map(|digest| (digest, None)),
        })
        .await?;
        let part = Part {
            digest: digest.clone(),
            size: Some(size),
            media_type: None,
        };
        let resolved = Resolved::packed(reference.clone(), digest, vec![part], unpack);
        let origin = origin.unwrap_or_else(|| reference.clone());
        Ok(Resolved {
            origin,
            expected,
            caching,
            ephemeral,
            ..resolved
        })
    }

    async fn download_missing(
        &self,
        source: &dyn AnySource,
        resolved: &Resolved,
        keyrings: &[Keyring],
    ) -> Result<(), Error> {
        for part in &resolved.parts {
            let (store, digest) = (self.store.clone(), part.digest.clone());
            if blocking(move || Ok(store.contains(&digest))).await? {
                continue;
            }
            let context = self.context(keyrings);
            let mut done = retry(|| self.download(source, resolved, part, &context)).await;
            if is_mirrors_fault(source, &resolved.origin, &done) {
                let direct = context.without_mirrors();
                done = retry(|| self.download(source, resolved, part, &direct)).await;
            }
            done?;
        }
        Ok(())
    }

    /// Downloads one part into the store. The HTTP client already retried a failed request; this program
    /// retries a body that broke off.
    async fn download(
        &self,
        source: &dyn AnySource,
        resolved: &Resolved,
        part: &Part,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        let _permit = self.downloads.acquire(&resolved.origin.server()).await?;
        let body = source
            .open_unverified(&resolved.origin, part, context)
            .await
            .map_err(Error::already_retried)?;
        let (store, digest) = (self.store.clone(), part.digest.clone());
        let writer = blocking(move || store.writer(Some(&digest))).await?;
        let writer = self.receive(body, writer, part.size).await?;
        if let Some(size) = part.size.filter(|size| *size != writer.written()) {
            let written = writer.written();
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("only {written} of {size} bytes arrived"),
            ));
        }
        blocking(move || writer.commit().map(drop)).await
    }

    /// Writes a body as it arrives, and no more of it than may come.
    async fn receive(
        &self,
        body: Body,
        mut writer: Writer,
        announced: Option<u64>,
    ) -> Result<Writer, Error> {
        let Body { mut stream, length } = body;
        match (length, announced) {
            (Some(length), Some(size)) if size != length => {
                let message =
                    format!("the origin sends {length} bytes where {size} were announced");
                return Err(Error::new(ErrorKind::Protocol, message));
            }
            (Some(length), _) => self.check_length(length, announced)?,
            _ => {}
        }
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            self.check_length(writer.written() + chunk.len() as u64, announced)?;
            writer = blocking(move || writer.write(&chunk).map(|()| writer)).await?;
            self.progress
                .downloaded(writer.written(), announced.or(length));
        }
        match length {
            Some(length) if length > writer.written() => {
                let written = writer.written();
                Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("only {written} of {length} bytes arrived"),
                ))
            }
            _ => Ok(writer),
        }
    }

    fn check_length(&self, length: u64, announced: Option<u64>) -> Result<(), Error> {
        match announced {
            Some(size) if length > size => Err(Error::new(
                ErrorKind::Protocol,
                format!("the origin sends more than the {size} bytes announced"),
            )),
            _ if length > self.max_module_bytes => Err(too_large(length, self.max_module_bytes)),
            _ => Ok(()),
        }
    }

    /// Takes the module out of the parts in the store. `None` when one of them is not there whole any more.
    async fn unpack_stored(&self, resolved: &Resolved) -> Result<Option<FetchedModule>, Error> {
        let permit = self.memory_permit().await?;
        let (store, resolved) = (self.store.clone(), resolved.clone());
        let limits = unpack::Limits {
            module: self.max_module_bytes,
        };
        blocking(move || {
            let mut gone = false;
            let mut part = |number: usize| {
                let part: &Part = &resolved.parts[number];
                store.open(&part.digest, limits.module).ok_or_else(|| {
                    gone = true;
                    Error::new(ErrorKind::Store, "the store lost a part of the module")
                })
            };
            let module = match unpack(&resolved, &mut part, limits, permit) {
                Err(_) if gone => return Ok(None),
                unpacked => unpacked?,
            };
            store.remember_package(&resolved.package_key(), &module.package)?;
            Ok(Some(module))
        })
        .await
    }

    async fn unpack_ephemeral(
        &self,
        ephemeral: &Ephemeral,
        resolved: &Resolved,
    ) -> Result<FetchedModule, Error> {
        let permit = self.memory_permit().await?;
        let (ephemeral, resolved) = (ephemeral.clone(), resolved.clone());
        let limits = unpack::Limits {
            module: self.max_module_bytes,
        };
        blocking(move || {
            let gone = |error| {
                Error::new(ErrorKind::Store, "what is not kept cannot be read").caused_by(error)
            };
            unpack(
                &resolved,
                &mut |_| ephemeral.open().map(Content::File).map_err(gone),
                limits,
                permit,
            )
        })
        .await
    }

    async fn unpack_local(
        &self,
        source: &dyn AnySource,
        resolved: &Resolved,
    ) -> Result<FetchedModule, Error> {
        let [part] = resolved.parts.as_slice() else {
            return Err(Error::broke_off("reading"));
        };
        let permit = self.memory_permit().await?;
        let bytes = self.read_local(source, resolved, part).await?;
        let (resolved, limits) = (
            resolved.clone(),
            unpack::Limits {
                module: self.max_module_bytes,
            },
        );
        blocking(move || unpack(&resolved, &mut |_| Ok(bytes.clone().into()), limits, permit)).await
    }

    async fn memory_permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.in_memory)
            .acquire_owned()
            .await
            .map_err(|_| Error::broke_off("unpacking"))
    }

    async fn read_local(
        &self,
        source: &dyn AnySource,
        resolved: &Resolved,
        part: &Part,
    ) -> Result<Bytes, Error> {
        let body = source
            .open_unverified(&resolved.origin, part, &self.context(&[]))
            .await?;
        let mut bytes = Vec::new();
        let mut stream = body.stream;
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        let actual = Digest::of(&bytes);
        if actual == part.digest {
            Ok(bytes.into())
        } else {
            Err(mismatch(&part.digest, &actual))
        }
    }
}

/// Whether the error may be the fault of a mirror: a mirror may have other content than its registry.
pub(crate) fn is_mirrors_fault<T>(
    source: &dyn AnySource,
    origin: &Reference,
    done: &Result<T, Error>,
) -> bool {
    let Err(error) = done else { return false };
    let may_differ = matches!(
        error.kind(),
        ErrorKind::DigestMismatch
            | ErrorKind::Protocol
            | ErrorKind::TooLarge
            | ErrorKind::Unsupported
    );
    let fault = may_differ && source.has_mirrors(origin);
    if fault {
        tracing::warn!(%error, "a mirror may have other content; asking the registry itself");
    }
    fault
}

/// Repeats `work` while its error may pass: a connection that broke off.
pub(crate) async fn retry<T, F: Future<Output = Result<T, Error>>>(
    work: impl FnMut() -> F,
) -> Result<T, Error> {
    let backoff = ExponentialBuilder::default()
        .with_min_delay(FIRST_DELAY)
        .with_max_times(RETRIES);
    work.retry(backoff)
        .when(Error::retryable_now)
        .notify(|error, delay| {
            tracing::warn!(%error, ?delay, "download failed, trying again");
        })
        .await
}

fn too_large(size: u64, limit: u64) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the module has at least {size} bytes; the limit is {limit}"),
    )
    .hint("the operator sets `sources.maxModule`")
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Store, "writing to the store broke off").caused_by(error))
    })
}

/// The module in the parts. `part` gives the bytes of one.
fn unpack(
    resolved: &Resolved,
    part: &mut dyn FnMut(usize) -> Result<Content, Error>,
    limits: unpack::Limits,
    permit: OwnedSemaphorePermit,
) -> Result<FetchedModule, Error> {
    let plain = |module| Unpacked {
        module,
        defaults: resolved.defaults.clone(),
    };
    let Unpacked {
        module: bytes,
        defaults,
    } = match &resolved.unpack {
        Unpack::File => unpack::file(part(0)?, limits).map(plain),
        Unpack::Image { path } => {
            unpack::image(resolved.parts.len(), part, path.as_deref(), limits).map(plain)
        }
        Unpack::Wasmer { command } => unpack::wasmer_package(&part(0)?, command.as_deref(), limits),
    }?;
    if bytes.len() as u64 > limits.module {
        return Err(too_large(bytes.len() as u64, limits.module));
    }
    if let Some(expected) = &resolved.expected {
        let actual = expected.of_same_kind(&bytes);
        if actual != *expected {
            return Err(mismatch(expected, &actual).context("the module in it"));
        }
    }
    let package = Package {
        module: Digest::of(&bytes),
        defaults,
    };
    Ok(FetchedModule {
        package: Arc::new(package),
        bytes,
        permit: Arc::new(permit),
    })
}
