//! What is compared: each as its own documentation runs it for production, before the same upstream, on this machine.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use plimsoll_tests::load::{Connection, Target};
use plimsoll_tests::shared::root;

use crate::bodies;
use crate::process::Tree;

/// How long one may take to start.
const PATIENCE: Duration = Duration::from_secs(90);

/// How Plimsoll is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Governing {
    /// `mode: off`
    PassThrough,
    /// The preset `agent`; the conversation fits the window. Counted as the demo model counts.
    Exact,
    /// The same, counted by tiktoken, as where no model folder is given.
    Estimated,
    /// The same, and the conversation is cut to a window of 16k tokens.
    Cut,
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Direct,
    Bare,
    Nginx,
    Plimsoll(Governing),
    LiteLlm,
    Portkey,
    /// Whether it compresses.
    Headroom(bool),
}

/// All, in the order of the tables.
pub(crate) const ALL: [Who; 11] = [
    Who::Direct,
    Who::Bare,
    Who::Nginx,
    Who::Plimsoll(Governing::PassThrough),
    Who::Plimsoll(Governing::Exact),
    Who::Plimsoll(Governing::Estimated),
    Who::Plimsoll(Governing::Cut),
    Who::LiteLlm,
    Who::Portkey,
    Who::Headroom(false),
    Who::Headroom(true),
];

impl Who {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Bare => "bare hyper proxy",
            Self::Nginx => "nginx",
            Self::Plimsoll(Governing::PassThrough) => "Plimsoll, pass-through",
            Self::Plimsoll(Governing::Exact) => "Plimsoll, governed",
            Self::Plimsoll(Governing::Estimated) => "Plimsoll, governed, tiktoken",
            Self::Plimsoll(Governing::Cut) => "Plimsoll, governed, cut to 16k",
            Self::LiteLlm => "LiteLLM",
            Self::Portkey => "Portkey gateway",
            Self::Headroom(false) => "headroom, pass-through",
            Self::Headroom(true) => "headroom, compressing",
        }
    }

    /// Its share of the rate: what needs milliseconds for a request is not to be overrun.
    pub(crate) fn pace(self) -> f64 {
        match self {
            Self::Portkey => 0.2,
            Self::LiteLlm | Self::Headroom(_) => 0.05,
            _ => 1.0,
        }
    }

    /// What runs in the same process is one process.
    fn process(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Bare => "bare",
            Self::Nginx => "nginx",
            Self::Plimsoll(_) => "plimsoll",
            Self::LiteLlm => "litellm",
            Self::Portkey => "portkey",
            Self::Headroom(false) => "headroom-passing",
            Self::Headroom(true) => "headroom",
        }
    }

    /// The folder of what was set up for it.
    fn home(self) -> Option<PathBuf> {
        let name = match self {
            Self::Nginx => "nginx",
            Self::LiteLlm => "litellm",
            Self::Portkey => "portkey",
            Self::Headroom(_) => "headroom",
            _ => return None,
        };
        Some(root().join(".tools/peers").join(name))
    }
}

/// A process that is measured; ends when dropped, with its children.
pub(crate) struct Running {
    /// What it uses.
    pub(crate) tree: Tree,
    process: &'static str,
    address: SocketAddr,
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}

/// Someone who can be asked.
pub(crate) struct Subject {
    pub(crate) who: Who,
    pub(crate) target: Target,
    /// Its place among the processes; none where it is the upstream itself.
    pub(crate) running: Option<usize>,
}

/// Where processes are started from.
pub(crate) struct Stage {
    /// Who answers behind all of them.
    pub(crate) upstream: SocketAddr,
    /// The sidecar's program.
    pub(crate) plimsoll: PathBuf,
    /// Where configurations and logs lie.
    pub(crate) folder: PathBuf,
    /// Who is started besides the upstream itself, by parts of their names with commas between; nothing: all.
    pub(crate) only: Option<String>,
}

/// Everyone who could be started, and who could not, with the reason.
pub(crate) struct Cast {
    pub(crate) subjects: Vec<Subject>,
    pub(crate) running: Vec<Running>,
    pub(crate) missing: Vec<(Who, String)>,
}

impl Stage {
    /// Starts all of these, each process once, side by side.
    pub(crate) fn start(&self, whom: &[Who]) -> Cast {
        let mut cast = Cast { subjects: Vec::new(), running: Vec::new(), missing: Vec::new() };
        let named = |who: &Who, only: &String| only.split(',').any(|part| who.name().contains(part));
        let wanted =
            |who: &Who| *who == Who::Direct || self.only.as_ref().is_none_or(|only| named(who, only));
        for who in whom.iter().copied().filter(wanted) {
            if who == Who::Direct {
                cast.subjects.push(Subject { who, target: self.target(who, self.upstream), running: None });
                continue;
            }
            let known = cast.running.iter().position(|running| running.process == who.process());
            let at = match known {
                Some(at) => at,
                None => match self.spawn(who) {
                    Ok(running) => {
                        cast.running.push(running);
                        cast.running.len() - 1
                    }
                    Err(why) => {
                        cast.missing.push((who, why));
                        continue;
                    }
                },
            };
            let target = self.target(who, cast.running[at].address);
            cast.subjects.push(Subject { who, target, running: Some(at) });
        }
        cast.wait();
        cast
    }

    fn spawn(&self, who: Who) -> Result<Running, String> {
        let home = who.home();
        if let Some(home) = home.as_ref().filter(|home| !home.join(".ready").exists()) {
            return Err(format!(
                "not installed: `{}` is missing",
                home.strip_prefix(root()).unwrap_or(home).display()
            ));
        }
        let address = free();
        let mut command =
            self.command(who, &home.unwrap_or_default(), address).map_err(|error| error.to_string())?;
        let log = |suffix: &str| File::create(self.folder.join(format!("{}.{suffix}", who.process())));
        let (out, err) = (log("out").map_err(|e| e.to_string())?, log("err").map_err(|e| e.to_string())?);
        let child =
            command.stdin(std::process::Stdio::null()).stdout(out).stderr(err).process_group(0).spawn();
        let child = child.map_err(|error| format!("it does not start: {error}"))?;
        Ok(Running { tree: Tree::of(child.id()), process: who.process(), address, child })
    }

    /// Of a process that serves these ways alone.
    fn command(&self, who: Who, home: &Path, address: SocketAddr) -> std::io::Result<Command> {
        let (upstream, port) = (format!("http://{}", self.upstream), address.port().to_string());
        // Apart from the logs: a program may watch the folder of its configuration.
        let configs = self.folder.join("configs");
        fs::create_dir_all(&configs)?;
        let file = |name: &str, text: String| {
            let path = configs.join(name);
            fs::write(&path, text).map(|()| path)
        };
        let mut command;
        match who {
            Who::Direct | Who::Bare => {
                command = Command::new(std::env::current_exe()?);
                command.args(["bare", &address.to_string(), &self.upstream.to_string()]);
            }
            Who::Plimsoll(_) => {
                let config = file("plimsoll.yaml", plimsoll_config(address, free(), &upstream))?;
                command = Command::new(&self.plimsoll);
                command.arg("serve").arg("--config").arg(config).current_dir(root());
            }
            Who::Nginx => {
                let config = file("nginx.conf", nginx_config(address, self.upstream, &self.folder))?;
                command = Command::new(home.join("nginx"));
                command.arg("-p").arg(&self.folder).arg("-c").arg(config).arg("-e").arg("stderr");
            }
            Who::LiteLlm => {
                let config = file("litellm.yaml", litellm_config(&upstream))?;
                command = Command::new(home.join("bin/litellm"));
                command.arg("--config").arg(config).args([
                    "--host",
                    "127.0.0.1",
                    "--port",
                    &port,
                    "--num_workers",
                    "1",
                ]);
                command.args(["--telemetry", "False"]).envs([
                    ("LITELLM_LOG", "ERROR"),
                    ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
                    ("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true"),
                ]);
            }
            Who::Portkey => {
                command = Command::new("node");
                command.arg(home.join("node_modules/@portkey-ai/gateway/build/start-server.js"));
                command.args([&format!("--port={port}"), "--headless"]);
            }
            Who::Headroom(compresses) => {
                command = Command::new(home.join("bin/headroom"));
                command.args([
                    "proxy",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    &port,
                    "--openai-api-url",
                    &upstream,
                ]);
                command
                    .args(["--no-cache", "--no-rate-limit"])
                    .args((!compresses).then_some("--no-optimize"));
                // It neither reports home nor fetches models while it is measured.
                command.envs([
                    ("HEADROOM_TELEMETRY", "off"),
                    ("HEADROOM_OFFLINE", "1"),
                    ("HF_HUB_OFFLINE", "1"),
                ]);
                command.env("HOME", &self.folder);
            }
        }
        Ok(command)
    }

    fn target(&self, who: Who, address: SocketAddr) -> Target {
        let custom = format!("http://{}/v1", self.upstream);
        match who {
            Who::Plimsoll(governing) => Target::new(address, &[("x-bench", route(governing))]),
            Who::Portkey => {
                Target::new(address, &[("x-portkey-provider", "openai"), ("x-portkey-custom-host", &custom)])
            }
            _ => Target::new(address, &[]),
        }
    }
}

impl Cast {
    /// Until each answers a chat; who does not goes to the missing.
    fn wait(&mut self) {
        let begun = Instant::now();
        let mut late = Vec::new();
        for subject in &self.subjects {
            while !answers(&subject.target) {
                if begun.elapsed() > PATIENCE {
                    late.push(subject.who);
                    break;
                }
                thread::park_timeout(Duration::from_millis(50));
            }
        }
        self.subjects.retain(|subject| !late.contains(&subject.who));
        self.missing.extend(
            late.into_iter().map(|who| (who, format!("did not answer a chat with 200 within {PATIENCE:?}"))),
        );
        for running in &mut self.running {
            // Workers are children that were not there at the start.
            running.tree = Tree::of(running.child.id());
        }
    }
}

/// Whether a chat is answered.
pub(crate) fn answers(target: &Target) -> bool {
    Connection::open(target).is_ok_and(|mut connection| connection.ask(bodies::small(), |_| ()))
}

/// An address that nobody listens on just now.
pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free")
}

fn route(governing: Governing) -> &'static str {
    match governing {
        Governing::PassThrough => "off",
        Governing::Exact => "exact",
        Governing::Estimated => "estimated",
        Governing::Cut => "cut",
    }
}

/// All else stands at its default: the log at `info`, traces and metrics made, no collector, `explain` kept.
pub(crate) fn plimsoll_config(data: SocketAddr, admin: SocketAddr, upstream: &str) -> String {
    let model = root().join("engine/demo/model");
    let model = model.display();
    format!(
        "
listen: {{ data: '{data}', admin: '{admin}' }}
upstreams:
  exact: {{ url: '{upstream}', context: 2000000, tokenizer: '{model}' }}
  estimated: {{ url: '{upstream}', context: 2000000 }}
  small: {{ url: '{upstream}', context: 16384, tokenizer: '{model}' }}
routes:
  - {{ name: off, match: {{ header: {{ x-bench: 'off' }} }}, upstream: estimated, policy: agent, mode: 'off' }}
  - {{ name: exact, match: {{ header: {{ x-bench: exact }} }}, upstream: exact, policy: agent }}
  - {{ name: cut, match: {{ header: {{ x-bench: cut }} }}, upstream: small, policy: agent }}
  - {{ name: default, upstream: estimated, policy: agent }}
"
    )
}

/// Connections to the upstream are kept and nothing is held back in files: nginx's own advice for streams.
fn nginx_config(address: SocketAddr, upstream: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "
daemon off;
worker_processes auto;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  client_max_body_size 32m;
  keepalive_requests 1000000;
  upstream mock {{ server {upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen {address};
    location / {{
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header connection '';
      proxy_request_buffering off;
      proxy_buffering off;
    }}
  }}
}}
"
    )
}

fn litellm_config(upstream: &str) -> String {
    format!(
        "
model_list:
  - model_name: demo
    litellm_params: {{ model: openai/demo, api_base: '{upstream}/v1', api_key: bench }}
"
    )
}

/// What was measured, by name.
pub(crate) fn versions(plimsoll: &Path) -> Vec<(String, String)> {
    let first = |command: &mut Command| {
        let output = command.output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        Some(text.lines().next()?.trim().rsplit([' ', '/']).next()?.to_owned())
    };
    let pinned = |file: &str, before: &str| {
        let text = fs::read_to_string(root().join(file)).ok()?;
        let behind = text.split_once(before)?.1.trim_start_matches(['"', ' ', ':']);
        Some(behind.split(['"', ' ', '\\', '\n']).next()?.to_owned())
    };
    let versions = [
        ("Plimsoll", first(Command::new(plimsoll).arg("--version"))),
        ("hyper", pinned("Cargo.lock", "name = \"hyper\"\nversion = ")),
        ("nginx", first(Command::new(root().join(".tools/peers/nginx/nginx")).arg("-v"))),
        ("LiteLLM", pinned("tests/setup/peers/litellm.txt", "\nlitellm==")),
        ("Portkey gateway", pinned("tests/setup/peers/portkey/package.json", "@portkey-ai/gateway")),
        ("headroom", pinned("tests/setup/peers/headroom.txt", "\nheadroom-ai==")),
        ("Python", first(Command::new(root().join(".tools/peers/litellm/bin/python")).arg("--version"))),
        ("Node", first(Command::new("node").arg("--version"))),
    ];
    let known = versions.into_iter();
    known.map(|(name, version)| (name.to_owned(), version.unwrap_or_else(|| "absent".to_owned()))).collect()
}
