//! What is measured, running: gateways of this very binary, another gateway, the bare server; and the end of them all.
//!
//! Whatever is started is put on the stage before it is waited for, so that it is ended however the run ends. This
//! process adopts what its children leave behind, so that nothing of another gateway's trees survives the run either; and
//! if it is killed itself, its heir ends them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use hyper::header::HeaderValue;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::bare::Live;
use super::client::Endpoint;
use super::heir::Heir;
use super::load::{Subject, Watched};
use super::setup::{Question, against_words};
use super::usage;

/// The strategy that starts processes before they are asked for.
const AHEAD: &str = "prewarmed";

/// How long a gateway may take until it is ready: longer than any start that is worth measuring.
const START: Duration = Duration::from_mins(1);

/// After this it is said what is waited for.
const SILENCE: Duration = Duration::from_secs(1);

/// How long a gateway may take to end after SIGTERM.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// How long what a gateway leaves may take after it. Its wardens need a moment; what others leave does not go by itself.
pub(super) const AFTERWARDS: Duration = Duration::from_secs(2);

/// Something to measure.
pub(super) struct Target {
    pub(super) name: String,
    pub(super) subject: Subject,
    pub(super) watched: Watched,
    /// Whether it is known to start processes before they are asked for.
    pub(super) ahead: bool,
}

/// Everything that the run has started.
pub(super) struct Stage {
    dir: tempfile::TempDir,
    heir: Heir,
    gateways: Vec<Child>,
    lives: Vec<Arc<Live>>,
}

impl Stage {
    pub(super) fn new() -> Result<Self> {
        rustix::process::set_child_subreaper(rustix::process::getpid().into())
            .context("cannot adopt what other gateways leave behind")?;
        let dir = tempfile::Builder::new().prefix("spawnling-bench-").tempdir().context("no directory")?;
        let heir = Heir::appoint(dir.path())?;
        Ok(Self { dir, heir, gateways: Vec::new(), lives: Vec::new() })
    }

    /// Starts a gateway of this binary, with the server under this strategy.
    ///
    /// # Errors
    ///
    /// It did not become ready; the text is what it said, above all why it does not take the strategy.
    pub(super) async fn gateway(
        &mut self,
        question: &Question,
        strategy: &str,
        setting: &Setting<'_>,
    ) -> Result<Target> {
        let config = self.dir.path().join(format!("{strategy}.toml"));
        std::fs::write(&config, question.configuration(strategy, setting.seats)?)?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut words = vec!["serve", "--listen", "127.0.0.1:0", "--log-format", "human"];
        words.extend(setting.containment.iter().flat_map(|kind| ["--containment", kind]));
        let words = words.into_iter().map(Into::into).chain(["--config".into(), config.into()]);
        let pid = self.start(program.as_ref(), words.collect(), strategy)?;
        let running = self.gateways.last_mut().context("it was put there")?;
        // Borrowed, so that it stays open: a gateway may write to it.
        let mut stdout = BufReader::new(running.stdout.as_mut().context("stdout is piped")?);
        let mut ready = String::new();
        timeout(START, stdout.read_line(&mut ready)).await.context("the gateway does not become ready")??;
        let Some(address) = ready.trim().strip_prefix("spawnling listening on http://") else {
            bail!("{}", self.said(strategy));
        };
        let address = address.parse().context("no address")?;
        let endpoint = Endpoint {
            address,
            host: address.to_string(),
            path: question.path(),
            body: Bytes::from(question.arguments.clone()),
            token: None,
            expected: None,
        };
        let subject = Subject::Http { endpoint: Arc::new(endpoint), receipts: true };
        let (watched, ahead) = (Watched::Tree(pid), strategy == AHEAD);
        Ok(Target { name: strategy.to_owned(), subject, watched, ahead })
    }

    /// Starts another gateway on a free port, and waits until something listens there.
    pub(super) async fn other(&mut self, question: &Question, other: &Other<'_>) -> Result<Target> {
        // Free a moment ago: another gateway cannot be handed a listening socket.
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let words = against_words(other.start, port, &question.bare()?.command)?;
        let (program, args) = words.split_first().context("no command")?;
        let log = format!("other-{}", self.gateways.len());
        let pid = self.start(program.as_ref(), args.iter().map(Into::into).collect(), &log)?;
        let address = ([127, 0, 0, 1], port).into();
        let running = self.gateways.last_mut().context("it was put there")?;
        if let Err(error) = listens(running, address, program).await {
            match self.said(&log) {
                said if said.is_empty() => bail!("{error}; it has said nothing on its stderr"),
                said => bail!("{error}; it said last: {said}"),
            }
        }
        let body = other.body.map_or_else(|| question.arguments.clone(), ToOwned::to_owned);
        let endpoint = Endpoint {
            address,
            host: address.to_string(),
            path: other.path.to_owned(),
            body: Bytes::from(body),
            token: None,
            expected: other.expected.map(ToOwned::to_owned),
        };
        let subject = Subject::Http { endpoint: Arc::new(endpoint), receipts: false };
        let name =
            Path::new(program).file_name().map_or_else(|| program.into(), |name| name.to_string_lossy());
        Ok(Target { name: name.into_owned(), subject, watched: Watched::Tree(pid), ahead: false })
    }

    /// The server itself, opened once for all calls.
    pub(super) async fn live(&mut self, question: &Question) -> Result<Target> {
        let live = Arc::new(Live::open(&question.bare()?).await?);
        self.lives.push(Arc::clone(&live));
        let watched = live.pid().map_or(Watched::Nobody, Watched::Tree);
        live.pid().map(|pid| self.heir.entrust(pid)).transpose()?;
        Ok(Target { name: "bare, one live".into(), subject: Subject::Live(live), watched, ahead: false })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "gateways are started, and ended, by the run that measures them"
    )]
    fn start(&mut self, program: &Path, args: Vec<std::ffi::OsString>, name: &str) -> Result<u32> {
        let log = std::fs::File::create(self.dir.path().join(format!("{name}.log")))?;
        let mut command = Command::new(program);
        // A group of its own: a Ctrl-C is meant for us, who end it in order.
        command.args(args).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stderr(log);
        command.stdout(if name.starts_with("other") { Stdio::null() } else { Stdio::piped() });
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let pid = child.id().context("it was not waited for")?;
        self.gateways.push(child);
        self.heir.entrust(pid)?;
        Ok(pid)
    }

    /// The last lines that something started here has written to its stderr.
    fn said(&self, name: &str) -> String {
        let log = std::fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let dir = format!("{}/", self.dir.path().display());
        lines[lines.len().saturating_sub(5)..].join("; ").replace(&dir, "")
    }

    /// Ends everything that was started, and waits for it.
    pub(super) async fn end(self) {
        for running in &self.gateways {
            signal(running.id(), Signal::TERM);
        }
        for mut running in self.gateways {
            if timeout(GRACE, running.wait()).await.is_err() {
                let group = running.id().and_then(pid_of);
                // Its leader is not reaped yet, so the group is still the one that was started.
                let _ = group.map(|group| kill_process_group(group, Signal::KILL));
                let _ = running.wait().await;
            }
        }
        for live in self.lives.into_iter().filter_map(Arc::into_inner) {
            if let Err(error) = live.end().await {
                eprintln!("spawnling: {error:#}");
            }
        }
        let heir = self.heir.pid();
        let left = || usage::below(std::process::id()).into_iter().filter(move |pid| *pid != heir);
        let give_up = Instant::now() + AFTERWARDS;
        while left().next().is_some() && Instant::now() <= give_up + GRACE {
            if Instant::now() > give_up {
                left().for_each(|pid| signal(Some(pid), Signal::KILL));
            }
            sleep(Duration::from_millis(5)).await;
        }
        // Before the heir goes: it would remove this, too.
        drop(self.dir);
        self.heir.dismiss();
    }
}

/// Waits until the other gateway listens, and says so if that takes long.
///
/// # Errors
///
/// It ended before, or took more than [`START`].
async fn listens(running: &mut Child, address: SocketAddr, program: &str) -> Result<()> {
    let (start, port) = (Instant::now(), address.port());
    let mut is_told = false;
    while TcpStream::connect(address).await.is_err() {
        if let Some(status) = running.try_wait()? {
            bail!("{program} ended with {status} before it listened on port {port}");
        }
        let waited = start.elapsed();
        ensure!(
            waited < START,
            "{program} did not listen on port {port} of 127.0.0.1 within {} s; is {{port}} in its command?",
            START.as_secs()
        );
        if waited >= SILENCE && !is_told {
            eprintln!(
                "spawnling: waiting until {program} listens on port {port}, {} s at most",
                START.as_secs()
            );
            is_told = true;
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// How gateways of ours are set up.
pub(super) struct Setting<'a> {
    pub(super) seats: u32,
    pub(super) containment: Option<&'a str>,
}

/// Another gateway.
pub(super) struct Other<'a> {
    pub(super) start: &'a str,
    pub(super) path: &'a str,
    pub(super) body: Option<&'a str>,
    pub(super) expected: Option<&'a str>,
}

/// A gateway that runs already, and may want a token.
pub(super) async fn running(url: &str, token: Option<&str>, question: &Question) -> Result<Target> {
    let url: url::Url = url.parse().context("--url is no address")?;
    let host = url.host_str().context("--url names no host")?;
    if url.scheme() != "http" {
        bail!("--url: only http is spoken here, not https");
    }
    let token = token.map(bearer).transpose()?;
    let port = url.port_or_known_default().unwrap_or(80);
    let address =
        lookup_host((host.trim_matches(['[', ']']), port)).await?.next().context("--url: unknown host")?;
    let endpoint = Endpoint {
        address,
        host: format!("{host}:{port}"),
        path: url.path().trim_end_matches('/').to_owned() + &question.path(),
        body: Bytes::from(question.arguments.clone()),
        token,
        expected: None,
    };
    let subject = Subject::Http { endpoint: Arc::new(endpoint), receipts: true };
    Ok(Target { name: "gateway".into(), subject, watched: Watched::Nobody, ahead: false })
}

/// RFC 6750, section 2.1.
fn bearer(token: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
        .ok()
        .context("the token holds signs that no header may hold")?;
    value.set_sensitive(true);
    Ok(value)
}

fn signal(pid: Option<u32>, signal: Signal) {
    // It may have gone by itself.
    let _ = pid.and_then(pid_of).map(|pid| kill_process(pid, signal));
}

pub(super) fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a stand-in for another gateway")]
    async fn waited_for(words: &[&str]) -> String {
        let mut command = Command::new(words[0]);
        let mut running = command.args(&words[1..]).kill_on_drop(true).spawn().unwrap();
        // Held, so that nobody else listens there; nobody accepts what is not listened for.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let error = listens(&mut running, socket.local_addr().unwrap(), words[0]).await.unwrap_err();
        let _ = running.kill().await;
        error.to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_never_listens_is_waited_for_so_long_and_no_longer() {
        let said = waited_for(&["sleep", "100"]).await;
        assert!(said.contains("sleep did not listen") && said.contains("within 60 s"), "{said}");
    }

    #[tokio::test]
    async fn a_gateway_that_ends_at_once_is_not_waited_for() {
        let said = waited_for(&["false"]).await;
        assert!(said.contains("false ended with exit status: 1 before it listened"), "{said}");
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = bearer("very-secret\n").unwrap();
        assert_eq!(token.to_str().unwrap(), "Bearer very-secret");
        assert!(!format!("{token:?}").contains("secret"));
        assert!(bearer("a\nb").is_err());
    }
}
