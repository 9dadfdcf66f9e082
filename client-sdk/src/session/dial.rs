//! From a relay's name to a connection: every address it has is tried, the way browsers do (RFC 8305).

use std::{future::poll_fn, io, net::SocketAddr, pin::Pin, task::Poll, time::Duration};

use quinn::Connection;
use tokio::time::{Instant, timeout, timeout_at};
use wzp_socket::client::Socket;

use super::{DEADLINE, closed, unreachable};
use crate::{CertificateHash, ConnectError, Trust, trust::Verifier};

/// An address has this much time before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

/// A relay that finished the handshake.
pub(super) struct Dialled {
    pub(super) connection: Connection,
    pub(super) address: SocketAddr,
    pub(super) seen: CertificateHash,
}

/// Every address of a relay, in the order to try them.
pub(super) async fn resolve(relay: &str, deadline: Instant) -> Result<Vec<SocketAddr>, ConnectError> {
    let failed = |source| ConnectError::Address {
        relay: relay.to_owned(),
        source,
    };
    let found = timeout_at(deadline, tokio::net::lookup_host(relay))
        .await
        .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?;
    let addresses = interleave(found.collect());
    if addresses.is_empty() {
        return Err(failed(io::ErrorKind::NotFound.into()));
    }
    Ok(addresses)
}

/// Connects to whichever address finishes the handshake first.
pub(super) async fn dial(
    socket: &Socket,
    relay: &str,
    addresses: Vec<SocketAddr>,
    expected: Option<&[CertificateHash]>,
    trust: &Trust,
    deadline: Instant,
) -> Result<Dialled, ConnectError> {
    let attempt = |address| handshake(socket, relay, address, expected, trust);
    let mut failed = Vec::new();
    let won = timeout_at(deadline, race(addresses, attempt, &mut failed)).await;
    match won {
        Ok(Some(dialled)) => Ok(dialled),
        Ok(None) | Err(_) => {
            let most_telling = failed.into_iter().max_by_key(telling);
            Err(most_telling.unwrap_or_else(|| unreachable(relay, DEADLINE)))
        }
    }
}

/// Who answered says more than who did not.
fn telling(error: &ConnectError) -> u8 {
    match error {
        ConnectError::Certificate { .. } => 3,
        ConnectError::Refused { .. } => 2,
        ConnectError::Quic { .. } => 1,
        _ => 0,
    }
}

async fn handshake(
    socket: &Socket,
    relay: &str,
    address: SocketAddr,
    expected: Option<&[CertificateHash]>,
    trust: &Trust,
) -> Result<Dialled, ConnectError> {
    let verifier = Verifier::new(expected.map(<[_]>::to_vec));
    let config = verifier
        .client_config()
        .map_err(|error| ConnectError::Tls(error.into()))?;
    // The certificate is judged by its hash, so the name in it says nothing; this one goes over the wire.
    let connecting = socket
        .endpoint()
        .connect_with(config, address, "wzp")
        .map_err(|_| ConnectError::Protocol("the address can't be dialled"))?;
    match connecting.await {
        Ok(connection) => Ok(Dialled {
            connection,
            address,
            seen: verifier.seen().ok_or(ConnectError::Protocol("no certificate"))?,
        }),
        Err(error) => Err(match verifier.refused() {
            Some((expected, seen)) => ConnectError::Certificate {
                relay: relay.to_owned(),
                expected,
                seen,
                file: match trust {
                    Trust::Pinned(_) | Trust::Exactly(_) => None,
                    Trust::KnownRelays(file) => Some(file.clone()),
                },
            },
            None => closed(relay, error),
        }),
    }
}

/// Families take turns, beginning with the one that the resolver prefers: when one of them leads nowhere, the other
/// has its chance soon.
pub(super) fn interleave(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let preferred = found.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|address| address.is_ipv4() == preferred);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return all;
        }
        all.extend(pair.into_iter().flatten());
    }
}

/// Tries one address more each [`STAGGER`], or as soon as one failed; the first that succeeds wins, the others are
/// dropped. `None` when all have failed.
async fn race<T, E, F: Future<Output = Result<T, E>>>(
    addresses: Vec<SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
    failed: &mut Vec<E>,
) -> Option<T> {
    let mut waiting = addresses.into_iter();
    let mut running = Vec::new();
    loop {
        running.extend(waiting.next().map(|address| Box::pin(attempt(address))));
        if running.is_empty() {
            return None;
        }
        let outcome = if waiting.len() == 0 {
            Ok(first_of(&mut running).await)
        } else {
            timeout(STAGGER, first_of(&mut running)).await
        };
        match outcome {
            Ok(Ok(won)) => return Some(won),
            Ok(Err(error)) => failed.push(error),
            // Nobody answered yet.
            Err(_) => {}
        }
    }
}

/// What the first of them to finish came to; it is taken out.
async fn first_of<F: Future>(running: &mut Vec<Pin<Box<F>>>) -> F::Output {
    poll_fn(|context| {
        for at in 0..running.len() {
            let polled = running.get_mut(at).map(|future| future.as_mut().poll(context));
            if let Some(Poll::Ready(output)) = polled {
                drop(running.swap_remove(at));
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: [&str; 3] = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"];
    const V6: [&str; 1] = ["[2001:db8::1]:1"];

    fn addresses(of: &[&str]) -> Vec<SocketAddr> {
        of.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let [a, b, c] = V4;
        let [six] = V6;
        let sorted = |found: &[&str]| interleave(addresses(found));
        assert_eq!(sorted(&[six, a, b, c]), addresses(&[six, a, b, c]));
        assert_eq!(sorted(&[a, b, c, six]), addresses(&[a, six, b, c]));
        assert_eq!(sorted(&[]), []);
    }

    /// Runs a race in which each address behaves as its last octet says; returns who won and after how long.
    async fn race_of(of: &[&str]) -> (Option<SocketAddr>, Vec<&'static str>, Duration) {
        let attempt = |address: SocketAddr| async move {
            match address.to_string().as_str() {
                "192.0.2.1:1" => std::future::pending().await,
                "192.0.2.2:1" => Err("refused"),
                _ => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Ok(address)
                }
            }
        };
        let began = Instant::now();
        let mut failed = Vec::new();
        let won = race(addresses(of), attempt, &mut failed).await;
        (won, failed, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_leads_nowhere_costs_a_quarter_of_a_second() {
        let (won, failed, took) = race_of(&[V4[0], V4[2]]).await;
        assert_eq!((won, failed), (Some(V4[2].parse().unwrap()), vec![]));
        assert!(took >= STAGGER && took < STAGGER * 2, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_refuses_costs_nothing() {
        let (won, failed, took) = race_of(&[V4[1], V4[2], V4[0]]).await;
        assert_eq!((won, failed), (Some(V4[2].parse().unwrap()), vec!["refused"]));
        assert!(took < STAGGER, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_have_failed_there_is_nothing_to_wait_for() {
        let (won, failed, took) = race_of(&[V4[1], V4[1]]).await;
        assert_eq!((won, failed.len()), (None, 2));
        assert!(took < STAGGER, "{took:?}");
    }
}
