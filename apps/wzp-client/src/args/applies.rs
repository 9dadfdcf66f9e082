//! Which option means something in which mode. What means nothing is refused, so that nobody believes that it did.

use std::collections::BTreeSet;

use super::words::MODES;
use crate::exit::Failure;

/// Whatever the mode.
const ALWAYS: [&str; 2] = ["json", "log"];
/// What calls and tests have in common.
const ONLINE: [&str; 12] = [
    "relay",
    "room",
    "tier",
    "secret",
    "grant",
    "relay_cert",
    "known_relays",
    "carrier",
    "identity",
    "control",
    "api_key",
    "region",
];
const SWEEP: [&str; 8] = ["secs", "tier", "loss", "jitter", "buffer", "csv", "svg", "seed"];

/// Looks at what the command line gave, by names of fields; the environment may hold what other calls need.
///
/// # Errors
/// [`Failure`] that names the option and the mode.
pub(super) fn refuse_what_does_not(given: &BTreeSet<String>, mode: &str) -> Result<(), Failure> {
    let alien = given.iter().find(|name| !applies(name, mode));
    let Some(alien) = alien else { return Ok(()) };
    let option = match alien.as_str() {
        "relay" => "a relay".into(),
        name => format!("--{}", name.replace('_', "-")),
    };
    Err(Failure::usage(format!("{option} does not apply to {mode}")))
}

/// What belongs to one relay means nothing where a control plane names the relays, and the other way round.
///
/// # Errors
/// [`Failure`] that names the option.
pub(super) fn refuse_what_a_cluster_does_not_take(given: &BTreeSet<String>) -> Result<(), Failure> {
    let has = |name: &str| given.contains(name);
    let of = |names: &[&'static str]| names.iter().copied().find(|name| has(name));
    let (alien, to) = if has("control") {
        (
            of(&["relay", "secret", "grant", "relay_cert", "known_relays"]),
            "--control",
        )
    } else if has("relay") {
        (of(&["api_key", "region"]), "a relay")
    } else {
        return Ok(());
    };
    match alien {
        None => Ok(()),
        Some("relay") => Err(Failure::usage("a relay and --control cannot be combined")),
        Some(name) => Err(Failure::usage(format!(
            "--{} does not apply to {to}",
            name.replace('_', "-")
        ))),
    }
}

/// Modes beside modes are somebody else's matter.
fn applies(name: &str, mode: &str) -> bool {
    let online = || ONLINE.contains(&name);
    let applies = match mode {
        "identity" => name == "identity",
        "--sweep" => SWEEP.contains(&name),
        "--echo-test" | "--drift-test" => online(),
        "--live" => online() || ["secs", "no_denoise"].contains(&name),
        _ => online() || name == "secs",
    };
    applies || ALWAYS.contains(&name) || (mode != "identity" && MODES.contains(&name))
}
