//! The page at `/`, in a real browser: a tool is run, a failure is explained, the curl line is the same call.
//!
//! The gateway's own browser server looks at the gateway's own page. What the page promises of its looks is for people;
//! what it promises to those who do not see is checked by axe-core.

use serde_json::{Value, json};

use super::{configured, see_off};
use crate::support::peers::{Part, peer};
use crate::support::{Gateway, JSON, Start, demo, events};

const TOKEN: &str = "[[tokens]]\nname = \"a\"\nvalue = \"token-of-the-page\"\n";

fn evaluate(function: &str) -> Value {
    json!({"tool": "browser_evaluate", "arguments": {"function": function}})
}

fn click(target: &str) -> Value {
    json!({"tool": "browser_click", "arguments": {"element": target, "target": target}})
}

fn enter(target: &str, text: &str) -> Value {
    json!({"tool": "browser_type", "arguments": {"element": target, "target": target, "text": text}})
}

/// Waits until what was asked on the page is over, and opens the curl line.
const OVER: &str = "async () => {
    const over = () => !document.querySelector('#run').disabled && document.querySelector('#stop').hidden;
    while (!over()) await new Promise((next) => setTimeout(next, 20));
    document.querySelector('#line').open = true;
}";

/// What the page shows of a call that went well, and then of one that cannot be made, and of one that fails.
const LOOK: &str = "async () => {
    const $ = (which) => document.querySelector(which);
    const next = () => new Promise((next) => setTimeout(next, 20));
    const run = async (tool) => {
        $('#tool').value = tool;
        $('#tool').dispatchEvent(new Event('change'));
        $('#run').click();
        while ($('#run').disabled || !$('#stop').hidden) await next();
    };
    while (!$('#copied').textContent) await next();
    const found = { good: $('main').innerText, curl: $('#curl').textContent, copied: $('#copied').textContent };
    found.injected = document.querySelectorAll('.injected').length;
    found.bars = document.querySelectorAll('.bar').length;
    while ($('#own').hidden) await next();
    found.own = $('#own').innerText;
    await run('add');
    found.missing = [document.activeElement.id, document.activeElement.getAttribute('aria-invalid')];
    const border = (which) => getComputedStyle($(which)).borderColor;
    found.marked = border('#field-0') !== border('#server');
    found.copies = !$('#copy').disabled;
    await run('fail');
    found.failed = $('main').innerText;
    await run('run_browser_agent');
    found.first = $('#fields label').innerText;
    $('#server').value = 'broken';
    $('#server').dispatchEvent(new Event('change'));
    while ($('#receipt').hidden || !$('#notice').textContent.includes('not known')) await next();
    found.broken = $('main').innerText;
    found.icon = (await fetch($('link[rel=icon]').href)).status;
    return found;
}";

/// A gateway with a page, a demo and a browser.
fn gateway() -> Option<(Gateway, tempfile::TempDir)> {
    let (browser, dir) = configured(&["--isolated"])?;
    let route = "\n[[routes]]\npath = \"/say\"\nserver = \"demo\"\ntool = \"echo\"\n";
    let broken = "\n[servers.broken]\ncommand = \"sh\"\nargs = [\"-c\", \"echo no licence >&2; exit 7\"]\n";
    let config = format!("{TOKEN}{}{browser}{broken}{route}", demo(&[]));
    let start = Start { args: &["--containment", "group"], ..Start::default() };
    Some((Gateway::start_by(&config, start), dir))
}

/// What each of these steps said, on the page of this gateway.
#[track_caller]
fn on_the_page(gateway: &Gateway, steps: &[Value]) -> Vec<String> {
    let address = gateway.address();
    let known = "async () => { while (document.querySelector('#tool').options.length === 0) \
                 await new Promise((next) => setTimeout(next, 20)); }";
    let before = [
        json!({"tool": "browser_navigate", "arguments": {"url": format!("http://{address}/#demo/echo")}}),
        enter("#token", "token-of-the-page"),
        click("#enter button"),
        evaluate(known),
    ];
    let all = [&before[..], steps].concat();
    let all = json!({ "steps": all }).to_string();
    // What keeps a stream alive keeps the test patient, too: on a busy machine a browser takes its time.
    let stream = ("Accept", "text/event-stream");
    let headers = [JSON, stream, ("X-API-Key", "token-of-the-page")];
    let answer = gateway.request("POST", "/v1/servers/browser/calls", &headers, &all);
    let events = events(&answer.body);
    let result = events.last().filter(|event| event.name == "result").unwrap_or_else(|| panic!("{answer:?}"));
    let said = result.data["result"]["steps"].as_array().expect("its steps").clone();
    let text = |step: &Value| step["result"]["content"][0]["text"].as_str().unwrap_or_default().to_owned();
    said[before.len()..].iter().map(text).collect()
}

#[test]
fn the_page_runs_a_tool_and_explains_what_went_wrong() {
    let Some((gateway, _dir)) = gateway() else { return };
    let markup = "<b class='injected'>it's</b>";
    let console = json!({"tool": "browser_console_messages", "arguments": {"level": "warning"}});
    let steps =
        [enter("#field-0", markup), click("#run"), evaluate(OVER), click("#copy"), evaluate(LOOK), console];
    let said = on_the_page(&gateway, &steps);
    let found = said[4].split_once("### Result\n").expect("a result").1;
    let found =
        serde_json::Deserializer::from_str(found).into_iter::<Value>().next().expect("a value").unwrap();
    let text = |member: &str| found[member].as_str().unwrap_or_default();
    assert!(text("good").contains("It went well.") && text("good").contains(markup), "{found}");
    assert!(text("good").contains("How its process ended"), "{found}");
    assert!(text("good").contains("it left when its stdin was closed, within "), "{found}");
    for line in ["/v1/servers/demo/tools/echo", "Bearer $TOKEN", r"it'\''s", "Content-Type: application/json"]
    {
        assert!(text("curl").contains(line), "{line}: {found}");
    }
    assert!(!text("curl").contains("token-of-the-page"), "{found}");
    assert!(text("copied").contains("Copied.") || text("copied").contains("Selected"), "{found}");
    // No element was made of what the tool said; each of four phases has its bar.
    assert_eq!((&found["injected"], &found["bars"]), (&json!(0), &json!(4)));
    assert_eq!(found["missing"], json!(["field-0", "true"]));
    assert_eq!((&found["marked"], &found["copies"]), (&json!(true), &json!(false)));
    assert!(text("first").starts_with("task "), "what is required comes first: {found}");
    assert_eq!(found["icon"], 200);
    assert!(text("broken").contains("502 ") && text("broken").contains("code 7"), "{found}");
    assert!(text("own").contains("POST /say") && text("own").contains("The tool echo of demo"), "{found}");
    assert!(text("failed").contains("424") && text("failed").contains("What this means"), "{found}");
    assert!(!said[5].contains("Content Security Policy"), "{}", said[5]);
    see_off(&gateway);
    gateway.stop();
}

#[test]
fn the_page_is_for_those_who_do_not_see_it_too() {
    let Some(axe) = peer(Part::Node, "npm/node_modules/axe-core/axe.min.js") else { return };
    let Some((gateway, _dir)) = gateway() else { return };
    let axe = std::fs::read_to_string(axe).expect("its script");
    // The page's policy lets no script in; what a debugger evaluates is not asked for that.
    let load = format!("() => {{ {axe}; return typeof axe; }}");
    let judge = "async () => (await axe.run()).violations.map((each) => each.id + ' at ' + each.nodes[0].html).join('; ')";
    let steps = [enter("#field-0", "a"), click("#run"), evaluate(OVER), evaluate(&load), evaluate(judge)];
    let said = on_the_page(&gateway, &steps);
    assert!(said[3].contains("object"), "{}", said[3]);
    assert!(said[4].lines().any(|line| line == "\"\""), "{}", said[4]);
    see_off(&gateway);
    gateway.stop();
}
