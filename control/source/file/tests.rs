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
use crate::config::Files;

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
    scene_with(&[], prepare)
}

/// The same for a file that refers to these.
fn scene_with(names: &[&str], prepare: impl FnOnce(&Path)) -> Scene {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path());
    let (sender, changes) = tokio::sync::mpsc::channel(16);
    let path = folder.path().join("serin.yaml");
    let known = read(&path).expect("a readable file");
    assert_eq!(known, "one");
    let files = Files::beside(&path, read_referenced);
    for name in names {
        // It may come later.
        let _ = files.read(name);
    }
    let referenced = files.referenced();
    let watch = watch(&path, known, referenced, sender).expect("a watch");
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
async fn change_of_a_file_referred_to_is_delivered_with_the_same_text() {
    let mut scene = scene_with(&["certs/web.pem"], |folder| {
        fs::create_dir(folder.join("certs")).expect("a folder");
        fs::write(folder.join("certs/web.pem"), "old").expect("a file");
        fs::write(folder.join("serin.yaml"), "one").expect("a file");
    });
    fs::write(scene.path("certs/web.pem"), "new").expect("a write");
    scene.sees("one").await;
    fs::remove_dir_all(scene.path("certs")).expect("a folder to remove");
    scene.sees("one").await;
    fs::create_dir(scene.path("certs")).expect("a folder");
    fs::write(scene.path("certs/web.pem"), "again").expect("a write");
    scene.sees("one").await;
}

#[tokio::test]
async fn file_referred_to_later_is_followed_and_one_dropped_is_not() {
    let mut scene = scene_with(&["old.pem"], |folder| {
        fs::write(folder.join("serin.yaml"), "one").expect("a file");
    });
    let files = Files::beside(&scene.path("serin.yaml"), read_referenced);
    assert!(files.read("elsewhere/new.pem").is_err());
    scene.watch.follow(files.referenced());
    // Asked twice, so that the first answer says that the files are followed.
    scene.watch.reread();
    scene.sees("one").await;
    fs::write(scene.path("old.pem"), "x").expect("a write");
    scene.watch.reread();
    scene.sees("one").await;
    assert!(scene.changes.try_recv().is_err());
    fs::create_dir(scene.path("elsewhere")).expect("a folder");
    fs::write(scene.path("elsewhere/new.pem"), "x").expect("a write");
    scene.sees("one").await;
}

#[tokio::test]
async fn swapped_link_anywhere_on_the_way_is_noticed() {
    let mut scene = scene_with(&["certs/web.pem"], |folder| {
        for version in ["v1", "v2", "v3"] {
            fs::create_dir_all(folder.join(version).join("deep")).expect("a folder");
            fs::write(folder.join(version).join("deep/web.pem"), version).expect("a file");
        }
        symlink("v1", folder.join("now")).expect("a link");
        symlink("now/deep", folder.join("certs")).expect("a link");
        fs::write(folder.join("serin.yaml"), "one").expect("a file");
    });
    for version in ["v2", "v3"] {
        symlink(version, scene.path("new")).expect("a link");
        fs::rename(scene.path("new"), scene.path("now")).expect("a swap");
        scene.sees("one").await;
    }
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
