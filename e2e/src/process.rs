//! Our binaries as processes.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::wait::{Id, WaitPidFlag, waitid},
    unistd::Pid,
};

use crate::PATIENCE;

/// A folder of a test's own, removed at its end.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Default for Scratch {
    fn default() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("wzp-e2e-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Scratch {
    /// Something in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The path of one of our binaries, of the same profile as this test, built if need be.
pub fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    match BUILT.get_or_init(build) {
        Some(folder) => folder.join(name),
        None => panic!("the binaries can't be built"),
    }
}

fn build() -> Option<PathBuf> {
    // target/PROFILE/deps/this-test
    let test = env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap().to_owned();
    let profile = match folder.file_name().and_then(|name| name.to_str()).unwrap() {
        "debug" => "dev",
        other => other,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo tells this test would look like a change to build scripts, and everything would be built anew.
    for (name, _) in env::vars_os() {
        let ours = [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_BIN_",
            "CARGO_CRATE_",
            "CARGO_PRIMARY_",
        ];
        if ours
            .iter()
            .any(|prefix| name.to_string_lossy().starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    let status = command
        .args(["build", "--quiet", "--bins", "--profile", profile])
        .args([
            "-p",
            "wzp-relay",
            "-p",
            "wzp-control",
            "-p",
            "wzp-client",
            "-p",
            "wzp-bench",
            "--target-dir",
        ])
        .arg(folder.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    status.success().then_some(folder)
}

/// A process that is killed at the end of the test.
#[derive(Debug)]
pub struct Process {
    child: Child,
    said: Arc<Said>,
}

/// What a process has done so far.
#[derive(Debug, Default)]
struct Said {
    so_far: Mutex<SoFar>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct SoFar {
    /// Every line of both outputs.
    lines: Vec<String>,
    /// Of the outputs that end and the process itself, how many are yet to.
    open: u32,
}

impl Process {
    /// Starts one of our binaries with a home of its own.
    pub fn start(name: &str, home: &Scratch, args: &[&str]) -> Self {
        let mut command = Command::new(binary(name));
        command
            .args(args)
            .env("HOME", &home.0)
            .env_remove("XDG_CONFIG_HOME");
        Self::spawn(&mut command)
    }

    /// Starts any command and listens to what it says.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = Arc::<Said>::default();
        said.listen(child.stdout.take().unwrap());
        said.listen(child.stderr.take().unwrap());
        said.watch(child.id());
        Self { child, said }
    }

    /// The first line that `pick` wants, waited for.
    pub fn line<V>(&self, what: &str, mut pick: impl FnMut(&str) -> Option<V>) -> V {
        let deadline = Instant::now() + PATIENCE;
        let mut said = self.said.so_far();
        let mut seen = 0;
        loop {
            if let Some(found) = said.lines.iter().skip(seen).find_map(|line| pick(line)) {
                return found;
            }
            seen = said.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {what} in\n{}", said.lines.join("\n"));
            said = self
                .said
                .more
                .wait_timeout(said, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// The first JSON object, one a line, whose `event` is this.
    pub fn json(&self, event: &str) -> serde_json::Value {
        self.line(event, |line| {
            let object: serde_json::Value = serde_json::from_str(line).ok()?;
            (object["event"] == event).then_some(object)
        })
    }

    /// Everything said so far.
    pub fn log(&self) -> String {
        self.said.so_far().lines.join("\n")
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.id())])
            .status();
        assert!(status.unwrap().success(), "cannot send SIG{name}");
    }

    /// Waits for the end, and says how long that took. By then everything that it said is in the log.
    pub fn wait(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        let said = self.said.so_far();
        let (said, _) = self
            .said
            .more
            .wait_timeout_while(said, PATIENCE, |said| said.open > 0)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(said.open == 0, "process does not end:\n{}", said.lines.join("\n"));
        drop(said);
        (self.child.wait().unwrap(), began.elapsed())
    }

    /// Memory in use, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Ends it the hard way.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let log = self.log();
        if thread::panicking() {
            eprintln!("--- process {} said:\n{log}\n---", self.id());
        } else {
            assert!(!log.contains("panicked at"), "process panicked:\n{log}");
        }
    }
}

impl Said {
    fn listen(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        self.until_closed(move |said| {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                said.so_far().lines.push(line);
                said.more.notify_all();
            }
        });
    }

    fn watch(self: &Arc<Self>, process: u32) {
        let process = Pid::from_raw(process.try_into().unwrap());
        // Whoever owns the process is to ask for its status, and needs its id until then.
        let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        self.until_closed(move |_| while waitid(Id::Pid(process), ended) == Err(Errno::EINTR) {});
    }

    fn until_closed(self: &Arc<Self>, follow: impl FnOnce(&Self) + Send + 'static) {
        self.so_far().open += 1;
        let said = Arc::clone(self);
        thread::spawn(move || {
            follow(&said);
            said.so_far().open -= 1;
            said.more.notify_all();
        });
    }

    fn so_far(&self) -> MutexGuard<'_, SoFar> {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
