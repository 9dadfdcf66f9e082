//! A relay as a process.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use wzp_sdk::CertificateHash;

use crate::{
    process::{Process, Scratch},
    until,
};

/// A running relay with its metrics on.
#[derive(Debug)]
pub struct Relay {
    /// The process.
    pub process: Process,
    /// Where members connect.
    pub address: SocketAddr,
    /// What it shows them.
    pub certificate: CertificateHash,
    metrics: SocketAddr,
    _home: Scratch,
}

impl Relay {
    /// Starts one on a free port.
    pub fn start(args: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", args)
    }

    /// Starts one, and returns when its ports are bound.
    pub fn start_at(listen: &str, args: &[&str]) -> Self {
        let home = Scratch::default();
        let fixed = [
            "--listen",
            listen,
            "--metrics",
            "127.0.0.1:0",
            "--log",
            "info,wzp_relay=debug",
        ];
        let process = Process::start("wzp-relay", &home, &[&fixed, args].concat());
        let word = |name: &'static str, at: usize| {
            process.line(name, move |line| {
                let mut words = line.split_whitespace();
                (words.next()? == name).then_some(())?;
                words.nth(at).map(str::to_owned)
            })
        };
        let metrics = word("metrics", 0);
        let metrics = metrics
            .trim_start_matches("http://")
            .trim_end_matches("/metrics")
            .parse()
            .unwrap();
        Self {
            address: word("address", 0).parse().unwrap(),
            certificate: word("certificate", 1).parse().unwrap(),
            metrics,
            process,
            _home: home,
        }
    }

    /// The body of an answer to `GET path`.
    pub fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        body.to_owned()
    }

    /// The sample with this name and these labels as written; 0 if it is not there yet.
    pub fn metric(&self, sample: &str) -> f64 {
        let text = self.get("/metrics");
        let value = text.lines().find_map(|line| {
            let rest = line.strip_prefix(sample)?;
            rest.strip_prefix("{}").unwrap_or(rest).strip_prefix(' ')
        });
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// How many packets were dropped for this reason.
    pub fn dropped(&self, reason: &str) -> f64 {
        self.metric(&format!("wzp_relay_packets_dropped_total{{reason=\"{reason}\"}}"))
    }

    /// How many refusals there were for this reason.
    pub fn refused(&self, reason: &str) -> f64 {
        self.metric(&format!("wzp_relay_refusals_total{{reason=\"{reason}\"}}"))
    }

    /// Looks until the sample is as wanted.
    pub async fn until(&self, sample: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        until(sample, || {
            Some(self.metric(sample)).filter(|&value| wanted(value))
        })
        .await
    }
}
