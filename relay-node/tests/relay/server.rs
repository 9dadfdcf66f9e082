//! A relay in this process, and what it says of itself.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time,
};
use wzp_relay::{Args, Config, Relay};

use crate::client::soon;

/// A running relay; it stops when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) reflect: Option<SocketAddr>,
    metrics: SocketAddr,
    stop: mpsc::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// On free ports of the loopback.
    pub(crate) async fn start(args: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", args).await
    }

    pub(crate) async fn start_at(listen: &str, args: &[&str]) -> Self {
        Self::start_changed(listen, args, |_| {}).await
    }

    /// With a configuration that no argument makes.
    pub(crate) async fn start_changed(listen: &str, args: &[&str], change: impl Fn(&mut Config)) -> Self {
        let fixed = [
            "wzp-relay",
            "--listen",
            listen,
            "--metrics",
            "127.0.0.1:0",
            "--io-threads",
            "2",
        ];
        let config = || {
            let args = Args::try_parse_from(fixed.iter().chain(args)).unwrap();
            let mut config = Config::try_from(args).unwrap();
            change(&mut config);
            config
        };
        let mut every = time::interval(Duration::from_millis(20));
        // The port of a relay that was just stopped is free within a moment.
        let relay = soon("a free port", async {
            loop {
                every.tick().await;
                if let Ok(relay) = Relay::bind(config()).await {
                    return relay;
                }
            }
        })
        .await;
        let banner = relay.banner();
        let (address, reflect, metrics) = (banner.address, banner.reflect, banner.metrics.unwrap());
        let (stop, stopped) = mpsc::channel(2);
        Self {
            address,
            reflect,
            metrics,
            stop,
            task: tokio::spawn(relay.run_until(stopped)),
        }
    }

    /// As SIGTERM does; resolves when the relay has ended.
    pub(crate) async fn stop(self) {
        self.stop_within(Duration::from_secs(5)).await;
    }

    /// The same for one whose members may take their time.
    pub(crate) async fn stop_within(self, patience: Duration) {
        self.stop.send(()).await.unwrap();
        time::timeout(patience, self.task).await.unwrap().unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.metrics).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// The sample with this name and these labels, as written; 0 if it is not there yet.
    pub(crate) async fn metric(&self, sample: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Looks until the sample is `wanted`.
    pub(crate) async fn until(&self, sample: &str, wanted: impl Fn(f64) -> bool) {
        let mut every = time::interval(Duration::from_millis(20));
        let looking = async {
            while !wanted(self.metric(sample).await) {
                every.tick().await;
            }
        };
        soon(sample, looking).await;
    }
}
