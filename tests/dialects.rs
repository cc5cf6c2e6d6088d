//! Configuration in, model or problems out, as text: every `*.yaml` in
//! `tests/dialects/*/` and `deploy/examples/` has its `*.expect` in
//! `tests/dialects/`. A new case is two files; `UPDATE_EXPECT=1` writes the second.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use serin::config;
use serin::config::Files;
use serin::source::file::read_referenced;

#[test]
fn every_case_reads_as_expected() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cases = Vec::new();
    for text in yaml_in(&root.join("tests/dialects/native")) {
        cases.push((text.with_extension("expect"), text));
    }
    for text in yaml_in(&root.join("deploy/examples")) {
        let name = text.file_stem().expect("yaml_in yields files").to_owned();
        let expect = root.join("tests/dialects/examples").join(name).with_extension("expect");
        cases.push((expect, text));
    }
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut failed = String::new();
    for (expect, text) in &cases {
        let name = text.file_name().expect("yaml_in yields files").to_string_lossy();
        let files = Files::beside(text, read_referenced);
        let found = answer(&name, &fs::read_to_string(text).expect("a readable case"), &files, root);
        if update {
            fs::create_dir_all(expect.parent().expect("it was joined to a folder")).expect("a folder");
            fs::write(expect, &found).expect("a writable case");
        } else if fs::read_to_string(expect).ok().as_ref() != Some(&found) {
            write!(failed, "\n{} should be:\n{found}", expect.display()).expect("strings take all");
        }
    }
    assert!(failed.is_empty(), "{failed}\n(UPDATE_EXPECT=1 writes these; read the diff then)");
}

#[test]
fn every_expectation_has_its_case() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pairs =
        [("tests/dialects/native", "tests/dialects/native"), ("tests/dialects/examples", "deploy/examples")];
    for (expects, texts) in pairs {
        for expect in files_in(&root.join(expects), "expect") {
            let name = expect.file_stem().expect("files_in yields files");
            let text = root.join(texts).join(name).with_extension("yaml");
            assert!(text.exists(), "{} has no {}", expect.display(), text.display());
        }
    }
}

#[test]
fn examples_are_accepted() {
    for path in yaml_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples")) {
        let text = fs::read_to_string(&path).expect("a readable example");
        let loaded = config::load("example", &text, &Files::beside(&path, read_referenced));
        assert!(loaded.is_ok(), "{}: {loaded:#?}", path.display());
    }
}

/// The document as the program takes it, or its problems, one a line.
fn answer(origin: &str, text: &str, files: &Files<'_>, root: &Path) -> String {
    let mut out = String::new();
    match config::load(origin, text, files) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                writeln!(out, "{warning}").expect("strings take all");
            }
            let mut document = serde_json::json!({
                "admin": loaded.admin,
                "workers": loaded.workers,
                "state": loaded.state,
                "model": loaded.model,
                "rollouts": loaded.rollouts,
            });
            if !loaded.compared.is_empty() {
                document["compared"] = serde_json::json!(loaded.compared);
            }
            if loaded.drain != config::Drain::default() {
                document["drain"] = serde_json::json!(loaded.drain);
            }
            if loaded.alerts != Default::default() {
                document["alerts"] = serde_json::json!(loaded.alerts);
            }
            if !loaded.providers.is_empty() {
                document["providers"] = serde_json::json!(loaded.providers);
            }
            let json = serde_json::to_string_pretty(&document).expect("plain data");
            writeln!(out, "{json}").expect("strings take all");
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "{origin} is refused without a word");
            for problem in problems {
                writeln!(out, "{problem}").expect("strings take all");
            }
        }
    }
    // Where a file is looked for differs from one machine to the next.
    out.replace(&format!("{}/", root.display()), "")
}

fn yaml_in(folder: &Path) -> Vec<PathBuf> {
    let files = files_in(folder, "yaml");
    assert!(!files.is_empty(), "no cases in {}", folder.display());
    files
}

fn files_in(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of cases");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

/// Whatever stands in a file, it is read or refused with a reason, not panicked
/// at. Mutations are of bytes, of lines and of values; the seed is in the message.
#[test]
fn mutated_files_are_read_or_refused_with_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = yaml_in(&root.join("deploy/examples"));
    paths.extend(yaml_in(&root.join("tests/dialects/native")));
    let texts: Vec<String> = paths.iter().map(|path| fs::read_to_string(path).expect("a case")).collect();
    for seed in 0..3_000 {
        let mut dice = Dice(seed);
        let mut text = texts[dice.below(texts.len())].clone();
        for _ in 0..=dice.below(4) {
            text = mutate(&text, &mut dice);
        }
        let read = std::panic::catch_unwind(|| {
            config::load("mutated.yaml", &text, &Files::beside(&paths[0], read_referenced))
        });
        let Ok(read) = read else { panic!("seed {seed} panics:\n{text}") };
        if let Err(problems) = read {
            let errors = problems.iter().filter(|problem| problem.severity == config::Severity::Error);
            assert!(errors.count() > 0, "seed {seed} is refused without a reason:\n{text}");
        }
    }
}

fn mutate(text: &str, dice: &mut Dice) -> String {
    const VALUES: [&str; 24] = [
        "",
        "~",
        "true",
        "[]",
        "{}",
        "-1",
        "0",
        "1e999",
        ".nan",
        "99999999999999999999999",
        "1.5",
        "\"\\u0000\"",
        "!!int \"7\"",
        "&a *a",
        "*a",
        "<<",
        "101%",
        "0.001%",
        "p99",
        "127.0.0.1:9001",
        "999999999d",
        "[[[[",
        "é🔑",
        "|\n  x",
    ];
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return VALUES[dice.below(VALUES.len())].to_owned();
    }
    let (i, j) = (dice.below(lines.len()), dice.below(lines.len()));
    match dice.below(7) {
        0 => drop(lines.remove(i)),
        1 => lines.insert(i, lines[j].clone()),
        2 => lines.swap(i, j),
        3 => lines[i] = format!("{}{}", &"        "[..dice.below(8)], lines[i].trim_start()),
        4 | 5 => {
            let cut = lines[i].find(": ").map_or(0, |at| at + 2);
            lines[i].truncate(cut);
            lines[i].push_str(VALUES[dice.below(VALUES.len())]);
        }
        _ => {
            let mut bytes = text.as_bytes().to_vec();
            let at = dice.below(bytes.len());
            bytes[at] = b" :-{}[]#&*!|>'\"%@`,?\n\t0a\xff\x00"[dice.below(26)];
            return String::from_utf8_lossy(&bytes).into_owned();
        }
    }
    lines.join("\n")
}

/// A small generator of our own (SplitMix64), so that a seed means the same
/// everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let z = usize::try_from((z ^ (z >> 31)) >> 33).expect("31 bits fit");
        z % end
    }
}
