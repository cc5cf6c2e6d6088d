//! Finds the virtual host of a request: exact name, then the longest `*.suffix`,
//! then the longest `prefix.*`, then `*`. Case and port do not matter.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// By names that stand in the configuration. Clients only ask, so they cannot make
/// the map slow, and a quick hash will do.
pub type Named<T> = HashMap<String, T, RandomState>;

#[derive(Default)]
pub struct HostIndex {
    exact: Named<usize>,
    /// Text after the `*`, longest first.
    suffixes: Vec<(String, usize)>,
    /// Text before the `*`, longest first.
    prefixes: Vec<(String, usize)>,
    any: Option<usize>,
}

impl HostIndex {
    /// Fails with what is wrong when the domain is taken or makes no sense.
    pub fn insert(&mut self, domain: &str, host: usize) -> Result<(), String> {
        let domain = domain.to_ascii_lowercase();
        let taken = || format!("domain {domain:?} belongs to two hosts");
        if domain == "*" {
            if self.any.is_some() {
                return Err(taken());
            }
            self.any = Some(host);
            return Ok(());
        }
        let (list, text) = match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
            (Some(suffix), None) => (&mut self.suffixes, suffix),
            (None, Some(prefix)) => (&mut self.prefixes, prefix),
            _ => {
                if domain.is_empty() || domain.contains('*') {
                    return Err(format!("{domain:?} is no domain"));
                }
                if self.exact.contains_key(&domain) {
                    return Err(taken());
                }
                self.exact.insert(domain, host);
                return Ok(());
            }
        };
        if text.is_empty() || text.contains('*') {
            return Err(format!("{domain:?} is no domain"));
        }
        if list.iter().any(|(other, _)| other == text) {
            return Err(taken());
        }
        list.push((text.to_owned(), host));
        list.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Ok(())
    }

    pub fn find(&self, host: &str) -> Option<usize> {
        if self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty() {
            return self.any;
        }
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.find_lowercase(&host.to_ascii_lowercase());
        }
        self.find_lowercase(host)
    }

    fn find_lowercase(&self, host: &str) -> Option<usize> {
        // A wildcard stands for at least one character.
        let by_suffix =
            |(text, _): &&(String, usize)| host.len() > text.len() && host.ends_with(text.as_str());
        let by_prefix =
            |(text, _): &&(String, usize)| host.len() > text.len() && host.starts_with(text.as_str());
        self.exact
            .get(host)
            .or_else(|| self.suffixes.iter().find(by_suffix).map(|(_, found)| found))
            .or_else(|| self.prefixes.iter().find(by_prefix).map(|(_, found)| found))
            .copied()
            .or(self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_domain_wins() {
        let mut index = HostIndex::default();
        let domains = ["a.example.com", "*.example.com", "*-x.example.com", "www.*", "*"];
        for (host, domain) in domains.iter().enumerate() {
            index.insert(domain, host).unwrap();
        }
        assert_eq!(index.find("A.example.com"), Some(0));
        assert_eq!(index.find("b.example.com"), Some(1));
        assert_eq!(index.find("b-x.example.com"), Some(2));
        assert_eq!(index.find("-x.example.com"), Some(1));
        assert_eq!(index.find("www.other.org"), Some(3));
        assert_eq!(index.find("other.org"), Some(4));
    }

    #[test]
    fn a_domain_belongs_to_one_host() {
        let mut index = HostIndex::default();
        for domain in ["a.b", "*.b", "a.*", "*"] {
            assert!(index.insert(domain, 0).is_ok());
            assert!(index.insert(domain, 1).is_err(), "{domain}");
        }
        assert!(index.insert("a.*.b", 1).is_err());
        assert!(index.insert("", 1).is_err());
    }
}
