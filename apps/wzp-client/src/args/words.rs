//! The command line and the environment as clap reads them: which of the two said what, and which of them wins.

use std::{collections::BTreeSet, ffi::OsString};

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, parser::ValueSource};

use super::cli::Cli;

/// The modes, by the names of their fields.
pub(super) const MODES: [&str; 7] = [
    "send_tone",
    "send_file",
    "record",
    "live",
    "echo_test",
    "drift_test",
    "sweep",
];
/// One of these on the command line replaces its whole group in the environment, as they say the same thing.
const REPLACED_TOGETHER: [&[&str]; 4] = [
    &MODES,
    &["relay", "control"],
    &["secret", "grant"],
    &["relay_cert", "known_relays"],
];

/// Reads a command line, first the name of the program, and the environment of the process.
///
/// # Errors
/// What clap says, which may be the help.
pub(super) fn read(line: &[OsString]) -> Result<Cli, clap::Error> {
    // First without the environment, which must not stand beside what the command line says.
    let alone = Cli::command().mut_args(|arg| arg.env(None::<&str>));
    let matches = match alone.try_get_matches_from(line) {
        Ok(matches) => matches,
        // The help names the variables.
        Err(error) if !error.use_stderr() => {
            return Err(Cli::command().try_get_matches_from(line).err().unwrap_or(error));
        }
        Err(error) => return Err(error),
    };
    let given: BTreeSet<String> = Cli::command()
        .get_arguments()
        .map(|arg| arg.get_id().as_str().to_owned())
        .filter(|name| matches.value_source(name) == Some(ValueSource::CommandLine))
        .collect();
    let replaced = replaced(&given, &matches);
    let both = Cli::command().mut_args(|arg| {
        // A variable that is set to nothing is how deployments leave it out.
        let is_empty = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
        if replaced.contains(&arg.get_id().as_str()) || arg.get_env().is_some_and(is_empty) {
            arg.env(None::<&str>)
        } else {
            arg
        }
    });
    let cli = Cli::from_arg_matches(&both.try_get_matches_from(line)?)?;
    Ok(Cli { given, ..cli })
}

/// The fields whose variables are not looked at.
fn replaced(given: &BTreeSet<String>, matches: &ArgMatches) -> Vec<&'static str> {
    let is_given = |group: &&&[&str]| group.iter().any(|name| given.contains(*name));
    let groups = REPLACED_TOGETHER.iter().filter(is_given).copied();
    let modes = matches.subcommand_name().map(|_| &MODES[..]);
    groups.chain(modes).flatten().copied().collect()
}

/// Whether programs read what is said about such a line, be it right or wrong.
pub(super) fn wants_json(line: &[OsString]) -> bool {
    let mut words = line.iter().skip(1).take_while(|word| *word != "--");
    let is_set = |text: &str| matches!(text, "1" | "y" | "yes" | "t" | "true" | "on");
    words.any(|word| word == "--json")
        || std::env::var("WZP_JSON").is_ok_and(|text| is_set(&text.to_lowercase()))
}
