//! A running sidecar, as commands ask it: over its admin listener.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use plimsoll_proxy::config::{Address, Config, Listen};
use serde_json::Value;

use super::Files;

/// A sidecar answers at once, or something else is at its address.
const PATIENCE: Duration = Duration::from_secs(10);

/// Far more than any state is long.
const LONGEST: usize = 256 << 20;

/// Which sidecar.
#[derive(clap::Args)]
pub(crate) struct Admin {
    /// The admin listener, like http://127.0.0.1:7490 or unix:/run/admin.sock; default: the configuration's `listen.admin`
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// The admin listener's token; default: the configuration's `listen.admin_token`
    #[arg(long, env = "PLIMSOLL__LISTEN__ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// A running sidecar.
pub(crate) struct Sidecar {
    /// Where its admin listener is.
    pub(crate) url: String,
    token: Option<String>,
    runtime: tokio::runtime::Runtime,
}

/// An answer of the admin listener.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

/// A question to the admin listener.
pub(crate) struct Question {
    pub(crate) method: Method,
    /// With its slash.
    pub(crate) path: String,
    /// Null: no body.
    pub(crate) body: Value,
    pub(crate) patience: Duration,
}

impl Sidecar {
    /// Asks, and waits for the answer. An answer that is a refusal is an answer too, where it is JSON.
    pub(crate) fn ask(&self, question: &Question) -> anyhow::Result<Answer> {
        let Self { url, token, runtime } = self;
        runtime.block_on(async {
            let asking = ask(url, token.as_deref(), question);
            tokio::time::timeout(question.patience, asking)
                .await
                .unwrap_or_else(|_| bail!("no answer from `{url}` within {} s", question.patience.as_secs()))
        })
    }

    /// The JSON at a path.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        let (method, path) = (Method::GET, path.to_owned());
        let answer = self.ask(&Question { method, path, body: Value::Null, patience: PATIENCE })?;
        match (answer.status, answer.body["error"]["message"].as_str()) {
            (StatusCode::OK, _) => Ok(answer.body),
            (_, Some(message)) => bail!("{message}"),
            (status, None) => bail!("`{}` answers {status}, which no admin listener does", self.url),
        }
    }

    /// What it is doing.
    pub(crate) fn state(&self) -> anyhow::Result<Value> {
        let state = self.get("/state")?;
        if !state["version"].is_string() || !state["config"].is_object() {
            return Err(self.foreign());
        }
        Ok(state)
    }

    /// Something else answers, in JSON.
    pub(crate) fn foreign(&self) -> anyhow::Error {
        anyhow::anyhow!("`{}` is no plimsoll: what answers there is not a sidecar's admin listener", self.url)
    }
}

impl Admin {
    /// The sidecar that the arguments or the configuration name.
    pub(crate) fn sidecar(&self, files: &Files) -> anyhow::Result<Sidecar> {
        let (url, token) = self.address(files)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Sidecar { url, token, runtime })
    }

    /// Where to ask, and with what token. The configuration is read only where the arguments leave something open, and
    /// its token goes to its own listener alone.
    fn address(&self, files: &Files) -> anyhow::Result<(String, Option<String>)> {
        if let Some(admin) = &self.admin {
            return Ok((admin.trim_end_matches('/').to_owned(), self.token.clone()));
        }
        let loaded = Config::load(&files.sources()?).context(
            "the configuration tells no address: say `--admin URL`, or name it by `--config FILE`",
        )?;
        let Listen { admin, admin_token, .. } = loaded.config.listen;
        let token = self.token.clone().or_else(|| admin_token.map(|token| token.expose().to_owned()));
        Ok((reachable(admin).url(), token))
    }
}

/// A listener on all addresses is asked on loopback.
fn reachable(address: Address) -> Address {
    match address {
        Address::Tcp(all) if all.ip().is_unspecified() => {
            Address::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), all.port()))
        }
        address => address,
    }
}

/// One request over a unix socket.
async fn over_socket(path: &str, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
    let stream = tokio::net::UnixStream::connect(path).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (mut head, body) = request.into_parts();
    let host = head.uri.authority().map_or("localhost", |authority| authority.as_str()).to_owned();
    head.headers.insert(header::HOST, host.parse()?);
    head.uri = head.uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
    Ok(sender.send_request(Request::from_parts(head, body)).await?)
}

async fn ask(admin: &str, token: Option<&str>, question: &Question) -> anyhow::Result<Answer> {
    let socket = admin.strip_prefix("unix:");
    let base = if socket.is_some() { "http://localhost" } else { admin };
    let uri: Uri =
        format!("{base}{}", question.path).parse().with_context(|| format!("`{admin}` is no URL"))?;
    if uri.scheme_str() != Some("http") {
        bail!("`{admin}` is no address of an admin listener: it starts with http:// or unix:");
    }
    let mut request = Request::builder().method(&question.method).uri(uri);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = match &question.body {
        Value::Null => Bytes::new(),
        body => {
            request = request.header(header::CONTENT_TYPE, "application/json");
            body.to_string().into()
        }
    };
    let request = request.body(Full::new(body)).context("the token cannot be sent")?;
    let answer = match socket {
        Some(path) => over_socket(path, request).await,
        None => {
            let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
            client.request(request).await.map_err(anyhow::Error::from)
        }
    };
    let answer = answer
        .with_context(|| format!("no sidecar answers at `{admin}`: is `plimsoll serve` running there?"))?;
    let status = answer.status();
    if status == StatusCode::UNAUTHORIZED {
        bail!("`{admin}` asks for its token: say `--token`, the value of `listen.admin_token`");
    }
    let body = Limited::new(answer.into_body(), LONGEST).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("`{admin}` broke off: {error}"))?;
    let body: Value = match serde_json::from_slice(&body.to_bytes()) {
        Ok(body) => body,
        Err(_) if !status.is_success() => bail!("`{admin}` answers {status}, which no admin listener does"),
        Err(error) => {
            return Err(error).with_context(|| format!("`{admin}` does not answer as a sidecar does"));
        }
    };
    Ok(Answer { status, body })
}
