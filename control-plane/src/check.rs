//! Whether a relay can be reached at an address: a whole QUIC handshake that shows one of its certificates.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::time;
use wzp_socket::quic;

/// For one address.
const PATIENCE: Duration = Duration::from_secs(2);
/// Nobody looks at it: the certificate is compared as a whole.
const NAME: &str = "wzp-relay";

/// Tries one address; the error is for people.
pub(crate) async fn reach(address: SocketAddr, certificates: Vec<[u8; 32]>) -> Result<(), String> {
    let another = Arc::new(AtomicBool::new(false));
    let shown_another = Arc::clone(&another);
    let config = quic::client_config(move |shown| {
        let hash: [u8; 32] = Sha256::digest(shown).into();
        let right = certificates.contains(&hash);
        shown_another.store(!right, Ordering::Relaxed);
        right
    });
    let config = config.map_err(|error| error.to_string())?;
    let local: SocketAddr = if address.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let endpoint = quinn::Endpoint::client(local).map_err(|error| error.to_string())?;
    let connecting = endpoint
        .connect_with(config, address, NAME)
        .map_err(|error| error.to_string())?;
    let connected = time::timeout(PATIENCE, connecting).await;
    let outcome = match connected {
        Ok(Ok(connection)) => {
            connection.close(0_u32.into(), b"reached");
            Ok(())
        }
        Ok(Err(_)) if another.load(Ordering::Relaxed) => {
            Err("another certificate is shown there than the relay announced".to_owned())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    // So that the relay hears of the end.
    let _ = time::timeout(Duration::from_millis(200), endpoint.wait_idle()).await;
    outcome
}
