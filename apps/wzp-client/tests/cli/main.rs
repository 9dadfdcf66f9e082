//! The program itself, without a relay: what it refuses, how it says so, and what it does alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod environment;

use std::{
    fs,
    io::Write as _,
    net::UdpSocket,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Time for a program that has something else to do first.
const PATIENCE: Duration = Duration::from_secs(30);

/// A home of its own, removed at the end of the test.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("wzp-client-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let file = self.file(name);
        fs::write(&file, bytes).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// The program, with nothing of the tester's own settings.
    fn program(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wzp-client"));
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("WZP_") || name == "XDG_CONFIG_HOME")
        {
            command.env_remove(name);
        }
        command
            .args(words)
            .env("HOME", &self.0)
            .current_dir(&self.0)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.program(words).output().unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// The one line on standard error of a program that failed with this code.
#[track_caller]
fn refusal(output: &Output, code: i32) -> &str {
    let text = std::str::from_utf8(&output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    text.strip_prefix("wzp-client: ").unwrap().trim_end()
}

/// Something on a port that never answers.
fn silent_relay() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

fn is_untouched(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).unwrap();
    socket.recv(&mut [0; 2_048]).is_err()
}

#[test]
fn wrong_usage_is_one_line_and_64() {
    let home = Home::new("usage");
    for (words, said) in [
        (&[][..], "say what to do"),
        (&["--send-tone", "5"], "name the relay"),
        (&["--send-tone", "5", "relay"], "host:port"),
        (&["--send-tone", "5", "--live", "a:1"], "cannot be combined"),
        (&["--send-tone", "5", "--tier", "best", "a:1"], "possible values"),
        (&["--bogus"], "'--bogus'"),
        (&["identity"], "identity new, identity show or"),
        (&["identity", "verify"], "OTHER"),
    ] {
        let output = home.run(words);
        assert!(refusal(&output, 64).contains(said), "{words:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
    }
    let mut by_variable = home.program(&["a:1"]);
    let output = by_variable.env("WZP_SEND_TONE", "never").output().unwrap();
    assert!(refusal(&output, 64).contains("--send-tone"), "{output:?}");
}

#[test]
fn help_and_version_are_no_errors() {
    let home = Home::new("help");
    let help = home.run(&["--help"]);
    assert!(help.status.success() && stdout(&help).contains("wzp-client --send-tone 5 127.0.0.1:4433"));
    let version = home.run(&["--version"]);
    assert_eq!(
        stdout(&version),
        format!("wzp-client {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn identity_is_made_once_and_shown() {
    let home = Home::new("identity");
    assert!(refusal(&home.run(&["identity", "show"]), 64).contains("`wzp-client identity new` makes one"));
    let made = home.run(&["identity", "new", "--json"]);
    assert!(made.status.success(), "{made:?}");
    let made: serde_json::Value = serde_json::from_str(stdout(&made)).unwrap();
    let file = home.file(".config/wzp/identity");
    assert_eq!(made["file"], file.to_str().unwrap());
    assert!(made.get("phrase").is_none());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let words = fs::read_to_string(&file).unwrap();

    assert!(refusal(&home.run(&["identity", "new"]), 64).contains("exists already and is not replaced"));
    assert_eq!(fs::read_to_string(&file).unwrap(), words);

    let shown = home.run(&["identity", "show"]);
    assert!(stdout(&shown).contains(made["fingerprint"].as_str().unwrap()));
    assert!(stdout(&shown).contains(made["public_key"].as_str().unwrap()));
    assert!(
        !stdout(&shown).contains(words.trim()),
        "the phrase is shown only when it is asked for"
    );
    assert!(stdout(&home.run(&["identity", "show", "--phrase"])).contains(words.trim()));

    // The same words give the same identity elsewhere.
    let restored = home.file("restored");
    let mut restore = home.program(&[
        "identity",
        "new",
        "--restore",
        "--identity",
        restored.to_str().unwrap(),
        "--json",
    ]);
    let mut restore = restore
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    restore
        .stdin
        .take()
        .unwrap()
        .write_all(words.to_uppercase().as_bytes())
        .unwrap();
    let restored: serde_json::Value =
        serde_json::from_slice(&restore.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(restored["fingerprint"], made["fingerprint"]);
}

#[test]
fn both_sides_see_one_safety_number() {
    let home = Home::new("safety");
    let public = |name: &str| {
        let made = home.run(&["identity", "new", "--json", "--identity", name]);
        let made: serde_json::Value = serde_json::from_str(stdout(&made)).unwrap();
        (
            made["public_key"].as_str().unwrap().to_owned(),
            made["fingerprint"].as_str().unwrap().to_owned(),
        )
    };
    let ((alice, alice_print), (bob, bob_print)) = (public("alice"), public("bob"));
    let number = |own: &str, other: &str| {
        let seen = home.run(&["identity", "verify", other, "--identity", own, "--json"]);
        let seen: serde_json::Value = serde_json::from_str(stdout(&seen)).unwrap();
        seen["safety_number"].as_str().unwrap().to_owned()
    };
    assert_eq!(number("alice", &bob), number("bob", &alice));
    assert_eq!(
        number("alice", &bob).split(' ').map(str::len).collect::<Vec<_>>(),
        [5; 12]
    );

    let own = home.run(&["identity", "verify", &alice_print, "--identity", "alice"]);
    assert!(own.status.success(), "{own:?}");
    let other = home.run(&["identity", "verify", &bob_print, "--identity", "alice"]);
    assert!(refusal(&other, 1).contains("is not this identity"), "{other:?}");
}

#[test]
fn wrong_word_is_named_before_anybody_is_called() {
    let home = Home::new("words");
    let (socket, relay) = silent_relay();
    let good = "abandon ".repeat(23);
    for (phrase, said) in [
        (
            format!("{good} abandin"),
            "word 24 (\"abandin\") is not in the word list, did you mean \"abandon\"?",
        ),
        (good.clone(), "a phrase has 24 words, this one has 23"),
        (format!("{good} abandon"), "checksum"),
    ] {
        let mut call = home.program(&["--send-tone", "1", &relay]);
        let output = call.env("WZP_PHRASE", phrase).output().unwrap();
        assert!(refusal(&output, 64).contains(said), "{output:?}");
    }
    let file = home.write("mine", format!("{good} art\n").as_bytes());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let output = home.run(&["identity", "show", "--identity", &file]);
    assert!(refusal(&output, 64).contains("chmod 600"), "{output:?}");
    assert!(is_untouched(&socket));
}

#[test]
fn unreachable_relay_is_told_within_five_seconds() {
    let home = Home::new("unreachable");
    let (_socket, relay) = silent_relay();
    let began = Instant::now();
    let output = home.run(&["--json", "--send-tone", "1", &relay]);
    assert!(
        began.elapsed() < Duration::from_millis(5_500),
        "{:?}",
        began.elapsed()
    );
    let said = refusal(&output, 69);
    assert!(
        said.contains(&relay) && said.contains("does not answer"),
        "{said}"
    );
    let last: serde_json::Value = serde_json::from_str(stdout(&output).lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["event"], &last["exit_code"]),
        (&"error".into(), &69.into())
    );
    assert_eq!(last["text"], said);
}

#[test]
fn sigterm_ends_the_wait_for_a_relay() {
    let home = Home::new("sigterm");
    let (socket, relay) = silent_relay();
    let mut waiting = home.program(&["--record", "heard.wav", &relay]);
    let waiting = waiting
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    socket.recv(&mut [0; 2_048]).unwrap();
    let began = Instant::now();
    let killed = Command::new("kill")
        .args(["-TERM", &waiting.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let output = waiting.wait_with_output().unwrap();
    assert!(
        refusal(&output, 1).contains("stopped before the call began"),
        "{output:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn older_files_outlive_what_comes_to_nothing() {
    let home = Home::new("older");
    let (_socket, relay) = silent_relay();
    let old = home.write("keep.wav", b"an older recording");
    refusal(&home.run(&["--record", &old, &relay]), 69);
    refusal(
        &home.run(&["--sweep", "--csv", &old, "--send-file", "none.wav"]),
        64,
    );
    assert_eq!(fs::read(&old).unwrap(), b"an older recording");
    refusal(&home.run(&["--record", "new.wav", &relay]), 69);
    let mut names: Vec<_> = fs::read_dir(&home.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["keep.wav"]);
}

#[test]
fn files_that_cannot_be_used_are_refused_before_anybody_is_called() {
    let home = Home::new("files");
    let (socket, relay) = silent_relay();
    let header = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data";
    let no_sound = [&header[..], &[0; 4]].concat();
    let cut = [&header[..], &[0, 8, 0, 0], &[0; 100]].concat();
    for (name, bytes, said) in [
        ("empty.wav", &b""[..], "the file is empty"),
        ("letter.wav", b"Dear reader, this is no sound.", "not a WAV file"),
        ("silent.wav", &no_sound, "no samples"),
        ("cut.wav", &cut, "cut off"),
    ] {
        let file = home.write(name, bytes);
        let output = home.run(&["--send-file", &file, &relay]);
        let text = refusal(&output, 64);
        assert!(text.contains(name) && text.contains(said), "{text}");
    }
    assert!(refusal(&home.run(&["--send-file", "none.wav", &relay]), 64).contains("none.wav"));
    assert!(
        refusal(&home.run(&["--record", "no/such/folder/f.wav", &relay]), 64)
            .contains("no/such/folder/f.wav")
    );
    if Path::new("/dev/full").exists() {
        assert!(refusal(&home.run(&["--record", "/dev/full", &relay]), 64).contains("the disk is full"));
    }
    assert!(is_untouched(&socket));
}

#[test]
fn live_without_devices_says_what_to_do() {
    // A machine with a microphone would place the call.
    if cfg!(feature = "device") {
        return;
    }
    let home = Home::new("live");
    let (socket, relay) = silent_relay();
    assert!(refusal(&home.run(&["--live", &relay]), 1).contains("built without sound devices"));
    assert!(is_untouched(&socket));
}

#[test]
fn sweep_fills_a_table_a_file_and_a_picture() {
    let home = Home::new("sweep");
    let words = [
        "--sweep",
        "--tier",
        "catastrophic",
        "--loss",
        "0,40",
        "--jitter",
        "0",
        "--buffer",
        "auto,60",
        "--secs",
        "4",
        "--csv",
        "sweep.csv",
        "--svg",
        "sweep.svg",
    ];
    let output = home.run(&words);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(stdout(&output).contains("concealed %"), "{output:?}");
    let csv = fs::read_to_string(home.file("sweep.csv")).unwrap();
    assert_eq!(csv.lines().count(), 5, "{csv}");
    assert!(
        csv.lines()
            .skip(1)
            .all(|line| line.starts_with("catastrophic,") && line.split(',').count() == 12),
        "{csv}"
    );
    let svg = fs::read_to_string(home.file("sweep.svg")).unwrap();
    assert_eq!(svg.matches("<polyline").count(), 2, "{svg}");

    let json = home.run(&[&["--json"][..], &words].concat());
    let rows = stdout(&json)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let rows: Vec<_> = rows.filter(|row| row["event"] == "sweep").collect();
    assert_eq!(rows.len(), 4);
    let concealed = |row: &serde_json::Value| row["concealed_percent"].as_f64().unwrap();
    assert!(concealed(&rows[0]) < concealed(&rows[2]), "{rows:?}");
    assert!(
        refusal(&home.run(&["--sweep", "--csv", "no/folder/s.csv"]), 64).contains("--csv no/folder/s.csv")
    );
}
