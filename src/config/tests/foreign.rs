//! Files of other clients: what of them counts, and under which names.

use super::*;

#[test]
fn a_file_of_another_client_is_read_unchanged() {
    let config = load(&sample("plain.json")).expect("a good file");
    assert_eq!(names(&config), ["time", "memory"]);
    assert_eq!(env(&config.servers[1])[1], "MEMORY_FILE_PATH=/tmp/memory.json");
    assert!(config.notices.is_empty());
}

#[test]
fn what_is_foreign_is_passed_over_with_a_reason() {
    let config = load(&sample("vscode.jsonc")).expect("a good file");
    assert_eq!((names(&config), config.concurrent), (vec!["everything"], 12));
    let server = &config.servers[0];
    assert_eq!((server.deadline, server.limits.concurrent), (secs(30), 2));
    assert_eq!(env(server), ["HOME=/home/u", "PATH=/bin", "PORT=8080"]);
    let expected = [
        "vscode.jsonc:11:82: servers.everything.spawnling.pass_env: the variable DEBUG is not set",
        "vscode.jsonc:10:7: servers.everything.gallery: not ours, passed over",
        "vscode.jsonc:13:5: servers.hosted: passed over: it is reached by a url, and only commands can be started",
        "vscode.jsonc:14:5: servers.linked: passed over: it is reached by a url, and only commands can be started",
        "vscode.jsonc:15:5: servers.off: passed over: it is disabled",
        "vscode.jsonc:3:3: inputs: not ours, passed over",
    ];
    assert_eq!(config.notices, expected);
}

#[test]
fn where_every_server_is_passed_over_the_reasons_are_told() {
    let text = r#"{"mcpServers": {"b": {"url": "http://x"}, "c": {"command": "x", "disabled": true}}}"#;
    let complaints = file("a.json", text).expect_err("nothing can be started").to_string();
    let lines: Vec<_> = complaints.lines().collect();
    assert!(lines[0].starts_with("a.json: servers: no server is configured"), "{complaints}");
    let reasons = [
        "a.json:1:17: mcpServers.b: passed over: it is reached by a url, and only commands can be started",
        "a.json:1:43: mcpServers.c: passed over: it is disabled",
    ];
    assert_eq!(lines[1..], reasons);
}

#[test]
fn a_key_of_ours_in_the_wrong_place_is_not_called_foreign() {
    let text = r#"{"mcpServers": {"b": {"command": "x", "deadline": "3s", "icon": "y"}}, "tokens": []}"#;
    let moved = |key| format!("write it as `spawnling.{key}`, for our own keys stand under `spawnling`");
    let expected = [
        format!("a.json:1:39: mcpServers.b.deadline: has no effect here: {}", moved("deadline")),
        "a.json:1:57: mcpServers.b.icon: not ours, passed over".to_owned(),
        format!("a.json:1:72: tokens: has no effect here: {}", moved("tokens")),
    ];
    assert_eq!(file("a.json", text).expect("a good file").notices, expected);
}

#[test]
fn a_server_with_a_name_that_ours_do_not_allow_goes_by_the_nearest_that_they_do() {
    let text = r#"{"mcpServers": {
        "microsoft/playwright-mcp": {"command": "x", "spawnling": {"deadline": "7s"}},
        "My Server": {"command": "y"},
        "far/away": {"url": "http://x"}}}"#;
    let config = file("a.json", text).expect("a good file");
    assert_eq!(names(&config), ["microsoft-playwright-mcp", "My-Server"]);
    let allowed = "a server's name is 1 to 64 of A-Z a-z 0-9 _ . -";
    assert!(
        config.notices[0].ends_with(&format!("goes by the name \"microsoft-playwright-mcp\": {allowed}"))
    );
    assert_eq!(config.notices.len(), 3, "{:?}", config.notices);
    let shown = config.show();
    assert!(shown.contains("[servers.microsoft-playwright-mcp]") && shown.contains("a.json:2:80"), "{shown}");
}

#[test]
fn two_servers_never_share_a_name_and_one_without_any_letter_has_none() {
    let text = r#"{"mcpServers": {"a b": {"command": "x"}, "a-b": {"command": "y"}, "ü": {"command": "z"}}}"#;
    let complaints = file("a.json", text).expect_err("a wrong file").to_string();
    let expected = [
        "a.json:1:42: mcpServers.a-b: \"a-b\" and \"a b\" would both go by the name \"a-b\": rename one of them",
        "a.json:1:67: mcpServers.\"ü\": a server's name is 1 to 64 of A-Z a-z 0-9 _ . -",
    ];
    assert_eq!(complaints, expected.join("\n"));
}
