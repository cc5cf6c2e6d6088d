//! Who takes part, how each is found and started, and what it says its version is.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::configs;
use crate::configs::Places;
use crate::duo::Duo;
use crate::process::Priority;
use crate::process::Process;
use crate::workplace;
use crate::workplace::Workplace;
use crate::workplace::first_line;

/// How long a peer may take from its start to its first right answer; generous for callgrind.
const START_PATIENCE: Duration = Duration::from_secs(30);
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Every measured proxy has this core to itself; the load has the next.
pub const PROXY_CORE: usize = 0;

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Kind {
    /// No proxy: what the load itself can do
    Direct,
    /// A raw TCP relay: the floor
    Relay,
    /// serin with a rollout running: statistics, judge and shielding on
    Serin,
    /// serin with the same split and no rollout
    SerinPlain,
    Envoy,
    Nginx,
    Haproxy,
}

/// Those that take part unless others are named.
pub const USUAL: [Kind; 6] =
    [Kind::Direct, Kind::Relay, Kind::Serin, Kind::Envoy, Kind::Nginx, Kind::Haproxy];

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct (no proxy)",
            Kind::Relay => "TCP relay (floor)",
            Kind::Serin => "serin",
            Kind::SerinPlain => "serin, no rollout",
            Kind::Envoy => "Envoy",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "HAProxy",
        }
    }
}

pub struct Peer {
    pub kind: Kind,
    pub version: String,
    pub address: SocketAddr,
    pub process: Option<Process>,
    /// The file it was given, word for word.
    pub config: Option<String>,
    admin: Option<SocketAddr>,
}

/// What the callers of this module choose.
pub struct Choices {
    pub serin: Option<PathBuf>,
    pub envoy: Option<PathBuf>,
    pub priority: Priority,
    /// Programs to run the peer under, such as valgrind with its arguments.
    pub under: Vec<String>,
}

/// How one peer is to be started.
struct Recipe {
    program: PathBuf,
    arguments: Vec<String>,
    version: String,
    config: Option<String>,
    admin: Option<SocketAddr>,
}

/// Starts the peer and waits for its first right answer. None: it is not on this machine.
pub fn start(kind: Kind, choices: &Choices, duo: &mut Duo, workplace: &Workplace) -> Result<Option<Peer>> {
    let [primary, canary] = duo.upstreams();
    if kind == Kind::Direct {
        let version = "the load speaks to the primary itself".to_owned();
        return Ok(Some(Peer { kind, version, address: primary, process: None, config: None, admin: None }));
    }
    let places = Places { listen: workplace::free_address()?, primary, canary, folder: &workplace.path };
    let Some(recipe) = recipe(kind, choices, &places, workplace)? else { return Ok(None) };
    let mut command = match choices.under.split_first() {
        None => Command::new(&recipe.program),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(&recipe.program);
            command
        }
    };
    let log = format!("{kind:?}");
    workplace.log(&log, command.args(&recipe.arguments).current_dir(&workplace.path))?;
    let process = Process::start(command, PROXY_CORE, choices.priority)?;
    let mut peer = Peer {
        kind,
        version: recipe.version,
        address: places.listen,
        process: Some(process),
        config: recipe.config,
        admin: recipe.admin,
    };
    peer.until_ready(duo)
        .and_then(|()| if kind == Kind::Serin { peer.start_rollout() } else { Ok(()) })
        .with_context(|| {
            format!("{} did not come up; it wrote:\n{}", kind.name(), workplace.log_tail(&log))
        })?;
    Ok(Some(peer))
}

fn recipe(kind: Kind, choices: &Choices, places: &Places, workplace: &Workplace) -> Result<Option<Recipe>> {
    match kind {
        Kind::Direct => Ok(None),
        Kind::Relay => relay(places).map(Some),
        Kind::Serin | Kind::SerinPlain => serin(kind, choices.serin.as_deref(), places, workplace),
        Kind::Envoy => envoy(choices.envoy.as_deref(), places, workplace),
        Kind::Nginx => nginx(places, workplace),
        Kind::Haproxy => haproxy(places, workplace),
    }
}

fn relay(places: &Places) -> Result<Recipe> {
    Ok(Recipe {
        program: std::env::current_exe()?,
        arguments: words(&[
            "relay",
            "--listen",
            &places.listen.to_string(),
            "--primary",
            &places.primary.to_string(),
            "--canary",
            &places.canary.to_string(),
        ]),
        version: "bench/relay.rs, raw epoll, version drawn per connection".to_owned(),
        config: None,
        admin: None,
    })
}

fn serin(
    kind: Kind,
    program: Option<&Path>,
    places: &Places,
    workplace: &Workplace,
) -> Result<Option<Recipe>> {
    let Some(program) = program.filter(|path| path.is_file()) else { return Ok(None) };
    let admin = workplace::free_address()?;
    let (name, config) = match kind {
        Kind::SerinPlain => ("serin-plain.yaml", configs::serin_plain(places, admin)),
        _ => ("serin.yaml", configs::serin(places, admin)),
    };
    let path = workplace.write(name, &config)?;
    Ok(Some(Recipe {
        program: program.to_owned(),
        arguments: words(&["run", "-c", &path.display().to_string()]),
        version: version(program, "--version"),
        config: Some(config),
        admin: Some(admin),
    }))
}

fn envoy(given: Option<&Path>, places: &Places, workplace: &Workplace) -> Result<Option<Recipe>> {
    let Some(program) = given.map(Path::to_owned).or_else(workplace::find_envoy) else { return Ok(None) };
    let config = configs::envoy(places);
    let path = workplace.write("envoy.yaml", &config)?;
    Ok(Some(Recipe {
        version: version(&program, "--version"),
        program,
        arguments: words(&[
            "--config-path",
            &path.display().to_string(),
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "error",
        ]),
        config: Some(config),
        admin: None,
    }))
}

fn nginx(places: &Places, workplace: &Workplace) -> Result<Option<Recipe>> {
    let Some(program) = workplace::find("nginx") else { return Ok(None) };
    let config = configs::nginx(places);
    let path = workplace.write("nginx.conf", &config)?;
    Ok(Some(Recipe {
        version: version(&program, "-v"),
        program,
        arguments: words(&[
            "-p",
            &workplace.path.display().to_string(),
            "-e",
            "stderr",
            "-c",
            &path.display().to_string(),
        ]),
        config: Some(config),
        admin: None,
    }))
}

fn haproxy(places: &Places, workplace: &Workplace) -> Result<Option<Recipe>> {
    let Some(program) = workplace::find("haproxy") else { return Ok(None) };
    let config = configs::haproxy(places);
    let path = workplace.write("haproxy.cfg", &config)?;
    Ok(Some(Recipe {
        version: version(&program, "-v"),
        program,
        arguments: words(&["-db", "-f", &path.display().to_string()]),
        config: Some(config),
        admin: None,
    }))
}

/// What the program says of itself, without the path that some print before it.
fn version(program: &Path, flag: &str) -> String {
    let Some(line) = first_line(Command::new(program).arg(flag)) else { return "unknown".to_owned() };
    line.replace(&program.display().to_string(), "")
        .replace("nginx version:", "")
        .replace("version:", "")
        .trim()
        .to_owned()
}

fn words(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&word| word.to_owned()).collect()
}

impl Peer {
    pub fn alive(&mut self) -> bool {
        self.process.as_mut().is_none_or(Process::alive)
    }

    /// serin's rollout as it stands, in one line; none for the others.
    pub fn rollout(&self) -> Option<String> {
        let admin = self.admin.filter(|_| self.kind == Kind::Serin)?;
        Some(match ask(admin, "GET", "/rollouts/web") {
            Ok(text) => summary(&text),
            Err(error) => format!("not readable: {error:#}"),
        })
    }

    fn until_ready(&mut self, duo: &mut Duo) -> Result<()> {
        let end = Instant::now() + START_PATIENCE;
        while Instant::now() < end {
            if !self.alive() {
                bail!("it ended by itself");
            }
            if duo.reaches(self.address, Duration::from_secs(2))? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("no right answer within {} s", START_PATIENCE.as_secs())
    }

    fn start_rollout(&self) -> Result<()> {
        let admin = self.admin.context("serin has an admin address")?;
        ask(admin, "POST", "/rollouts/web/start").map(drop)
    }
}

/// One call of the admin API; the body of a 2xx answer, or its words as an error.
fn ask(admin: SocketAddr, method: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, ADMIN_TIMEOUT)?;
    stream.set_read_timeout(Some(ADMIN_TIMEOUT))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {admin}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the admin API's answer has no end of head")?;
    let status = head.lines().next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 2") {
        bail!("{method} {path}: {status}: {body}");
    }
    Ok(body.to_owned())
}

fn summary(text: &str) -> String {
    let status: serde_json::Value = match serde_json::from_str(text) {
        Ok(status) => status,
        Err(error) => return format!("not JSON: {error}"),
    };
    let part = |name: &str| format!("{name} {}", status.get(name).unwrap_or(&serde_json::Value::Null));
    format!("{}, {}", part("phase"), part("weights"))
}
