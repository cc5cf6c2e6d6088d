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
use crate::machine;
use crate::process::Priority;
use crate::process::Process;
use crate::setting::Places;
use crate::setting::Setting;
use crate::setting::Split;
use crate::setting::route;
use crate::workplace;
use crate::workplace::Workplace;
use crate::workplace::first_line;

/// How long a peer may take from its start to its first right answer; generous for callgrind.
const START_PATIENCE: Duration = Duration::from_secs(30);
const MOST_ROUTES_OF_CADDY: usize = 1_000;
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// No proxy: what the load itself can do
    Direct,
    /// A raw TCP relay: the floor
    Relay,
    /// serin with a rollout running: statistics, judge and shielding on
    Serin,
    /// serin with the same split and no rollout
    SerinPlain,
    /// Another build of serin, as `serin`
    Beside,
    Envoy,
    Nginx,
    Haproxy,
    Traefik,
    Caddy,
}

/// Those that take part unless others are named.
pub const USUAL: [Kind; 8] = [
    Kind::Direct,
    Kind::Relay,
    Kind::Serin,
    Kind::Envoy,
    Kind::Nginx,
    Kind::Haproxy,
    Kind::Traefik,
    Kind::Caddy,
];

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct (no proxy)",
            Kind::Relay => "TCP relay (floor)",
            Kind::Serin => "serin",
            Kind::SerinPlain => "serin, no rollout",
            Kind::Beside => "serin, the other build",
            Kind::Envoy => "Envoy",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "HAProxy",
            Kind::Traefik => "Traefik",
            Kind::Caddy => "Caddy",
        }
    }

    pub fn is_serin(self) -> bool {
        matches!(self, Kind::Serin | Kind::SerinPlain | Kind::Beside)
    }

    fn rolls_out(self) -> bool {
        matches!(self, Kind::Serin | Kind::Beside)
    }
}

pub struct Peer {
    pub kind: Kind,
    pub version: String,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub process: Option<Process>,
    pub started: Instant,
    /// The file it was given, word for word.
    pub config: Option<String>,
}

/// What the callers of this module choose.
#[derive(Clone)]
pub struct Choices {
    pub serin: Option<PathBuf>,
    pub beside: Option<PathBuf>,
    pub envoy: Option<PathBuf>,
    pub priority: Priority,
    /// Programs to run the peer under, such as valgrind with its arguments.
    pub under: Vec<String>,
    pub cores: Vec<usize>,
}

/// How one peer is to be started.
struct Recipe {
    program: PathBuf,
    arguments: Vec<String>,
    version: String,
    config: Option<String>,
    environment: Vec<(&'static str, String)>,
}

/// Why there is no peer.
#[derive(Debug)]
pub enum Absent {
    /// Its program is not on this machine.
    NotFound,
    /// It has no way to do this job.
    CannotDoThis,
    /// It would keep the core from the others for longer than its own turn.
    TakesTooLong,
}

/// Starts the peer; it may not answer yet.
pub fn launch(
    kind: Kind,
    setting: &Setting,
    choices: &Choices,
    upstreams: [SocketAddr; 2],
    workplace: &Workplace,
) -> Result<std::result::Result<Peer, Absent>> {
    let [primary, canary] = upstreams;
    let places = Places {
        listen: workplace::free_address()?,
        admin: workplace::free_address()?,
        primary,
        canary,
        folder: &workplace.path,
    };
    if kind == Kind::Direct {
        let version = "the load speaks to the primary itself".to_owned();
        let (address, admin) = (primary, places.admin);
        let started = Instant::now();
        return Ok(Ok(Peer { kind, version, address, admin, process: None, started, config: None }));
    }
    let recipe = match recipe(kind, setting, choices, &places, workplace)? {
        Ok(recipe) => recipe,
        Err(absent) => return Ok(Err(absent)),
    };
    let mut command = match choices.under.split_first() {
        None => Command::new(&recipe.program),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(&recipe.program);
            command
        }
    };
    command.args(&recipe.arguments).envs(recipe.environment).current_dir(&workplace.path);
    workplace.log(&format!("{kind:?}"), &mut command)?;
    // The Go proxies' threads must be able to preempt each other.
    let go = matches!(kind, Kind::Traefik | Kind::Caddy);
    let priority = if go { Priority::Ordinary } else { choices.priority };
    let started = Instant::now();
    let process = Some(Process::start(command, &choices.cores, priority)?);
    let (address, admin) = (places.listen, places.admin);
    Ok(Ok(Peer { kind, version: recipe.version, address, admin, process, started, config: recipe.config }))
}

/// Starts the peer and waits until `reaches` says that it answers right.
pub fn start(
    kind: Kind,
    setting: &Setting,
    choices: &Choices,
    upstreams: [SocketAddr; 2],
    workplace: &Workplace,
    reaches: &mut dyn FnMut(SocketAddr) -> Result<bool>,
) -> Result<std::result::Result<Peer, Absent>> {
    let mut peer = match launch(kind, setting, choices, upstreams, workplace)? {
        Ok(peer) => peer,
        Err(absent) => return Ok(Err(absent)),
    };
    peer.until_ready(reaches).and_then(|()| peer.start_rollouts(setting)).with_context(|| {
        format!("{} did not come up; it wrote:\n{}", kind.name(), workplace.log_tail(&format!("{kind:?}")))
    })?;
    Ok(Ok(peer))
}

fn recipe(
    kind: Kind,
    setting: &Setting,
    choices: &Choices,
    places: &Places,
    workplace: &Workplace,
) -> Result<std::result::Result<Recipe, Absent>> {
    let program = match kind {
        Kind::Direct => None,
        Kind::Relay => Some(std::env::current_exe()?),
        Kind::Serin | Kind::SerinPlain => choices.serin.clone(),
        Kind::Beside => choices.beside.clone(),
        Kind::Envoy => choices.envoy.clone().or_else(workplace::find_envoy),
        Kind::Nginx => workplace::find("nginx"),
        Kind::Haproxy => workplace::find("haproxy"),
        Kind::Traefik => workplace::find_in_venv("traefik").or_else(|| workplace::find("traefik")),
        Kind::Caddy => workplace::find_in_venv("caddy").or_else(|| workplace::find("caddy")),
    };
    let Some(program) = program else { return Ok(Err(Absent::NotFound)) };
    // Seen: 15 requests/s, and half of the core gone while it is not asked.
    if kind == Kind::Caddy && matches!(setting.split, Split::Routes(count, _) if count > MOST_ROUTES_OF_CADDY)
    {
        return Ok(Err(Absent::TakesTooLong));
    }
    let recipe = match kind {
        Kind::Direct => None,
        Kind::Relay => relay(setting, program, places),
        Kind::Serin | Kind::SerinPlain | Kind::Beside => serin(kind, setting, program, places, workplace)?,
        Kind::Envoy => envoy(setting, program, places, workplace)?,
        Kind::Nginx => nginx(setting, program, places, workplace)?,
        Kind::Haproxy => haproxy(setting, program, places, workplace)?,
        Kind::Traefik => traefik(setting, program, places, workplace)?,
        Kind::Caddy => caddy(setting, program, places, workplace)?,
    };
    Ok(recipe.ok_or(Absent::CannotDoThis))
}

/// A relay knows neither mirrors nor routes, and HTTP/2 passes through it as it came.
fn relay(setting: &Setting, program: PathBuf, places: &Places) -> Option<Recipe> {
    use crate::setting::Back;
    use crate::setting::Front;
    let same =
        matches!((setting.front, setting.back), (Front::Http1, Back::Http1) | (Front::Http2, Back::Http2));
    if !same || setting.split != Split::Coin || setting.workers > 1 {
        return None;
    }
    let (listen, primary, canary) =
        (places.listen.to_string(), places.primary.to_string(), places.canary.to_string());
    let buffer = if setting.bodies { "262144" } else { "65536" };
    Some(Recipe {
        program,
        arguments: words(&[
            "relay",
            "--listen",
            &listen,
            "--primary",
            &primary,
            "--canary",
            &canary,
            "--buffer",
            buffer,
        ]),
        version: "bench/relay.rs, raw epoll, version drawn per connection".to_owned(),
        config: None,
        environment: Vec::new(),
    })
}

fn serin(
    kind: Kind,
    setting: &Setting,
    program: PathBuf,
    places: &Places,
    workplace: &Workplace,
) -> Result<Option<Recipe>> {
    let config = configs::serin::config(setting, places, kind.rolls_out());
    let path = workplace.write(&format!("{kind:?}.yaml"), &config)?;
    Ok(Some(Recipe {
        // Its version does not change from commit to commit.
        version: format!("{}, built {}", version(&program, "--version"), machine::written(&program)),
        program,
        arguments: words(&["run", "-c", &path.display().to_string()]),
        config: Some(config),
        environment: Vec::new(),
    }))
}

fn envoy(
    setting: &Setting,
    program: PathBuf,
    places: &Places,
    workplace: &Workplace,
) -> Result<Option<Recipe>> {
    let Some(config) = configs::envoy::config(setting, places) else { return Ok(None) };
    let path = workplace.write("envoy.yaml", &config)?.display().to_string();
    let workers = setting.workers.to_string();
    Ok(Some(Recipe {
        version: version(&program, "--version"),
        program,
        arguments: words(&[
            "--config-path",
            &path,
            "--concurrency",
            &workers,
            "--disable-hot-restart",
            "--log-level",
            "error",
        ]),
        config: Some(config),
        environment: Vec::new(),
    }))
}

fn nginx(
    setting: &Setting,
    program: PathBuf,
    places: &Places,
    workplace: &Workplace,
) -> Result<Option<Recipe>> {
    let Some(config) = configs::nginx::config(setting, places) else { return Ok(None) };
    let path = workplace.write("nginx.conf", &config)?.display().to_string();
    let folder = workplace.path.display().to_string();
    Ok(Some(Recipe {
        version: version(&program, "-v"),
        program,
        arguments: words(&["-p", &folder, "-e", "stderr", "-c", &path]),
        config: Some(config),
        environment: Vec::new(),
    }))
}

fn haproxy(
    setting: &Setting,
    program: PathBuf,
    places: &Places,
    workplace: &Workplace,
) -> Result<Option<Recipe>> {
    let Some((config, map)) = configs::haproxy::config(setting, places) else { return Ok(None) };
    if let Some(map) = map {
        workplace.write("haproxy.map", &map)?;
    }
    let path = workplace.write("haproxy.cfg", &config)?.display().to_string();
    Ok(Some(Recipe {
        version: version(&program, "-v"),
        program,
        arguments: words(&["-db", "-f", &path]),
        config: Some(config),
        environment: Vec::new(),
    }))
}

fn traefik(
    setting: &Setting,
    program: PathBuf,
    places: &Places,
    workplace: &Workplace,
) -> Result<Option<Recipe>> {
    let Some(config) = configs::traefik::config(setting, places) else { return Ok(None) };
    workplace.write("traefik-routes.yaml", &config)?;
    let fixed = configs::traefik::fixed(setting, places);
    let path = workplace.write("traefik.yaml", &fixed)?.display().to_string();
    Ok(Some(Recipe {
        version: first_line(Command::new(&program).arg("version")).unwrap_or_default(),
        program,
        arguments: words(&["--configfile", &path]),
        config: Some(format!("{fixed}---\n{config}")),
        environment: vec![("GOMAXPROCS", setting.workers.to_string())],
    }))
}

fn caddy(
    setting: &Setting,
    program: PathBuf,
    places: &Places,
    workplace: &Workplace,
) -> Result<Option<Recipe>> {
    let Some(config) = configs::caddy::config(setting, places) else { return Ok(None) };
    let path = workplace.write("Caddyfile", &config)?.display().to_string();
    let folder = workplace.path.display().to_string();
    let version = first_line(Command::new(&program).arg("version")).unwrap_or_default();
    Ok(Some(Recipe {
        version: version.split(' ').next().unwrap_or_default().to_owned(),
        program,
        arguments: words(&["run", "--adapter", "caddyfile", "--config", &path]),
        config: Some(config),
        environment: vec![("GOMAXPROCS", setting.workers.to_string()), ("HOME", folder)],
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
        if !self.kind.rolls_out() || !self.config.as_ref()?.contains("rollouts:\n  web:") {
            return None;
        }
        Some(match ask(self.admin, "GET", "/rollouts/web", "") {
            Ok(text) => summary(&text),
            Err(error) => format!("not readable: {error:#}"),
        })
    }

    fn until_ready(&mut self, reaches: &mut dyn FnMut(SocketAddr) -> Result<bool>) -> Result<()> {
        let end = Instant::now() + START_PATIENCE;
        while Instant::now() < end {
            if !self.alive() {
                bail!("it ended by itself");
            }
            if reaches(self.address)? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("no right answer within {} s", START_PATIENCE.as_secs())
    }

    pub fn start_rollouts(&self, setting: &Setting) -> Result<()> {
        if !self.kind.rolls_out() {
            return Ok(());
        }
        match setting.split {
            Split::Services(count) => {
                for index in 0..count {
                    ask(self.admin, "POST", &format!("/rollouts/{}/start", route(index)), "")?;
                }
                Ok(())
            }
            _ if configs::serin::rolls_out(setting) => {
                ask(self.admin, "POST", "/rollouts/web/start", "").map(drop)
            }
            _ => Ok(()),
        }
    }
}

/// One call of the admin API; the body of a 2xx answer, or its words as an error.
pub fn ask(admin: SocketAddr, method: &str, path: &str, body: &str) -> Result<String> {
    ask_as(admin, method, path, "application/json", body)
}

/// The same, with a body of this kind.
pub fn ask_as(admin: SocketAddr, method: &str, path: &str, kind: &str, body: &str) -> Result<String> {
    answer(tell(admin, method, path, kind, body)?).with_context(|| format!("{method} {path}"))
}

/// Sends a call without waiting for what comes of it.
pub fn tell(admin: SocketAddr, method: &str, path: &str, kind: &str, body: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&admin, ADMIN_TIMEOUT)?;
    stream.set_read_timeout(Some(ADMIN_TIMEOUT))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {admin}\r\ncontent-type: {kind}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes())?;
    Ok(stream)
}

/// The body of a 2xx answer, or its words as an error.
pub fn answer(mut stream: TcpStream) -> Result<String> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, told) = answer.split_once("\r\n\r\n").context("the admin API's answer has no end of head")?;
    let status = head.lines().next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 2") {
        bail!("{status}: {told}");
    }
    Ok(told.to_owned())
}

fn summary(text: &str) -> String {
    let status: serde_json::Value = match serde_json::from_str(text) {
        Ok(status) => status,
        Err(error) => return format!("not JSON: {error}"),
    };
    let part = |name: &str| format!("{name} {}", status.get(name).unwrap_or(&serde_json::Value::Null));
    format!("{}, {}, {}", part("phase"), part("weights"), part("sentence"))
}
