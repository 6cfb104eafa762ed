//! Every flag and subcommand, as data, and the text that a newcomer can work from.
//!
//! Nothing here acts. What a flag's text means is decided in `config`, together with what files and variables say, so
//! that all mistakes are reported at once; only the words of `call` are put together here, into the object they mean.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Exposure, Sources, Surroundings};

mod pages;
mod run;
mod words;

pub use run::run;
use words::{Arguments, arguments, arguments_from};

/// Gives every HTTP request its own fresh MCP server process.
#[derive(Debug, Parser)]
#[command(name = "spawnling", version, about, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = TOP_HELP)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const TOP_HELP: &str = "\
Examples:
  spawnling serve                          two built-in servers to try it with
  spawnling serve -- uvx mcp-server-time   one server, without any file
  spawnling serve --config spawnling.toml  the servers of a file
  spawnling serve --config mcp.json        the file of another MCP client
  spawnling tools time                     what a server offers
  spawnling call time get_current_time timezone=UTC

Without --config, the file is $SPAWNLING_CONFIG, else spawnling.toml in the
current directory.
`spawnling COMMAND --help` tells more.";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the configured MCP servers over HTTP
    Serve(Serve),
    /// Call one tool, print its result, and prove its server dead
    Call(Call),
    /// List the tools of a server
    Tools(Tools),
    /// Check the configuration, and start every server of it once
    Check(Check),
    /// Measure what a call costs, under each strategy and without a gateway
    Bench(Box<crate::bench::Args>),
    /// Be the built-in MCP server, on standard input and output
    Demo(crate::demo::Args),
    /// Print a script that has a shell complete the words of this command
    Completions(Completions),
    /// Print the manual page of this program, or of one of its commands
    Man(Man),
    /// Confine this process, then become another program
    #[command(hide = true)]
    Confine(crate::child::sandbox::ConfineArgs),
}

impl Command {
    /// Whether a `--` has no command behind it, as where a shell's `-- $SERVER` has come to nothing. `words` are all that
    /// was said: what clap makes of them does not tell such a `--` from none at all.
    pub(crate) fn lacks_command(&self, words: &[OsString]) -> bool {
        let command = match self {
            Self::Serve(serve) => &serve.setup.command,
            Self::Call(call) => &call.setup.command,
            Self::Tools(tools) => &tools.setup.command,
            Self::Check(check) => &check.setup.command,
            Self::Bench(_) | Self::Demo(_) | Self::Completions(_) | Self::Man(_) | Self::Confine(_) => {
                return false;
            }
        };
        match command.first() {
            Some(program) => program.is_empty(),
            None => words.last().is_some_and(|word| word == "--"),
        }
    }
}

/// What the commands that need servers have in common.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Setup {
    /// Configuration file: TOML, or the {"mcpServers": {...}} JSON of other MCP clients
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// What makes a server's processes killable as a whole; auto: the best that works here
    #[arg(long, value_name = "KIND", value_parser = ["auto", "strict", "cgroup", "namespace", "subreaper", "group"])]
    pub(crate) containment: Option<String>,

    /// A server's command and its arguments, in place of a file; the server is called `default`
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

impl Setup {
    /// What this says of the configuration.
    pub(crate) fn sources(&self, surroundings: Surroundings) -> Sources {
        Sources {
            config: self.config.clone(),
            command: self.command.clone(),
            containment: self.containment.clone(),
            ..Sources::plain(surroundings)
        }
    }
}

/// `spawnling serve`
#[derive(Debug, Clone, Args)]
#[command(after_help = SERVE_HELP)]
pub(crate) struct Serve {
    #[command(flatten)]
    setup: Setup,

    /// Address to listen on, or unix:PATH; 127.0.0.1:5001 by default; may be given again; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,

    /// Listen on addresses that other machines can reach, though no tokens are configured
    #[arg(long)]
    insecure: bool,

    /// How long running calls may go on after SIGTERM: 1500ms, 30s, 2m [default: 30s]
    #[arg(long, value_name = "TIME")]
    drain: Option<String>,

    /// Send spans of calls to this OpenTelemetry collector, by OTLP over HTTP: `http://127.0.0.1:4318`, for example
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,

    /// Print the configuration as it was understood, with where each value came from, and serve nothing
    #[arg(long)]
    pub(crate) print_config: bool,

    /// How the log on standard error is written; auto: human on a terminal, else json
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    pub(crate) log_format: LogFormat,
}

const SERVE_HELP: &str = "\
Examples:
  spawnling serve
  curl http://127.0.0.1:5001/v1/servers
  curl http://127.0.0.1:5001/v1/servers/demo/tools
  curl -X POST http://127.0.0.1:5001/api/browser-agent \\
       -H 'Content-Type: application/json' \\
       -d '{\"task\": \"Go to http://127.0.0.1:5001/\"}'

  spawnling serve --listen 127.0.0.1:5002 -- uvx mcp-server-time

Once it is ready, one line per address is printed:
spawnling listening on http://127.0.0.1:5001

Variables: SPAWNLING_CONFIG, SPAWNLING_LISTEN (addresses with commas between),
SPAWNLING_HOSTS (names that Host and Origin may hold, with commas between),
SPAWNLING_CONTAINMENT, SPAWNLING_CACHE_DIR, SPAWNLING_LOG;
MCP_BROWSER_USE_DIR puts mcp-server-browser-use of that directory behind
/api/browser-agent. Flags come before variables, variables before the file.";

impl Serve {
    /// What this says of the configuration.
    pub(crate) fn sources(&self, surroundings: Surroundings) -> Sources {
        Sources {
            listen: self.listen.clone(),
            exposure: if self.insecure { Exposure::Accepted } else { Exposure::Refused },
            drain: self.drain.clone(),
            otlp: self.otlp_endpoint.clone(),
            ..self.setup.sources(surroundings)
        }
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Human on a terminal, else JSON
    Auto,
    /// Lines to read
    Human,
    /// One JSON object per line
    Json,
}

/// `spawnling call`
#[derive(Debug, Clone, Args)]
#[command(after_help = CALL_HELP)]
pub(crate) struct Call {
    /// Server, by its configured name
    #[arg(value_name = "SERVER")]
    pub(crate) server: String,

    /// Tool of that server
    #[arg(value_name = "TOOL")]
    pub(crate) tool: String,

    /// Arguments: key=value and key:=JSON words, or one JSON object, or - to read the object from standard input
    #[arg(value_name = "JSON | KEY=VALUE")]
    pub(crate) words: Vec<String>,

    /// Time for the whole call, such as 1500ms, 30s, 2m; at most what is configured
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<String>,

    /// Wait until the server is dead, and print what is known of its end
    #[arg(long)]
    pub(crate) receipt: bool,

    /// Show progress and log messages on stderr, line by line, where that is no terminal
    #[arg(long)]
    pub(crate) progress: bool,

    /// Where servers come from.
    #[command(flatten)]
    pub(crate) setup: Setup,
}

impl Call {
    /// The command that lists the tools of the same server, for people to read.
    pub(crate) fn list_command(&self) -> String {
        let mut words = vec!["spawnling tools".to_owned(), self.server.clone()];
        words.extend(self.setup.config.iter().map(|file| format!("--config {}", file.display())));
        words.extend((!self.setup.command.is_empty()).then(|| "--".to_owned()));
        words.extend(self.setup.command.iter().map(|word| word.to_string_lossy().into_owned()));
        words.join(" ")
    }
}

const CALL_HELP: &str = "\
Examples:
  spawnling call time get_current_time timezone=Europe/Berlin
  spawnling call demo echo '{\"message\": \"hello\"}'
  echo '{\"message\": \"hello\"}' | spawnling call demo echo -
  spawnling call default get_current_time timezone=UTC -- uvx mcp-server-time
  spawnling call --receipt demo echo message=bye

A value becomes what the tool's schema asks for: zip=01234 and zip=12345 are
strings where a string is wanted. Else a JSON number, true, false, null, list
or object is taken as such: depth=3, tags='[\"a\"]', and every other value is a
string. With := it is JSON in any case: depth:=3 name:='\"x\"'.

Exit status: 0 done; 1 failed; 2 could not be tried: wrong words or
configuration; 3 the tool ran and reported an error; 4 time ran out.";

/// `spawnling tools`
#[derive(Debug, Clone, Args)]
#[command(after_help = TOOLS_HELP)]
pub(crate) struct Tools {
    /// Server, by its configured name
    #[arg(value_name = "SERVER")]
    pub(crate) server: String,

    /// Print the list as the server gave it, schemas included
    #[arg(long)]
    pub(crate) json: bool,

    /// Where servers come from.
    #[command(flatten)]
    pub(crate) setup: Setup,
}

const TOOLS_HELP: &str = "\
Examples:
  spawnling tools demo
  spawnling tools default --json -- uvx mcp-server-time";

/// `spawnling check`
#[derive(Debug, Clone, Args)]
#[command(after_help = CHECK_HELP)]
pub(crate) struct Check {
    /// Print the configuration as it was understood, with where each value came from, and start nothing
    #[arg(long, conflicts_with = "schema")]
    pub(crate) print_config: bool,

    /// Print a JSON Schema of the configuration file for an editor, of this format, and do nothing else
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, default_missing_value = "toml")]
    #[arg(value_parser = ["toml", "json"])]
    pub(crate) schema: Option<String>,
    /// Try the tools of one server in fresh processes and in used ones: does reuse change an answer?
    #[arg(long, value_name = "SERVER")]
    pub(crate) reuse: Option<String>,

    /// With --reuse: try every tool, not only those that read or that take no arguments
    #[arg(long, requires = "reuse")]
    pub(crate) all_tools: bool,

    /// Where servers come from.
    #[command(flatten)]
    pub(crate) setup: Setup,
}

const CHECK_HELP: &str = "\
Examples:
  spawnling check
  spawnling check --config mcp.json
  spawnling check -- uvx mcp-server-time
  spawnling check --print-config
  spawnling check --schema > spawnling.schema.json
  spawnling check --reuse time     may one process serve more than one call?

Every mistake in the file is named with its line and column.";

/// `spawnling completions`
#[derive(Debug, Clone, Args)]
#[command(after_help = COMPLETIONS_HELP)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

const COMPLETIONS_HELP: &str = "\
Examples:
  spawnling completions bash \\
       > ~/.local/share/bash-completion/completions/spawnling
  spawnling completions zsh > ~/.zfunc/_spawnling
  spawnling completions fish > ~/.config/fish/completions/spawnling.fish";

/// `spawnling man`
#[derive(Debug, Clone, Args)]
#[command(after_help = MAN_HELP)]
pub(crate) struct Man {
    /// A command with a page of its own, `call` for example
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Option<String>,
}

const MAN_HELP: &str = "\
Examples:
  spawnling man | man -l -
  spawnling man call > ~/.local/share/man/man1/spawnling-call.1";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    fn surroundings() -> Surroundings {
        Surroundings {
            environment: std::iter::empty().collect(),
            dir: "/here".into(),
            program: "/bin/s".into(),
        }
    }

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_with_examples() {
        let mut cli = Cli::command();
        assert!(cli.render_long_help().to_string().contains("Examples:"));
        for command in cli
            .get_subcommands_mut()
            .filter(|command| !["confine", "demo", "help"].contains(&command.get_name()))
        {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Examples:\n  spawnling"), "{help}");
        }
    }

    #[test]
    fn what_stands_below_the_flags_fits_a_terminal_of_80_columns() {
        let cli = Cli::command();
        for command in std::iter::once(&cli).chain(cli.get_subcommands()) {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in text.lines() {
                assert!(line.len() <= 80, "{}: {line}", command.get_name());
            }
        }
    }

    #[test]
    fn serve_hands_on_everything_that_was_said() {
        let line = "spawnling serve --config a.toml --listen 127.0.0.1:1 --listen [::1]:2 --insecure --drain 5s \
                    --log-format json -- uvx --from x y";
        let Ok(Command::Serve(serve)) = parse(line) else { panic!("not taken") };
        assert_eq!(serve.log_format, LogFormat::Json);
        let sources = serve.sources(surroundings());
        assert_eq!(sources.config, Some("a.toml".into()));
        assert_eq!(sources.listen, ["127.0.0.1:1", "[::1]:2"]);
        assert_eq!(sources.exposure, Exposure::Accepted);
        assert_eq!(sources.drain.as_deref(), Some("5s"));
        assert_eq!(sources.command, ["uvx", "--from", "x", "y"]);
    }

    #[test]
    fn a_call_has_words_and_may_bring_its_own_server() {
        let line = "spawnling call time now a=1 b=-2 --timeout 2s --receipt -- sh -c x=1";
        let Ok(Command::Call(call)) = parse(line) else { panic!("not taken") };
        assert_eq!((call.server.as_str(), call.tool.as_str()), ("time", "now"));
        assert_eq!(call.words, ["a=1", "b=-2"]);
        assert_eq!(call.timeout.as_deref(), Some("2s"));
        assert!(call.receipt);
        assert_eq!(call.setup.sources(surroundings()).command, ["sh", "-c", "x=1"]);
        assert_eq!(call.list_command(), "spawnling tools time -- sh -c x=1");

        let Ok(Command::Call(call)) = parse("spawnling call time now -") else { panic!("not taken") };
        assert_eq!(call.words, ["-"]);
        assert!(call.setup.command.is_empty());
        assert_eq!(call.list_command(), "spawnling tools time");
        let Ok(Command::Call(call)) = parse("spawnling call a b --config c.json") else {
            panic!("not taken")
        };
        assert_eq!(call.list_command(), "spawnling tools a --config c.json");
    }

    #[test]
    fn a_command_that_came_to_nothing_is_missed() {
        let lacks = |words: &[&str]| {
            let command = Cli::try_parse_from(words).expect("taken").command;
            command.lacks_command(&words.iter().map(OsString::from).collect::<Vec<_>>())
        };
        for words in [&["serve", "--"][..], &["check", "--", ""], &["tools", "demo", "--"]] {
            assert!(lacks(&[&["spawnling"], words].concat()), "{words:?}");
        }
        for words in [&["serve"][..], &["serve", "--", "x", "--"], &["call", "a", "b", "--", "x"], &["demo"]]
        {
            assert!(!lacks(&[&["spawnling"], words].concat()), "{words:?}");
        }
    }

    #[test]
    fn the_other_commands_are_there_too() {
        let cases = [
            "spawnling tools demo --json",
            "spawnling tools default -- uvx x",
            "spawnling check",
            "spawnling check --config mcp.json",
            "spawnling check -- uvx x",
            "spawnling bench --quick --json",
            "spawnling bench --tool now --rates 1,0.5 -- uvx x",
            "spawnling bench --url http://127.0.0.1:5001 --server a --tool b",
            "spawnling demo --startup 700ms",
        ];
        for line in cases {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "spawnling",
            "spawnling call x",
            "spawnling tools",
            "spawnling serve x",
            "spawnling srve",
            "spawnling bench -- uvx x",
            "spawnling bench --url http://127.0.0.1:5001",
            "spawnling bench --callers 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
