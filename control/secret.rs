//! Secrets by reference: where one is kept, and how it is fetched at the moment of
//! its use.
//!
//! What is kept in memory, dumped, logged and journalled is the reference. The
//! value is fetched anew each time, so a renewed secret is used at once, and is
//! held in a type that cannot be printed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// What stands in the place of what is not shown.
pub const HIDDEN: &str = "[hidden]";

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Secret {
    File(PathBuf),
    Env(String),
}

/// A text that may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    Plain(String),
    Secret(Secret),
}

/// Why a secret cannot be had. Names its place and never its value.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    #[error("cannot read the secret in {}: {cause}", .path.display())]
    File { path: PathBuf, cause: std::io::Error },
    #[error("there is no environment variable {0} with the secret")]
    Env(String),
}

impl Secret {
    /// Without the white space around it, which editors and `echo` leave in files.
    pub fn fetch(&self) -> Result<SecretString, Missing> {
        match self {
            Secret::File(path) => {
                let read = std::fs::read_to_string(path);
                let text = read.map_err(|cause| Missing::File { path: path.clone(), cause })?;
                Ok(SecretString::from(text.trim()))
            }
            Secret::Env(name) => {
                let value = std::env::var(name).map_err(|_| Missing::Env(name.clone()))?;
                Ok(SecretString::from(value.trim()))
            }
        }
    }
}

impl Text {
    /// Of a URL that stands in the configuration itself only where it leads: what
    /// follows the host may be all that a receiver asks of who writes to it.
    pub fn host_only(&self) -> Text {
        let Text::Plain(text) = self else { return self.clone() };
        let Ok(url) = url::Url::parse(text) else { return Text::hidden() };
        let is_bare = ["", "/"].contains(&url.path()) && url.query().is_none();
        if is_bare {
            self.clone()
        } else {
            Text::Plain(format!("{}/{HIDDEN}", url.origin().ascii_serialization()))
        }
    }

    pub fn hidden() -> Text {
        Text::Plain(HIDDEN.to_owned())
    }

    pub fn fetch(&self) -> Result<SecretString, Missing> {
        match self {
            Text::Plain(text) => Ok(SecretString::from(text.as_str())),
            Text::Secret(secret) => secret.fetch(),
        }
    }
}

/// Headers without the values that stand in the configuration itself.
pub fn shown(headers: &BTreeMap<String, Text>) -> BTreeMap<String, Text> {
    let value = |text: &Text| match text {
        Text::Plain(_) => Text::hidden(),
        Text::Secret(_) => text.clone(),
    };
    headers.iter().map(|(name, text)| (name.clone(), value(text))).collect()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_secret_is_fetched_when_asked_for_and_its_value_is_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "s3cret-value\n").unwrap();
        let text = Text::Secret(Secret::File(path.clone()));
        assert_eq!(text.fetch().unwrap().expose_secret(), "s3cret-value");
        let told = format!("{text:?} {:?} {}", text.fetch(), serde_json::to_string(&text).unwrap());
        assert!(!told.contains("s3cret"), "{told}");
        std::fs::write(&path, "renewed").unwrap();
        assert_eq!(text.fetch().unwrap().expose_secret(), "renewed");
        std::fs::remove_file(&path).unwrap();
        assert!(text.fetch().is_err());
    }

    #[test]
    fn of_a_plain_url_only_the_host_is_shown() {
        let shown = |text: &str| Text::Plain(text.to_owned()).host_only();
        let hooks = shown("https://hooks.example:8443/services/T0/s3cret?x=1");
        assert_eq!(hooks, Text::Plain("https://hooks.example:8443/[hidden]".to_owned()));
        assert_eq!(shown("http://10.0.0.1:9093"), Text::Plain("http://10.0.0.1:9093".to_owned()));
        let place = Text::Secret(Secret::Env("HOOK".to_owned()));
        assert_eq!(place.host_only(), place);
    }

    #[test]
    fn a_reference_is_written_as_it_is_configured() {
        let secret = Text::Secret(Secret::Env("TOKEN".to_owned()));
        assert_eq!(serde_json::to_string(&secret).unwrap(), r#"{"env":"TOKEN"}"#);
        assert_eq!(serde_json::from_str::<Text>(r#""open""#).unwrap(), Text::Plain("open".to_owned()));
        assert_eq!(serde_json::from_str::<Text>(r#"{"env":"TOKEN"}"#).unwrap(), secret);
    }
}
