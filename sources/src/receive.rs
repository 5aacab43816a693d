//! Receives the body of a download: limits its length, and writes it to the store.

use futures::StreamExt;
use net::Body;

use crate::blocking::blocking;
use crate::inner::Inner;
use crate::source::Streamed;
use crate::store::Writer;
use crate::{Error, ErrorKind, Part, Reference, Resolved};

impl Inner {
    /// Stores content whose digest was not known before, and returns the result of resolving. The
    /// namespace may use the content.
    ///
    /// Content with `Cache-Control: no-store` is written to an unlinked file instead.
    pub(crate) async fn store_body(
        &self,
        reference: &Reference,
        streamed: Streamed,
        namespace: &str,
    ) -> Result<Resolved, Error> {
        let Streamed {
            body,
            unpack,
            caching,
            expected,
            origin,
        } = streamed;
        let store = self.store.clone();
        let namespace = namespace.to_owned();
        let writer = blocking(move || store.writer(None, &namespace)).await?;
        let writer = self.receive(body, writer, None).await?;
        let size = writer.written();
        let digest;
        let ephemeral;
        if caching.no_store {
            let file = writer.into_unlinked_file();
            digest = file.digest;
            ephemeral = Some(file.content);
        } else {
            digest = blocking(move || writer.commit()).await?;
            ephemeral = None;
        }
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

    /// Writes the chunks of a body as they arrive. A body that is longer than allowed or announced
    /// is an error.
    pub(crate) async fn receive(
        &self,
        body: Body,
        mut writer: Writer,
        announced: Option<u64>,
    ) -> Result<Writer, Error> {
        let Body { mut stream, length } = body;
        match (length, announced) {
            (Some(length), Some(size)) if size != length => {
                let message =
                    format!("the origin sends {length} bytes, but announced {size} bytes");
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

    /// Checks a length in bytes against the announced size, and against the operator's limit.
    fn check_length(&self, length: u64, announced: Option<u64>) -> Result<(), Error> {
        match announced {
            Some(size) if length > size => Err(Error::new(
                ErrorKind::Protocol,
                format!("the origin sends more than the {size} bytes that it announced"),
            )),
            _ if length > self.max_module_size => Err(too_large(length, self.max_module_size)),
            _ => Ok(()),
        }
    }
}

/// The error for a module that is larger than the operator allows.
pub(crate) fn too_large(size: u64, limit: u64) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the module has at least {size} bytes; the limit is {limit}"),
    )
    .with_hint("ask the operator to raise `sources.maxModuleSize`")
}
