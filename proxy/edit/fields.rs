//! A head as edits see it, however its codec keeps it.

use http::HeaderMap;
use http::header::HOST;
use http::header::HeaderName;
use http::header::HeaderValue;
use http::request::Parts;
use http::uri::PathAndQuery;

use crate::head::Head;

pub trait Fields {
    /// The value of the first line of this name.
    fn first(&self, name: &HeaderName) -> Option<&[u8]>;

    fn remove(&mut self, name: &HeaderName);

    /// Removes every field whose name fits.
    fn remove_where(&mut self, fits: &dyn Fn(&str) -> bool);

    /// One more line.
    fn append(&mut self, name: &HeaderName, value: &[u8]);

    fn set(&mut self, name: &HeaderName, value: &[u8]) {
        self.remove(name);
        self.append(name, value);
    }
}

/// A request's head, to be looked at.
pub trait Asked {
    fn method(&self) -> &str;

    /// Path and query.
    fn target(&self) -> &str;

    fn authority(&self) -> &str;

    fn field(&self, name: &HeaderName) -> Option<&[u8]>;
}

/// A request's head, to be edited.
pub trait Request: Fields + Asked {
    /// `target` is made of what came and of text that was checked.
    fn set_target(&mut self, target: &str);

    fn asked(&self) -> &dyn Asked;
}

impl Fields for HeaderMap {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.get(name).map(HeaderValue::as_bytes)
    }

    fn remove(&mut self, name: &HeaderName) {
        HeaderMap::remove(self, name);
    }

    fn remove_where(&mut self, fits: &dyn Fn(&str) -> bool) {
        let names: Vec<HeaderName> = self.keys().filter(|name| fits(name.as_str())).cloned().collect();
        for name in names {
            HeaderMap::remove(self, name);
        }
    }

    fn append(&mut self, name: &HeaderName, value: &[u8]) {
        // Made of other fields' values and of text that was checked: always legal.
        if let Ok(value) = HeaderValue::from_bytes(value) {
            HeaderMap::append(self, name, value);
        }
    }
}

impl Fields for Parts {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.headers.first(name)
    }

    fn remove(&mut self, name: &HeaderName) {
        self.headers.remove(name);
    }

    fn remove_where(&mut self, fits: &dyn Fn(&str) -> bool) {
        self.headers.remove_where(fits);
    }

    fn append(&mut self, name: &HeaderName, value: &[u8]) {
        Fields::append(&mut self.headers, name, value);
    }
}

impl Asked for Parts {
    fn method(&self) -> &str {
        self.method.as_str()
    }

    fn target(&self) -> &str {
        self.uri.path_and_query().map_or("", PathAndQuery::as_str)
    }

    fn authority(&self) -> &str {
        match (self.headers.get(HOST), self.uri.authority()) {
            (Some(host), _) => host.to_str().unwrap_or_default(),
            (None, Some(authority)) => authority.as_str(),
            (None, None) => "",
        }
    }

    fn field(&self, name: &HeaderName) -> Option<&[u8]> {
        self.headers.first(name)
    }
}

impl Request for Parts {
    fn set_target(&mut self, target: &str) {
        let mut uri = self.uri.clone().into_parts();
        uri.path_and_query = PathAndQuery::try_from(target).ok();
        if let Ok(uri) = http::Uri::from_parts(uri) {
            self.uri = uri;
        }
    }

    fn asked(&self) -> &dyn Asked {
        self
    }
}

impl Asked for Head<'_> {
    fn method(&self) -> &str {
        Head::method(self)
    }

    fn target(&self) -> &str {
        Head::target(self)
    }

    fn authority(&self) -> &str {
        Head::authority(self)
    }

    fn field(&self, name: &HeaderName) -> Option<&[u8]> {
        Head::field(self, name)
    }
}
