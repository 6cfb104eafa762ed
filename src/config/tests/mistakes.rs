//! What is said of a configuration that cannot be used.

use super::*;

#[test]
fn a_complaint_about_a_secret_does_not_show_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("token"), "hunter2hunter2").expect("written");
    let text = "drain = \"${file:token}\"\n[servers.a]\ncommand = \"x\"\n";
    fs::write(dir.path().join("a.toml"), text).expect("written");
    let loaded = load(&Sources { config: Some("a.toml".into()), ..sources_in(dir.path(), &[]) });
    let expected = "a.toml:1:9: drain: what stands there when it is put in place will not do";
    assert_eq!(loaded.expect_err("no duration").to_string(), expected);
}

#[test]
fn all_mistakes_of_a_toml_file_are_named_at_once() {
    let complaints = load(&sample("wrong.toml")).expect_err("a wrong file").to_string();
    let expected = include_str!("../../../tests/fixtures/config/wrong.toml.txt");
    assert_eq!(complaints.trim(), expected.trim());
}

#[test]
fn all_mistakes_of_a_json_file_are_named_at_once() {
    let complaints = load(&sample("wrong.json")).expect_err("a wrong file").to_string();
    let expected = include_str!("../../../tests/fixtures/config/wrong.json.txt");
    assert_eq!(complaints.trim(), expected.trim());
}

#[test]
fn a_file_that_is_none_is_one_complaint() {
    let cases = [
        ("a.toml", "listen = [", "a.toml:1:"),
        ("a.json", "{", "a.json:1:"),
        (
            "a.toml",
            "",
            "a.toml: servers: no server is configured: in TOML each is a table `[servers.NAME]`, in JSON a member of `mcpServers`",
        ),
        (
            "a.json",
            "{}",
            "a.json: servers: no server is configured: in TOML each is a table `[servers.NAME]`, in JSON a member of `mcpServers`",
        ),
        ("a.toml", "servers = 1", "a.toml:1:11: servers: must be a table, not a number"),
        ("a.toml", "[mcpServers.a]\ncommand = \"x\"", "a.toml:1:2: mcpServers: is the key of a JSON file"),
    ];
    for (name, text, expected) in cases {
        let complaints = file(name, text).expect_err(text).to_string();
        assert!(complaints.starts_with(expected) && complaints.lines().count() == 1, "{text}: {complaints}");
    }
    let missing = load(&Sources { config: Some("missing.toml".into()), ..sources(&[]) });
    assert!(missing.expect_err("no file").to_string().starts_with("missing.toml: cannot be read: "));
}

#[test]
fn the_format_is_told_by_the_name_or_else_by_the_first_character() {
    let toml = "[servers.a]\ncommand = \"x\"\n";
    let json = "\u{feff}{\"mcpServers\": {\"a\": {\"command\": \"x\"}}}";
    let commented = "// servers\n{\"servers\": {\"a\": {\"command\": \"x\"}}}";
    for (name, text) in [
        ("a.toml", toml),
        ("a.json", json),
        ("a.jsonc", commented),
        ("conf", toml),
        ("conf", json),
        ("conf", commented),
        (".mcp.json", json),
    ] {
        let loaded = file(name, text);
        assert!(loaded.as_ref().is_ok_and(|config| names(config) == ["a"]), "{name}: {loaded:?}");
    }
    assert!(file("a.toml", json).is_err() && file("a.json", toml).is_err());
}
