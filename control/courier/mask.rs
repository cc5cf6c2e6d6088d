//! What of a call others may not see: where it goes beyond the host, and what shows
//! who asks. A receiver may say it back, in an error page or a redirect, and what it
//! says is logged, kept and told on: there it is hidden.

use std::collections::BTreeSet;

use base64::Engine;
use hyper::header::{AUTHORIZATION, HeaderMap};
use url::Url;

use crate::secret::HIDDEN;

/// A whole that is shorter is no secret, and would be found in every other word.
const LEAST: usize = 4;
/// As is a part of a whole: a path has words such as `api` in it.
const LEAST_PART: usize = 8;

#[derive(Clone, Debug, Default)]
pub struct Mask(BTreeSet<String>);

impl Mask {
    pub fn add_url(&mut self, url: &Url) {
        self.add_parts(url.path(), &['/']);
        self.add_parts(url.query().unwrap_or_default(), &['&', '=']);
        self.add_parts(url.fragment().unwrap_or_default(), &[]);
        self.add(url.username(), LEAST);
        self.add(url.password().unwrap_or_default(), LEAST);
    }

    /// Of those that are marked as sensitive.
    pub fn add_headers(&mut self, headers: &HeaderMap) {
        for (name, value) in headers.iter().filter(|(_, value)| value.is_sensitive()) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            self.add(&value, LEAST);
            let Some((scheme, token)) = value.split_once(' ') else { continue };
            self.add(token, LEAST);
            let is_basic = name == AUTHORIZATION && scheme.eq_ignore_ascii_case("basic");
            let login = base64::engine::general_purpose::STANDARD.decode(token).unwrap_or_default();
            if let Some((name, password)) =
                String::from_utf8_lossy(&login).split_once(':').filter(|_| is_basic)
            {
                self.add(name, LEAST_PART);
                self.add(password, LEAST);
            }
        }
    }

    pub fn add_secret(&mut self, secret: &str) {
        self.add(secret, LEAST);
    }

    /// The text without any of it.
    pub fn hide(&self, text: &str) -> String {
        // The longest first: a whole goes before its parts.
        let mut wholes: Vec<&String> = self.0.iter().filter(|secret| text.contains(*secret)).collect();
        wholes.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        wholes.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN))
    }

    fn add_parts(&mut self, whole: &str, between: &[char]) {
        self.add(whole, LEAST);
        self.add(whole.trim_start_matches('/'), LEAST_PART);
        whole.split(between).for_each(|part| self.add(part, LEAST_PART));
    }

    /// In every way that it may be written.
    fn add(&mut self, secret: &str, least: usize) {
        if secret.len() < least {
            return;
        }
        let plain = percent_decoded(secret);
        for text in [secret.to_owned(), plain] {
            let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            self.0.extend([text.replace('/', "\\/"), text.replace('/', "&#x2F;"), escaped, text]);
        }
    }
}

pub fn percent_decoded(text: &str) -> String {
    // A form has no other way to write a plus.
    let text = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(text.as_bytes()).next().map(|(text, _)| text.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn mask(url: &str) -> Mask {
        let mut mask = Mask::default();
        mask.add_url(&Url::parse(url).unwrap());
        mask
    }

    #[test]
    fn a_path_is_hidden_whole_and_in_parts_however_it_is_written() {
        let mask = mask("https://hooks.example/services/T0471188/s3cret%2Dtoken?key=opensesame&v=1");
        for said in [
            "Cannot POST /services/T0471188/s3cret%2Dtoken?key=opensesame&v=1",
            "no such path: services/T0471188/s3cret-token",
            "unknown token s3cret-token",
            r#"{"path":"\/services\/T0471188\/s3cret-token"}"#,
            "Cannot GET /services/T0471188/s3cret%2Dtoken?key=opensesame&amp;v=1",
        ] {
            let told = mask.hide(said);
            assert!(told.contains(HIDDEN), "{told}");
            for secret in ["s3cret", "opensesame", "T0471188"] {
                assert!(!told.contains(secret), "{said}: {told}");
            }
        }
        assert_eq!(mask.hide("no_team at hooks.example"), "no_team at hooks.example");
    }

    #[test]
    fn what_is_no_secret_stays_readable() {
        assert_eq!(mask("http://a/").hide("no such hook: / is nothing"), "no such hook: / is nothing");
        assert_eq!(mask("http://a/in?x=1").hide("begin at 1"), "begin at 1");
    }

    #[test]
    fn who_asks_is_hidden_where_it_is_marked() {
        let mut headers = HeaderMap::new();
        let mut basic = HeaderValue::from_static("Basic bWU6b3BlbnNlc2FtZQ==");
        basic.set_sensitive(true);
        headers.insert(AUTHORIZATION, basic);
        headers.insert("accept", HeaderValue::from_static("application/json"));
        let mut mask = Mask::default();
        mask.add_headers(&headers);
        let told = mask.hide("bWU6b3BlbnNlc2FtZQ== is me with opensesame, application/json");
        assert_eq!(told, "[hidden] is me with [hidden], application/json");
    }
}
