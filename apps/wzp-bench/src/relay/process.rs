//! The processes under test, which do not outlive their measurement.

use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use crate::cpu::{self, Cores};
use crate::load::Shape;

/// A running process that has said where it listens.
pub(crate) struct Process {
    child: Child,
    /// Read by nobody any more, but a closed pipe would end the process.
    _said: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// A relay with one IO thread, one for QUIC, and no limits that a load from one address would meet.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn relay(program: &Path, cores: Option<&Cores>) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command
            .args([
                "--listen",
                "127.0.0.1:0",
                "--open",
                "--io-threads",
                "1",
                "--quic-threads",
                "1",
                "--log",
                "error",
            ])
            .args([
                "--max-connections-per-prefix",
                "10000",
                "--handshakes-per-prefix",
                "100000",
            ])
            .args(["--packet-rate", "100000"])
            .stdin(Stdio::null());
        Self::listening(spawn(command, cores)?, "address")
    }

    /// The forwarder without crypto, for members at these addresses.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn raw(shape: Shape, addresses: &[SocketAddr], cores: Option<&Cores>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        command.args(["relay", "--raw"]).stdin(Stdio::piped());
        let mut child = spawn(command, cores)?;
        let mut stdin = child.stdin.take().context("talking to the forwarder")?;
        let mut members = format!("{}\n", shape.members);
        addresses
            .iter()
            .for_each(|address| members.push_str(&format!("{address}\n")));
        stdin
            .write_all(members.as_bytes())
            .context("telling the forwarder its members")?;
        drop(stdin);
        Self::listening(child, "address")
    }

    /// Waits for a line `KEY ADDRESS …` on stdout.
    fn listening(mut child: Child, key: &str) -> anyhow::Result<Self> {
        let mut said = BufReader::new(child.stdout.take().context("listening to a process")?);
        let mut line = String::new();
        loop {
            line.clear();
            let len = said.read_line(&mut line).context("listening to a process")?;
            anyhow::ensure!(
                len > 0,
                "the process under test ended before it said where it listens"
            );
            let mut words = line.split_whitespace();
            if words.next() == Some(key) {
                let address = words.next().context("reading where it listens")?;
                let address = address.parse().with_context(|| format!("reading {address}"))?;
                return Ok(Self {
                    child,
                    _said: said,
                    address,
                });
            }
        }
    }

    /// CPU time used so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu::of_process(self.child.id())
    }

    /// Resident memory that is its own, without files mapped.
    pub(crate) fn memory_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .context("reading a process's status")?;
        let kib: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .context("finding RssAnon in a process's status")?;
        Ok(kib * 1_024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(mut command: Command, cores: Option<&Cores>) -> anyhow::Result<Child> {
    command.stdout(Stdio::piped());
    let child = match cores {
        Some(cores) => cores.spawn(&mut command),
        None => command.spawn().map_err(Into::into),
    };
    child.with_context(|| format!("starting {}", command.get_program().display()))
}
