//! From what was said on the command line to the room that does it, and to an exit code.
//!
//! 0: done. 1: it was tried and failed. 2: it could not be tried: wrong words, or a wrong configuration. 3: the tool ran
//! and reported an error. 4: time ran out.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::pages;
use super::{Arguments, Call, Check, Cli, Command, LogFormat, Serve, Tools, arguments, arguments_from};
use crate::auth::Mask;
use crate::bench::{self, heir};
use crate::child::sandbox::become_confined;
use crate::child::{shim, warden};
use crate::config::{self, Config, SchemaFormat, Sources, Surroundings};
use crate::demo;
use crate::exchange::RawJson;
use crate::exchange::fault::chain;
use crate::serve::check;
use crate::serve::once::{self, OnceError};
use crate::serve::progress::Progress;
use crate::serve::reuse;
use crate::serve::{self, ServeError};
use crate::telemetry::{self, Format};

const FAILED: u8 = 1;
const UNUSABLE: u8 = 2;
const TOOL_ERROR: u8 = 3;
const LATE: u8 = 4;

/// Why a command did not do what it was told.
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn failed(error: &dyn Error) -> Self {
        Self { code: FAILED, text: chain(error) }
    }

    fn unusable(text: impl Into<String>) -> Self {
        Self { code: UNUSABLE, text: text.into() }
    }
}

/// The whole program.
pub fn run() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    // A gateway starts others of itself, many of them: nothing else is looked at before.
    match words.get(1).and_then(|word| word.to_str()) {
        Some(shim::WORD) => return shim::run(),
        Some(warden::WORD) => return warden::run(words.get(2..).unwrap_or_default()),
        Some(heir::WORD) => return heir::run(words.get(2..).unwrap_or_default()),
        _ => {}
    }
    let parsed = Cli::try_parse_from(&words).unwrap_or_else(|error| helped(error).exit());
    let done = match parsed.command {
        command if command.lacks_command(&words) => Err(Failure::unusable("a command must follow `--`")),
        Command::Serve(serve) => run_serve(&serve),
        Command::Call(call) => run_call(call),
        Command::Tools(tools) => run_tools(&tools),
        Command::Check(check) => run_check(&check),
        Command::Bench(bench) => run_bench(&bench),
        Command::Completions(wanted) => print(&pages::completions(wanted.shell)),
        Command::Man(wanted) => man(wanted.command.as_deref()),
        Command::Demo(demo) => return demo::run(&demo),
        Command::Confine(confine) => return become_confined(&confine),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, text }) => {
            // Whoever closed our stderr does not want to know.
            let _ = writeln!(io::stderr(), "spawnling: {text}");
            ExitCode::from(code)
        }
    }
}

/// The same complaint with a better tip: clap knows neither that a server's command stands behind `--`, nor what other
/// programs call the flag that was meant.
fn helped(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    // "to pass '--port' as a value, use '-- --port'": that would be a server's command.
    error.remove(ContextKind::Suggested);
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return error };
    let flag = word.split('=').next().unwrap_or_default();
    let tip = match flag {
        "--port" | "-p" | "--host" | "--bind" | "--address" | "--addr" => "use `--listen 127.0.0.1:5002`",
        flag if flag.starts_with('-') => return error,
        _ => "a server's command stands behind `--`, as in: -- uvx mcp-server-time",
    };
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

fn run_serve(serve: &Serve) -> Result<(), Failure> {
    let format = match serve.log_format {
        LogFormat::Auto => Format::by_terminal(),
        LogFormat::Human => Format::Human,
        LogFormat::Json => Format::Json,
    };
    let mask = log(format, "info")?;
    let sources = serve.sources(surroundings()?);
    let config = load(&sources, &mask)?;
    if serve.print_config {
        return print(&mask.text(&config.show()));
    }
    serve::serve(config, sources, &mask).map_err(|error| failure(&error))
}

fn run_call(call: Call) -> Result<(), Failure> {
    let (config, mask) = quiet(&call.setup.sources(surroundings()?))?;
    let given = arguments(&call.words).map_err(|error| Failure::unusable(chain(&error)))?;
    let (arguments, loose) = match given {
        Arguments::Given(arguments, loose) => (arguments, loose),
        Arguments::Stdin => (from_stdin()?, Vec::new()),
    };
    let timeout = call.timeout.as_deref().map(config::duration_text).transpose();
    let timeout = timeout.map_err(|why| Failure::unusable(format!("--timeout: {why}")))?;
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Err(Failure::unusable("--timeout: must be longer than 0"));
    }
    let list = call.list_command();
    let (server, tool, receipt) = (call.server, call.tool, call.receipt);
    let progress = if call.progress { Progress::Always } else { Progress::Auto };
    let one = once::OneCall { server, tool, arguments, loose, timeout, receipt, progress, list };
    told(once::call((&config, &mask), &one))
}

fn run_tools(tools: &Tools) -> Result<(), Failure> {
    let (config, mask) = quiet(&tools.setup.sources(surroundings()?))?;
    told(once::tools((&config, &mask), &tools.server, tools.json))
}

fn run_check(check: &Check) -> Result<(), Failure> {
    if let Some(format) = &check.schema {
        let format = if format == "json" { SchemaFormat::Json } else { SchemaFormat::Toml };
        return print(&config::schema(format));
    }
    let (mut config, mask) = quiet(&check.setup.sources(surroundings()?))?;
    if check.print_config {
        return print(&mask.text(&config.show()));
    }
    let Some(server) = &check.reuse else { return told(check::check((&config, &mask))) };
    config.make_fresh();
    told(reuse::reuse((&config, &mask), server, check.all_tools))
}

fn run_bench(args: &bench::Args) -> Result<(), Failure> {
    bench::run(args).map_err(|error| Failure { code: FAILED, text: format!("{error:#}") })
}

fn man(command: Option<&str>) -> Result<(), Failure> {
    let page = pages::man(command).ok_or_else(|| {
        let name = command.unwrap_or_default();
        Failure::unusable(format!(
            "there is no command {name:?}; `spawnling --help` lists those that there are"
        ))
    })?;
    print(&page)
}

fn print(text: &str) -> Result<(), Failure> {
    told(io::stdout().write_all(text.as_bytes()).map_err(OnceError::Stdout))
}

/// Why nothing runs, and what to do about it.
fn failure(error: &ServeError) -> Failure {
    let remedy = error.remedy().map(|remedy| format!("\ntry: {remedy}")).unwrap_or_default();
    Failure { code: FAILED, text: chain(error) + &remedy }
}

/// What becomes of a command that asks once.
fn told(done: Result<(), OnceError>) -> Result<(), Failure> {
    match done {
        // Whoever closed our stdout has read enough.
        Err(OnceError::Stdout(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(OnceError::Setup(error)) => Err(failure(&error)),
        Err(error @ OnceError::UnknownServer { .. }) => Err(Failure::unusable(chain(&error))),
        Err(OnceError::Tool(text)) => Err(Failure { code: TOOL_ERROR, text }),
        Err(OnceError::Late(text)) => Err(Failure { code: LATE, text }),
        done => done.map_err(|error| Failure::failed(&error)),
    }
}

/// The configuration of a command whose output is for a person: only what went wrong is logged.
fn quiet(sources: &Sources) -> Result<(Config, Mask), Failure> {
    let mask = log(Format::by_terminal(), "error")?;
    let config = load(sources, &mask)?;
    for notice in &config.notices {
        let _ = writeln!(io::stderr(), "spawnling: {notice}");
    }
    Ok((config, mask))
}

/// Sets up the log; returns what it hides.
fn log(format: Format, default: &str) -> Result<Mask, Failure> {
    let mask = Mask::default();
    telemetry::init(format, default, mask.clone()).map_err(|error| Failure::unusable(chain(&error)))?;
    Ok(mask)
}

/// The configuration, its secrets hidden from now on.
fn load(sources: &Sources, mask: &Mask) -> Result<Config, Failure> {
    let config = config::load(sources)
        .map_err(|complaints| Failure::unusable(format!("cannot use the configuration\n{complaints}")))?;
    mask.learn(&config.secrets);
    Ok(config)
}

fn surroundings() -> Result<Surroundings, Failure> {
    Surroundings::ours().map_err(|error| Failure::unusable(format!("cannot find out where we are: {error}")))
}

fn from_stdin() -> Result<RawJson, Failure> {
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::unusable(format!("cannot read stdin: {error}")))?;
    arguments_from(text).map_err(|error| Failure::unusable(chain(&error)))
}
