//! The ways in which files change under a watch. Waiting has a deadline only.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::*;

/// Shorter than `LOOK`, so that only a sign of the file system can keep it.
const DEADLINE: Duration = Duration::from_secs(20);

struct Scene {
    folder: TempDir,
    changes: Receiver<Change>,
    watch: Watch,
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The next texts until this one; others may come of writes seen half done.
    async fn sees(&mut self, wanted: &str) {
        let found = async {
            while let Some(change) = self.changes.recv().await {
                if change.text.is_ok_and(|text| text == wanted) {
                    return true;
                }
            }
            false
        };
        assert!(timeout(DEADLINE, found).await.expect("a change in time"), "watching ended");
    }
}

/// A watch on `serin.yaml`, which `prepare` has laid out with the text `one`.
fn scene(prepare: impl FnOnce(&Path)) -> Scene {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path());
    let (sender, changes) = tokio::sync::mpsc::channel(16);
    let path = folder.path().join("serin.yaml");
    let known = read(&path).expect("a readable file");
    assert_eq!(known, "one");
    let watch = watch(&path, known, sender).expect("a watch");
    Scene { folder, changes, watch }
}

fn plain() -> Scene {
    scene(|folder| fs::write(folder.join("serin.yaml"), "one").expect("a file"))
}

#[tokio::test]
async fn file_written_in_place_is_delivered() {
    let mut scene = plain();
    fs::write(scene.path("serin.yaml"), "two").expect("a write");
    scene.sees("two").await;
    fs::write(scene.path("serin.yaml"), "three").expect("a write");
    scene.sees("three").await;
}

#[tokio::test]
async fn file_renamed_over_is_delivered_each_time() {
    let mut scene = plain();
    for text in ["two", "three", "four"] {
        fs::write(scene.path(".serin.yaml.new"), text).expect("a write");
        fs::rename(scene.path(".serin.yaml.new"), scene.path("serin.yaml")).expect("a rename");
        scene.sees(text).await;
    }
}

#[tokio::test]
async fn config_map_swap_is_delivered_each_time() {
    let version = |folder: &Path, n: usize, text: &str| {
        let name = format!("..version{n}");
        fs::create_dir(folder.join(&name)).expect("a folder");
        fs::write(folder.join(&name).join("serin.yaml"), text).expect("a file");
        symlink(&name, folder.join("..data_tmp")).expect("a link");
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("a swap");
    };
    let mut scene = scene(|folder| {
        version(folder, 1, "one");
        symlink("..data/serin.yaml", folder.join("serin.yaml")).expect("a link");
    });
    for (n, text) in [(2, "two"), (3, "three")] {
        version(scene.folder.path(), n, text);
        fs::remove_dir_all(scene.path(&format!("..version{}", n - 1))).expect("the old one gone");
        scene.sees(text).await;
    }
}

#[tokio::test]
async fn change_behind_a_link_into_another_folder_is_delivered() {
    let mut scene = scene(|folder| {
        fs::create_dir(folder.join("real")).expect("a folder");
        fs::write(folder.join("real/other.yaml"), "one").expect("a file");
        symlink("real/other.yaml", folder.join("serin.yaml")).expect("a link");
    });
    fs::write(scene.path("real/other.yaml"), "two").expect("a write");
    scene.sees("two").await;
}

#[tokio::test]
async fn missing_file_is_told_and_its_return_delivered() {
    let mut scene = plain();
    fs::remove_file(scene.path("serin.yaml")).expect("a file to remove");
    let change = timeout(DEADLINE, scene.changes.recv()).await.expect("in time").expect("a change");
    assert_eq!(change.text.expect_err("it is gone").kind(), io::ErrorKind::NotFound);
    fs::write(scene.path("serin.yaml"), "two").expect("a write");
    scene.sees("two").await;
}

#[tokio::test]
async fn same_text_is_delivered_only_when_asked_for() {
    let mut scene = plain();
    fs::write(scene.path("neighbour.yaml"), "two").expect("a write");
    scene.watch.reread();
    scene.sees("one").await;
    assert!(scene.changes.try_recv().is_err());
    fs::write(scene.path("other.yaml"), "three").expect("a write");
    fs::write(scene.path(".new"), "two").expect("a write");
    fs::rename(scene.path(".new"), scene.path("serin.yaml")).expect("a rename");
    let change = timeout(DEADLINE, scene.changes.recv()).await.expect("in time").expect("a change");
    assert_eq!(change.text.expect("a readable file"), "two");
}

#[tokio::test]
async fn watching_ends_when_dropped() {
    let Scene { watch, mut changes, folder } = plain();
    drop(watch);
    let end = timeout(DEADLINE, changes.recv()).await.expect("in time");
    assert!(end.is_none(), "{end:?}");
    drop(folder);
}

#[test]
fn file_that_is_no_text_or_too_large_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("serin.yaml");
    fs::write(&path, [0xff, 0xfe]).expect("a write");
    assert_eq!(read(&path).expect_err("no text").kind(), io::ErrorKind::InvalidData);
    let file = File::create(&path).expect("a file");
    file.set_len(MOST_BYTES + 1).expect("a long file");
    assert_eq!(read(&path).expect_err("too long").kind(), io::ErrorKind::FileTooLarge);
    file.set_len(MOST_BYTES).expect("a shorter file");
    assert!(read(&path).is_ok());
}
