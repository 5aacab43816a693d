//! Padding behind a coded body.

/// The number of zeros at the beginning. Zeros pad a coded body.
pub(crate) fn zeros(bytes: &[u8]) -> usize {
    let content = bytes.iter().position(|byte| *byte != 0);
    content.unwrap_or(bytes.len())
}
