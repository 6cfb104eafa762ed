// From figures to words: where the time of a call went, and how its process ended. The names are those of `Server-Timing` and
// of `GET /v1/calls/{id}`; what is not known is left out.

const PHASES = { queue: "for a seat", spawn: "the process", open: "the handshake", call: "the tool" };
const SERVED = { standby: "it stood by: started ahead, never used", pooled: "others have had it before", shared: "others have it too" };
const ENDS = { already: "it had ended by itself", eof: "it left when its stdin was closed", term: "it left on SIGTERM", kill: "it was killed" };

export function milliseconds(time) {
  return `${time.toFixed(time < 10 ? 2 : 0)} ms`;
}

// Each phase that there was: its name, what it is for, its milliseconds.
export function phases(timing) {
  return Object.entries(PHASES)
    .filter(([phase]) => typeof timing?.[phase] === "number")
    .map(([phase, what]) => [phase, what, timing[phase]]);
}

// Where its server came from, if that was no fresh one.
export function served(timing) {
  return timing?.desc && (SERVED[timing.desc] ?? timing.desc);
}

export function exit({ code, signal, name, cause }) {
  const how = code !== undefined ? `code ${code}` : signal !== undefined ? name ?? `signal ${signal}` : "";
  return [how, cause && `it met its limit: ${cause}`].filter(Boolean).join("; ");
}

const by = (source) => (source ? ` (${source})` : "");

// The lines of a receipt, a name and a text each.
export function facts(receipt) {
  const { process, state, duration_ms: lasted } = receipt;
  const lines = [["call", receipt.call]];
  if (state !== "ended") lines.push(["state", state]);
  if (!process) {
    lines.push(["process", "none was started"]);
  } else if (process.kept) {
    lines.push(["process", `${process.pid}, which lives on for other calls`], ["its calls", String(process.calls)]);
  } else {
    lines.push(["process", String(process.pid)]);
    if (process.exit) lines.push(["exit", exit(process.exit)]);
    lines.push(["its end", `${ENDS[process.rung] ?? process.rung}, within ${milliseconds(process.end_ms)}`]);
    lines.push(["killed beside it", String(process.killed)]);
    if (process.cpu_ms !== undefined) lines.push(["processor time", milliseconds(process.cpu_ms) + by(process.cpu_source)]);
    const peak = process.peak_memory_bytes;
    if (peak !== undefined) lines.push(["peak memory", `${(peak / 2 ** 20).toFixed(1)} MiB${by(process.peak_memory_source)}`]);
  }
  if (process) lines.push(["containment", process.containment]);
  if (lasted !== undefined) lines.push(["all in all", milliseconds(lasted)]);
  return lines;
}
