use clap::{CommandFactory, Parser};

use super::*;

fn parse(args: &[&str]) -> Result<Config, String> {
    let args = std::iter::once("wzp-relay").chain(args.iter().copied());
    let args = Args::try_parse_from(args).map_err(|error| one_line(&error.render().to_string()))?;
    Config::try_from(args).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

#[test]
fn quick_start_needs_nothing_but_an_address() {
    let config = parse(&["--listen", "0.0.0.0:4433"]).unwrap();
    assert_eq!((config.listen.first, config.listen.last), (4433, 4433));
    assert!(matches!(config.access, Access::Open { said: false }));
    assert_eq!(config.rooms, rooms::Config::default());
}

#[test]
fn who_can_be_reached_by_others_carries_no_relays_unless_told_so() {
    let takes_relays = |args: &[&str]| parse(args).unwrap().takes_relays;
    assert!(!takes_relays(&[]));
    assert!(!takes_relays(&["--secret", "0123456789abcdef"]));
    assert!(takes_relays(&["--allow-forward"]));
    assert!(takes_relays(&["--listen", "127.0.0.1:4433"]));
    assert!(takes_relays(&["--listen", "[::1]:4433"]));
}

#[test]
fn relays_show_the_secret_of_members_unless_they_have_their_own() {
    let keys = |args: &[&str]| {
        let config = parse(args).unwrap();
        let id = |key: &GrantKey| key.public().id().to_string();
        (config.access.key().map(id), config.forward_key.as_deref().map(id))
    };
    assert_eq!(keys(&["--allow-forward"]), (None, None));
    let (members, relays) = keys(&["--secret", "0123456789abcdef"]);
    assert!(members.is_some() && members == relays);
    let own = ["--forward", "a:1", "--forward-secret", "fedcba9876543210"];
    let (nobody, own_key) = keys(&own);
    assert!(nobody.is_none() && own_key.is_some());
    let both = [&own[..], &["--secret", "0123456789abcdef"]].concat();
    assert_eq!(keys(&both), (members, own_key));
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    for (args, said) in [
        (&["--listen", "nowhere"][..], "--listen"),
        (&["--secret", "short"], "at least 16"),
        (&["--secret", "0123456789abcdef", "--open"], "cannot be used with"),
        (&["--cert", "a.pem"], "--key"),
        (
            &["--listen", "0.0.0.0:5000", "--reflect-port", "5000"],
            "--reflect-port",
        ),
        (&["--forward", "no-port"], "HOST:PORT"),
        (&["--control", "c"], "--join-token"),
        (&["--id", "a"], "--control"),
        (
            &["--control", "c", "--join-token", "wzp1.x.y", "--id", "a"],
            "wzp1.AUTHORITY.SECRET",
        ),
        (&["--forward-cert", "00"], "64 hex digits"),
        (&["--allow-forward", "--forward", "a:1"], "cannot be used with"),
        (
            &["--forward", "a:1", "--forward-secret", "short"],
            "--forward-secret: the shared secret is too short",
        ),
        (
            &["--forward-secret", "0123456789abcdef"],
            "with --forward or --allow-forward",
        ),
        (
            &[
                "--allow-forward",
                "--secret",
                "0123456789abcdef",
                "--forward-secret",
                "0123456789abcdef",
            ],
            "the same as --secret",
        ),
        (&["--probe", "a:1", "--probe", "a:1"], "twice"),
        (&["--loudest", "0"], "--loudest"),
        (&["--max-members", "10001"], "--max-members"),
        (&["--log", "=="], "--log"),
        (&["--id-server", "xyz"], "hex digits"),
        (&["--id-server", "00112233445566778899aabbcc"], "1 to 12 bytes"),
        (&["--id-config", "1"], "--id-server"),
        (&["--id-length", "16"], "--id-server"),
        (&["--id-server", "01", "--id-config", "7"], "--id-config"),
        (
            &["--id-server", "0123456789abcdef", "--id-length", "15"],
            "--id-length: ids with a server id of 8 bytes are 16 to 20 bytes long",
        ),
        (&["--id-server", "01", "--id-length", "21"], "--id-length"),
        (&["--nonsense"], "--nonsense"),
    ] {
        let line = parse(args).unwrap_err();
        assert!(line.contains(said), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }
}

#[test]
fn ids_are_eight_bytes_unless_a_load_balancer_needs_more() {
    let ids = |args: &[&str]| parse(args).unwrap().ids;
    assert_eq!(ids(&[]), Layout::default());
    let server = "0x0123456789abcdef".parse().unwrap();
    let routable = |rotation, len| Layout::routable(&server, rotation, len).unwrap();
    let args = ["--id-server", "0x0123456789abcdef"];
    assert_eq!(ids(&args), routable(0, Some(16)));
    let args = [&args[..], &["--id-config", "5", "--id-length", "19"]].concat();
    assert_eq!(ids(&args), routable(5, Some(19)));
}

#[test]
fn every_flag_is_a_variable_of_the_same_name() {
    for arg in Args::command().get_arguments() {
        let flag = arg.get_long().unwrap().to_uppercase().replace('-', "_");
        let variable = arg.get_env().map(|name| name.to_string_lossy());
        assert_eq!(variable.as_deref(), Some(&*format!("WZP_RELAY_{flag}")));
    }
}

#[test]
fn a_secret_is_in_no_error_and_no_debug_output() {
    let config = parse(&["--secret", "correct horse battery"]).unwrap();
    assert!(!format!("{config:?}").contains("horse"));
    assert!(!parse(&["--secret", "horse"]).unwrap_err().contains("horse"));
}

#[test]
fn targets_have_names_and_ipv6_has_brackets() {
    let named: Target = "fra=relay.example:4433".parse().unwrap();
    assert_eq!(
        (named.name.as_str(), named.host.as_str(), named.port),
        ("fra", "relay.example", 4433)
    );
    let v6: Target = "[2001:db8::1]:4433".parse().unwrap();
    assert_eq!((v6.host.as_str(), v6.port), ("2001:db8::1", 4433));
    for bad in [
        "",
        ":1",
        "a",
        "a:0",
        "a:65536",
        "2001:db8::1:4433",
        "a b:1",
        "=a:1",
    ] {
        assert!(bad.parse::<Target>().is_err(), "{bad}");
    }
}

#[test]
fn fingerprints_are_read_as_they_are_shown() {
    let shown = "00:FF:".repeat(16);
    let fingerprint: Fingerprint = shown.trim_end_matches(':').parse().unwrap();
    assert_eq!(fingerprint.to_string(), "00ff".repeat(16));
    assert!("00".repeat(31).parse::<Fingerprint>().is_err());
    assert!("0g".repeat(32).parse::<Fingerprint>().is_err());
}
