//! The command line and the environment, parsed into a [`Command`] that cannot be wrong.

mod applies;
mod cli;
mod relay;
#[cfg(test)]
mod tests;
mod words;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;
use wzp_identity::shared_secret_issuer;
use wzp_sdk::{CertificateHash, Preference, RoomName, TierChoice, Trust};

use self::cli::{Cli, IdentityAction, Modes, Subcommand};
pub(crate) use self::relay::Relay;
use crate::{exit::Failure, identity, sweep};

/// The room of a call that names none.
const DEFAULT_ROOM: &str = "lobby";

/// By this name `wzp-relay` is told the file of its certificate.
const RELAYS_OWN: &str = "WZP_RELAY_CERT";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) json: bool,
    pub(crate) log: EnvFilter,
    pub(crate) command: Command,
}

#[derive(Debug)]
pub(crate) enum Command {
    Call {
        link: Link,
        room: RoomName,
        sound: Sound,
    },
    Echo {
        link: Link,
        room: Option<RoomName>,
        time: Duration,
    },
    Drift {
        link: Link,
        room: Option<RoomName>,
        time: Duration,
    },
    Sweep(sweep::Options),
    Identity(identity::Action),
}

/// How to reach a relay, and as whom.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) home: Home,
    pub(crate) identity: identity::Choice,
    pub(crate) carrier: Preference,
    pub(crate) tier: TierChoice,
}

/// Where calls go.
#[derive(Debug)]
pub(crate) enum Home {
    Relay {
        relay: Relay,
        trust: Trust,
        admission: Admission,
    },
    Cluster(Cluster),
}

/// A cluster, whose control plane names the relays.
pub(crate) struct Cluster {
    pub(crate) control: String,
    pub(crate) api_key: Option<String>,
    pub(crate) region: Option<String>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

/// What lets us in.
pub(crate) enum Admission {
    Open,
    Secret(String),
    Grant(String),
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Secret(_) => "Secret(..)",
            Self::Grant(_) => "Grant(..)",
        })
    }
}

/// What a call sends and what becomes of what it hears.
#[derive(Debug)]
pub(crate) struct Sound {
    pub(crate) source: Source,
    pub(crate) record: Option<PathBuf>,
    /// Ends the call, whatever is still to be sent.
    pub(crate) time: Option<Duration>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Nothing,
    Tone(Duration),
    File(PathBuf),
    Devices { denoise: bool },
}

/// What the command line turned out to be.
#[derive(Debug)]
pub(crate) enum Parsed {
    Run(Box<Invocation>),
    /// Help or version was asked for.
    Print(String),
}

/// Reads a command line, first the name of the program.
///
/// # Errors
/// [`Failure`] with exit code 64 and one line.
pub(crate) fn parse(line: &[OsString]) -> Result<Parsed, Failure> {
    match words::read(line) {
        Ok(cli) => Invocation::try_from(cli).map(|invocation| Parsed::Run(Box::new(invocation))),
        Err(error) if !error.use_stderr() => Ok(Parsed::Print(error.render().to_string())),
        Err(error) => Err(Failure::usage(one_line(&error))),
    }
}

/// Whether a line that could not be parsed asked for JSON.
pub(crate) fn wants_json(line: &[OsString]) -> bool {
    words::wants_json(line)
}

/// What is wrong, without the usage that clap writes below it.
fn one_line(error: &clap::Error) -> String {
    // Clap would print the help of the only command that has commands of its own.
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "say which: identity new, identity show or identity verify OTHER".into();
    }
    let text = error.render().to_string();
    let said = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let words: Vec<&str> = said.filter(|line| !line.is_empty()).collect();
    let text = words.join(" ");
    text.strip_prefix("error: ")
        .unwrap_or(&text)
        .replace(", try '--help'", "")
}

impl TryFrom<Cli> for Invocation {
    type Error = Failure;

    fn try_from(mut cli: Cli) -> Result<Self, Failure> {
        let log = EnvFilter::try_new(&cli.output.log)
            .map_err(|e| Failure::usage(format!("--log {:?}: {e}", cli.output.log)))?;
        let json = cli.output.json;
        let mode = match &cli.subcommand {
            Some(Subcommand::Identity(_)) => "identity",
            None => mode(&cli.modes)?,
        };
        applies::refuse_what_does_not(&cli.given, mode)?;
        applies::refuse_what_a_cluster_does_not_take(&cli.given)?;
        let command = match cli.subcommand.take() {
            Some(Subcommand::Identity(action)) => Command::Identity(identity_action(action, &cli)?),
            None => command(cli)?,
        };
        Ok(Self { json, log, command })
    }
}

fn identity_action(action: IdentityAction, cli: &Cli) -> Result<identity::Action, Failure> {
    let choice = || identity_choice(cli);
    let other = |text: String| {
        text.parse()
            .map_err(|e| Failure::usage(format!("identity verify {text}: {e}")))
    };
    Ok(match action {
        IdentityAction::New { restore } => identity::Action::New {
            // The variable with the phrase says what to keep, not where.
            file: identity::Choice::of(cli.identity.as_deref(), None)?.file()?,
            restore,
        },
        IdentityAction::Show { phrase } => identity::Action::Show {
            choice: choice()?,
            phrase,
        },
        IdentityAction::Verify { other: text } => identity::Action::Verify {
            choice: choice()?,
            other: other(text.join(" "))?,
        },
    })
}

fn command(cli: Cli) -> Result<Command, Failure> {
    if cli.modes.sweep {
        return Ok(Command::Sweep(sweep_options(cli)?));
    }
    let link = link(&cli)?;
    let room = cli.call.room.as_deref().map(room).transpose()?;
    let secs = Duration::from_secs;
    let modes = cli.modes;
    if let Some(time) = modes.echo_test {
        return Ok(Command::Echo {
            link,
            room,
            time: secs(time),
        });
    }
    if let Some(time) = modes.drift_test {
        return Ok(Command::Drift {
            link,
            room,
            time: secs(time),
        });
    }
    let source = match (modes.send_tone, modes.send_file, modes.live) {
        (Some(time), _, _) => Source::Tone(secs(time)),
        (None, Some(file), _) => Source::File(file),
        (None, None, true) => Source::Devices {
            denoise: !cli.call.no_denoise,
        },
        (None, None, false) => Source::Nothing,
    };
    let room = room.map_or_else(|| self::room(DEFAULT_ROOM), Ok)?;
    Ok(Command::Call {
        link,
        room,
        sound: Sound {
            source,
            record: modes.record,
            time: cli.call.secs.map(secs),
        },
    })
}

fn room(name: &str) -> Result<RoomName, Failure> {
    RoomName::parse(name).map_err(|e| Failure::usage(format!("--room {name:?}: {e}")))
}

/// The flags that were given, as the user writes them.
fn chosen_modes(modes: &Modes) -> Vec<&'static str> {
    let Modes {
        send_tone,
        send_file,
        record,
        live,
        echo_test,
        drift_test,
        sweep,
    } = modes;
    let given = [
        (send_tone.is_some(), "--send-tone"),
        (send_file.is_some(), "--send-file"),
        (record.is_some(), "--record"),
        (*live, "--live"),
        (echo_test.is_some(), "--echo-test"),
        (drift_test.is_some(), "--drift-test"),
        (*sweep, "--sweep"),
    ];
    given
        .into_iter()
        .filter_map(|(given, name)| given.then_some(name))
        .collect()
}

/// The mode, as the user writes it.
fn mode(modes: &Modes) -> Result<&'static str, Failure> {
    match chosen_modes(modes)[..] {
        [] => Err(Failure::usage(
            "say what to do: --send-tone SECS, --send-file F.wav, --record F.wav, --live, --echo-test SECS, \
             --drift-test SECS, --sweep, or identity; `wzp-client --help` explains each",
        )),
        [mode] | [mode @ ("--send-tone" | "--send-file"), "--record"] | ["--send-file", mode @ "--sweep"] => {
            Ok(mode)
        }
        [one, other, ..] => Err(Failure::usage(format!("{one} and {other} cannot be combined"))),
    }
}

fn link(cli: &Cli) -> Result<Link, Failure> {
    Ok(Link {
        home: home(cli)?,
        identity: identity_choice(cli)?,
        carrier: cli.relay_options.carrier.into(),
        tier: cli.call.tier.into(),
    })
}

fn home(cli: &Cli) -> Result<Home, Failure> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(control) = given(&cli.cluster.control) {
        return Ok(Home::Cluster(Cluster {
            control,
            api_key: given(&cli.cluster.api_key),
            region: given(&cli.cluster.region),
        }));
    }
    let Some(relay) = cli.relay.as_deref() else {
        return Err(Failure::usage(
            "name the relay, as host:port, at the end of the line, or a control plane by --control",
        ));
    };
    let relay = relay
        .parse()
        .map_err(|e| Failure::usage(format!("relay {relay:?}: {e}")))?;
    let trust = match (&cli.relay_options.relay_cert, &cli.relay_options.known_relays) {
        (Some(hash), _) => Trust::Pinned(
            hash.parse()
                .map_err(|e| Failure::usage(format!("--relay-cert {hash}: {e}")))?,
        ),
        (None, Some(file)) => Trust::KnownRelays(file.clone()),
        (None, None) => Trust::KnownRelays(Trust::default_file()),
    };
    if let Trust::KnownRelays(_) = trust {
        refuse_misplaced_pin(std::env::var(RELAYS_OWN).ok().as_deref())?;
    }
    Ok(Home::Relay {
        relay,
        trust,
        admission: admission(cli)?,
    })
}

/// A pin under the relay's name for its file would be no pin.
fn refuse_misplaced_pin(text: Option<&str>) -> Result<(), Failure> {
    match text.map(str::parse::<CertificateHash>) {
        Some(Ok(_)) => Err(Failure::usage(format!(
            "{RELAYS_OWN} holds the hash of a certificate, but names a file, for wzp-relay; \
             the variable of --relay-cert is {RELAYS_OWN}_SHA256"
        ))),
        Some(Err(_)) | None => Ok(()),
    }
}

fn admission(cli: &Cli) -> Result<Admission, Failure> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    match (given(&cli.relay_options.secret), given(&cli.relay_options.grant)) {
        (Some(_), Some(_)) => Err(Failure::usage("--secret and --grant cannot be combined")),
        (Some(secret), None) => {
            shared_secret_issuer(&secret).map_err(|e| Failure::usage(format!("--secret: {e}")))?;
            Ok(Admission::Secret(secret))
        }
        (None, Some(grant)) => Ok(Admission::Grant(grant)),
        (None, None) => Ok(Admission::Open),
    }
}

fn identity_choice(cli: &Cli) -> Result<identity::Choice, Failure> {
    let is_given = cli.given.contains("identity");
    let phrase = identity::phrase_of_environment().filter(|_| !is_given);
    identity::Choice::of(cli.identity.as_deref(), phrase)
}

fn sweep_options(cli: Cli) -> Result<sweep::Options, Failure> {
    let cli::Sweep {
        loss,
        jitter,
        buffer,
        csv,
        svg,
        seed,
    } = cli.sweep;
    Ok(sweep::Options {
        speech: cli.modes.send_file,
        time: cli.call.secs.map_or(sweep::TIME, Duration::from_secs),
        tiers: cli.call.tier.tiers(),
        loss_percent: loss,
        jitter_ms: jitter,
        buffers: buffer,
        seed,
        csv,
        svg,
    })
}
