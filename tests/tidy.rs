//! The rules that keep this a house, as tests over its own text. They are those
//! of `ARCHITECTURE.md`; whoever breaks one is told where and why.

use std::path::{Path, PathBuf};

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// Functions that are longer than the rule allows: file, name, lines, date. The
/// list may only shrink, and so may the numbers in it.
const LONG_FUNCTIONS: [(&str, &str, usize, &str); 0] = [];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of ours under `folder`, as a path from the root and its text.
fn files(folder: &str, extensions: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort();
    let wanted = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        extensions.is_empty() || extensions.iter().any(|extension| name.ends_with(extension))
    };
    found
        .into_iter()
        .filter(|path| wanted(path))
        .filter_map(|path| {
            let text = std::fs::read_to_string(&path).ok()?;
            let path = path.strip_prefix(root()).expect("it was found under the root");
            Some((path.to_string_lossy().into_owned(), text))
        })
        .collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // `.git` is a file in a linked work tree.
        if [".git", "target", ".venv"].contains(&name.as_str()) || path.is_symlink() {
            continue;
        }
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

fn sources() -> Vec<(String, String)> {
    ["proxy", "control", "bench", "tests"].iter().flat_map(|folder| files(folder, &[".rs"])).collect()
}

/// The text without comment lines and without what follows `#[cfg(test)]`.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let kept = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    kept.collect::<Vec<_>>().join("\n")
}

/// Whether `word` stands in `text` with no letter, digit or `_` at either side.
fn names(text: &str, word: &str) -> bool {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(part)
            && !text[at + word.len()..].chars().next().is_some_and(part)
    })
}

fn nothing(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// The modules of a `lib.rs` in the order in which they stand.
fn ladder(lib: &str) -> Vec<String> {
    let module = |line: &str| {
        let line = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
    };
    lib.lines().filter_map(module).collect()
}

/// Which module a name that the crate's root re-exports comes from.
fn origin_of(lib: &str, name: &str) -> Option<String> {
    let text = code(lib);
    text.split(';').filter_map(|statement| statement.split_once("pub use ")).find_map(|(_, path)| {
        let (module, rest) = path.split_once("::")?;
        names(rest, name).then(|| module.trim().to_owned())
    })
}

/// First segments of all paths of the form `prefix::name` in the text.
fn segments<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(prefix).map(move |(at, _)| {
        let rest = &text[at + prefix.len()..];
        let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

/// References of one crate that point up its ladder.
fn upward(folder: &str, lib: &str, sources: &[(String, String)]) -> Vec<String> {
    let ladder = ladder(lib);
    let rank = |module: &str| ladder.iter().position(|name| name == module);
    let mut broken = Vec::new();
    for (path, text) in sources {
        let Some(inside) = path.strip_prefix(&format!("{folder}/")) else { continue };
        let parts: Vec<_> = inside.trim_end_matches(".rs").split('/').collect();
        let Some(own) = rank(parts[0]) else { continue };
        let code = code(text);
        if code.contains("crate::{") {
            broken.push(format!("{path}: a grouped `use crate::{{..}}` hides what is named"));
        }
        let up = "super::".repeat(parts.len());
        for segment in segments(&code, "crate::").chain(segments(&code, &up)) {
            let module = origin_of(lib, segment).unwrap_or_else(|| segment.to_owned());
            if rank(&module).is_some_and(|rank| rank < own) {
                broken.push(format!(
                    "{path}: {} names {segment}, which stands above it in {folder}/lib.rs",
                    parts[0]
                ));
            }
        }
    }
    broken
}

#[test]
fn modules_name_only_modules_below_them() {
    for folder in ["proxy", "control"] {
        let lib =
            std::fs::read_to_string(root().join(folder).join("lib.rs")).expect("each crate has a lib.rs");
        assert!(ladder(&lib).len() > 2, "no ladder found in {folder}/lib.rs");
        nothing("references point down the mod list", &upward(folder, &lib, &files(folder, &[".rs"])));
    }
}

#[test]
fn the_ladder_rule_finds_what_it_is_for() {
    let lib = "pub mod top;\nmod middle;\npub mod low;\npub use middle::{Other, Thing};\n";
    let broken = |path: &str, text: &str| upward("x", lib, &[(path.to_owned(), text.to_owned())]).len();
    assert_eq!(broken("x/top.rs", "use crate::low::A; use crate::middle::B; use super::low::C;"), 0);
    assert_eq!(broken("x/low.rs", "use crate::top::A;"), 1);
    assert_eq!(broken("x/low/deep.rs", "use super::super::middle::A; use super::top::fine;"), 1);
    assert_eq!(broken("x/low.rs", "fn f() { super::top::g() }"), 1);
    assert_eq!(broken("x/low.rs", "use crate::Thing;"), 1, "a re-export is no way round");
    assert_eq!(broken("x/low.rs", "// crate::top\nuse crate::low::A;\n#[cfg(test)]\nuse crate::top;"), 0);
    assert_eq!(broken("x/top.rs", "use crate::{low, middle};"), 1);
}

#[test]
fn the_pure_set_asks_nobody_and_does_nothing() {
    let pure = |path: &str| {
        let path = path.strip_prefix("control/").unwrap_or("");
        ["config", "rollout", "judge"]
            .iter()
            .any(|module| path == format!("{module}.rs") || path.starts_with(&format!("{module}/")))
            || ["names.rs", "rehearse.rs"].contains(&path)
    };
    let banned = [
        "async",
        "tokio",
        "std::fs",
        "std::process",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "ToSocketAddrs",
        "Instant",
        "SystemTime",
        "rand::rng",
        "thread_rng",
        "rand::random",
    ];
    let sources = files("control", &[".rs"]);
    assert!(sources.iter().filter(|(path, _)| pure(path)).count() >= 4, "the pure set was not found");
    let broken: Vec<_> = sources
        .iter()
        .filter(|(path, _)| pure(path))
        .flat_map(|(path, text)| {
            let code = code(text);
            let found: Vec<_> = banned.iter().filter(|word| names(&code, word)).collect();
            found.into_iter().map(|word| format!("{path}: {word}")).collect::<Vec<_>>()
        })
        .collect();
    nothing("decisions and translations take what they need and return what is to be done", &broken);
}

#[test]
fn files_are_short() {
    let broken: Vec<_> = sources()
        .iter()
        .map(|(path, text)| (path, text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count()))
        .filter(|(_, lines)| *lines > FILE_LINES)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    nothing("a file has at most 600 lines before its tests", &broken);
}

/// Functions of a file and their lengths, told by the indentation that rustfmt gives.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let words: Vec<_> = code.split([' ', '(', '<']).collect();
        let Some(at) = words.iter().position(|word| *word == "fn") else { continue };
        let before = ["pub", "crate)", "super)", "const", "async", "unsafe", "extern", "\"C\""];
        if !words[..at].iter().all(|word| before.contains(word)) || at + 1 >= words.len() {
            continue;
        }
        let closing = format!("{indent}}}");
        let end = lines[start..]
            .iter()
            .position(|line| *line == closing || (line.ends_with(';') && *line == lines[start]));
        if let Some(length) = end {
            found.push((words[at + 1].to_owned(), length + 1));
        }
    }
    found
}

#[test]
fn functions_fit_a_screen() {
    let mut long: Vec<(String, String, usize)> = Vec::new();
    for (path, text) in sources() {
        for (name, lines) in functions(&text) {
            if lines > FUNCTION_LINES {
                long.push((path.clone(), name, lines));
            }
        }
    }
    let listed =
        |path: &str, name: &str| LONG_FUNCTIONS.iter().find(|entry| (entry.0, entry.1) == (path, name));
    let mut broken = Vec::new();
    for (path, name, lines) in &long {
        if listed(path, name).is_none_or(|entry| *lines > entry.2) {
            broken.push(format!("{path}: {name} has {lines} lines"));
        }
    }
    for (path, name, lines, _) in LONG_FUNCTIONS {
        if !long.iter().any(|entry| (entry.0.as_str(), entry.1.as_str(), entry.2) == (path, name, lines)) {
            broken.push(format!(
                "{path}: {name} is listed with {lines} lines and has them no more; tighten the list"
            ));
        }
    }
    nothing("a function has at most 70 lines", &broken);
}

#[test]
fn function_lengths_are_measured_right() {
    let text = "fn a() {\n    1\n}\n\nimpl X {\n    pub async fn b(\n        c: u8,\n    ) -> u8 {\n        c\n    }\n}\ntrait T {\n    fn d();\n}\n";
    assert_eq!(functions(text), [("a".into(), 3), ("b".into(), 5), ("d".into(), 1)]);
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    let broken: Vec<_> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path).collect();
    nothing("every file opens with `//!`", &broken);
}

#[test]
fn exceptions_give_their_reasons() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        for word in ["expect", "allow", "ignore"] {
            for start in ["#[", "#!["] {
                let attribute = format!("{start}{word}");
                // Only where a line begins with it, so that text about it is not meant.
                for (number, line) in
                    text.lines().enumerate().filter(|(_, line)| line.trim().starts_with(&attribute))
                {
                    let rest: String = text.lines().skip(number).take(6).collect::<Vec<_>>().join(" ");
                    let inner = rest.split(")]").next().unwrap_or_default();
                    let reason =
                        if word == "ignore" { line.contains("= \"") } else { inner.contains("reason =") };
                    if !reason {
                        broken.push(format!("{path}:{}: {}", number + 1, line.trim()));
                    }
                }
            }
        }
    }
    nothing("every exception has a reason", &broken);
}

#[test]
fn the_proxy_stays_ignorant() {
    let manifest = std::fs::read_to_string(root().join("proxy/Cargo.toml")).expect("it is there");
    let banned =
        ["kube", "serde_yaml", "serde-saphyr", "tonic", "prometheus", "clap", "tower", "serin", "anyhow"];
    let broken: Vec<_> = manifest
        .lines()
        .filter_map(|line| line.split(['=', '.', ' ']).next())
        .filter(|name| banned.contains(name))
        .map(str::to_owned)
        .collect();
    nothing("proxy/Cargo.toml must not list", &broken);
}

#[test]
fn metric_names_in_the_documents_exist() {
    let Ok(known) = std::fs::read_to_string(root().join("control/names.rs")) else {
        panic!("control/names.rs holds every name");
    };
    let mut broken = Vec::new();
    for (path, text) in files(".", &[".md", "dashboard.json"]) {
        for segment in segments(&text, "serin_") {
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .fold(segment, |name, end| name.strip_suffix(end).unwrap_or(name));
            let full = format!("serin_{name}");
            if name != "proxy" && !names(&known, &full) && !name.is_empty() {
                broken.push(format!("{path}: {full}"));
            }
        }
    }
    nothing("names in documents exist in control/names.rs", &broken);
}

#[test]
fn nothing_tells_of_the_machine_it_was_made_on() {
    // Written in halves, so that this file does not find itself.
    let banned =
        [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("index-", "url")];
    let mut broken = Vec::new();
    for (path, text) in files(".", &[]) {
        for (number, line) in text.lines().enumerate() {
            let foreign = path == "Cargo.lock"
                && line.starts_with("source = ")
                && line != "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
            if foreign || banned.iter().any(|word| line.contains(word)) {
                broken.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    nothing("no machine's paths and no private registry in the repository", &broken);
}
