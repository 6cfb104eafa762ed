//! The page at `/`, in a real browser: a tool is run, a failure is explained, the curl line is the same call.
//!
//! The gateway's own browser server looks at the gateway's own page. What the page promises of its looks is for people;
//! what it promises to those who do not see is checked by axe-core.

use serde_json::{Value, json};

use super::{configured, see_off};
use crate::support::peers::{Part, peer};
use crate::support::{Gateway, JSON, Start, demo};

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

fn pick(tool: &str) -> Value {
    let arguments = json!({"element": "tool", "target": "#tool", "values": [tool]});
    json!({"tool": "browser_select_option", "arguments": arguments})
}

fn until_shown(text: &str) -> Value {
    json!({"tool": "browser_wait_for", "arguments": {"text": text}})
}

/// Waits until the page says that what was asked is over, and says what the page shows.
fn shown() -> Value {
    let until = "!document.querySelector('#run').disabled && document.querySelector('#stop').hidden";
    evaluate(&format!(
        "async () => {{ while (!({until})) await new Promise((next) => setTimeout(next, 20)); \
         return document.querySelector('main').innerText; }}"
    ))
}

/// A gateway with a page, a demo and a browser.
fn gateway() -> Option<(Gateway, tempfile::TempDir)> {
    let (browser, dir) = configured(&["--isolated"])?;
    let config = format!("{TOKEN}{}{browser}", demo(&[]));
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
        until_shown("Use it"),
        enter("#token", "token-of-the-page"),
        click("#enter button"),
        evaluate(known),
    ];
    let all = [&before[..], steps].concat();
    let all = json!({ "steps": all }).to_string();
    let headers = [JSON, ("X-API-Key", "token-of-the-page")];
    let answer = gateway.request("POST", "/v1/servers/browser/calls", &headers, &all);
    let said = answer.good()["steps"].as_array().expect("its steps").clone();
    let text = |step: &Value| step["result"]["content"][0]["text"].as_str().unwrap_or_default().to_owned();
    said[before.len()..].iter().map(text).collect()
}

#[test]
fn the_page_runs_a_tool_and_explains_what_went_wrong() {
    let Some((gateway, _dir)) = gateway() else { return };
    let markup = "<b class='injected'>it's</b>";
    let said = on_the_page(
        &gateway,
        &[
            enter("#field-0", markup),
            click("#run"),
            until_shown("How its process ended"),
            shown(),
            click("#line summary"),
            evaluate("() => document.querySelector('#curl').textContent"),
            evaluate(
                "() => document.querySelectorAll('.injected').length + document.querySelectorAll('.bar').length * 10",
            ),
            click("#copy"),
            evaluate("() => document.querySelector('#copied').textContent"),
            pick("add"),
            click("#run"),
            evaluate(
                "() => document.activeElement.id + ' ' + document.activeElement.getAttribute('aria-invalid')",
            ),
            pick("fail"),
            click("#run"),
            shown(),
            json!({"tool": "browser_console_messages", "arguments": {"level": "warning"}}),
        ],
    );
    assert!(said[3].contains("It went well.") && said[3].contains("injected"), "{}", said[3]);
    for line in
        ["/v1/servers/demo/tools/echo", "Bearer $TOKEN", r"it'\\''s", "Content-Type: application/json"]
    {
        assert!(said[5].contains(line), "{line}: {}", said[5]);
    }
    assert!(!said[5].contains("token-of-the-page"), "{}", said[5]);
    // No element was made of what the tool said; each of four phases has its bar.
    assert!(said[6].lines().any(|line| line == "40"), "{}", said[6]);
    assert!(said[8].contains("Copied.") || said[8].contains("Selected"), "{}", said[8]);
    assert!(said[11].contains("field-0 true"), "{}", said[11]);
    assert!(said[14].contains("424") && said[14].contains("What this means"), "{}", said[14]);
    assert!(!said[15].contains("Content Security Policy"), "{}", said[15]);
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
    let said = on_the_page(
        &gateway,
        &[
            enter("#field-0", "a"),
            click("#run"),
            until_shown("How its process ended"),
            click("#line summary"),
            evaluate(&load),
            evaluate(judge),
        ],
    );
    assert!(said[4].contains("object"), "{}", said[4]);
    assert!(said[5].lines().any(|line| line == "\"\""), "{}", said[5]);
    see_off(&gateway);
    gateway.stop();
}
