use clap::Parser;

use super::*;

fn config(args: &[&str]) -> Result<Config, String> {
    let args = Args::try_parse_from(["wzp-control"].iter().chain(args)).map_err(|error| error.to_string())?;
    Config::try_from(args).map_err(|error| error.to_string())
}

#[test]
fn nothing_said_is_a_file_on_the_loopback_open_to_all() {
    let config = config(&[]).unwrap();
    assert!(config.listen.ip().is_loopback() && config.grpc_listen.ip().is_loopback());
    assert_eq!(config.database, Database::Sqlite("./wzp-data/wzp.db".into()));
    assert_eq!((config.rooms, config.rooms_said), (RoomPolicy::Open, false));
    assert_eq!(config.grant_ttl, Duration::from_secs(6 * 3_600));
    assert_eq!(config.join_secret, None);
}

#[test]
fn what_makes_no_sense_is_named_by_its_flag() {
    let wrong: &[(&str, &[&str])] = &[
        ("--grpc-listen", &["--grpc-listen", "127.0.0.1:8080"]),
        ("--database-url", &["--database-url", "mysql://a"]),
        ("--join-token", &["--join-token", "short"]),
        ("--join-token", &["--join-token", "wzp1.0123456789abcdef"]),
        ("--join-token", &["--join-token", "wzp1.abc.short"]),
        ("--cluster", &["--cluster", "A b"]),
        ("--grant-ttl", &["--grant-ttl", "59s"]),
        ("--grant-ttl", &["--grant-ttl", "8d"]),
        ("--log", &["--log", "=="]),
        ("--public-url", &["--public-url", "example.org"]),
        ("--rooms", &["--rooms", "ajar"]),
    ];
    for (flag, args) in wrong {
        let said = config(args).unwrap_err();
        assert!(said.contains(flag), "{args:?}: {said}");
    }
}

#[test]
fn a_join_token_is_a_secret_with_or_without_its_authority() {
    let secret = "0123456789abcdef";
    let bare: JoinSecret = secret.parse().unwrap();
    assert_eq!((bare.secret.as_str(), bare.authority.as_ref()), (secret, None));
    let whole: JoinSecret = format!("wzp1.hash.{secret}").parse().unwrap();
    assert_eq!(
        (whole.secret.as_str(), whole.authority.as_deref()),
        (secret, Some("hash"))
    );
    assert!(!format!("{whole:?}").contains(secret));
}

#[test]
fn every_flag_has_a_variable_of_its_name() {
    use clap::CommandFactory;
    for arg in Args::command().get_arguments() {
        let Some(long) = arg.get_long().filter(|long| !["help", "version"].contains(long)) else {
            continue;
        };
        let variable = format!("WZP_CONTROL_{}", long.to_uppercase().replace('-', "_"));
        assert_eq!(
            arg.get_env().and_then(|env| env.to_str()),
            Some(variable.as_str())
        );
    }
}
