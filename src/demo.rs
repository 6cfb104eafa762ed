//! The demo MCP server, on stdio: something to call when nothing else is configured, and the peer that tests order
//! their faults from.
//!
//! It speaks both eras of the protocol and shares no code with the gateway, so that one bug cannot hide on both sides.
//! It starts as fast as a process can: plain threads, nothing set up before it is needed.
//!
//! ```text
//! stdin --line--> server::take --+--> answered on this thread (lists, texts, quick tools)
//!                                '--> a thread per slow tool ---whole lines---> stdout
//! ```
//!
//! Callers may rely on: one line per message; cancelled calls stay unanswered; the end of stdin ends the process with
//! status 0 and cancels what still runs. Each of these has a fault that breaks it, off unless asked for.

mod address;
mod browse;
mod eras;
mod fault_tool;
mod faults;
mod offers;
mod page;
mod server;
mod target;
mod tools;
mod wire;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Flags of `spawnling demo`.
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub(crate) struct Args {
    /// Which eras of the protocol to speak.
    #[arg(long, value_enum, default_value = "dual")]
    era: eras::Era,
    /// Exit with an error if the first message is neither initialize nor ping, as some older servers do.
    #[arg(long)]
    exit_on_probe: bool,
    /// Never answer server/discover.
    #[arg(long)]
    silent_on_probe: bool,
    /// Offer the tool `fault`, which misbehaves to order.
    #[arg(long)]
    faults: bool,
    /// Misbehave from the start: KIND or KIND=VALUE, repeatable.
    #[arg(long = "fault", value_name = "KIND[=VALUE]")]
    fault: Vec<faults::Fault>,
    /// Burn so much processor time before anything is read, as slow starters do: 700ms, 2s.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    startup: Option<Duration>,
    /// An origin that the stand-in browser may fetch although it is not public, such as `http://127.0.0.1:5001`.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Let the stand-in browser fetch private, loopback and link-local addresses.
    #[arg(long)]
    allow_private: bool,
}

/// Serves stdin until it ends.
pub(crate) fn run(args: &Args) -> ExitCode {
    if io::stdin().is_terminal() {
        wire::complain(
            "this waits for MCP messages on stdin, one a line, until Ctrl-D; `spawnling serve` puts it behind HTTP",
        );
    }
    burn(args.startup.unwrap_or_default());
    let server = Arc::new(server::Server::new(args));
    server.faults.at_start(&server.output);
    let mut input = io::stdin().lock();
    // An unreadable stdin is an ended one.
    while let Ok(Some(line)) = wire::read_line(&mut input) {
        server.take(&line);
    }
    if server.faults.stays() {
        faults::overstay();
    }
    ExitCode::SUCCESS
}

/// Keeps a processor busy: counted in its time, not in the wall's, so that a busy machine makes it take longer.
fn burn(time: Duration) {
    let used = || Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or(Duration::MAX);
    while used() < time {
        std::hint::black_box((0..1000_u64).sum::<u64>());
    }
}
