//! Completions for shells, and the manual page: made of the same description as the command line itself.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;

/// The script that a shell reads to complete our words.
pub(super) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "spawnling", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page of the program, or of one of its commands; `None`: there is no such command.
pub(super) fn man(command: Option<&str>) -> Option<String> {
    let mut cli = Cli::command();
    cli.build();
    let (page, title) = match command {
        None => (cli, "spawnling".to_owned()),
        Some(name) => {
            let found =
                cli.get_subcommands().find(|found| found.get_name() == name && !found.is_hide_set())?;
            // The name under which it is found: `man spawnling-call`.
            (found.clone(), found.get_display_name().unwrap_or(name).to_owned())
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).title(title).render(&mut text).expect("a Vec takes everything");
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_learns_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completions(shell);
            for word in ["serve", "call", "tools", "check", "receipt"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn the_program_and_each_command_have_a_page() {
        let page = man(None).expect("of the program");
        assert!(page.contains(".TH spawnling 1") && page.contains("spawnling\\-call(1)"), "{page}");
        let page = man(Some("call")).expect("of a command");
        assert!(page.contains(".TH spawnling-call 1") && page.contains("Exit status"), "{page}");
        assert!(man(Some("nothing")).is_none() && man(Some("confine")).is_none());
    }
}
