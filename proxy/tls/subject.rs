//! A certificate's alternative names, and whether one of them is as wanted.

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::model::Subject;
use crate::model::SubjectKind;
use crate::model::TextMatch;
use crate::text::Pattern;

pub struct Subjects(Vec<(SubjectKind, Pattern)>);

impl Subjects {
    pub fn new(subjects: &[Subject]) -> Result<Subjects, (usize, String)> {
        let compile = |(index, subject): (usize, &Subject)| {
            // Names in the DNS have no case.
            let value = match (&subject.kind, &subject.value) {
                (SubjectKind::Dns, TextMatch::Exact(name)) => TextMatch::Exact(name.to_ascii_lowercase()),
                (_, value) => value.clone(),
            };
            let pattern = Pattern::new(&value).map_err(|text| (index, text))?;
            Ok((subject.kind, pattern))
        };
        subjects.iter().enumerate().map(compile).collect::<Result<_, _>>().map(Subjects)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is one of the certificate's names one of ours?
    pub fn fit(&self, der: &[u8]) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
        self.0
            .iter()
            .any(|(kind, pattern)| names(&certificate, *kind).any(|name| fits(*kind, pattern, &name)))
    }
}

/// A wildcard in the certificate stands for one label, as for any other client.
fn fits(kind: SubjectKind, pattern: &Pattern, name: &str) -> bool {
    if kind == SubjectKind::Dns
        && let Pattern::Exact(wanted) = pattern
        && let Some(parent) = name.strip_prefix("*.")
        && let Some(dot) = wanted.iter().position(|byte| *byte == b'.')
    {
        return wanted[dot + 1..] == *parent.to_ascii_lowercase().as_bytes();
    }
    match kind {
        SubjectKind::Dns => pattern.matches(name.to_ascii_lowercase().as_bytes()),
        _ => pattern.matches(name.as_bytes()),
    }
}

pub fn word(kind: SubjectKind) -> &'static str {
    match kind {
        SubjectKind::Dns => "dns",
        SubjectKind::Uri => "uri",
        SubjectKind::Email => "email",
        SubjectKind::Ip => "ip",
    }
}

/// The certificate's alternative names of this kind.
pub fn names<'c>(
    certificate: &'c X509Certificate<'_>,
    kind: SubjectKind,
) -> impl Iterator<Item = String> + use<'c> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let all = extension.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    all.iter().filter_map(move |name| match (kind, name) {
        (SubjectKind::Dns, GeneralName::DNSName(name))
        | (SubjectKind::Uri, GeneralName::URI(name))
        | (SubjectKind::Email, GeneralName::RFC822Name(name)) => Some((*name).to_owned()),
        (SubjectKind::Ip, GeneralName::IPAddress(bytes)) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| v6()).ok().map(|address| address.to_string())
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_as_clients_read_them() {
        let exact = |name: &str| Pattern::Exact(name.as_bytes().to_vec());
        assert!(fits(SubjectKind::Dns, &exact("a.example.com"), "*.Example.com"));
        assert!(!fits(SubjectKind::Dns, &exact("a.b.example.com"), "*.example.com"));
        assert!(!fits(SubjectKind::Dns, &exact("example.com"), "*.example.com"));
        assert!(fits(SubjectKind::Dns, &exact("a.example.com"), "A.example.com"));
        assert!(!fits(SubjectKind::Uri, &exact("spiffe://a/b"), "spiffe://A/b"));
        assert!(!fits(SubjectKind::Uri, &exact("x.b"), "*.b"));
    }
}
