//! Tokens are read, and who may listen where with them.

use super::*;

const SERVER: &str = "\n[servers.time]\ncommand = \"x\"\nsecret_env = [\"API_*\", \"HIDDEN\"]\nenv = { HIDDEN = \"h1dden\" }\n";

fn read(text: &str) -> Result<Config, Complaints> {
    read_with(0o600, text)
}

/// The file of the token has this mode.
fn read_with(mode: u32, text: &str) -> Result<Config, Complaints> {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("token"), "from-a-file-0\n").expect("written");
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(dir.path().join("token"), mode).expect("changed");
    std::fs::write(dir.path().join("t.toml"), format!("{text}{SERVER}")).expect("written");
    let variables = [("TOKEN", "from-a-variable"), ("API_KEY", "sk-1"), ("SHORT", "1234567")];
    load(&Sources { config: Some(dir.path().join("t.toml")), ..sources(&variables) })
}

#[test]
fn a_value_comes_from_the_file_itself_another_one_or_a_variable() {
    let config = read(
        "listen = [\"0.0.0.0:1\"]\n[[tokens]]\nname = \"a\"\nvalue = \"inline-token\"\nservers = [\"time\"]\n\
         tools = [\"now\"]\nconcurrent = 3\ndiagnostics = true\n[[tokens]]\nname = \"b\"\nvalue_file = \"token\"\n\
         [[tokens]]\nname = \"c\"\nvalue_env = \"TOKEN\"\n",
    )
    .expect("a good configuration");
    let gate = crate::auth::Gate::new(config.tokens.clone());
    for (value, name) in [("inline-token", "a"), ("from-a-file-0", "b"), ("from-a-variable", "c")] {
        let who = gate.identify(Some(value)).expect(value);
        assert_eq!(who.name(), name);
        assert_eq!(
            (who.share(), who.may_use("other")),
            if name == "a" { (Some(3), false) } else { (None, true) }
        );
    }
    assert_eq!(
        (config.secrets.len(), config.notices.len()),
        (5, 2),
        "three tokens and two short variables: {:?}",
        config.notices
    );
    let env = &config.servers[0].spec.env;
    assert!(env.iter().any(|(name, value)| name == "API_KEY" && value == "sk-1"), "{env:?}");
    assert!(!format!("{config:?}").contains("inline-token"));
}

#[test]
fn a_token_in_a_file_that_everybody_may_read_is_warned_of() {
    let text = "[[tokens]]\nname = \"a\"\nvalue_file = \"token\"\n";
    let warned = |mode| {
        let notices = read_with(mode, text).expect("it counts all the same").notices;
        notices.iter().any(|notice| {
            notice.contains("tokens[0].value_file: ") && notice.contains("/token may be read by everybody")
        })
    };
    assert_eq!([0o600, 0o640, 0o644].map(warned), [false, false, true]);
}

#[test]
fn what_is_wrong_with_a_token_is_said_with_its_place_and_without_its_value() {
    for (text, expected) in [
        ("", "tokens[0]: has no `name`"),
        ("name = \"a b\"", "tokens[0].name: a token's name is 1 to 64 of"),
        ("name = \"anonymous\"", "tokens[0].name: is what whoever has no token is called"),
        ("name = \"a\"", "tokens[0]: needs one of `value`, `value_file` and `value_env`"),
        ("name = \"a\"\nvalue = \"long-enough\"\nvalue_env = \"TOKEN\"", "tokens[0]: needs one of"),
        ("name = \"a\"\nvalue = \"1234567\"", "tokens[0].value: is shorter than 8 characters"),
        ("name = \"a\"\nvalue_env = \"SHORT\"", "tokens[0].value_env: is shorter than 8 characters"),
        ("name = \"a\"\nvalue = \"with a space\"", "tokens[0].value: holds what cannot be sent"),
        ("name = \"a\"\nvalue_env = \"NOT_SET\"", "tokens[0].value_env: the variable NOT_SET is not set"),
        ("name = \"a\"\nvalue_file = \"gone\"", "tokens[0].value_file: "),
        (
            "name = \"a\"\nvalue = \"long-enough\"\nservers = [\"tiem\"]",
            "no server is called \"tiem\"; did you mean `time`?",
        ),
        ("name = \"a\"\nvalue = \"long-enough\"\nconcurrent = 0", "tokens[0].concurrent: must be at least 1"),
        (
            "name = \"a\"\nvalue = \"long-enough\"\ntool = 1",
            "tokens[0].tool: unknown key; did you mean `tools`?",
        ),
        (
            "name = \"a\"\nvalue = \"long-enough\"\n[[tokens]]\nname = \"a\"\nvalue = \"another-one\"",
            "another token is called \"a\", too",
        ),
        (
            "name = \"a\"\nvalue = \"long-enough\"\n[[tokens]]\nname = \"b\"\nvalue = \" long-enough\"\nservers = []",
            "t.toml:4:1: tokens[1]: has the same value as \"a\"",
        ),
        (
            "name = \"a\"\nvalue_file = \"/dev/zero\"",
            "tokens[0].value_file: /dev/zero cannot be read: it is longer than 128 KiB",
        ),
    ] {
        let complaints = read(&format!("[[tokens]]\n{text}\n")).expect_err(expected).to_string();
        assert!(complaints.contains(expected), "{text}: {complaints}");
        for value in ["1234567", "long-enough", "another-one"] {
            assert!(!complaints.contains(value), "{complaints}");
        }
    }
}
