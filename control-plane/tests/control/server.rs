//! A control plane in this process.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use clap::Parser;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinHandle, time};
use wzp_control::{Args, Config, Control};

use crate::{
    http::{Answer, request},
    soon,
};

/// A running control plane; it stops when this is dropped, and its folder goes.
pub(crate) struct Server {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) token: String,
    pub(crate) key: String,
    folder: PathBuf,
    stop: mpsc::Sender<()>,
    /// `None`: it runs elsewhere.
    task: Option<JoinHandle<()>>,
}

pub(crate) fn folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("wzp-control-{}-{number}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

impl Server {
    pub(crate) async fn start(args: &[&str]) -> Self {
        Self::start_in(folder(), args).await
    }

    async fn start_in(folder: PathBuf, args: &[&str]) -> Self {
        let data = folder.to_str().unwrap();
        let fixed = [
            "wzp-control",
            "--listen",
            "127.0.0.1:0",
            "--grpc-listen",
            "127.0.0.1:0",
            "--data",
            data,
        ];
        let args = Args::try_parse_from(fixed.iter().chain(args)).unwrap();
        let control = Control::bind(Config::try_from(args).unwrap()).await.unwrap();
        let banner = control.banner();
        let (http, grpc) = (banner.http, banner.grpc);
        let key = banner
            .api_key
            .as_ref()
            .map(|key| key.0.clone())
            .unwrap_or_default();
        let token = control.join_token();
        let (stop, stopped) = mpsc::channel(2);
        Self {
            http,
            grpc,
            token,
            key,
            folder,
            stop,
            task: Some(tokio::spawn(control.run_until(stopped))),
        }
    }

    /// Ends it as SIGTERM does, and starts it again with what it has kept, at other ports.
    pub(crate) async fn restart(mut self, args: &[&str]) -> Self {
        self.stop.send(()).await.unwrap();
        soon("end of the control plane", self.task.take().unwrap())
            .await
            .unwrap();
        let folder = std::mem::take(&mut self.folder);
        let key = self.key.clone();
        let mut next = Self::start_in(folder, args).await;
        next.key = key;
        next
    }

    /// Another replica of the same cluster.
    pub(crate) fn at(&self, http: SocketAddr, grpc: SocketAddr) -> Self {
        Self {
            http,
            grpc,
            token: self.token.clone(),
            key: self.key.clone(),
            folder: PathBuf::new(),
            stop: self.stop.clone(),
            task: None,
        }
    }

    /// With the first API key.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask_with(&self.key, method, path, body).await
    }

    pub(crate) async fn ask_with(&self, key: &str, method: &str, path: &str, body: &str) -> Answer {
        let authorization = format!("Bearer {key}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        request(self.http, method, path, &headers, body.as_bytes()).await
    }

    /// Without any.
    pub(crate) async fn ask_as_nobody(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = [("content-type", "application/json")];
        request(self.http, method, path, &headers, body.as_bytes()).await
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut every = time::interval(Duration::from_millis(20));
        let asking = async {
            loop {
                every.tick().await;
                let answer = self.ask("GET", path, "").await;
                if answer.status == 200 && wanted(&answer.json()) {
                    return answer.json();
                }
            }
        };
        soon(path, asking).await
    }

    /// Until so many relays are on the list.
    pub(crate) async fn listed(&self, count: usize) -> Value {
        self.until("/v1/relays", |list| {
            list["relays"].as_array().unwrap().len() == count
        })
        .await
    }

    /// Looks until the sample is as wanted.
    pub(crate) async fn until_metric(&self, sample: &str, wanted: impl Fn(f64) -> bool) {
        let mut every = time::interval(Duration::from_millis(20));
        let looking = async {
            while !wanted(self.metric(sample).await) {
                every.tick().await;
            }
        };
        soon(sample, looking).await;
    }

    /// The sample with this name and these labels, as written; 0 if it is not there yet.
    pub(crate) async fn metric(&self, sample: &str) -> f64 {
        let answer = self.ask_as_nobody("GET", "/metrics", "").await;
        let text = String::from_utf8(answer.body).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        if !self.folder.as_os_str().is_empty() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
