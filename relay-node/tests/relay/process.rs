//! The program itself: exit codes, signals, ports.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use clap::CommandFactory;
use wzp_relay::Args;
use wzp_wire::signal::{Kind, Reason};

use crate::client::Client;

/// A relay process that does not outlive its test.
struct Process {
    child: Child,
    address: SocketAddr,
    banner: String,
}

impl Process {
    fn start(args: &[&str]) -> Self {
        let mut child = command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut banner = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while !banner.contains("access") {
            assert_ne!(lines.read_line(&mut banner).unwrap(), 0, "{banner}");
        }
        let address = banner
            .lines()
            .find_map(|line| line.trim().strip_prefix("address"));
        let address = address
            .unwrap()
            .trim()
            .trim_end_matches(" (udp)")
            .parse()
            .unwrap();
        Self {
            child,
            address,
            banner,
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    async fn ended(&mut self) -> Option<i32> {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wzp-relay"));
    command.args(args);
    command
}

fn output(args: &[&str]) -> (Option<i32>, String) {
    let output = command(args).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn wrong_configuration_is_one_line_and_exit_code_64() {
    for args in [
        &["--listen", "nowhere"][..],
        &["--secret", "short"],
        &["--cert", "/nonexistent/cert.pem"],
        &["--unknown"],
        &["--forward", "no-port"],
        &["--id-server", "01", "--id-length", "8"],
        &["--id-length", "16"],
    ] {
        let (code, said) = output(args);
        assert_eq!(code, Some(64), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("wzp-relay: "), "{said}");
    }
}

#[test]
fn environment_variables_are_flags() {
    let mut child = command(&[]);
    let output = child.env("WZP_RELAY_MAX_MEMBERS", "0").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("--max-members")
    );
}

/// What a relay says that is wrong, with this environment.
fn wrong(args: &[&str], environment: &[(&str, &str)]) -> String {
    let output = command(args).envs(environment.iter().copied()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    said
}

#[test]
fn an_empty_variable_is_none_whatever_its_flag() {
    // Of all variables one is wrong, and that only beside the default of --listen: so every other one was left out.
    for one in [("WZP_RELAY_REFLECT_PORT", "4433"), ("WZP_RELAY_LOG", "==")] {
        let args = Args::command();
        let names = args
            .get_arguments()
            .map(|arg| arg.get_env().unwrap().to_str().unwrap());
        let all: Vec<_> = names
            .map(|name| if name == one.0 { one } else { (name, "") })
            .collect();
        let flag = one.0.trim_start_matches("WZP_RELAY_").to_lowercase();
        let said = wrong(&[], &all);
        assert!(
            said.starts_with(&format!("wzp-relay: --{} ", flag.replace('_', "-"))),
            "{said}"
        );
    }
}

#[test]
fn switches_in_the_environment_are_on_or_off_in_any_usual_word() {
    // Wrong on purpose, so that the relay ends.
    let bad_log = ("WZP_RELAY_LOG", "==");
    let secret = ["--secret", "0123456789abcdef"];
    for word in ["1", "true", "yes", "on", "TRUE", "0", "false", "no", "off"] {
        for switch in ["WZP_RELAY_OPEN", "WZP_RELAY_ALLOW_FORWARD", "WZP_RELAY_LOG_JSON"] {
            let said = wrong(&[], &[(switch, word), bad_log]);
            assert!(said.contains("--log "), "{switch}={word}: {said}");
        }
    }
    let said = wrong(&secret, &[("WZP_RELAY_OPEN", "false"), bad_log]);
    assert!(said.contains("--log "), "{said}");
    let said = wrong(&secret, &[("WZP_RELAY_OPEN", "yes"), bad_log]);
    assert!(said.contains("--open cannot be used with --secret"), "{said}");
    let forward = ["--forward", "a:1"];
    let said = wrong(&forward, &[("WZP_RELAY_ALLOW_FORWARD", "no"), bad_log]);
    assert!(said.contains("--log "), "{said}");
}

#[test]
fn a_wrong_certificate_is_wrong_configuration_and_its_cause_is_said_once() {
    let dir = std::env::temp_dir().join(format!("wzp-relay-wrong-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir(&dir).unwrap();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let args = |cert: &str, key: &str| {
        let (cert, key) = (path(cert), path(key));
        ["--listen", "127.0.0.1:0", "--cert", &cert, "--key", &key].map(str::to_owned)
    };
    let start = |cert: &str, key: &str| {
        let args = args(cert, key);
        let (code, said) = output(&args.each_ref().map(String::as_str));
        assert_eq!(code, Some(64), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    let said = start("absent/cert.pem", "absent/key.pem");
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    std::fs::write(path("junk.pem"), "junk").unwrap();
    assert!(start("junk.pem", "absent.pem").contains("does not"));
    assert!(start("junk.pem", "junk.pem").contains("no certificate"));
    for (cert, key) in [("a.pem", "a.key"), ("b.pem", "b.key")] {
        Process::start(&args(cert, key).each_ref().map(String::as_str));
    }
    assert!(start("a.pem", "b.key").contains("do not fit"));
    assert!(start("a.pem", "junk.pem").contains("no private key"));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_banner_that_cannot_be_printed_stops_nothing_and_is_logged() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut child = command(&["--listen", "127.0.0.1:0", "--log-json"])
        .stdout(full())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    let listening = lines.find(|line| line.contains("\"listening\"")).unwrap();
    for field in [
        "\"level\":\"INFO\"",
        "\"address\":\"127.0.0.1:",
        "\"certificate\":\"",
        "\"access\":\"open\"",
    ] {
        assert!(listening.contains(field), "{listening}");
    }
    let relay = Process {
        child,
        address: ([127, 0, 0, 1], 0).into(),
        banner: String::new(),
    };
    relay.signal("TERM");
    assert!(lines.all(|line| !line.contains("panicked")));
}

#[test]
fn a_standard_error_that_takes_nothing_is_no_panic() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = command(&["--listen", "nowhere"]).stderr(full).status().unwrap();
    assert_eq!(status.code(), Some(64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probed_relay_that_is_killed_looks_dead_within_seconds_and_the_log_says_so() {
    let mut target = Process::start(&["--listen", "127.0.0.1:0"]);
    let probe = format!("t={}", target.address);
    let mut child = command(&["--listen", "127.0.0.1:0", "--probe", &probe])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = lines
        .map(Result::unwrap)
        .filter(|line| line.contains("probed relay"));
    let _relay = Process {
        child,
        address: target.address,
        banner: String::new(),
    };
    let answers = lines.next().unwrap();
    assert!(
        answers.contains("INFO") && answers.contains("answers"),
        "{answers}"
    );
    let began = Instant::now();
    target.child.kill().unwrap();
    let silent = lines.next().unwrap();
    assert!(
        silent.contains("WARN") && silent.contains("does not answer"),
        "{silent}"
    );
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_refuses_is_logged_once_a_minute() {
    let mut child = command(&["--listen", "127.0.0.1:0", "--max-rooms", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let listening = lines.next().unwrap();
    let (_, address) = listening.split_once("address=").unwrap();
    let relay = Process {
        child,
        address: address.split(' ').next().unwrap().parse().unwrap(),
        banner: String::new(),
    };
    let mut first = Client::start(relay.address).await;
    first.join("room").await;
    let mut second = Client::start(relay.address).await;
    for _ in 0..3 {
        assert_eq!(second.join_as("another", false).await, Err(Reason::TooManyRooms));
    }
    relay.signal("TERM");
    let said: Vec<String> = lines.filter(|line| line.contains("a limit refuses")).collect();
    let [line] = &said[..] else { panic!("{said:?}") };
    for part in ["WARN", "too_many_rooms", "--max-rooms"] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn a_second_relay_on_the_same_port_says_so_and_ends() {
    let first = Process::start(&["--listen", "127.0.0.1:0"]);
    let address = first.address.to_string();
    let (code, said) = output(&["--listen", &address]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&address) || said.contains(&first.address.port().to_string()),
        "{said}"
    );
}

#[test]
fn the_certificate_is_printed_and_kept() {
    let dir = std::env::temp_dir().join(format!("wzp-relay-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir(&dir).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--cert",
        cert.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ];
    let fingerprint = |process: &Process| process.banner.split("sha256 ").nth(1).unwrap()[..64].to_owned();
    let first = fingerprint(&Process::start(&args));
    assert_eq!(first, fingerprint(&Process::start(&args)));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_says_goodbye_and_ends_within_two_seconds() {
    let mut relay = Process::start(&["--listen", "127.0.0.1:0"]);
    let mut members = Vec::new();
    for _ in 0..5 {
        let mut member = Client::start(relay.address).await;
        member.join("room").await;
        members.push(member);
    }
    let began = Instant::now();
    relay.signal("TERM");
    let goodbye = |kind| match kind {
        Kind::Goodbye(goodbye) => Some(goodbye.reason()),
        _ => None,
    };
    for member in &mut members {
        assert_eq!(member.wait_for("goodbye", goodbye).await, Reason::ShuttingDown);
    }
    assert_eq!(relay.ended().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once_though_a_member_is_dead() {
    let mut relay = Process::start(&["--listen", "127.0.0.1:0"]);
    let mut member = Client::start(relay.address).await;
    member.join("room").await;
    // Connected as far as the relay knows, and never answering again.
    let endpoint = member.socket.endpoint().clone();
    drop(member.socket);
    drop(endpoint);
    std::mem::forget(member.connection);
    relay.signal("TERM");
    let began = Instant::now();
    relay.signal("INT");
    assert_eq!(relay.ended().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn help_reads_like_documentation() {
    let mut help = String::new();
    let mut child = command(&["--help"]).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_to_string(&mut help).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for flag in [
        "--listen",
        "--secret",
        "--forward",
        "--probe",
        "--reflect-port",
        "--metrics",
        "--id-server",
    ] {
        assert!(help.contains(flag), "{flag}");
    }
    assert!(help.contains("WZP_RELAY_LISTEN"));
}
