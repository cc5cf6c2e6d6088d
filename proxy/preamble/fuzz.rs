//! What must hold of the beginning of a connection for any bytes.

use super::*;

/// More bytes never make another thing of it, and ends that were read are
/// written so that they are read again.
pub fn preamble(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MOST_BYTES)];
    let whole = inspect(bytes).ok();
    for length in 0..bytes.len() {
        match inspect(&bytes[..length]) {
            Ok(Found::Unknown) => {}
            known => assert_eq!(known.ok(), whole, "after {length} bytes"),
        }
    }
    let Some(Found::Header(length, said)) = whole else { return };
    assert!(length <= bytes.len());
    let Some(ends) = said else { return };
    for form in [ProxyHeader::V1, ProxyHeader::V2] {
        let mut written = Vec::new();
        write(form, Some(ends), &mut written);
        let told = (ends.client.is_ipv4() == ends.local.is_ipv4()).then_some(ends);
        assert_eq!(inspect(&written).ok(), Some(Found::Header(written.len(), told)), "{form:?}");
    }
}
