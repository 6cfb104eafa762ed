//! Completions for shells, and the manual page: made of the same description as the command line itself.

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::roff::{Roff, roman};

use super::Cli;

/// The script that a shell reads to complete our words.
pub(super) fn completions(shell: Shell) -> String {
    let cli = Cli::command();
    // Hidden commands would be completed like all others. None can be taken out of what is there.
    let shown = cli.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut cli = Command::new("spawnling")
        .version(env!("CARGO_PKG_VERSION"))
        .args(cli.get_arguments().cloned())
        .subcommands(shown);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli, "spawnling", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page of the program, or of one of its commands; `None`: there is no such command.
pub(super) fn man(command: Option<&str>) -> Option<String> {
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    let version = format!("spawnling {}", cli.get_version().unwrap_or_default());
    let mut page = match command {
        None => cli,
        Some(name) => {
            cli.get_subcommands().find(|found| found.get_name() == name && !found.is_hide_set())?.clone()
        }
    };
    let usage = page.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    let after = page.get_after_help().map(ToString::to_string).unwrap_or_default();
    // The name under which it is found: `man spawnling-call`.
    let title = page.get_display_name().unwrap_or("spawnling").to_owned();
    let man = clap_mangen::Man::new(page.override_usage(usage)).title(title).source(version);
    let mut text = Vec::new();
    let sections = [
        clap_mangen::Man::render_title,
        clap_mangen::Man::render_name_section,
        clap_mangen::Man::render_synopsis_section,
        clap_mangen::Man::render_description_section,
        clap_mangen::Man::render_options_section,
    ];
    for section in sections {
        section(&man, &mut text).expect("a Vec takes everything");
    }
    if command.is_none() {
        man.render_subcommands_section(&mut text).expect("a Vec takes everything");
    }
    notes(&after).to_writer(&mut text).expect("a Vec takes everything");
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// What stands below the options: examples as they are typed, and everything else as running text.
fn notes(after: &str) -> Roff {
    let mut page = Roff::new();
    let mut running = false;
    for paragraph in after.split("\n\n") {
        let (heading, lines) = match paragraph.strip_prefix("Examples:\n") {
            Some(lines) => (Some("EXAMPLES"), lines),
            None if running || paragraph.starts_with(' ') => (None, paragraph),
            None => (Some("NOTES"), paragraph),
        };
        let typed = lines.starts_with(' ');
        running |= !paragraph.is_empty() && !typed;
        match heading {
            Some(heading) => page.control("SH", [heading]),
            None => page.control("PP", []),
        };
        if typed {
            page.control("nf", []);
        }
        for line in lines.lines() {
            page.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        if typed {
            page.control("fi", []);
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_learns_every_command_but_those_that_are_hidden() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completions(shell);
            for word in ["serve", "call", "tools", "check", "receipt"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
            assert!(script.contains("version") && !script.contains("confine"), "{shell}");
        }
    }

    #[test]
    fn the_program_and_each_command_have_a_page() {
        let page = man(None).expect("of the program");
        assert!(page.contains(".TH spawnling 1") && page.contains("spawnling\\-call(1)"), "{page}");
        let page = man(Some("call")).expect("of a command");
        assert!(page.contains(".TH spawnling-call 1") && page.contains("Exit status"), "{page}");
        assert!(
            page.contains("\\fR [OPTIONS] <SERVER> <TOOL> [JSON | KEY=VALUE]... [\\-\\- <COMMAND>...]"),
            "{page}"
        );
        assert!(man(Some("nothing")).is_none() && man(Some("confine")).is_none());
    }

    #[test]
    fn examples_keep_their_lines_in_a_manual_page() {
        let page = notes("Examples:\n  spawnling x \\\n       -y\n\n  z\n\nOne\ntwo.\n\nThree.").to_roff();
        let expected = ".SH EXAMPLES\n.nf\nspawnling x \\\\\n     \\-y\n.fi\n.PP\n.nf\nz\n.fi\n.SH NOTES\nOne\ntwo.\n.PP\nThree.\n";
        assert_eq!(page, expected);
    }
}
