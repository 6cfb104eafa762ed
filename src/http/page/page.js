// The page: picks a server and a tool, asks, and shows what came of it. Whatever others wrote is shown as text.

import { element, form } from "/assets/form.js";
import { exit, facts, milliseconds, phases, served } from "/assets/receipt.js";

const $ = (id) => document.getElementById(id);
const path = (...parts) => "/" + parts.map(encodeURIComponent).join("/");
let token = "";
let tools = [];
let asked = { read: () => null };
let running = null;

function headers(more = {}) {
  return token ? { Authorization: `Bearer ${token}`, ...more } : more;
}

function notice(text) {
  $("notice").textContent = text;
}

async function get(where, more) {
  const answer = await fetch(where, { headers: headers(more) });
  const body = await answer.json();
  if (answer.status === 401) {
    $("enter").hidden = false;
    $("token").focus();
  }
  if (!answer.ok) throw Object.assign(new Error(body.detail ?? body.title ?? `status ${answer.status}`), { problem: body });
  return body;
}

function offer(select, items, text) {
  select.replaceChildren(...items.map((item) => element("option", { value: item.name }, text(item))));
}

async function loadServers() {
  try {
    const { servers, default: usual } = await get("/v1/servers");
    $("enter").hidden = !token;
    offer($("server"), servers, (server) => server.name);
    const [wanted] = here();
    loadRoutes().catch((error) => notice(error.message));
    $("server").value = servers.some(({ name }) => name === wanted) ? wanted : usual ?? servers[0]?.name ?? "";
    await loadTools();
  } catch (error) {
    const asks = error.problem?.status === 401;
    notice(asks ? (token ? "This gateway does not know that token." : "") : error.message);
  }
}

// Configured routes, as far as this caller may call what is behind them.
async function loadRoutes() {
  const { paths } = await get("/openapi.json");
  const own = Object.entries(paths).filter(([, { post }]) => post?.tags?.includes("routes"));
  const line = ([where, { post }]) => element("li", {}, element("code", {}, `POST ${where}`), ` ${post.summary}`);
  $("routes").replaceChildren(...own.map(line));
  $("own").hidden = own.length === 0;
}

async function loadTools() {
  const server = $("server").value;
  tools = [];
  offer($("tool"), [], String);
  showTool();
  if (!server) return;
  notice(`Asking ${server} for its tools ...`);
  try {
    const list = await get(path("v1", "servers", server, "tools"));
    if ($("server").value !== server) return;
    tools = list.tools;
    notice(tools.length ? "" : "It has no tools.");
    offer($("tool"), tools, (tool) => (tool.title ? `${tool.name}: ${tool.title}` : tool.name));
    const [, wanted] = here();
    if (tools.some(({ name }) => name === wanted)) $("tool").value = wanted;
  } catch (error) {
    if ($("server").value !== server) return;
    // A server that does not start: its last words are what is of use.
    if (error.problem?.phase) {
      notice("Its tools are not known, for it could not be asked.");
      clear();
      showProblem(error.problem);
      await showReceipt(error.problem.call);
    } else {
      notice(error.message);
    }
  }
  showTool();
}

// A link to a tool: #server/tool. It only picks; nothing runs but by a click.
function here() {
  return location.hash.slice(1).split("/").map((part) => {
    try { return decodeURIComponent(part); } catch { return ""; }
  });
}

function showTool() {
  const tool = tools.find(({ name }) => name === $("tool").value);
  $("description").textContent = tool?.description ?? "";
  $("run").disabled = !tool;
  asked = tool ? form($("fields"), tool.inputSchema) : { read: () => null };
  if (!tool) $("fields").replaceChildren();
  if (tool) history.replaceState(null, "", "#" + [$("server").value, tool.name].map(encodeURIComponent).join("/"));
  showLine();
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function showLine() {
  const body = $("tool").value ? asked.read(true) : null;
  const secret = token ? ` \\\n  -H "Authorization: Bearer $TOKEN"` : "";
  const where = location.origin + path("v1", "servers", $("server").value, "tools", $("tool").value);
  $("curl").textContent = body === null ? "(the form is not complete)"
    : `curl ${quoted(where)} \\\n  -H 'Content-Type: application/json'${secret} \\\n  -d ${quoted(body)}`;
  $("copy").disabled = body === null;
  $("copied").textContent = "";
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("curl").textContent);
    $("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren($("curl"));
    $("copied").textContent = document.execCommand("copy") ? "Copied." : "Selected: copy it by the keyboard.";
  }
}

function state(text, kind = "") {
  $("state").textContent = text;
  $("state").className = kind;
}

function clear() {
  for (const id of ["outcome", "told", "bars", "facts"]) $(id).replaceChildren();
  for (const id of ["events", "timing", "receipt", "progress"]) $(id).hidden = true;
}

const block = (text, label) => element("pre", { tabindex: "0", "aria-label": label }, text);
const pretty = (value) => JSON.stringify(value, null, 2);

// What stands between backticks is what somebody would type.
const prose = (text) => element("p", {}, ...text.split("`").map((part, number) => (number % 2 ? element("code", {}, part) : part)));

// Whether a text says the same as the structured result, as is usual.
function repeats(item, structured) {
  try {
    return item.type === "text" && pretty(JSON.parse(item.text)) === pretty(structured);
  } catch {
    return false;
  }
}

function showItem(item) {
  if (item.type === "text") return block(item.text, "Text of the result");
  if (item.type === "image" && /^image\/(png|jpeg|gif|webp)$/.test(item.mimeType)) {
    return element("img", { src: `data:${item.mimeType};base64,${item.data}`, alt: "A picture that the tool answered with" });
  }
  return block(pretty(item), `Part of the result: ${item.type}`);
}

function showResult(result) {
  state("It went well.", "good");
  const { content = [], structuredContent: structured } = result;
  const texts = content.filter((item) => structured === undefined || !repeats(item, structured));
  $("outcome").append(...texts.map(showItem));
  if (structured !== undefined) {
    if (texts.length) $("outcome").append(element("h3", {}, "Structured"));
    $("outcome").append(block(pretty(structured), "Structured result"));
  }
}

function showProblem(problem) {
  state(`${problem.status} ${problem.title}`, "bad");
  const out = $("outcome");
  // The detail of a tool's error quotes its words, which follow whole.
  if (!problem.result?.content?.length) out.append(prose(problem.detail ?? ""));
  for (const { pointer, message } of problem.errors ?? []) out.append(block(`${pointer || "the arguments"}: ${message}`, "What is wrong"));
  out.append(...(problem.result?.content ?? []).map(showItem));
  if (problem.exit) out.append(element("p", {}, `Its process ended: ${exit(problem.exit)}.`));
  if (problem.stderr_tail) out.append(element("h3", {}, "Its last words"), block(problem.stderr_tail, "The end of its stderr"));
  if (problem.noise) out.append(element("h3", {}, "What it printed on stdout beside messages"), block(problem.noise.join("\n"), "Stray output"));
  if (/^\/problems\/[a-z-]+$/.test(problem.type)) {
    out.append(element("p", {}, element("a", { href: problem.type }, "What this means and what to do")));
  }
}

function showTiming(timing) {
  const all = phases(timing);
  const most = Math.max(...all.map(([, , time]) => time), 0.001);
  for (const [phase, what, time] of all) {
    const bar = element("span", { class: phase });
    bar.style.width = `${(60 * time) / most}%`;
    const name = element("dt", {}, phase, " ", element("span", { class: "what" }, what));
    $("bars").append(name, element("dd", { class: "bar" }, bar, milliseconds(time)));
  }
  if (served(timing)) $("bars").append(element("dt", {}, "server"), element("dd", {}, served(timing)));
  $("timing").hidden = all.length === 0;
}

async function showReceipt(id) {
  if (!id) return;
  try {
    const receipt = await get(path("v1", "calls", id), { "Spawnling-Wait": "end" });
    for (const [name, text] of facts(receipt)) $("facts").append(element("dt", {}, name), element("dd", {}, text));
    $("receipt").hidden = false;
  } catch {
    // It may be forgotten already; the result stands without it.
  }
}

function tell(name, data) {
  $("events").hidden = false;
  if (name === "progress") {
    $("progress").hidden = false;
    if (data.total) {
      $("progress").max = data.total;
      $("progress").value = data.progress;
    }
  }
  const said = name === "log" ? data.data : name === "dropped" ? `${data.count} earlier ones were dropped` : data.message ?? `${data.progress}${data.total ? ` of ${data.total}` : ""}`;
  $("told").append(element("li", {}, typeof said === "string" ? said : JSON.stringify(said)));
  $("told").lastChild.scrollIntoView?.({ block: "nearest" });
}

// The events of a stream: https://html.spec.whatwg.org/multipage/server-sent-events.html
async function* events(stream) {
  let text = "";
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const lines = text.slice(0, end).split("\n");
      const of = (name) => lines.filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2)).join("\n");
      if (of("event")) yield { name: of("event"), data: JSON.parse(of("data")) };
    }
  }
}

// `queue;dur=0.004, open;dur=0.000;desc="standby"`
function timingOf(header) {
  const phases = [...(header ?? "").matchAll(/(\w+);dur=([\d.]+)/g)].map(([, phase, ms]) => [phase, Number(ms)]);
  return { ...Object.fromEntries(phases), desc: /desc="([^"]*)"/.exec(header ?? "")?.[1] };
}

async function follow(answer) {
  for await (const { name, data } of events(answer.body)) {
    if (name === "result") {
      showResult(data.result);
      return [data.callId, data.timing];
    }
    if (name === "problem") {
      showProblem(data);
      return [data.call, data.timing];
    }
    tell(name, data);
  }
  throw new Error("the stream ended without a result");
}

async function run(event) {
  event.preventDefault();
  const body = asked.read();
  showLine();
  if (body === null) return;
  clear();
  state("Running ...");
  // Below the form, where the page is narrow.
  $("came").scrollIntoView({ block: "nearest" });
  running = new AbortController();
  $("run").disabled = true;
  $("stop").hidden = false;
  try {
    const accept = $("follow").checked ? "text/event-stream" : "application/json";
    const answer = await fetch(path("v1", "servers", $("server").value, "tools", $("tool").value), {
      method: "POST", body, signal: running.signal,
      headers: headers({ "Content-Type": "application/json", Accept: accept }),
    });
    let told = [answer.headers.get("Spawnling-Call-Id"), timingOf(answer.headers.get("Server-Timing"))];
    const kind = answer.headers.get("Content-Type") ?? "";
    if (kind.startsWith("text/event-stream")) told = await follow(answer);
    else if (answer.ok) showResult(await answer.json());
    else showProblem(await answer.json());
    $("progress").hidden = true;
    showTiming(told[1]);
    await showReceipt(told[0]);
  } catch (error) {
    state(error.name === "AbortError" ? "Stopped: the call was ended." : `No answer: ${error.message}`, "bad");
    $("progress").hidden = true;
  } finally {
    $("run").disabled = false;
    $("stop").hidden = true;
  }
}

$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  loadServers();
});
$("server").addEventListener("change", loadTools);
$("tool").addEventListener("change", showTool);
$("form").addEventListener("submit", run);
$("line").addEventListener("toggle", showLine);
$("form").addEventListener("input", showLine);
$("stop").addEventListener("click", () => running?.abort());
$("copy").addEventListener("click", copy);
loadServers();
