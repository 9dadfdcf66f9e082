//! A PostgreSQL of a test's own: a cluster in a temporary folder, on a free port of the loopback.
//!
//! It needs Debian's `postgresql`, and fails without it. A shell around the server reads what the test holds open, so that
//! the server ends and its folder goes with the test, however that ends.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

const USER: &str = "wzp";
/// Between looking for a free port and binding it, somebody else may take it.
const TRIES: u32 = 5;

/// A running server; it is stopped and its folder removed when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a cluster and starts it.
    ///
    /// # Panics
    /// When PostgreSQL is missing or does not start.
    pub fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("wzp-postgres-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        if let Some((user, group)) = other_user() {
            chown(&folder, Some(user), Some(group)).unwrap_or_else(|error| panic!("chown: {error}"));
        }
        let data = folder.join("data");
        let made = program("initdb", &folder)
            .args([
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
                "--username",
                USER,
            ])
            .arg("--pgdata")
            .arg(&data)
            .output()
            .unwrap_or_else(|error| panic!("initdb: {error}"));
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let mut postgres = Self {
            folder,
            port: 0,
            server: None,
        };
        postgres.run();
        postgres
    }

    /// Where it is, for `--database-url`.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/postgres", self.port)
    }

    /// Makes an empty database, and says where it is.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn database(&self, name: &str) -> String {
        let made = program("createdb", &self.folder)
            .args([
                "--host",
                "127.0.0.1",
                "--username",
                USER,
                "--port",
                &self.port.to_string(),
                name,
            ])
            .output()
            .unwrap_or_else(|error| panic!("createdb: {error}"));
        assert!(
            made.status.success(),
            "createdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        format!("postgres://{USER}@127.0.0.1:{}/{name}", self.port)
    }

    /// Ends it as a crash does.
    pub fn stop(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        if let Some(mut input) = server.stdin.take() {
            let _ = input.write_all(b"keep\n");
        }
        let _ = server.wait();
    }

    /// Starts it again after [`Postgres::stop`], at the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        assert!(self.server.is_none(), "it runs");
        self.run();
    }

    fn run(&mut self) {
        for _ in 0..TRIES {
            let port = if self.port == 0 { free_port() } else { self.port };
            if let Some(server) = self.try_run(port) {
                (self.port, self.server) = (port, Some(server));
                return;
            }
        }
        panic!("PostgreSQL does not start");
    }

    fn try_run(&self, port: u16) -> Option<Child> {
        // Not waiting for the disk: nothing in it outlives the test.
        let script = format!(
            "{postgres} -D {data} -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
             -c fsync=off -c full_page_writes=off -c max_connections=50 2>&1 & id=$!; \
             (read word || rest=go; kill -QUIT $id; [ -z \"$rest\" ] || {{ sleep 1; rm -rf {folder}; }}) <&3 >/dev/null 2>&1 & \
             wait $id",
            postgres = binary("postgres").display(),
            data = self.folder.join("data").display(),
            folder = self.folder.display(),
        );
        let mut server = program_at(Path::new("/bin/sh"), &self.folder)
            .args(["-c", &format!("exec 3<&0; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("postgres: {error}"));
        let said = server.stdout.take();
        let mut lines = said
            .into_iter()
            .flat_map(|said| BufReader::new(said).lines().map_while(Result::ok));
        if lines.any(|line| line.contains("ready to accept connections")) {
            // What it goes on to say must not fill the pipe.
            std::thread::spawn(move || lines.for_each(drop));
            return Some(server);
        }
        drop(server.stdin.take());
        let _ = server.wait();
        None
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> u16 {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    bound.unwrap_or_else(|error| panic!("no port: {error}")).port()
}

fn program(name: &str, folder: &Path) -> Command {
    program_at(&binary(name), folder)
}

/// PostgreSQL does not run as root, so then it runs as the user that Debian made for it.
fn program_at(path: &Path, folder: &Path) -> Command {
    let mut command = Command::new(path);
    command.current_dir(folder).env("LC_ALL", "C");
    if let Some((user, group)) = other_user() {
        command.uid(user).gid(group);
    }
    command
}

fn other_user() -> Option<(u32, u32)> {
    if id("-u", None) != 0 {
        return None;
    }
    Some((id("-u", Some("postgres")), id("-g", Some("postgres"))))
}

fn id(what: &str, user: Option<&str>) -> u32 {
    let output = Command::new("id").arg(what).args(user).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let number = text.map(|text| text.parse());
    match number {
        Ok(Ok(number)) => number,
        _ => panic!(
            "id {what} {}: install Debian's postgresql (make setup)",
            user.unwrap_or_default()
        ),
    }
}

fn binary(name: &str) -> PathBuf {
    newest(name).unwrap_or_else(|error| panic!("{name} ({error}): install Debian's postgresql (make setup)"))
}

/// Debian keeps each version in its own folder, outside of the PATH.
fn newest(name: &str) -> io::Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")?;
    let found = versions.flatten().filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        let path = version.path().join("bin").join(name);
        path.exists().then_some((number, path))
    });
    found
        .max()
        .map(|(_, path)| path)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}
