//! Grants: which namespaces may use content.
//!
//! The store has content once for all namespaces. A namespace may use the content only if it has
//! downloaded the content itself, with its own credentials. So a namespace that knows the digest of
//! another's private module cannot run that module.
//!
//! ```text
//! <root>/grants-v1/sha256/abcdef…/<sha256 of the namespace>
//! ```
//!
//! What the operator has pulled or imported is for all namespaces: the operator is the empty
//! namespace. Content without a grant is for no namespace. So a grant that is lost, for example
//! because another process removes the content at the same time, costs only a download.
//!
//! A store of an earlier version has no grants. Its content is granted to all namespaces once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::usage::digest_of;
use super::{Store, make_private};
use crate::{Digest, Resolved};

const GRANTS: &str = "grants-v1";
/// The name of the operator in place of a namespace.
const OPERATOR: &str = "";

impl Store {
    /// Whether the store has the content, and the namespace may use it. The content is not
    /// verified.
    pub(crate) fn offers(&self, digest: &Digest, namespace: &str) -> bool {
        self.grant_earlier_content();
        let grants = grants_path(&self.root.join(GRANTS), digest);
        let is_granted = |namespace| grants.join(file_name(namespace)).try_exists();
        let is_granted = |namespace| is_granted(namespace).unwrap_or(false);
        self.contains(digest) && (is_granted(namespace) || is_granted(OPERATOR))
    }

    /// Whether the store has all parts of a result, and the namespace may use them.
    pub(crate) fn offers_all(&self, resolved: &Resolved, namespace: &str) -> bool {
        let parts = &resolved.parts;
        parts
            .iter()
            .all(|part| self.offers(&part.digest, namespace))
    }

    /// Grants the content to a namespace, which has downloaded it.
    pub(super) fn grant(&self, digest: &Digest, namespace: &str) -> io::Result<()> {
        self.grant_earlier_content();
        grant_in(&self.root.join(GRANTS), digest, namespace)
    }

    /// Forgets who may use content that was removed.
    pub(super) fn revoke(&self, digest: &Digest) {
        let grants = grants_path(&self.root.join(GRANTS), digest);
        let _ = fs::remove_dir_all(grants);
    }

    /// Grants the content of an earlier version to all namespaces, as that version did.
    fn grant_earlier_content(&self) {
        let grants = self.root.join(GRANTS);
        if grants.try_exists().unwrap_or(true) {
            return;
        }
        let made = self.temporary_directory().and_then(|temporary| {
            let blobs = self.blob_paths();
            for digest in blobs.iter().filter_map(|blob| digest_of(blob)) {
                grant_in(temporary.path(), &digest, OPERATOR)?;
            }
            // Another process can be faster. Then its directory stays.
            fs::rename(temporary.path(), &grants)
        });
        if let Err(error) = made
            && !grants.exists()
        {
            tracing::warn!(%error, "the content of the store is downloaded again: its grants cannot be written");
        }
    }
}

fn grant_in(grants: &Path, digest: &Digest, namespace: &str) -> io::Result<()> {
    let directory = grants_path(grants, digest);
    make_private(&directory)?;
    fs::write(directory.join(file_name(namespace)), b"")
}

fn grants_path(grants: &Path, digest: &Digest) -> PathBuf {
    grants.join(digest.algorithm().name()).join(digest.hex())
}

fn file_name(namespace: &str) -> String {
    Digest::of(namespace.as_bytes()).hex().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &Store, namespace: &str) -> Digest {
        let digest = Digest::of(b"content");
        let mut writer = store.writer(Some(&digest), namespace).unwrap();
        writer.write(b"content").unwrap();
        writer.commit().unwrap()
    }

    #[test]
    fn only_a_namespace_that_has_downloaded_the_content_may_use_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let digest = put(&store, "a");
        assert!(store.offers(&digest, "a") && !store.offers(&digest, "b"));
        put(&store, "b");
        assert!(store.offers(&digest, "a") && store.offers(&digest, "b"));
        store.prune(0);
        assert!(!store.offers(&digest, "a"), "removed");
        put(&store, "b");
        assert!(!store.offers(&digest, "a") && store.offers(&digest, "b"));
    }

    #[test]
    fn content_of_the_operator_is_for_all_namespaces() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let digest = put(&store, "a");
        put(&store, "");
        assert!(store.offers(&digest, "b"));
        put(&store, "a");
        assert!(
            store.offers(&digest, "b"),
            "a download does not restrict it"
        );
    }

    #[test]
    fn content_of_an_earlier_version_is_for_all_namespaces() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let digest = put(&store, "a");
        fs::remove_dir_all(directory.path().join(GRANTS)).unwrap();
        assert!(store.offers(&digest, "b"));
        store.prune(0);
        put(&store, "a");
        assert!(!store.offers(&digest, "b"), "downloaded by this version");
    }

    /// Another process removes the content while it is written.
    #[test]
    fn content_without_a_grant_is_for_no_namespace() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let digest = put(&store, "a");
        store.revoke(&digest);
        assert!(!store.offers(&digest, "a") && !store.offers(&digest, "b"));
    }

    #[test]
    fn content_with_a_wrong_digest_grants_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let digest = put(&store, "a");
        let mut writer = store.writer(Some(&digest), "b").unwrap();
        writer.write(b"other").unwrap();
        writer.commit().unwrap_err();
        assert!(!store.offers(&digest, "b"));
    }
}
