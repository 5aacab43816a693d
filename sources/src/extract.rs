//! Unpacks the module from content in the store, in a temporary file or on this machine.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::OwnedSemaphorePermit;

use crate::blocking::blocking;
use crate::inner::Inner;
use crate::receive::too_large;
use crate::source_table::AnySource;
use crate::store::mismatch;
use crate::unpack::{self, Content, Unpacked};
use crate::{Digest, Ephemeral, Error, ErrorKind, FetchedModule, Package, Part, Resolved, Unpack};

impl Inner {
    /// Unpacks the module from the parts in the store. `None` if a part was lost or changed on
    /// disk.
    pub(crate) async fn unpack_stored(
        &self,
        resolved: &Resolved,
    ) -> Result<Option<FetchedModule>, Error> {
        let permit = self.unpack_permit().await?;
        let store = self.store.clone();
        let resolved = resolved.clone();
        let limits = unpack::Limits {
            module: self.max_module_size,
        };
        blocking(move || {
            let _permit = permit;
            let mut gone = false;
            let mut part = |number: usize| {
                let part: &Part = &resolved.parts[number];
                store.open(&part.digest, limits.module).ok_or_else(|| {
                    gone = true;
                    Error::new(
                        ErrorKind::Store,
                        "a part of the module is missing in the store",
                    )
                })
            };
            let module = match unpack(&resolved, &mut part, limits) {
                Err(_) if gone => return Ok(None),
                unpacked => unpacked?,
            };
            store.remember_package(&resolved.package_key(), &module.package)?;
            Ok(Some(module))
        })
        .await
    }

    /// Unpacks the module from content that must not be stored.
    pub(crate) async fn unpack_ephemeral(
        &self,
        ephemeral: &Ephemeral,
        resolved: &Resolved,
    ) -> Result<FetchedModule, Error> {
        let permit = self.unpack_permit().await?;
        let ephemeral = ephemeral.clone();
        let resolved = resolved.clone();
        let limits = unpack::Limits {
            module: self.max_module_size,
        };
        blocking(move || {
            let _permit = permit;
            let gone = |error| {
                let message = "the temporary file of the download cannot be read";
                Error::new(ErrorKind::Store, message).caused_by(error)
            };
            unpack(
                &resolved,
                &mut |_| ephemeral.open().map(Content::File).map_err(gone),
                limits,
            )
        })
        .await
    }

    /// Unpacks the module from a file on this machine.
    pub(crate) async fn unpack_local(
        &self,
        source: &dyn AnySource,
        resolved: &Resolved,
    ) -> Result<FetchedModule, Error> {
        let [part] = resolved.parts.as_slice() else {
            return Err(Error::task_ended("reading"));
        };
        let permit = self.unpack_permit().await?;
        let bytes = self.read_local(source, resolved, part).await?;
        let resolved = resolved.clone();
        let limits = unpack::Limits {
            module: self.max_module_size,
        };
        blocking(move || {
            let _permit = permit;
            unpack(&resolved, &mut |_| Ok(bytes.clone().into()), limits)
        })
        .await
    }

    /// Waits for the permit to unpack a module.
    async fn unpack_permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.unpacking)
            .acquire_owned()
            .await
            .map_err(|_| Error::task_ended("unpacking"))
    }

    /// Reads the file again, and verifies the digest of the first reading.
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

/// Unpacks the module from the parts, and verifies its digest. `part` opens the part with this
/// number.
fn unpack(
    resolved: &Resolved,
    part: &mut dyn FnMut(usize) -> Result<Content, Error>,
    limits: unpack::Limits,
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
            return Err(mismatch(expected, &actual).context("the unpacked module"));
        }
    }
    let package = Package {
        module: Digest::of(&bytes),
        defaults,
    };
    Ok(FetchedModule {
        package: Arc::new(package),
        bytes,
    })
}
