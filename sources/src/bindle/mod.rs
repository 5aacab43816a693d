//! Modules on Bindle servers (<https://github.com/deislabs/bindle>).
//!
//! A download takes two requests: one for the invoice, which lists the parcels of a bindle by
//! digest, and one for a parcel.
//!
//! The `bindle` crate is not used: it is no longer maintained, does not verify its downloads, and
//! depends on old cryptography.

mod invoice;
mod select;
mod signature;

use async_trait::async_trait;
use net::{Body, Request, Response};

pub use invoice::Invoice;
pub use signature::{TrustedKey, TrustedKeyError};

use crate::credentials::preemptive;
use crate::reference::{BindleReference, Endpoint};
use crate::source::{Context, Resolution, Source};
use crate::{Digest, Error, ErrorKind, Part, Resolved};

const API_PATH: &str = "/v1/";
const MAX_INVOICE: u64 = 4 << 20;

/// The `bindle` source.
#[derive(Clone, Debug, Default)]
pub struct BindleSource {
    server: Option<Endpoint>,
    keys: Vec<TrustedKey>,
}

impl BindleSource {
    /// Creates a source. `server` is the default server, which a reference may override. If there
    /// are `keys`, every bindle must have a signature with one of them.
    pub fn new(server: Option<Endpoint>, keys: Vec<TrustedKey>) -> Self {
        Self { server, keys }
    }

    async fn get(
        &self,
        bindle: &BindleReference,
        path: &str,
        accept: &'static str,
        what: &str,
        context: &Context<'_>,
    ) -> Result<Response, Error> {
        let server = bindle.named_server().or(self.server.as_ref()).ok_or_else(|| {
            Error::new(ErrorKind::InvalidReference, "no Bindle server is named").with_hint(
                "name one with `module: {bindle: {id: …, server: …}}`, or ask the operator to set `sources.bindle.server`",
            )
        })?;
        let mut url = server.url(API_PATH, context.http)?;
        // The path of the API may end in a slash.
        url.set_path(&format!("{}/_i/{path}", url.path().trim_end_matches('/')));
        let request = Request {
            accept: vec![accept],
            ..Request::get(url)
        };
        let answer = preemptive::send(&request, what, context.http, context.keyrings)
            .await
            .map_err(|error| match error.kind() {
                ErrorKind::Unauthorized => error
                    .with_hint("the bindle may have been yanked, or may require other credentials"),
                _ => error,
            })?;
        if answer.status.is_success() {
            Ok(answer)
        } else {
            Err(answer.error(what).into())
        }
    }

    async fn invoice(
        &self,
        bindle: &BindleReference,
        context: &Context<'_>,
    ) -> Result<Invoice, Error> {
        let what = format!("bindle `{}`", bindle.id());
        let answer = self
            .get(bindle, &bindle.id(), "application/toml", &what, context)
            .await?;
        let bytes = answer
            .bytes(MAX_INVOICE, &format!("the invoice of {what}"))
            .await?;
        let malformed =
            |why: &str| Error::new(ErrorKind::Protocol, format!("the invoice of {what} {why}"));
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| malformed("is not UTF-8").caused_by(error))?;
        let invoice: Invoice =
            toml::from_str(text).map_err(|error| malformed("is malformed").caused_by(error))?;
        if invoice.bindle.name != bindle.name()
            || invoice.bindle.version != bindle.version().to_string()
        {
            return Err(malformed("is the invoice of another bindle"));
        }
        if invoice.yanked == Some(true) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{what} was yanked by its author"),
            )
            .with_hint("choose another version"));
        }
        Ok(invoice)
    }
}

#[async_trait]
impl Source for BindleSource {
    type Reference = BindleReference;

    async fn resolve(
        &self,
        bindle: &BindleReference,
        _stored: Option<&Resolved>,
        context: &Context<'_>,
    ) -> Result<Resolution, Error> {
        let invoice = self.invoice(bindle, context).await?;
        signature::check(&invoice, &self.keys)?;
        let label = invoice.module(bindle.parcel())?;
        let digest = label.digest()?;
        let part = Part {
            digest: digest.clone(),
            size: Some(label.size),
            media_type: Some(label.media_type.clone()),
        };
        Ok(Resolved::file(bindle.clone(), digest, part).into())
    }

    fn server(&self, bindle: &BindleReference) -> Option<String> {
        let server = bindle.named_server().or(self.server.as_ref())?;
        Some(server.authority())
    }

    fn without_default_server(&self, bindle: &BindleReference) -> Option<BindleReference> {
        let named = bindle.named_server()?;
        (self.server.as_ref() == Some(named)).then(|| bindle.clone().on_default_server())
    }

    fn trusted_keys(&self) -> Option<Digest> {
        let keys = &self.keys;
        (!keys.is_empty()).then(|| Digest::of(format!("{keys:?}").as_bytes()))
    }

    async fn open_unverified(
        &self,
        bindle: &BindleReference,
        part: &Part,
        context: &Context<'_>,
    ) -> Result<Body, Error> {
        let path = format!("{}@{}", bindle.id(), part.digest.hex());
        let what = format!("parcel `{}` of `{}`", part.digest, bindle.id());
        self.get(bindle, &path, "*/*", &what, context)
            .await?
            .decoded_body()
            .map_err(Error::from)
    }
}
