//! The files that a configuration refers to beside itself: certificates, keys,
//! lists of endpoints.
//!
//! Translation asks for them through a reader that it is given, so it touches no
//! file system of its own; each file is read once, and what was found is
//! remembered, so that whoever watches knows which files to watch and when one
//! differs from what was taken. A key's bytes are not among what is remembered.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

type Reader<'r> = dyn Fn(&Path) -> io::Result<Vec<u8>> + 'r;

/// The files that one translation may ask for, and did.
pub struct Files<'r> {
    /// What a relative path is relative to.
    folder: PathBuf,
    reader: Box<Reader<'r>>,
    found: RefCell<BTreeMap<PathBuf, Found>>,
}

type Found = Result<Rc<[u8]>, Rc<io::Error>>;

/// What the files held that a configuration referred to, be it good or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referenced(BTreeMap<PathBuf, Print>);

/// Tells a file's contents from others, without being them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Print {
    Bytes(u64),
    Unreadable(io::ErrorKind),
}

impl<'r> Files<'r> {
    /// Those beside the configuration at `config`.
    pub fn beside(config: &Path, reader: impl Fn(&Path) -> io::Result<Vec<u8>> + 'r) -> Files<'r> {
        let folder = config.parent().unwrap_or(Path::new("")).to_owned();
        Files { folder, reader: Box::new(reader), found: RefCell::default() }
    }

    /// For a configuration that stands alone.
    pub fn none() -> Files<'static> {
        let alone = |_: &Path| Err(io::Error::new(io::ErrorKind::Unsupported, "there are no files here"));
        Files::beside(Path::new(""), alone)
    }

    /// The file's bytes, or why it cannot be read.
    pub fn read(&self, name: &str) -> Result<Rc<[u8]>, Rc<io::Error>> {
        let path = self.path(name);
        let mut found = self.found.borrow_mut();
        let read = || (self.reader)(&path).map(Rc::from).map_err(Rc::new);
        found.entry(path.clone()).or_insert_with(read).clone()
    }

    /// Where a file is that a configuration names.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What was asked for so far.
    pub fn referenced(&self) -> Referenced {
        let found = self.found.borrow();
        Referenced(
            found
                .iter()
                .map(|(path, found)| (path.clone(), Print::of(found.as_deref().map_err(Rc::as_ref))))
                .collect(),
        )
    }
}

impl Referenced {
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// The same files as they are now.
    pub fn again(&self, reader: impl Fn(&Path) -> io::Result<Vec<u8>>) -> Referenced {
        let now = |path: &PathBuf| match reader(path) {
            Ok(bytes) => Print::of(Ok(&bytes)),
            Err(error) => Print::Unreadable(error.kind()),
        };
        Referenced(self.0.keys().map(|path| (path.clone(), now(path))).collect())
    }
}

impl Print {
    fn of(found: Result<&[u8], &io::Error>) -> Print {
        match found {
            Ok(bytes) => {
                let mut hasher = DefaultHasher::new();
                bytes.hash(&mut hasher);
                Print::Bytes(hasher.finish())
            }
            Err(error) => Print::Unreadable(error.kind()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_file_is_read_once_and_beside_the_configuration() {
        let reads = Cell::new(0);
        let files = Files::beside(Path::new("/etc/serin/serin.yaml"), |path| {
            reads.set(reads.get() + 1);
            match path.to_str() {
                Some("/etc/serin/certs/web.pem") => Ok(b"web".to_vec()),
                Some("/other.pem") => Ok(b"other".to_vec()),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        });
        assert_eq!(&*files.read("certs/web.pem").expect("it is there"), b"web");
        assert_eq!(&*files.read("certs/web.pem").expect("it is there"), b"web");
        assert_eq!(&*files.read("/other.pem").expect("it is there"), b"other");
        assert_eq!(files.read("gone.pem").expect_err("it is not there").kind(), io::ErrorKind::NotFound);
        assert_eq!(reads.get(), 3);
    }

    #[test]
    fn a_changed_file_is_told_from_what_was_taken() {
        let files = Files::beside(Path::new("a/b.yaml"), |_| Ok(b"one".to_vec()));
        files.read("x").expect("any file is there");
        let taken = files.referenced();
        assert_eq!(taken.paths().collect::<Vec<_>>(), [Path::new("a/x")]);
        assert_eq!(taken.again(|_| Ok(b"one".to_vec())), taken);
        assert_ne!(taken.again(|_| Ok(b"two".to_vec())), taken);
        assert_ne!(taken.again(|_| Err(io::ErrorKind::NotFound.into())), taken);
    }
}
