//! The load test: every strategy, other gateways and the bare server, measured in one interleaved run.
//!
//! ```text
//! plan     what is measured, in which order
//! setup -> target   gateways of this binary, one per strategy; another gateway; the bare server
//! load     calls, by callers that wait (closed) or by the clock (open)       client, bare: who makes them
//! usage    what that cost the machine
//! stats -> report -> table, JSON, page with charts
//! ```
//!
//! It stands apart: it uses no other room, and runs the gateway as a process like everybody else's. Whatever it starts
//! it ends, also when it is interrupted; its heir does, when it is killed. Two runtimes: HTTP calls are made from one
//! thread, so that they cost little; bare processes are started from several, as their floor should not be ours.

mod bare;
mod client;
pub(crate) mod heir;
mod load;
mod page;
mod plan;
mod plot;
mod report;
mod setup;
mod stats;
mod table;
mod target;
mod usage;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use load::{Subject, Watched};
use plan::Load;
use report::{About, Line, Report};
use setup::Question;
use stats::{Round, Summary, milliseconds};
use target::{Other, Setting, Stage, Target};

/// What there may be to measure; a gateway says itself which of them it knows.
const STRATEGIES: [&str; 4] = ["fresh", "prewarmed", "pooled", "shared"];

/// Calls to each target before anything is measured.
const WARM_UP: u32 = 5;

/// What `--quick` promises.
const QUICK: Duration = Duration::from_mins(1);

/// The variable with the token for a gateway that runs already: arguments are seen by everybody on the machine (`ps`).
const TOKEN: &str = "SPAWNLING_TOKEN";

/// `spawnling bench`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Measure for less than a minute in all, where servers start within some milliseconds, as the built-in one does
    #[arg(long)]
    quick: bool,

    /// Strategies to compare, with commas between [default: all that there are]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    strategies: Vec<String>,

    /// Closed loads: how many callers, each asking again at once
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_value = "1,8,32",
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    callers: Vec<u32>,

    /// Open loads: calls per second, whether or not earlier ones are answered [default: 50,200; quick: 50]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    rates: Option<Vec<f64>>,

    /// How often everything is measured, interleaved [default: 7; quick: 3]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,

    /// How long each load lasts in each round, such as 500ms [default: 1s; quick: 400ms]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Option<Duration>,

    /// Process trees alive at once, in each gateway that is started
    #[arg(long, value_name = "NUMBER", default_value = "16", value_parser = clap::value_parser!(u32).range(1..=1024))]
    seats: u32,

    /// What makes process trees killable as a whole, for the gateways that are started
    #[arg(long, value_name = "KIND")]
    containment: Option<String>,

    /// Let the built-in server burn so much processor time at its start, as slow starters do
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with_all = ["config", "command", "url"])]
    startup: Option<Duration>,

    /// Configuration file that names the server to measure
    #[arg(long, value_name = "FILE", requires_all = ["server", "tool"], conflicts_with = "command")]
    config: Option<PathBuf>,

    /// Measure a gateway that runs already, at http://HOST:PORT (https is not spoken), as it is configured; if it wants a
    /// token, that is taken from the variable `SPAWNLING_TOKEN`
    #[arg(long, value_name = "URL", requires_all = ["server", "tool"], conflicts_with_all = ["config", "command", "strategies"])]
    url: Option<String>,

    /// Server to measure, by its configured name
    #[arg(long, value_name = "NAME")]
    server: Option<String>,

    /// Tool to call
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,

    /// Arguments of the tool
    #[arg(long, value_name = "JSON")]
    arguments: Option<String>,

    /// Start another gateway and put it into the same run: {port}, {server} or {quoted-server} stand in its command.
    /// May be given several times; the first --path, --body and --expect belong to the first one, and so on
    #[arg(long, value_name = "COMMAND", conflicts_with = "url")]
    against: Vec<String>,

    /// Where the other gateway takes calls [default: /mcp]
    #[arg(long, value_name = "PATH", requires = "against")]
    path: Vec<String>,

    /// What is posted to the other gateway [default: the arguments]
    #[arg(long, value_name = "JSON", requires = "against")]
    body: Vec<String>,

    /// What every answer of the other gateway must hold; without it, each success counts
    #[arg(long, value_name = "TEXT", requires = "against")]
    expect: Vec<String>,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,

    /// Write a page with charts and all figures into this directory, beside the table
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,

    /// A server's command and its arguments; needs --tool
    #[arg(last = true, value_name = "COMMAND", requires = "tool")]
    pub(crate) command: Vec<String>,
}

const HELP: &str = "\
Examples:
  spawnling bench --quick
  spawnling bench --quick --report bench-report
  spawnling bench --strategies fresh,pooled --json
  spawnling bench --startup 700ms --callers 1,4 --rates 1
  spawnling bench --tool get_current_time \\
       --arguments '{\"timezone\":\"UTC\"}' -- uvx mcp-server-time
  spawnling bench --config spawnling.toml --server time \\
       --tool get_current_time --arguments '{\"timezone\":\"UTC\"}'
  spawnling bench --url http://127.0.0.1:5001 --server demo \\
       --tool echo --arguments '{\"message\":\"hi\"}'
  spawnling bench --against 'supergateway --port {port}
       --outputTransport streamableHttp --stdio {quoted-server}' \\
       --body '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",
                \"params\":{\"name\":\"echo\",\"arguments\":{\"message\":\"hi\"}}}'

Everything is measured in each round, so that noise hits all alike; figures are
medians over the rounds, with the lowest and the highest. `bare` is the server
without any gateway: a process per call, and one that stays. Each caller
finishes its call, so a server that starts slowly makes a run longer than its
times say, also with --quick; the estimate is printed first.";

/// Measures, and prints what was found.
///
/// # Errors
///
/// Nothing could be measured, or the run was interrupted; whatever was started is ended before this returns.
pub(crate) fn run(args: &Args) -> Result<()> {
    let question = question(args)?;
    let run = Run::new(args)?;
    let _listener = run.listen()?;
    let mut stage = Stage::new()?;
    let outcome = run.whole(&question, &mut stage);
    run.light.block_on(stage.end());
    let report = outcome?;
    if let Some(dir) = &args.report {
        write_report(dir, &report)?;
    }
    let text = if args.json { report.json() + "\n" } else { table::table(&report.lines) };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
    let silent = report.lines.iter().find(|line| line.summary.calls == 0);
    match silent.map(|line| (line, line.summary.first_error.as_deref().unwrap_or("no call was made"))) {
        Some((line, error)) => bail!("{}: every call failed: {error}", line.target),
        None => Ok(()),
    }
}

/// `index.html`, which holds the charts too, each chart as a file, and `report.json`.
fn write_report(dir: &Path, report: &Report) -> Result<()> {
    let charts = plot::charts(report)?;
    let write = |name: &str, text: &str| {
        let file = dir.join(name);
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    };
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for chart in &charts {
        write(&format!("{}.svg", chart.name), &chart.svg)?;
    }
    write("report.json", &report.json())?;
    write("index.html", &page::page(report, &charts))?;
    eprintln!("spawnling: the report is {}", dir.join("index.html").display());
    Ok(())
}

/// What to ask whom.
fn question(args: &Args) -> Result<Question> {
    let tool = args.tool.as_deref().unwrap_or("echo");
    let greeting = if args.tool.is_none() { r#"{"message":"hello"}"# } else { "{}" };
    let arguments = args.arguments.as_deref().unwrap_or(greeting);
    if let (Some(file), Some(server)) = (&args.config, &args.server) {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let dir = std::path::absolute(file)?.parent().map(Path::to_path_buf).unwrap_or_default();
        return Question::of_file(&text, &dir, server, (tool, arguments));
    }
    if !args.command.is_empty() {
        return Question::of_command(&args.command, tool, arguments);
    }
    let program = std::env::current_exe().context("cannot find this program")?;
    let program = program.into_os_string().into_string().ok().context("a path that is not UTF-8")?;
    let mut command = vec![program, "demo".to_owned()];
    if let Some(startup) = args.startup {
        command.extend(["--startup".to_owned(), humantime::format_duration(startup).to_string()]);
    }
    let question = Question::of_command(&command, tool, arguments)?;
    Ok(match &args.server {
        Some(server) => Question { server: server.clone(), ..question },
        None => question,
    })
}

/// The other gateways; what is said of the n-th of them is the n-th of its kind.
fn others(args: &Args) -> impl Iterator<Item = Other<'_>> {
    args.against.iter().enumerate().map(|(at, start)| Other {
        start,
        path: args.path.get(at).map_or("/mcp", String::as_str),
        body: args.body.get(at).map(String::as_str),
        expected: args.expect.get(at).map(String::as_str),
    })
}

/// A name that none of the others has.
fn unlike(others: &[Target], name: String) -> String {
    let is_free = |name: &str| others.iter().all(|other| other.name != name);
    if is_free(&name) {
        return name;
    }
    let mut numbered = (2..).map(|number| format!("{name} {number}"));
    numbered.find(|name| is_free(name)).unwrap_or(name)
}

/// How a run goes.
struct Run<'a> {
    args: &'a Args,
    loads: Vec<Load>,
    rounds: u32,
    time: Duration,
    light: Runtime,
    wide: Runtime,
    interrupted: CancellationToken,
}

impl<'a> Run<'a> {
    fn new(args: &'a Args) -> Result<Self> {
        let default_rates: &[f64] = if args.quick { &[50.0] } else { &[50.0, 200.0] };
        let rates = args.rates.as_deref().unwrap_or(default_rates);
        ensure!(rates.iter().all(|rate| (0.01..=100_000.0).contains(rate)), "--rates: from 0.01 to 100000");
        let unknown = args.strategies.iter().find(|name| !STRATEGIES.contains(&name.as_str()));
        if let Some(name) = unknown {
            bail!("--strategies: {name:?} is none of {}", STRATEGIES.join(", "));
        }
        Ok(Self {
            args,
            loads: plan::loads(&args.callers, rates),
            rounds: args.rounds.unwrap_or(if args.quick { 3 } else { 7 }),
            time: args.time.unwrap_or(Duration::from_millis(if args.quick { 400 } else { 1000 })),
            light: Builder::new_current_thread().enable_all().build().context("no runtime")?,
            wide: Builder::new_multi_thread().enable_all().build().context("no runtime")?,
            interrupted: CancellationToken::new(),
        })
    }

    /// Ctrl-C and its like interrupt the run, for as long as the value lives.
    fn listen(&self) -> Result<JoinSet<()>> {
        let mut listeners = JoinSet::new();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let token = self.interrupted.clone();
            let _inside = self.wide.enter();
            let mut signals = signal(kind).context("cannot listen for signals")?;
            listeners.spawn_on(
                async move {
                    signals.recv().await;
                    token.cancel();
                },
                self.wide.handle(),
            );
        }
        Ok(listeners)
    }

    fn whole(&self, question: &Question, stage: &mut Stage) -> Result<Report> {
        let mut refused = Vec::new();
        let targets = self.unless_interrupted(&self.light, self.targets(question, stage, &mut refused))??;
        for (strategy, reason) in &refused {
            eprintln!("spawnling: not measured: {strategy}: {reason}");
        }
        // Before any call; a standby that is still on its way here is not idle yet.
        let idle: Vec<_> = targets.iter().map(|target| target.watched.memory().1).collect();
        let alone = targets.iter().map(|target| self.warm_up(target)).collect::<Result<Vec<_>>>()?;
        eprintln!("spawnling: {}", self.announcement(&alone));
        let cells = plan::cells(self.rounds, self.loads.len(), targets.len());
        // Draws on stderr, and only if that is a terminal.
        let bar = ProgressBar::new(cells.len() as u64).with_style(style());
        let mut found: Vec<Vec<Round>> = vec![Vec::new(); self.loads.len() * targets.len()];
        for cell in &cells {
            let (target, load) = (&targets[cell.target], self.loads[cell.load]);
            bar.set_message(format!("{}, {}", target.name, table::load_name(load)));
            let round = load::round(&target.subject, target.watched, load, self.time);
            let round = self.unless_interrupted(self.runtime(target), round)?;
            found[cell.load * targets.len() + cell.target].push(round);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let places =
            self.loads.iter().flat_map(|load| targets.iter().zip(&idle).map(move |target| (load, target)));
        // A gateway that runs already does not say whether it starts ahead, until a call has met one.
        let met = targets.iter().cycle().zip(&found);
        let met = met.filter(|(_, rounds)| rounds.iter().any(Round::has_standby));
        let hits: Vec<_> = met.map(|(target, _)| target.name.clone()).collect();
        let line = |((load, (target, idle)), rounds): ((&Load, (&Target, &u64)), &Vec<Round>)| {
            let summary = stats::summary(rounds, target.ahead || hits.contains(&target.name));
            let summary = Summary { idle_memory_bytes: (*idle > 0).then_some(*idle), ..summary };
            Line { target: target.name.clone(), load: *load, summary }
        };
        let lines = places.zip(&found).map(line).collect();
        Ok(Report { about: self.about(question), lines, refused })
    }

    async fn targets(
        &self,
        question: &Question,
        stage: &mut Stage,
        refused: &mut Vec<(String, String)>,
    ) -> Result<Vec<Target>> {
        if let Some(url) = &self.args.url {
            let token = std::env::var(TOKEN).ok().filter(|token| !token.trim().is_empty());
            return Ok(vec![target::running(url, token.as_deref(), question).await?]);
        }
        let bare = Arc::new(question.bare()?);
        let (subject, watched, ahead) = (Subject::Spawn(bare), Watched::Ourselves, false);
        let mut targets = vec![Target { name: "bare, one per call".into(), subject, watched, ahead }];
        targets.push(stage.live(question).await.context("the bare server")?);
        let setting = Setting { seats: self.args.seats, containment: self.args.containment.as_deref() };
        let chosen: Vec<&str> = self.args.strategies.iter().map(String::as_str).collect();
        let is_choice = !chosen.is_empty();
        for strategy in if is_choice { chosen } else { STRATEGIES.to_vec() } {
            match stage.gateway(question, strategy, &setting).await {
                Ok(target) => targets.push(target),
                Err(error) if is_choice => bail!("strategy {strategy}: {error:#}"),
                Err(error) => refused.push((strategy.to_owned(), format!("{error:#}"))),
            }
        }
        ensure!(refused.len() < STRATEGIES.len(), "no gateway became ready: {}", refused[0].1);
        for other in others(self.args) {
            let mut target = stage.other(question, &other).await.context("--against")?;
            target.name = unlike(&targets, target.name);
            targets.push(target);
        }
        Ok(targets)
    }

    /// Calls that are not counted, and how long one takes. A target that fails them is not worth measuring.
    fn warm_up(&self, target: &Target) -> Result<Duration> {
        let mut took = Duration::ZERO;
        for _ in 0..WARM_UP {
            let round =
                load::round(&target.subject, Watched::Nobody, Load::Closed { callers: 1 }, Duration::ZERO);
            let round = self.unless_interrupted(self.runtime(target), round)?;
            if let Some(error) = round.first_error {
                bail!("{}: {error}", target.name);
            }
            took += round.took;
        }
        Ok(took / WARM_UP)
    }

    /// What is about to be measured, where a lone call to each target takes so long.
    fn announcement(&self, alone: &[Duration]) -> String {
        let cpus = available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
        let time = plan::estimate(&self.loads, self.rounds, self.time, alone, cpus);
        let cells = self.rounds as usize * self.loads.len() * alone.len();
        let long = if self.args.quick && time > QUICK {
            "; calls are slow here: fewer --callers or --rounds shorten it"
        } else {
            ""
        };
        let time = humantime::format_duration(Duration::from_secs(time.as_secs().max(1)));
        format!("{cells} measurements, which take about {time} in all{long}")
    }

    fn runtime(&self, target: &Target) -> &Runtime {
        if matches!(target.subject, Subject::Spawn(_)) { &self.wide } else { &self.light }
    }

    fn unless_interrupted<T>(&self, runtime: &Runtime, work: impl Future<Output = T>) -> Result<T> {
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.interrupted.cancelled() => bail!("interrupted"),
                done = work => Ok(done),
            }
        })
    }

    fn about(&self, question: &Question) -> About {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let words = shlex::try_join(words.iter().map(String::as_str)).unwrap_or_default();
        About {
            version: env!("CARGO_PKG_VERSION"),
            cpus: available_parallelism().map_or(1, usize::from),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            server: question.bare().map(|bare| bare.command.join(" ")).unwrap_or_default(),
            tool: question.tool.clone(),
            rounds: self.rounds,
            time_ms: milliseconds(self.time),
            seats: self.args.seats,
            command: format!("spawnling {words}"),
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({eta} left)").expect("it is well formed")
}
