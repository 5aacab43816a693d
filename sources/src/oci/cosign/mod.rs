//! Verifies signatures that `cosign` made
//! (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>, and `BUNDLE_SPEC.md` in
//! the same directory).
//!
//! Signatures are in the repository of the signed manifest, in one of two layouts:
//!
//! - The older layout is a manifest with the tag `sha256-HEX.sig`. Each layer is a signed payload
//!   in the "simple signing" format.
//! - The newer layout is Sigstore bundles. They are manifests that refer to the signed manifest by
//!   `subject`, and are found with the referrers API.
//!
//! Both layouts sign the digest of the manifest. The digest and the type of the signature are
//! verified, and the other fields of the payload are ignored.

mod search;
mod verify;
