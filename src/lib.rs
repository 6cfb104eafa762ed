//! Spawnling: a fresh MCP server process for every HTTP request.
//!
//! The map of `src/`. A *(pure)* file has no I/O, no clock and no task: values in, values out.
//!
//! ```text
//! main.rs                arguments in, exit code out
//! lib.rs                 this map, and the list of rooms
//! fuzz.rs                what is fuzzed; compiled for that and for tests only
//! cli.rs                 every flag and subcommand, as data
//! cli/run.rs             from the words to the room that does it, and to an exit code
//! cli/pages.rs           completions for shells, and the manual page
//! cli/words.rs           the words behind `call`, put together into arguments                      (pure)
//! config.rs              the whole configuration: read in layers, checked once, handed out in pieces
//! config/layers.rs       flags, variables, file, defaults: whoever speaks first counts
//! config/sandbox.rs      what a server is to be kept from
//! config/file.rs         one file, of either format
//! config/edge.rs         where the HTTP edge listens, and how much it bears
//! config/tree.rs         what a file says, each value with its place: one tree for TOML and JSON
//! config/tokens.rs       who may ask, and for what
//! config/table.rs        one table, read key by key; what nobody asked for is unknown
//! config/value.rs        what a single value may be                                                (pure)
//! config/expand.rs       what stands in a value for something else, put in its place
//! config/server.rs       one server's settings
//! config/strategy.rs     where its instances come from
//! config/browser.rs      what stands behind the original API
//! config/routes.rs       routes of one's own: which paths may be had, and which tool answers there
//! config/env.rs          the small part of our environment that a server gets to see
//! config/headers.rs      headers of a request that become variables of its call's process
//! config/print.rs        all of it as it was understood, with where it came from
//! config/schema.rs       a JSON Schema of the file, for editors
//! config/stamp.rs        what shows that a file is another than the one that was read
//! config/complaint.rs    everything that is wrong, each with its line and column
//! serve.rs               composition root: builds each room once, runs them, drains them in order
//! serve/edge.rs          sockets and certificates as configured; the service manager that waits for us
//! serve/furnish.rs       what belongs to one server, put together as it is configured
//! serve/once.rs          what `call` and `tools` ask, without HTTP
//! serve/reload.rs        another configuration in the place of the one that counts, while calls go on
//! serve/watch.rs         tells when a file has become another
//! serve/signals.rs       what tells us to stop, and what to read the configuration again
//! serve/reuse.rs         `check --reuse`: does a used process answer as a fresh one does?
//! serve/reuse/arguments.rs which tools may be tried, with made-up arguments                       (pure)
//! serve/receipt.rs       the receipt of a call for a person                                       (pure)
//! serve/check.rs         one look at every server: does it start, and if not, what to try
//! serve/diagnosis.rs     why a server does not start, probably, and how to mend it             (pure)
//! serve/progress.rs      what a server tells while it works, on stderr
//! serve/tools.rs         a server's tools for a person, and which of their arguments are strings    (pure)
//! serve/hint.rs          what a person could do next about a call that failed                      (pure)
//! serve/means.rs         threads and descriptors, before there is a gateway
//! http.rs                one request to one response: the order of the steps
//! http/listen.rs         sockets, connections, graceful stop
//! http/listen/address.rs where can be listened                                                  (pure)
//! http/listen/shared.rs  one socket, served and watched for a hang-up at once
//! http/listen/sockets.rs sockets that listen: bound by us, or handed over by whoever started us
//! http/listen/stall.rs   a stream whose reader may be slow, but not for ever
//! http/listen/streams.rs  what is open on a connection, and whether its answers are taken
//! http/listen/tls.rs     TLS, and certificates that may be exchanged
//! http/listen/dates.rs   whether certificates are valid by now
//! http/authority.rs      what a principal may ask, and what of lists it sees                      (pure)
//! http/edge.rs           Host, Origin, Sec-Fetch-Site: what protects every route alike             (pure)
//! http/route.rs          method and path -> Route, a closed enum                                   (pure)
//! http/accept.rs         what kind of answer a caller takes                                        (pure)
//! http/terms.rs          how long a call may take, and when its answer leaves                      (pure)
//! http/body.rs           bodies: bounded and timed on the way in, typed on the way out
//! http/budget.rs         how many bytes of bodies and answers may be on their way at once
//! http/json.rs           JSON written around relayed JSON, which is not copied                     (pure)
//! http/text.rs           the text alone of a result                                                (pure)
//! http/fuzz.rs           what must be true of a request, whatever a caller wrote into it
//! http/stamp.rs          call id, timing, receipt: what every answer to a call carries             (pure)
//! http/receipt.rs        a receipt as a header and as JSON                                        (pure)
//! http/rest.rs           the REST dialect <-> exchange::{Request, Answer}
//! http/rest/steps.rs     what a path and a body ask                                                (pure)
//! http/sse.rs            events -> bytes; dropping the stream hangs up the call
//! http/own.rs            routes of one's own: a path, and the tool that answers there            (pure)
//! http/live.rs           what answers now; another may take its place while requests go on
//! http/legacy.rs         the original API
//! http/admin.rs          front page, liveness, readiness, metrics, the pages of problems
//! http/openapi.rs        the routes and the tools, as OpenAPI
//! http/page.rs           the page to try tools in, in parts beside it
//! http/problem.rs        the one place where a fault becomes a status
//! http/problem/kind.rs   every kind of problem: name, status, and what its page says               (pure)
//! http/problem/refusal.rs  what HTTP refuses by itself                                             (pure)
//! http/problem/remedy.rs  what to do about one failed call                                         (pure)
//! http/problem/words.rs  what a problem says                                                       (pure)
//! catalog.rs             what each server offers: lists and schemas; checks arguments
//! catalog/cost.rs         what checking against a schema can cost at most                             (pure)
//! catalog/readiness.rs   whether a server that is required can be started
//! catalog/schema.rs      an input schema, and whether arguments fit it                             (pure)
//! catalog/shelf.rs       one list, kept while it is fresh
//! call.rs                THE LIFE OF ONE CALL: admitted, leased, asked, answered, ended
//! call/admission.rs      how many lives at once, who waits, who is turned away
//! call/admission/idleness.rs whether processors have nothing to do
//! call/admission/line.rs who is next: principals in turn
//! call/admission/pressure.rs whether the machine is short of memory
//! call/shares.rs         how many calls each principal has in, where its token bounds that
//! call/receipts.rs       what is known of the calls that are, and of the last ones that were
//! call/at_once.rs        a task that wakes itself goes on at once
//! call/figures.rs        a call that is over, as it is counted
//! call/log.rs            the receipt of a call in the log
//! call/spans.rs          the spans of a call, for whoever follows its trace
//! strategy.rs            the trait Strategy, the type Lease, the promise that every strategy keeps
//! strategy/fresh.rs      a new server for every call
//! strategy/prewarmed.rs  a new server for every call, started before it was asked for
//! strategy/pooled.rs     servers that are used again, by one call at a time
//! strategy/shared.rs     one server for many calls at once
//! strategy/pace.rs       how many should stand by, and when the next may be started              (pure)
//! strategy/shelf.rs      servers that are alive and wait for a call
//! instance.rs            THE LIFE OF ONE SERVER: the only file where child, rpc and mcp meet
//! instance/doubt.rs      whether a server still speaks what was remembered of it
//! instance/ears.rs       what is done with what a server says unasked
//! instance/half_born.rs  what is left of a start that failed
//! instance/hub.rs        one server that many calls ask, each by a line of its own
//! instance/idle.rs       a server that waits for its next question
//! instance/life_sign.rs  what tells a server that hangs over its start from one whose tool takes long
//! instance/probe.rs      a throw-away sibling that shows which era a server speaks
//! mcp.rs                 Session: an opened conversation in a known era
//! mcp/era.rs             the protocol revisions and what each allows                               (pure)
//! mcp/open.rs            initialize or discover; returns a Session or an error, never half of one
//! mcp/types.rs           the few payloads we look into; all others pass through untouched          (pure)
//! mcp/verdicts.rs        which era a server was found to speak, in memory and on disk
//! rpc.rs                 JSON-RPC 2.0 over any reader and any writer
//! rpc/message.rs         requests, replies, notifications, ids                                     (pure)
//! rpc/frame.rs           one message per line; bounded, safe to cancel
//! rpc/pending.rs         questions awaiting answers; one dropped unanswered says so
//! rpc/fuzz.rs            what must be true of a conversation, whatever was written
//! child.rs               Child: a process tree we own, from spawn to proof of death
//! child/spec.rs          what to run, and how patiently it is ended                                (pure)
//! child/spec/limits.rs   how much of the machine it may use                                        (pure)
//! child/spec/sandbox.rs  what it may see and touch: what is asked, and what the kernel is told     (pure)
//! child/birthplace.rs    a child as the room above sees it: where it is born, what can be asked of it
//! child/bounds.rs        limits and sandbox, tried out before any call
//! child/nursery.rs       where trees are born, and what all of them share
//! child/limits.rs        how much of the machine a tree may use, told to the kernel
//! child/limits/cage.rs   one tree's cgroups with controllers, and which limit it met
//! child/limits/controllers.rs where such cgroups can be made, found by trying
//! child/sandbox.rs       a process confines itself: what it may see and touch from here on
//! child/sandbox/files.rs which files: Landlock
//! child/sandbox/namespaces.rs its own temporary directories, and nobody's sockets
//! child/sandbox/network.rs no network
//! child/sandbox/privileges.rs who it is, and what it may do beyond that
//! child/sandbox/syscalls.rs which system calls: seccomp
//! child/sandbox/resolve.rs from presets, programs and accounts to paths and numbers
//! child/sandbox/surroundings.rs what each preset stands for: tables
//! child/sandbox/probe.rs the process that does it, or only tries
//! child/program.rs       from a program's name to the file that will be run
//! child/containment.rs   which containment this host can have, found out by trying
//! child/containment/refusal.rs why one cannot be had, and whether that passes
//! child/spawn.rs         the only place where we start a process
//! child/tree.rs          signal, kill, reap and count the whole tree; yields Gone
//! child/cgroup.rs        a cgroup for each tree: in it before exec, killed as a whole, removed
//! child/cgroup/place.rs  where our own cgroup is mounted
//! child/cgroup/quarters.rs  where the gateway sits while its trees have controllers
//! child/cgroup/rush.rs   whether joining one is cheap just now
//! child/keeper.rs        the process between us and a tree that is kept, seen from here
//! child/shim.rs          the re-executed first step: the keeper itself, seen from inside
//! child/shim/words.rs    what the gateway and a keeper say to each other                          (pure)
//! child/shim/control.rs  the keeper's end of the channel between them
//! child/shim/guard.rs    the process above a keeper: ends what a killed one has left
//! child/shim/init.rs     process 1 of a tree's own PID namespace
//! child/shim/keep.rs     the life of a kept tree: started, watched, ended, counted
//! child/shim/start.rs    how a keeper starts the program
//! child/shim/walk.rs     finds and kills every descendant, and nobody else
//! child/warden.rs        the processes that outlive us and end every tree if we are killed
//! child/os.rs            what needs a promise that no library can make for us
//! child/os/linux.rs      the only unsafe code: a fork into namespaces or a cgroup
//! child/living.rs        its life in the hands of its owner, and its end: ladder, kill, proof, receipt
//! child/rest.rs          its stderr, and its exit where it is a child of ours
//! child/proc.rs          what /proc tells of processes
//! child/ladder.rs        how a tree is asked to leave, and where to begin next time
//! child/stderr.rs        the last few kilobytes of what it complained about                        (pure)
//! child/stdin.rs         the pipe to it, written to at once where there is room
//! child/scratch.rs       its private directory; swept only in exchange for a Gone
//! child/raze.rs          what a tree leaves behind is removed, however deep it goes
//! child/stock.rs         empty directories made ahead: scratch directories, cgroups
//! child/husks.rs         empty directories removed at once, and given back to the disk later
//! child/reaper.rs        where a tree goes when its owner was dropped; counted, for it should be none
//! exchange.rs            the words between the rooms: Request, Answer, Receipt                     (pure)
//! exchange/credentials.rs what a call brings for its own process: variables from headers           (pure)
//! exchange/enforcement.rs what was asked of the kernel, and what became of it                      (pure)
//! exchange/fault.rs      CallError, and whose fault each variant is                                (pure)
//! exchange/masked.rs     a failure without secrets                                               (pure)
//! exchange/shortage.rs   what the host has run out of where a process could not be started       (pure)
//! exchange/nearest.rs    the name that was probably meant                                         (pure)
//! exchange/json.rs       JSON that is relayed: looked at, never rebuilt                            (pure)
//! exchange/fuzz.rs       what must be true of relayed JSON and of traces                           (pure)
//! exchange/receipt.rs    what is known after the end of a tree                                     (pure)
//! exchange/record.rs     the receipt of a whole call: what is known of it by now                   (pure)
//! exchange/seat.rs       the right to have one tree alive, and how much it is wanted
//! exchange/starts.rs     the right to start a server, and who comes first
//! exchange/events.rs     progress and log messages on their way to a caller who listens
//! exchange/trace.rs      the trace that a call belongs to                                          (pure)
//! exchange/turns.rs      who waits: principals in turn                                             (pure)
//! auth.rs                credentials -> Principal, or a refusal; who asks, for everybody to know
//! auth/mask.rs           secrets replaced by stars in whatever we write
//! aside.rs               work that may take time, away from the runtime's threads
//! tasks.rs               tasks that somebody owns: begun at once, waited for on the way out
//! deadline.rs            one time budget per call, and the reasons for which a call ends early
//! telemetry.rs           logging, set up once
//! telemetry/lines.rs     the log on its way to stderr, whose reader may sleep
//! telemetry/metrics.rs   every metric, as typed handles
//! telemetry/traces.rs    spans on their way to a collector: OTLP
//! demo.rs                the demo MCP server; shares no code with the rooms above
//! demo/server.rs         one process's worth of server: takes a line, answers it
//! demo/wire.rs           lines in, lines out: JSON-RPC as this server speaks it
//! demo/eras.rs           its protocol revisions                                                    (pure)
//! demo/offers.rs         its lists, schemas and texts                                              (pure)
//! demo/tools.rs          its tools
//! demo/browse.rs         `run_browser_agent`, the text-mode stand-in
//! demo/target.rs         which page a task names                                                   (pure)
//! demo/address.rs        which addresses it refuses to connect to                                  (pure)
//! demo/page.rs           what a fetched page says                                                  (pure)
//! demo/faults.rs         faults that a flag switches on
//! demo/fault_tool.rs     faults that one call orders
//! bench.rs               the load test: every strategy, others, and the bare server in one run
//! bench/plan.rs          what is measured, in which order                                          (pure)
//! bench/setup.rs         what is asked of which server, and the configuration for it               (pure)
//! bench/target.rs        what is measured, running; and the end of it all
//! bench/load.rs          puts one load on one target: closed, or open
//! bench/client.rs        one caller on one kept-alive connection
//! bench/heir.rs          the process that ends what a killed run has left
//! bench/bare.rs          the same server without a gateway: the floor
//! bench/usage.rs         processor time and memory of a tree, from /proc
//! bench/stats.rs         from single calls to figures                                              (pure)
//! bench/report.rs        the figures of a run as one value                                         (pure)
//! bench/table.rs         the figures as a table for a terminal                                     (pure)
//! bench/plot.rs          the charts, as SVG
//! bench/page.rs          the page with everything                                                  (pure)
//! ```
//!
//! A room (a file here, with the folder of its name) uses only the rooms behind its arrows, and may name the *(pure)*
//! files of any room further on. `tests/it/tidy.rs` holds the code to this map and to these arrows.
//!
//! ```text
//! fuzz -> http, rpc, exchange (parsers only, while they are fuzzed)
//! main -> cli -> config -> serve (wires every room; none points back)     cli -> demo, bench, child::{sandbox, shim, warden}
//! http -> catalog -> call -> strategy -> instance -+-> mcp -> rpc
//!                                                  +-> rpc
//!                                                  '-> child
//! open to all: exchange, auth, aside, tasks, deadline, telemetry          demo, bench use no room
//! ```

mod aside;
mod auth;
mod bench;
mod call;
mod catalog;
mod child;
mod cli;
mod config;
mod deadline;
mod demo;
mod exchange;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod http;
mod instance;
mod mcp;
mod rpc;
mod serve;
mod strategy;
mod tasks;
mod telemetry;

pub use cli::run;
