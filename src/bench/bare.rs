//! The floor: the same server without any gateway, a process per call or one that stays.
//!
//! Speaks just enough of MCP (2025-11-25, stdio) to ask one tool: `initialize`, `notifications/initialized`,
//! `tools/call`. Every process leads a group of its own, which is killed with it.

use std::collections::{BTreeMap, HashMap};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::stats::Sample;

const PATIENCE: Duration = Duration::from_mins(2);

const OPEN: &str = concat!(
    r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"#,
    r#""clientInfo":{"name":"spawnling-bench","version":"1"}}}"#,
    "\n"
);
const OPENED: &str = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n";

/// What to start, and what to ask it.
#[derive(Debug, Clone)]
pub(super) struct Bare {
    pub(super) command: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) cwd: Option<String>,
    pub(super) tool: String,
    /// One JSON object, on one line.
    pub(super) arguments: String,
}

impl Bare {
    fn ask(&self, id: u64) -> String {
        let Self { tool, arguments, .. } = self;
        let tool = serde_json::Value::from(tool.as_str());
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\
             \"params\":{{\"name\":{tool},\"arguments\":{arguments}}}}}\n"
        )
    }

    /// One call with a process of its own, from its start to its end.
    ///
    /// # Cancel safety
    ///
    /// Dropping this kills the process with its group.
    pub(super) async fn call_once(&self, from: Instant) -> Result<Sample> {
        let begun = Instant::now();
        let mut server = Server::start(self)?;
        timeout(PATIENCE, async {
            server.open().await?;
            server.stdin.write_all([OPENED, &self.ask(1)].concat().as_bytes()).await?;
            server.reply(1).await
        })
        .await
        .context("no answer in time")??;
        let latency = from.elapsed();
        server.end().await?;
        Ok(Sample { latency, seat: Some(begun.elapsed()), ..Sample::default() })
    }
}

#[derive(Deserialize)]
struct Reply {
    id: Option<u64>,
    #[serde(default)]
    result: Option<Outcome>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    #[serde(default)]
    is_error: bool,
}

impl Reply {
    /// An answer, and to what. Requests and notifications of the server are none.
    fn of(line: &str) -> Option<(u64, Result<()>)> {
        let reply: Self = serde_json::from_str(line).ok()?;
        let good = match (&reply.result, &reply.error) {
            (Some(outcome), _) if !outcome.is_error => Ok(()),
            (None, None) => return None,
            _ => Err(anyhow::anyhow!("the tool failed: {}", line.chars().take(300).collect::<String>())),
        };
        Some((reply.id?, good))
    }
}

/// A process and its pipes.
struct Server {
    group: Group,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

/// Kills its process group when it is dropped before its leader was reaped.
struct Group(Child);

impl Group {
    fn kill(&self) {
        let leader = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(leader) = leader {
            // All of them may have gone by themselves.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "what is compared with us is started without us")]
    fn start(bare: &Bare) -> Result<Self> {
        let (program, args) = bare.command.split_first().context("no command")?;
        let mut command = Command::new(program);
        command.args(args).envs(&bare.env).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(cwd) = &bare.cwd {
            command.current_dir(cwd);
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {program:?}"))?;
        let stdin = child.stdin.take().context("stdin is piped")?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        Ok(Self { group: Group(child), stdin, stdout: BufReader::new(stdout).lines() })
    }

    async fn open(&mut self) -> Result<()> {
        self.stdin.write_all(OPEN.as_bytes()).await?;
        self.reply(0).await
    }

    async fn reply(&mut self, id: u64) -> Result<()> {
        loop {
            let line = self.stdout.next_line().await?.context("the server ended without an answer")?;
            match Reply::of(&line) {
                Some((answered, good)) if answered == id => return good,
                _ => {}
            }
        }
    }

    /// Kills and reaps. The group is named by its leader, so it is killed before that is reaped.
    async fn end(self) -> Result<()> {
        let Self { mut group, stdin, stdout } = self;
        drop((stdin, stdout));
        group.kill();
        group.0.wait().await?;
        Ok(())
    }
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<()>>>>>;

/// One opened server that many calls share.
pub(super) struct Live {
    bare: Bare,
    group: Group,
    stdin: tokio::sync::Mutex<ChildStdin>,
    waiting: Waiting,
    next: AtomicU64,
    _reader: JoinSet<()>,
}

impl Live {
    /// Starts and opens one.
    pub(super) async fn open(bare: &Bare) -> Result<Self> {
        let mut server = Server::start(bare)?;
        timeout(PATIENCE, server.open()).await.context("no answer to initialize in time")??;
        server.stdin.write_all(OPENED.as_bytes()).await?;
        let waiting = Waiting::default();
        let mut reader = JoinSet::new();
        reader.spawn(read(server.stdout, Arc::clone(&waiting)));
        let stdin = tokio::sync::Mutex::new(server.stdin);
        let next = AtomicU64::new(1);
        Ok(Self { bare: bare.clone(), group: server.group, stdin, waiting, next, _reader: reader })
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.group.0.id()
    }

    pub(super) async fn call(&self, from: Instant) -> Result<Sample> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, tell);
        self.stdin.lock().await.write_all(self.bare.ask(id).as_bytes()).await?;
        match timeout(PATIENCE, told).await.context("no answer in time")? {
            Ok(good) => good?,
            Err(_) => bail!("the server ended without an answer"),
        }
        Ok(Sample { latency: from.elapsed(), ..Sample::default() })
    }

    /// Kills and reaps it.
    pub(super) async fn end(mut self) -> Result<()> {
        self.group.kill();
        let status = self.group.0.wait().await?;
        ensure!(status.code().is_none(), "the server that was to stay had ended with {status}");
        Ok(())
    }
}

async fn read(mut stdout: Lines<BufReader<ChildStdout>>, waiting: Waiting) {
    while let Ok(Some(line)) = stdout.next_line().await {
        let Some((id, good)) = Reply::of(&line) else { continue };
        let asker = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(tell) = asker {
            // Whoever asked may have left.
            let _ = tell.send(good);
        }
    }
    // Dropping what waits tells each that there will be no answer.
    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_everything_else_that_a_server_says() {
        let good = |line| Reply::of(line).map(|(id, good)| (id, good.is_ok()));
        assert_eq!(good(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#), Some((1, true)));
        assert_eq!(good(r#"{"jsonrpc":"2.0","id":2,"result":{"isError":true}}"#), Some((2, false)));
        assert_eq!(good(r#"{"jsonrpc":"2.0","id":3,"error":{"code":-1,"message":"x"}}"#), Some((3, false)));
        assert_eq!(good(r#"{"jsonrpc":"2.0","id":4,"method":"roots/list"}"#), None);
        assert_eq!(good(r#"{"jsonrpc":"2.0","method":"notifications/message"}"#), None);
        assert_eq!(good("noise"), None);
    }
}
