//! The program as people start it.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{http::request, server::folder, soon};

/// A running program; it is killed when this is dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) banner: String,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wzp-control"));
    command.args(args).env_remove("WZP_CONTROL_LOG");
    command
}

/// What it says when it does not start.
fn output(args: &[&str]) -> (Option<i32>, String) {
    let output = command(args).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

impl Process {
    pub(crate) fn start(args: &[&str]) -> Self {
        let fixed = ["--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"];
        let args: Vec<_> = fixed.iter().chain(args).copied().collect();
        let mut child = command(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The line that is logged comes after the whole banner.
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        while !line.contains("listening") {
            assert!(log.read_line(&mut line).unwrap() > 0, "{line}");
        }
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        // All of it was written before that line, so one read takes all of it.
        let mut banner = vec![0; 16_384];
        let length = child.stdout.as_mut().unwrap().read(&mut banner).unwrap();
        let banner = String::from_utf8(banner[..length].to_vec()).unwrap();
        let place = |prefix: &str| {
            let (_, behind) = banner.split_once(prefix).unwrap();
            behind.split_whitespace().next().unwrap().parse().unwrap()
        };
        let (http, grpc) = (place("http         http://"), place("relays       https://"));
        Self {
            child,
            banner,
            http,
            grpc,
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let mut every = tokio::time::interval(Duration::from_millis(5));
        soon("the end", async {
            loop {
                every.tick().await;
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
            }
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn temporary<T>(act: impl FnOnce(&Path) -> T) -> T {
    let folder = folder();
    let result = act(&folder);
    let _ = std::fs::remove_dir_all(&folder);
    result
}

#[test]
fn what_makes_no_sense_is_one_line_and_exit_code_64() {
    for args in [
        &["--listen", "nowhere"][..],
        &["--grpc-listen", "127.0.0.1:8080"],
        &["--database-url", "mysql://a"],
        &["--join-token", "short"],
        &["--grant-ttl", "1s"],
        &["--cluster", "a b"],
        &["--log", "=="],
        &["--rooms", "ajar"],
        &["--colour", "red"],
    ] {
        let (code, said) = output(args);
        assert_eq!(code, Some(64), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("wzp-control: "), "{said}");
    }
}

#[test]
fn help_reads_like_documentation() {
    let help = String::from_utf8(command(&["--help"]).output().unwrap().stdout).unwrap();
    for word in [
        "--listen",
        "--grpc-listen",
        "--database-url",
        "--join-token",
        "WZP_CONTROL_DATA",
    ] {
        assert!(help.contains(word), "{word}");
    }
}

#[test]
fn token_and_key_are_made_at_the_first_start_and_shown_once() {
    temporary(|folder| {
        let args = ["--data", folder.to_str().unwrap()];
        let first = Process::start(&args).banner.clone();
        assert!(
            first.contains("join token   wzp1.") && first.contains("admin key    wzp_"),
            "{first}"
        );
        let second = Process::start(&args).banner.clone();
        assert!(!second.contains("wzp1.") && !second.contains("wzp_"), "{second}");
    });
}

#[test]
fn two_processes_on_one_file_are_one_too_many() {
    temporary(|folder| {
        let args = ["--data", folder.to_str().unwrap()];
        let first = Process::start(&args);
        let (code, said) = output(
            &[
                &["--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"],
                &args[..],
            ]
            .concat(),
        );
        assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
        assert!(
            said.contains(&format!("process {}", first.child.id())) && said.contains("--database-url"),
            "{said}"
        );
    });
}

#[test]
fn a_database_that_cannot_be_used_is_named_and_why() {
    temporary(|folder| {
        std::fs::create_dir(folder).unwrap();
        let file = folder.join("wzp.db");
        std::fs::write(&file, "this is no database at all, whatever its name says").unwrap();
        let (code, said) = output(&["--data", folder.to_str().unwrap()]);
        assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
        assert!(
            said.contains(file.to_str().unwrap()) && said.contains("no SQLite database"),
            "{said}"
        );
    });
    let (code, said) = output(&["--database-url", "postgres://wzp:hunter2@127.0.0.1:9/wzp"]);
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    assert!(
        said.contains("127.0.0.1:9/wzp") && !said.contains("hunter2"),
        "{said}"
    );
    let (code, said) = output(&["--data", "/dev/null/wzp"]);
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("/dev/null/wzp"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_it_within_two_seconds_though_somebody_holds_a_connection() {
    let folder = folder();
    let mut process = Process::start(&["--data", folder.to_str().unwrap()]);
    let answer = request(process.http, "GET", "/livez", &[], b"").await;
    assert_eq!(answer.status, 200);
    let _held = tokio::net::TcpStream::connect(process.http).await.unwrap();
    let _held_too = tokio::net::TcpStream::connect(process.grpc).await.unwrap();
    let began = Instant::now();
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let _ = std::fs::remove_dir_all(folder);
}
