//! What clap reads. Everything here is documentation that `--help` prints; meaning is given by the module above.

use std::{collections::BTreeSet, path::PathBuf};

use clap::{Args, Parser, ValueEnum, builder::BoolishValueParser, value_parser};
use wzp_sdk::{Preference, Tier, TierChoice};

use crate::sweep::Buffer;

const ABOUT: &str = "Encrypted voice through a WZP relay: send and record sound, talk, and measure links";

const LONG_ABOUT: &str = "\
Encrypted voice through a WZP relay: send and record sound, talk, and measure links.

Members of a room hear each other. What they say is sealed end to end with keys that only the members have; the relay \
forwards what it cannot open. Say what to do by one of the modes, and name the relay at the end. In a cluster name its \
control plane instead, by --control: a call is then connected to every relay that serves its room, and survives each of them.

Every flag is also an environment variable, WZP_ and its name in capitals: WZP_ROOM, WZP_SEND_TONE, WZP_JSON=1, and \
WZP_RELAY for the relay itself. Only --relay-cert is WZP_RELAY_CERT_SHA256, because WZP_RELAY_CERT is a file of wzp-relay. \
A variable that is set to nothing counts as not set. The command line wins: a mode given there replaces every mode in the \
environment, and so do RELAY and --control, --secret and --grant, --relay-cert and --known-relays, --identity and WZP_PHRASE each other.";

const EXAMPLES: &str = "\
Examples:
  A first sign of life: a tone for 5 s into the room `lobby`
      wzp-client --send-tone 5 127.0.0.1:4433
  Two people, one of them recording what is heard
      wzp-client --room tea --record heard.wav --secs 20 relay.example.org:4433
      wzp-client --room tea --send-file speech.wav relay.example.org:4433
  The same in a cluster, which knows by itself which relays are near
      wzp-client --room tea --send-file speech.wav --control https://wzp.example.org
  Is this link good enough to talk?
      wzp-client --echo-test 10 relay.example.org:4433
  How far apart are the clocks of everybody in the room?
      wzp-client --drift-test 20 --room tea relay.example.org:4433
  What would loss and jitter do to speech? (no relay needed)
      wzp-client --sweep --csv sweep.csv --svg sweep.svg
  An identity that stays the same, and a number to compare with a friend
      wzp-client identity new
      wzp-client identity verify 64-HEX-DIGITS-OF-THE-FRIEND

Identity:
  Without --identity the file ~/.config/wzp/identity is used when it exists, otherwise an identity for this one call. A \
phrase of 24 words can also come from the variable WZP_PHRASE, or from standard input with `--identity -`; it is never \
taken from the command line, where others could read it.

Trust:
  The certificate of a relay is remembered at the first visit and must stay the same, as with SSH. --relay-cert pins it \
from the first visit on; the relay prints the hash when it starts. In a cluster the control plane says what its relays show.

Output:
  People read lines on standard output and, on a terminal, one live status line. With --json standard output has one \
JSON object a line; its field `event` is connected, path, member, tier, stats (each second), summary, or one of notice, \
quality, drift, verdict, sweep, identity, safety_number and error; docs/json.md has every field. Logs go to standard error.

Exit codes:
  0 done, 1 the call failed, 64 wrong usage or input, 69 relay unreachable (said within 5 s), 77 refused";

#[derive(Debug, Parser)]
#[command(
    name = "wzp-client",
    version,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_long_help = EXAMPLES,
    disable_help_subcommand = true,
    override_usage = "wzp-client [OPTIONS] MODE RELAY\n       wzp-client [OPTIONS] MODE --control URL\n       wzp-client [OPTIONS] --sweep\n       wzp-client identity new|show|verify"
)]
pub(super) struct Cli {
    /// Where the relay listens, as host:port
    #[arg(value_name = "RELAY", env = "WZP_RELAY")]
    pub(super) relay: Option<String>,
    #[command(flatten)]
    pub(super) modes: Modes,
    #[command(flatten)]
    pub(super) call: CallOptions,
    #[command(flatten)]
    pub(super) relay_options: RelayOptions,
    #[command(flatten)]
    pub(super) cluster: ClusterOptions,
    /// File with the 24 words of your identity; `-` reads them from standard input
    ///
    /// Without it ~/.config/wzp/identity is used when it exists, otherwise an identity for this one call.
    #[arg(long, value_name = "FILE", env = "WZP_IDENTITY", global = true)]
    pub(super) identity: Option<PathBuf>,
    #[command(flatten)]
    pub(super) sweep: Sweep,
    #[command(flatten)]
    pub(super) output: Output,
    #[command(subcommand)]
    pub(super) subcommand: Option<Subcommand>,
    /// The fields above that the command line gave, by name; the others come from the environment or are defaults.
    #[arg(skip)]
    pub(super) given: BTreeSet<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Modes (choose one; --record goes together with --send-tone or --send-file)")]
pub(super) struct Modes {
    /// Send a tone of 440 Hz for so many seconds
    #[arg(long, value_name = "SECS", env = "WZP_SEND_TONE", value_parser = value_parser!(u64).range(1..=86_400))]
    pub(super) send_tone: Option<u64>,
    /// Send a WAV file (any rate from 8 to 192 kHz, any number of channels), then end the call
    #[arg(long, value_name = "F.wav", env = "WZP_SEND_FILE")]
    pub(super) send_file: Option<PathBuf>,
    /// Record what is heard into a WAV file (48 kHz, mono); ends with --secs or Ctrl-C
    ///
    /// A file that is there is replaced once the call has begun. From then on the file can be played at any time.
    #[arg(long, value_name = "F.wav", env = "WZP_RECORD")]
    pub(super) record: Option<PathBuf>,
    /// Talk: microphone and loudspeaker of this machine
    #[arg(long, env = "WZP_LIVE", value_parser = BoolishValueParser::new())]
    pub(super) live: bool,
    /// Let the relay return what is sent for so many seconds, and judge the link
    ///
    /// Joins a room of its own, sends speech-like sound, and prints each second the round trip to the relay, the time
    /// from mouth to ear and back, loss, jitter, the delay of the jitter buffer and what had to be concealed. Ends with
    /// a verdict: good and usable are exit code 0; bad, silent (nothing comes back) and unknown (nothing tells the delay)
    /// are 1. At least 4 s: a delay is found in 2 s of sound and what was said that much earlier.
    #[arg(long, value_name = "SECS", env = "WZP_ECHO_TEST", value_parser = value_parser!(u64).range(4..=86_400))]
    pub(super) echo_test: Option<u64>,
    /// Measure for so many seconds how much faster or slower other clocks run, in parts per million
    ///
    /// Compares the clock of every member that is heard with ours; our own sound, returned by the relay, shows what the
    /// link alone pretends. The error is half of the 95 % confidence interval and shrinks with time.
    #[arg(long, value_name = "SECS", env = "WZP_DRIFT_TEST", value_parser = value_parser!(u64).range(5..=86_400))]
    pub(super) drift_test: Option<u64>,
    /// Try every tier, loss, jitter and buffer over a simulated link; needs no relay
    ///
    /// Takes recorded speech from --send-file, or from target/speech, or makes speech-like sound. --tier and --secs
    /// limit it.
    #[arg(long, env = "WZP_SWEEP", value_parser = BoolishValueParser::new())]
    pub(super) sweep: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Call")]
pub(super) struct CallOptions {
    /// The room: 1 to 64 bytes. Calls without it meet in `lobby`, tests get a room of their own
    #[arg(long, value_name = "NAME", env = "WZP_ROOM")]
    pub(super) room: Option<String>,
    /// End the call after so many seconds
    #[arg(long, value_name = "N", env = "WZP_SECS", value_parser = value_parser!(u64).range(1..=604_800))]
    pub(super) secs: Option<u64>,
    /// Quality and robustness of what is sent
    ///
    /// good: Opus 24 kbit/s and 20 % repair. degraded: Opus 6 kbit/s and 50 %. catastrophic: Codec2 1.2 kbit/s and 100 %.
    /// auto follows what the others report.
    #[arg(long, value_enum, default_value_t = TierName::Auto, env = "WZP_TIER")]
    pub(super) tier: TierName,
    /// Leave the noise in what the microphone hears (files and tones are always sent as they are)
    #[arg(long, env = "WZP_NO_DENOISE", value_parser = BoolishValueParser::new())]
    pub(super) no_denoise: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Relay")]
pub(super) struct RelayOptions {
    /// The shared secret of a relay that was started with one (better in the environment than on the command line)
    #[arg(long, value_name = "S", env = "WZP_SECRET", hide_env_values = true)]
    pub(super) secret: Option<String>,
    /// A grant that somebody issued for your identity
    #[arg(long, value_name = "TOKEN", env = "WZP_GRANT", hide_env_values = true)]
    pub(super) grant: Option<String>,
    /// Believe only the certificate with this SHA-256; known relays are then not looked at
    #[arg(long, value_name = "SHA256", env = "WZP_RELAY_CERT_SHA256")]
    pub(super) relay_cert: Option<String>,
    /// File that remembers the certificates of relays [default: ~/.config/wzp/known_relays]
    #[arg(long, value_name = "FILE", env = "WZP_KNOWN_RELAYS")]
    pub(super) known_relays: Option<PathBuf>,
    /// How media travels: auto uses lanes and falls back to QUIC datagrams
    #[arg(long, value_enum, default_value_t = CarrierName::Auto, env = "WZP_CARRIER")]
    pub(super) carrier: CarrierName,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster (instead of a relay)")]
pub(super) struct ClusterOptions {
    /// The control plane of a cluster, as https://host
    #[arg(long, value_name = "URL", env = "WZP_CONTROL")]
    pub(super) control: Option<String>,
    /// What lets us into rooms that are not open to everybody (better in the environment than on the command line)
    ///
    /// An API key with the scope `join`, or a token of an identity provider that the control plane knows.
    #[arg(long, value_name = "KEY", env = "WZP_API_KEY", hide_env_values = true)]
    pub(super) api_key: Option<String>,
    /// The region that we are in; without it, one relay of each region is measured
    #[arg(long, value_name = "NAME", env = "WZP_REGION")]
    pub(super) region: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sweep")]
pub(super) struct Sweep {
    /// Losses to try, in percent
    #[arg(long, value_name = "LIST", env = "WZP_LOSS", value_delimiter = ',', default_value = "0,2,5,10,20,30",
          value_parser = value_parser!(u8).range(0..=90))]
    pub(super) loss: Vec<u8>,
    /// Jitters to try: standard deviation of the delay, in milliseconds
    #[arg(long, value_name = "LIST", env = "WZP_JITTER", value_delimiter = ',', default_value = "0,20,60",
          value_parser = value_parser!(u16).range(0..=1_000))]
    pub(super) jitter: Vec<u16>,
    /// Jitter buffers to try: auto, or a fixed delay in milliseconds
    #[arg(
        long,
        value_name = "LIST",
        env = "WZP_BUFFER",
        value_delimiter = ',',
        default_value = "auto,60,200"
    )]
    pub(super) buffer: Vec<Buffer>,
    /// Write the table as comma-separated values
    #[arg(long, value_name = "FILE", env = "WZP_CSV")]
    pub(super) csv: Option<PathBuf>,
    /// Draw the table
    #[arg(long, value_name = "FILE", env = "WZP_SVG")]
    pub(super) svg: Option<PathBuf>,
    /// What the link's chance starts from; the same seed gives the same table
    #[arg(long, value_name = "N", env = "WZP_SEED", default_value_t = 1)]
    pub(super) seed: u64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Output {
    /// One JSON object a line on standard output
    #[arg(long, env = "WZP_JSON", global = true, value_parser = BoolishValueParser::new())]
    pub(super) json: bool,
    /// What to log on standard error: error, warn, info, debug, trace, or by module, as in wzp_sdk=debug
    #[arg(
        long,
        value_name = "FILTER",
        env = "WZP_LOG",
        default_value = "warn",
        global = true
    )]
    pub(super) log: String,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Subcommand {
    /// Make, show and verify the identity of this user
    #[command(subcommand)]
    Identity(IdentityAction),
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum IdentityAction {
    /// Make an identity and keep its 24 words in a file that only you can read; an existing file is never replaced
    New {
        /// Read the 24 words of an identity you have from WZP_PHRASE or standard input, instead of making new ones
        #[arg(long)]
        restore: bool,
    },
    /// Print fingerprint and public key
    Show {
        /// Print the 24 words too. Whoever reads them is you
        #[arg(long)]
        phrase: bool,
    },
    /// Check somebody: their public key gives the safety number to compare by voice, a fingerprint is compared with yours
    Verify {
        /// A public key (64 hex digits) or a fingerprint (32; spaces do not count)
        #[arg(value_name = "OTHER", required = true, num_args = 1..)]
        other: Vec<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TierName {
    Good,
    Degraded,
    Catastrophic,
    Auto,
}

impl TierName {
    /// The tiers to try; all of them when the choice is left to us.
    pub(super) fn tiers(self) -> Vec<Tier> {
        match TierChoice::from(self) {
            TierChoice::Fixed(tier) => vec![tier],
            TierChoice::Auto => Tier::ALL.to_vec(),
        }
    }
}

impl From<TierName> for TierChoice {
    fn from(name: TierName) -> Self {
        match name {
            TierName::Good => Self::Fixed(Tier::Good),
            TierName::Degraded => Self::Fixed(Tier::Degraded),
            TierName::Catastrophic => Self::Fixed(Tier::Catastrophic),
            TierName::Auto => Self::Auto,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CarrierName {
    Auto,
    Quic,
}

impl From<CarrierName> for Preference {
    fn from(name: CarrierName) -> Self {
        match name {
            CarrierName::Auto => Self::Auto,
            CarrierName::Quic => Self::Quic,
        }
    }
}
