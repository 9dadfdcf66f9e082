//! A control plane, put together from its parts.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{net::TcpListener, sync::Notify, task::JoinSet, time};
use tracing::info;
use wzp_control_core::policy;

use crate::{
    authority::Authority,
    banner::{Banner, Shown},
    clock,
    config::{Config, RoomPolicy},
    grpc, http,
    keys::ApiKeys,
    metrics::Metrics,
    plane::{Plane, Settings, Tasks},
    signals,
    store::Store,
};

/// How long requests that are under way may take when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A control plane whose ports are bound.
pub struct Control {
    plane: Arc<Plane>,
    tasks: Tasks,
    http: http::Http,
    http_listener: TcpListener,
    door: grpc::Door,
    banner: Banner,
}

impl Control {
    /// Opens the database, makes what is missing at a first start, and binds every port. Call it inside tokio.
    ///
    /// # Errors
    /// What could not be opened, made or bound.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        let Config {
            listen,
            grpc_listen,
            data: _,
            database,
            join_secret,
            public_url,
            cluster,
            grant_ttl,
            rooms,
            rooms_said,
            rates,
            behind_proxy,
            log: _,
        } = config;
        let metrics = Metrics::new();
        let observed = Arc::clone(&metrics);
        let observer = Arc::new(move |op, took, succeeded| observed.database(op, took, succeeded));
        let store = Store::open(&database, observer)
            .await
            .with_context(|| format!("database {database}"))?;
        let now = clock::unix_seconds();
        let authority = Authority::open(&store, &cluster, join_secret.as_ref(), now).await?;
        let (keys, first_key) = ApiKeys::open(&store).await?;
        let http_listener = bind(listen).await?;
        let grpc_listener = bind(grpc_listen).await?;
        let (http_address, grpc_address) = (http_listener.local_addr()?, grpc_listener.local_addr()?);
        let banner = Banner {
            http: http_address,
            public_url: public_url.map_or_else(|| format!("http://{http_address}"), |url| url.to_string()),
            grpc: grpc_address,
            database,
            cluster,
            rooms,
            rooms_said,
            join_token: authority.is_new().then(|| Shown(authority.join_token())),
            api_key: first_key.map(Shown),
        };
        let door = grpc::Door::new(grpc_listener, &authority)?;
        let settings = Settings {
            grant_ttl,
            rooms: match rooms {
                RoomPolicy::Open => policy::RoomPolicy::Open,
                RoomPolicy::Key => policy::RoomPolicy::Key,
            },
        };
        let (plane, tasks) = Plane::new(store, authority, metrics, settings);
        plane.load().await?;
        let http = http::Http::new(Arc::clone(&plane), keys, rates, behind_proxy, &banner.public_url);
        Ok(Self {
            plane,
            tasks,
            http,
            http_listener,
            door,
            banner,
        })
    }

    /// Where it listens, and what was made at its first start.
    pub fn banner(&self) -> &Banner {
        &self.banner
    }

    /// The join token as relays need it, at any start.
    pub fn join_token(&self) -> String {
        self.plane.authority.join_token()
    }

    /// Serves until a signal says stop: relays and calls go on without it.
    ///
    /// # Errors
    /// When the system gives no signal handlers.
    pub async fn run(self) -> anyhow::Result<()> {
        let stop = signals::stop().context("cannot listen for signals")?;
        self.run_until(stop).await;
        Ok(())
    }

    /// As [`Self::run`], with `stop` for the signals: a value is one.
    pub async fn run_until(self, mut stop: tokio::sync::mpsc::Receiver<()>) {
        let Self {
            plane,
            tasks,
            http,
            http_listener,
            door,
            banner: _,
        } = self;
        let mut work = JoinSet::new();
        work.spawn(Arc::clone(&plane).work(tasks));
        let mut serving = JoinSet::new();
        let ends: [Arc<Notify>; 2] = Default::default();
        let [http_end, grpc_end] = &ends;
        serving.spawn(http::serve(http_listener, http, Arc::clone(http_end)));
        serving.spawn(grpc::serve(door, Arc::clone(&plane), Arc::clone(grpc_end)));
        stop.recv().await;
        info!("stopping");
        for end in &ends {
            end.notify_one();
        }
        plane.end_streams();
        // A second signal ends it at once.
        tokio::select! {
            _ = time::timeout(LAST_WORDS, async { while serving.join_next().await.is_some() {} }) => {}
            Some(()) = stop.recv() => {}
        }
        work.shutdown().await;
        let _ = time::timeout(LAST_WORDS, plane.store.close()).await;
    }
}

async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("cannot bind {address}"))
}
