//! What a version is told of its client's certificate: one element of
//! `x-forwarded-client-cert`, in Envoy's form and order.

use std::fmt::Write;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::oid::Oid;
use x509_parser::objects::oid_registry;
use x509_parser::objects::oid2abbrev;
use x509_parser::prelude::FromDer;

use super::subject;
use crate::model::ClientDetail;
use crate::model::SubjectKind;

/// The certificates of one connection, both sides'.
pub struct Details<'c> {
    /// The client's chain, its own first.
    pub client: &'c [CertificateDer<'c>],
    /// Ours, that the client was shown.
    pub own: Option<&'c CertificateDer<'c>>,
}

impl Details<'_> {
    /// `None` where the client has shown no certificate that can be read.
    pub fn element(&self, asked: &[ClientDetail]) -> Option<String> {
        let leaf = self.client.first()?;
        let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
        let mut parts = Vec::new();
        if let Some((_, own)) = self.own.and_then(|own| X509Certificate::from_der(own).ok()) {
            parts.extend(subject::names(&own, SubjectKind::Uri).map(|uri| format!("By={uri}")));
        }
        parts.push(format!("Hash={}", sha256(leaf)));
        // In this order, whatever the order they were asked in.
        for detail in ClientDetail::ALL.into_iter().filter(|detail| asked.contains(detail)) {
            match detail {
                ClientDetail::Certificate => parts.push(format!("Cert=\"{}\"", pem(leaf))),
                ClientDetail::Chain => {
                    let chain: String = self.client.iter().map(|der| pem(der)).collect();
                    parts.push(format!("Chain=\"{chain}\""));
                }
                ClientDetail::Subject => parts.push(format!("Subject=\"{}\"", self::subject(&certificate))),
                ClientDetail::Uri => {
                    let before = parts.len();
                    parts.extend(
                        subject::names(&certificate, SubjectKind::Uri).map(|uri| format!("URI={uri}")),
                    );
                    if parts.len() == before {
                        parts.push("URI=".to_owned());
                    }
                }
                ClientDetail::Dns => {
                    parts.extend(
                        subject::names(&certificate, SubjectKind::Dns).map(|dns| format!("DNS={dns}")),
                    );
                }
            }
        }
        let element = parts.join(";");
        // A name in a certificate may hold anything; a field may not.
        element.bytes().all(|byte| (0x20..0x7f).contains(&byte)).then_some(element)
    }
}

fn sha256(der: &[u8]) -> String {
    let hash = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let Some(suite) = hash.tls13() else { return String::new() };
    let digest = suite.common.hash_provider.hash(der);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// PEM, encoded as it has to be inside a URL.
fn pem(der: &[u8]) -> String {
    let mut text = String::from("-----BEGIN%20CERTIFICATE-----%0A");
    let base64 = base64(der);
    for line in base64.as_bytes().chunks(64) {
        for byte in line {
            match byte {
                b'+' => text.push_str("%2B"),
                b'/' => text.push_str("%2F"),
                b'=' => text.push_str("%3D"),
                byte => text.push(char::from(*byte)),
            }
        }
        text.push_str("%0A");
    }
    text.push_str("-----END%20CERTIFICATE-----%0A");
    text
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0, |sum, i| sum << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let letter = LETTERS[(group >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// As RFC 2253 writes it, the most particular part first.
pub fn subject(certificate: &X509Certificate<'_>) -> String {
    let mut text = String::new();
    for part in certificate.subject().iter().collect::<Vec<_>>().into_iter().rev() {
        for (index, attribute) in part.iter().enumerate() {
            if index > 0 {
                text.push('+');
            } else if !text.is_empty() {
                text.push(',');
            }
            let name = abbreviation(attribute.attr_type());
            let _ = write!(text, "{name}={}", escaped(attribute.as_str().unwrap_or_default()));
        }
    }
    text
}

fn abbreviation(oid: &Oid<'_>) -> String {
    oid2abbrev(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), str::to_owned)
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for (index, letter) in value.char_indices() {
        let edge = index == 0 || index + letter.len_utf8() == value.len();
        match letter {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => text.extend(['\\', letter]),
            '#' if index == 0 => text.push_str("\\#"),
            ' ' if edge => text.push_str("\\ "),
            letter if letter.is_ascii() && !letter.is_ascii_control() => text.push(letter),
            letter => {
                for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(text, "\\{byte:02X}");
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_everybody() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob?>", "Zm9vYj8+")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn names_are_escaped_as_rfc_2253_has_it() {
        assert_eq!(escaped("a,b+\"c\";"), "a\\,b\\+\\\"c\\\"\\;");
        assert_eq!(escaped(" #a "), "\\ #a\\ ");
        assert_eq!(escaped("é"), "\\C3\\A9");
    }
}
