//! A control plane and its relays as processes.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::{
    process::{Process, Scratch},
    until,
};

/// `wzp-control` on SQLite, and the relays that were started in its cluster.
#[derive(Debug)]
pub struct Cluster {
    /// The control plane.
    pub control: Process,
    /// Its HTTP API.
    pub url: String,
    /// `relay-0` and up.
    pub relays: Vec<Process>,
    http: SocketAddr,
    home: Scratch,
}

impl Cluster {
    /// A control plane with so many relays, all of them on its list.
    pub async fn start(relays: usize) -> Self {
        let home = Scratch::default();
        let (control, [http, grpc, token]) = plane(&home, ["127.0.0.1:0", "127.0.0.1:0"]);
        let start = |number| {
            let name = format!("relay-{number}");
            let args = ["--control", &grpc, "--join-token", &token, "--id", &name];
            Process::start(
                "wzp-relay",
                &home,
                &[&["--listen", "127.0.0.1:0"], &args[..]].concat(),
            )
        };
        let cluster = Self {
            control,
            relays: (0..relays).map(start).collect(),
            http: http.trim_start_matches("http://").parse().unwrap(),
            url: http,
            home,
        };
        until("all relays on the list", || {
            (cluster.listed().len() == relays).then_some(())
        })
        .await;
        cluster
    }

    /// Starts the control plane anew, where it was and with what it had written.
    pub fn restart_control(&mut self) {
        let grpc = self.control.line("gRPC address", |line| word(line, "relays"));
        let grpc = grpc.trim_start_matches("https://").to_owned();
        (self.control, _) = plane(&self.home, [&self.http.to_string(), &grpc]);
    }

    /// The names on the relay list; none while the control plane does not answer.
    pub fn listed(&self) -> Vec<String> {
        let list = self.get("/v1/relays").unwrap_or_default();
        let relays = list["relays"].as_array().cloned().unwrap_or_default();
        let names = relays.iter().filter_map(|relay| relay["id"].as_str());
        names.map(str::to_owned).collect()
    }

    /// The relay of this name.
    pub fn relay(&mut self, name: &str) -> &mut Process {
        let number = name.strip_prefix("relay-").and_then(|number| number.parse().ok());
        let number: usize = number.unwrap_or_else(|| panic!("{name} is no relay of this cluster"));
        &mut self.relays[number]
    }

    fn get(&self, path: &str) -> Option<serde_json::Value> {
        let mut stream = TcpStream::connect(self.http).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: control\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    }
}

/// The process, its two URLs and its join token.
fn plane(home: &Scratch, [http, grpc]: [&str; 2]) -> (Process, [String; 3]) {
    let data = home.file("data");
    let data = data.to_str().unwrap();
    let args = ["--listen", http, "--grpc-listen", grpc, "--data", data];
    let process = Process::start("wzp-control", home, &args);
    let of = |name: &'static str| process.line(name, move |line| word(line, name));
    let told = [of("http"), of("relays"), token(home, &process)];
    (process, told)
}

/// Printed at the first start only, and kept here for the next.
fn token(home: &Scratch, process: &Process) -> String {
    let kept = home.file("join-token");
    if let Ok(token) = std::fs::read_to_string(&kept) {
        return token;
    }
    let token = process.line("join token", |line| {
        let rest = line.trim_start().strip_prefix("join token")?;
        Some(rest.trim().to_owned())
    });
    std::fs::write(kept, &token).unwrap();
    token
}

fn word(line: &str, name: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    (words.next()? == name).then_some(())?;
    words.next().map(str::to_owned)
}
