//! A toy source for tests. It was added with the steps of "Adding a source" in CONTRIBUTING.md
//! only.
//!
//! The compiler shows that the steps are complete. The tests show that digests, the store and the
//! operator's rules apply to a new source without further code.

use async_trait::async_trait;
use bytes::Bytes;
use net::Body;

use crate::reference::ToyReference;
use crate::source::{Context, Resolution, Source};
use crate::{Digest, Error, ErrorKind, Part, Resolved};

const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// The source of `toy://` references.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToySource;

#[async_trait]
impl Source for ToySource {
    type Reference = ToyReference;

    fn server(&self, _: &ToyReference) -> Option<String> {
        None
    }

    async fn resolve(
        &self,
        reference: &ToyReference,
        _stored: Option<&Resolved>,
        _context: &Context<'_>,
    ) -> Result<Resolution, Error> {
        if reference.name() == "missing" {
            return Err(Error::new(ErrorKind::NotFound, "there is no such toy"));
        }
        let digest = Digest::of(MODULE);
        let part = Part {
            digest: digest.clone(),
            size: None,
            media_type: None,
        };
        Ok(Resolved::file(reference.clone(), digest, part).into())
    }

    async fn open_unverified(
        &self,
        origin: &ToyReference,
        _part: &Part,
        _context: &Context<'_>,
    ) -> Result<Body, Error> {
        Ok(match origin.name() {
            "liar" => Bytes::from_static(b"something else").into(),
            _ => Bytes::from_static(MODULE).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::{Policy, SignatureRule};
    use crate::reference::check_pattern;
    use crate::store::Store;
    use crate::{Config, FetchedModule, PullPolicy, Reference, Request, Requester, Sources};

    const KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PUBLIC KEY-----\n";

    fn sources(store: &tempfile::TempDir, policy: Policy) -> Sources {
        let config = Config {
            policy,
            ..Config::default()
        };
        let store = Store::new(store.path());
        Sources::new(&config, store, (), false, Arc::new(())).unwrap()
    }

    fn request(reference: &str, pull_policy: Option<PullPolicy>) -> Request {
        Request {
            reference: reference.parse().unwrap(),
            pull_policy,
            scope: String::new(),
            requester: Requester::default(),
        }
    }

    async fn pull(sources: &Sources, request: &Request) -> Result<FetchedModule, Error> {
        let resolved = sources.resolve(request).await?;
        sources.fetch(&resolved, &request.requester).await
    }

    #[tokio::test]
    async fn a_new_source_is_verified_and_stored() {
        let directory = tempfile::tempdir().unwrap();
        let here = sources(&directory, Policy::default());
        let module = pull(&here, &request("toy://duck", None)).await.unwrap();
        assert_eq!(module.bytes, MODULE);
        let offline = sources(&directory, Policy::default());
        let never = request("toy://duck", Some(PullPolicy::Never));
        let module = pull(&offline, &never).await.unwrap();
        assert_eq!(module.bytes, MODULE, "the content is in the store");
        let empty = tempfile::tempdir().unwrap();
        let elsewhere = sources(&empty, Policy::default());
        let liar = pull(&elsewhere, &request("toy://liar", None)).await;
        assert_eq!(liar.unwrap_err().kind(), ErrorKind::DigestMismatch);
        let missing = pull(&here, &request("toy://missing", None)).await;
        let missing = missing.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert_eq!(missing.to_string(), "`toy://missing`: there is no such toy");
    }

    #[tokio::test]
    async fn the_operators_rules_apply_to_a_new_source() {
        let directory = tempfile::tempdir().unwrap();
        check_pattern("toy://d*").unwrap();
        let patterns = || vec!["toy://d*".to_owned()];
        let signed = SignatureRule {
            references: patterns(),
            keys: vec![KEY.to_owned()],
            ..SignatureRule::default()
        };
        for policy in [
            Policy {
                deny: patterns(),
                ..Policy::default()
            },
            Policy {
                require_digest: patterns(),
                ..Policy::default()
            },
            Policy {
                signatures: vec![signed],
                ..Policy::default()
            },
        ] {
            let sources = sources(&directory, policy.clone());
            let refused = pull(&sources, &request("toy://duck", None)).await;
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied, "{policy:?}");
            let other = pull(&sources, &request("toy://train", None)).await;
            assert!(other.is_ok(), "{policy:?}");
        }
    }

    #[test]
    fn a_new_kind_of_reference_is_serialisable() {
        let reference: Reference = "toy://duck".parse().unwrap();
        let json = serde_json::to_string(&reference).unwrap();
        assert_eq!(json, "\"toy://duck\"");
        assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
        assert_eq!(reference.policy_subject(), "toy://duck");
        assert_eq!(reference.default_pull_policy(), PullPolicy::IfNotPresent);
    }
}
