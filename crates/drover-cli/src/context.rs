//! Which coordinator a command speaks to.
//!
//! The first of these that says something wins, flags before the environment, what is near before what is far:
//!
//! 1. `--coordinator URL`, else `--context NAME`
//! 2. `DROVER_COORDINATOR`, else `DROVER_CONTEXT`
//! 3. `DROVER_STATE`: the socket `drover.sock` in that state directory
//! 4. `.drover/world.json` in this directory or one above it: the sample world that `drover up` keeps running
//! 5. `current` in the contexts file, `~/.config/drover/config.yaml`
//! 6. `$XDG_RUNTIME_DIR/drover/drover.sock`, else `/run/drover/drover.sock`

use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use drover_agent::identity::CoordinatorUrl;
use drover_pki::TlsFiles;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The coordinator's socket in its state directory, or where the service manager keeps runtime files.
pub const SOCKET: &str = "drover.sock";
/// Where the sample world says that it runs.
pub const WORLD_FILE: &str = ".drover/world.json";
/// Where the packaged service listens.
const SYSTEM_SOCKET: &str = "/run/drover/drover.sock";

/// A coordinator, and what is known of its world without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// How people call it.
    pub name: String,
    /// Where it listens.
    pub coordinator: CoordinatorUrl,
    /// Where the other coordinators of the same store listen, which are asked when it does not answer.
    pub others: Vec<CoordinatorUrl>,
    /// Destructive commands ask for the region's name.
    pub production: bool,
    /// Status addresses of agents, for when the coordinator is gone.
    pub agents: BTreeMap<String, String>,
    /// By which files this machine proves who it is, to a coordinator at `https://`.
    pub tls: Option<TlsFiles>,
    /// The file with the token to show there.
    pub token_file: Option<PathBuf>,
}

/// The contexts file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The one used when none is named.
    #[serde(default)]
    pub current: Option<String>,
    /// By name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// `unix:/path`, `https://HOST:7400` or `http://127.0.0.1:7400`; of several on one store all, with commas between.
    pub coordinator: String,
    /// Destructive commands ask for the region's name.
    #[serde(default)]
    pub production: bool,
    /// Agents by name, with the address of their status endpoint (`127.0.0.1:7420` or `unix:/path`).
    #[serde(default)]
    pub agents: BTreeMap<String, String>,
    /// By which files this machine proves who it is, to a coordinator at `https://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// File with the token to show there; a relative path starts where the contexts file is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// What a running sample world says about itself. More may stand in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldFile {
    /// The process that keeps the world.
    #[serde(default)]
    pub pid: Option<i32>,
    /// `unix:/path` or `http://127.0.0.1:PORT`.
    pub coordinator: String,
    /// Agents by name, with the address of their status endpoint.
    #[serde(default)]
    pub agents: BTreeMap<String, String>,
}

/// What the choice depends on.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `--coordinator`.
    pub coordinator_flag: Option<String>,
    /// `--context`.
    pub context_flag: Option<String>,
    /// `DROVER_COORDINATOR`.
    pub coordinator_env: Option<String>,
    /// `DROVER_CONTEXT`.
    pub context_env: Option<String>,
    /// `DROVER_STATE`.
    pub state_env: Option<PathBuf>,
    /// Where the command runs.
    pub directory: PathBuf,
    /// The contexts file.
    pub contexts_file: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_directory: Option<PathBuf>,
    /// `DROVER_TOKEN_FILE`.
    pub token_file_env: Option<PathBuf>,
}

impl Surroundings {
    /// As this process has them.
    pub fn new(coordinator_flag: Option<String>, context_flag: Option<String>) -> Self {
        let env = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        Self {
            coordinator_flag,
            context_flag,
            coordinator_env: env("DROVER_COORDINATOR"),
            context_env: env("DROVER_CONTEXT"),
            state_env: env("DROVER_STATE").map(PathBuf::from),
            directory: std::env::current_dir().unwrap_or_default(),
            contexts_file: dirs::config_dir().map(|d| d.join("drover/config.yaml")),
            runtime_directory: env("XDG_RUNTIME_DIR").map(PathBuf::from),
            token_file_env: env("DROVER_TOKEN_FILE").map(PathBuf::from),
        }
    }

    /// The coordinator to speak to, and the token to show there: that of `DROVER_TOKEN_FILE`, else the context's.
    ///
    /// # Errors
    /// When what was said does not name one.
    pub fn target(&self) -> Result<Target> {
        let named = self.named_target()?;
        // Whoever can write above the directory where somebody works must not be shown his token.
        let sample = if named.is_none() { self.world()? } else { None };
        if let Some(world) = sample {
            return Ok(world);
        }
        let target = named.map_or_else(|| self.standing_target(), Ok)?;
        let token_file = self.token_file_env.clone().or(target.token_file);
        Ok(Target { token_file, ..target })
    }

    /// What was said for this command.
    fn named_target(&self) -> Result<Option<Target>> {
        if let Some(url) = &self.coordinator_flag {
            return bare("--coordinator", url).map(Some);
        }
        if let Some(name) = &self.context_flag {
            return self.named(name).map(Some);
        }
        if let Some(url) = &self.coordinator_env {
            return bare("DROVER_COORDINATOR", url).map(Some);
        }
        if let Some(name) = &self.context_env {
            return self.named(name).map(Some);
        }
        if let Some(state) = &self.state_env {
            let socket = self.directory.join(state).join(SOCKET);
            return Ok(Some(at_socket("DROVER_STATE", socket)));
        }
        Ok(None)
    }

    /// What holds where nothing was said.
    fn standing_target(&self) -> Result<Target> {
        let contexts = self.contexts()?;
        if let Some(name) = &contexts.current {
            return self.pick(&contexts, name);
        }
        let own = self.runtime_directory.as_ref().map(|d| d.join("drover").join(SOCKET));
        let socket = own.filter(|s| s.exists()).unwrap_or_else(|| PathBuf::from(SYSTEM_SOCKET));
        Ok(at_socket("default", socket))
    }

    fn named(&self, name: &str) -> Result<Target> {
        self.pick(&self.contexts()?, name)
    }

    fn pick(&self, contexts: &Contexts, name: &str) -> Result<Target> {
        let Some(context) = contexts.contexts.get(name) else {
            let file = self.contexts_file.as_deref().unwrap_or(Path::new("the contexts file")).display();
            let known: Vec<&str> = contexts.contexts.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Failure::usage(format!("there is no context `{name}` in {file}"))
                .hint(format!("known: {known}")));
        };
        let (coordinator, others) = parse(&context.coordinator, &format!("context `{name}`"))?;
        Ok(Target {
            name: name.to_owned(),
            coordinator,
            others,
            production: context.production,
            agents: context.agents.clone(),
            tls: context.tls.clone(),
            token_file: context.token_file.as_ref().map(|file| self.beside_contexts(file)),
        })
    }

    fn beside_contexts(&self, file: &Path) -> PathBuf {
        let directory = self.contexts_file.as_deref().and_then(Path::parent);
        directory.map_or_else(|| file.to_owned(), |directory| directory.join(file))
    }

    fn contexts(&self) -> Result<Contexts> {
        let Some(path) = &self.contexts_file else { return Ok(Contexts::default()) };
        let Some(text) = read_if_there(path)? else { return Ok(Contexts::default()) };
        serde_saphyr::from_str(&text)
            .map_err(|e| Failure::because(ExitCode::Usage, format!("can't read {}", path.display()), &e))
    }

    fn world(&self) -> Result<Option<Target>> {
        for directory in self.directory.ancestors() {
            let path = directory.join(WORLD_FILE);
            let Some(text) = read_if_there(&path)? else { continue };
            if !is_ours(&path) {
                continue;
            }
            let world: WorldFile = serde_json::from_str(&text).map_err(|e| {
                Failure::because(ExitCode::Usage, format!("can't read {}", path.display()), &e)
                    .hint("remove it when no sample world runs here")
            })?;
            // Left behind by a world that was killed: it must not hide the contexts.
            if world.pid.is_some_and(|pid| !is_alive(pid)) {
                continue;
            }
            let (coordinator, others) = parse(&world.coordinator, &path.display().to_string())?;
            return Ok(Some(Target {
                name: "sample-world".to_owned(),
                coordinator,
                others,
                production: false,
                agents: world.agents,
                tls: None,
                token_file: None,
            }));
        }
        Ok(None)
    }
}

/// Nobody else's word counts for where commands go.
fn is_ours(path: &Path) -> bool {
    let owner = std::fs::metadata(path).map(|file| file.uid());
    owner.is_ok_and(|owner| owner == 0 || owner == nix::unistd::getuid().as_raw())
}

fn is_alive(pid: i32) -> bool {
    // Signal 0 asks whether the process could be signalled; one that is another user's lives, too.
    let asked = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None);
    pid > 0 && asked != Err(nix::errno::Errno::ESRCH)
}

fn read_if_there(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        // Directories above that may not be looked into hold nothing for us.
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied) => {
            Ok(None)
        }
        Err(e) => Err(Failure::because(ExitCode::Usage, format!("can't read {}", path.display()), &e)),
    }
}

fn bare(from: &str, url: &str) -> Result<Target> {
    let (coordinator, others) = parse(url, from)?;
    let name = coordinator.to_string();
    Ok(Target {
        name,
        coordinator,
        others,
        production: false,
        agents: BTreeMap::new(),
        tls: None,
        token_file: None,
    })
}

fn at_socket(name: &str, socket: PathBuf) -> Target {
    let coordinator = CoordinatorUrl::Unix(socket);
    let (name, others, agents) = (name.to_owned(), Vec::new(), BTreeMap::new());
    Target { name, coordinator, others, production: false, agents, tls: None, token_file: None }
}

/// The first, and the others.
fn parse(urls: &str, from: &str) -> Result<(CoordinatorUrl, Vec<CoordinatorUrl>)> {
    let parse_one = |url: &str| -> Result<CoordinatorUrl> {
        url.trim().parse().map_err(|e| {
            Failure::because(ExitCode::Usage, format!("{from} does not say where a coordinator is"), &e)
                .hint("write unix:/run/drover/drover.sock, https://HOST:7400 or http://127.0.0.1:7400; of several all, with commas between; for certificates: drover pki init")
        })
    };
    let (first, others) = urls.split_once(',').map_or((urls, None), |(first, others)| (first, Some(others)));
    let others = others.into_iter().flat_map(|others| others.split(',')).map(parse_one);
    Ok((parse_one(first)?, others.collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXTS: &str = "current: lab\ncontexts:\n  lab: {coordinator: 'http://127.0.0.1:7400'}\n  \
                            prod: {coordinator: 'unix:/run/p.sock', production: true, \
                            token_file: me.token}\n";

    fn surroundings(directory: &Path) -> Surroundings {
        Surroundings {
            directory: directory.join("a/b"),
            contexts_file: Some(directory.join("config.yaml")),
            ..Surroundings::default()
        }
    }

    #[test]
    fn the_nearest_word_wins() {
        let dir = tempfile::tempdir().unwrap();
        let mut s = surroundings(dir.path());
        let name = |s: &Surroundings| s.target().unwrap().name;
        assert_eq!(s.target().unwrap().coordinator.to_string(), "unix:/run/drover/drover.sock");
        std::fs::write(dir.path().join("config.yaml"), CONTEXTS).unwrap();
        assert_eq!(name(&s), "lab");
        std::fs::create_dir_all(dir.path().join(".drover")).unwrap();
        let world = |pid: u32| {
            let text = format!(
                r#"{{"pid": {pid}, "coordinator": "unix:/w.sock", "agents": {{"eu-1": "127.0.0.1:1"}}, "more": 1}}"#
            );
            std::fs::write(dir.path().join(WORLD_FILE), text).unwrap();
        };
        // No system numbers its processes that high.
        world(i32::MAX.unsigned_abs());
        assert_eq!(name(&s), "lab");
        world(std::process::id());
        assert_eq!(name(&s), "sample-world");
        assert_eq!(s.target().unwrap().agents["eu-1"], "127.0.0.1:1");
        s.state_env = Some(PathBuf::from("/st"));
        assert_eq!(s.target().unwrap().coordinator.to_string(), "unix:/st/drover.sock");
        s.context_env = Some("prod".into());
        let prod = s.target().unwrap();
        assert!(prod.production);
        assert_eq!(prod.token_file, Some(dir.path().join("me.token")));
        s.token_file_env = Some(PathBuf::from("/other.token"));
        assert_eq!(s.target().unwrap().token_file, s.token_file_env);
        s.coordinator_env = Some("http://127.0.0.1:1".into());
        assert_eq!(name(&s), "http://127.0.0.1:1");
        s.context_flag = Some("lab".into());
        assert_eq!(name(&s), "lab");
        s.coordinator_flag = Some("http://127.0.0.1:2".into());
        assert_eq!(name(&s), "http://127.0.0.1:2");
    }

    #[test]
    fn what_names_no_coordinator_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.yaml"), CONTEXTS).unwrap();
        let mut s = surroundings(dir.path());
        s.context_flag = Some("nope".into());
        let failure = s.target().unwrap_err();
        assert_eq!((failure.code, failure.hint.unwrap().as_str()), (ExitCode::Usage, "known: lab, prod"));
        s.coordinator_flag = Some("http://10.0.0.1:7400".into());
        assert!(s.target().unwrap_err().causes[0].contains("loopback"));
        s.coordinator_flag = Some("http://127.0.0.1:1,nowhere".into());
        assert_eq!(s.target().unwrap_err().code, ExitCode::Usage, "each of several");
        s.coordinator_flag = Some("http://127.0.0.1:1, unix:/a.sock,http://127.0.0.1:2".into());
        let others: Vec<String> = s.target().unwrap().others.iter().map(ToString::to_string).collect();
        assert_eq!(others, ["unix:/a.sock", "http://127.0.0.1:2"]);
    }
}
