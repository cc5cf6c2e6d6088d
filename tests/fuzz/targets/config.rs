//! Configurations: any text is a configuration or a list of problems.
#![no_main]

use std::path::Path;

use serin::config::files::Files;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let files = Files::beside(Path::new("/etc/serin.yaml"), |_| Ok(b"- 127.0.0.1:1\n".to_vec()));
    if let Err(problems) = serin::config::load("serin.yaml", text, &files) {
        assert!(!problems.is_empty(), "refused without a reason");
    }
});
