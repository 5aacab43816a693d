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
//! Content without such a directory is for all namespaces: the operator has pulled or imported it.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::{Store, make_private};
use crate::{Digest, Resolved};

const GRANTS: &str = "grants-v1";

impl Store {
    /// Whether the store has the content, and the namespace may use it. The content is not
    /// verified.
    pub(crate) fn offers(&self, digest: &Digest, namespace: &str) -> bool {
        let grants = self.grants_path(digest);
        let is_granted = grants.join(file_name(namespace)).exists() || !grants.exists();
        is_granted && self.contains(digest)
    }

    /// Whether the store has all parts of a result, and the namespace may use them.
    pub(crate) fn offers_all(&self, resolved: &Resolved, namespace: &str) -> bool {
        let parts = &resolved.parts;
        parts
            .iter()
            .all(|part| self.offers(&part.digest, namespace))
    }

    /// Grants the content to a namespace. Call this when the namespace has sent the content with
    /// this digest, and before the content is in the store. The operator has no name: what the
    /// operator stores is for all namespaces.
    pub(super) fn grant(&self, digest: &Digest, namespace: &str) -> io::Result<()> {
        let grants = self.grants_path(digest);
        if namespace.is_empty() {
            return match fs::remove_dir_all(&grants) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let is_for_all = self.contains(digest) && !grants.exists();
        if is_for_all {
            return Ok(());
        }
        make_private(&grants)?;
        fs::write(grants.join(file_name(namespace)), b"")
    }

    /// Forgets who may use content that was removed.
    pub(super) fn revoke(&self, digest: &Digest) {
        let _ = fs::remove_dir_all(self.grants_path(digest));
    }

    fn grants_path(&self, digest: &Digest) -> PathBuf {
        let root = self.root.join(GRANTS).join(digest.algorithm().name());
        root.join(digest.hex())
    }
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
