//! The first message of a connection: who is there, and may they enter?

use std::time::{SystemTime, UNIX_EPOCH};

use quinn::{Connection, SendStream};
use rustls_pki_types::CertificateDer;
use wzp_identity::{EXPORTER_LABEL, GrantRole};
use wzp_relay_core::admission::{self, Claim, Entrant, Policy, Refusal};
use wzp_wire::{
    RelayId,
    signal::{Hello, Kind, Reason, Role},
};

use super::{End, LAST_WORD, Reader, code, unexpected};
use crate::{
    doors::DoorKind,
    frames,
    relay::{Shared, Ticket},
};

/// Somebody who may enter.
pub(super) struct Greeted {
    pub(super) entrant: Entrant,
    pub(super) hello: Hello,
    pub(super) role: Role,
    /// The relay of this cluster that it is, as its certificate shows.
    pub(super) peer: Option<RelayId>,
    pub(super) reader: Reader,
    pub(super) send: SendStream,
}

/// Somebody who may not, and the stream on which it hears so, if there is one.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    send: Option<SendStream>,
}

impl Refused {
    /// Sends the refusal, waits until it has arrived or a second has passed, and closes.
    pub(super) async fn tell(self, connection: &Connection) {
        if let Some(mut send) = self.send {
            let told = async {
                send.write_all(&frames::refused(0, &self.refusal)).await.ok()?;
                send.finish().ok()?;
                send.stopped().await.ok()
            };
            let _ = tokio::time::timeout(LAST_WORD, told).await;
        }
        connection.close(code(self.refusal.reason), self.refusal.text.as_bytes());
    }
}

/// Waits for the Hello and checks it. The caller sets the time limit.
pub(super) async fn greet(
    relay: &Shared,
    connection: &Connection,
    ticket: &mut Ticket,
    door: DoorKind,
) -> Result<Greeted, Refused> {
    let gone = |_| Refused {
        refusal: Refusal::new(Reason::Timeout, "the connection was closed without a Hello"),
        send: None,
    };
    let (send, recv) = connection.accept_bi().await.map_err(gone)?;
    let mut reader = Reader::new(recv, relay.limits.messages);
    let checked = match read_hello(&mut reader).await {
        Ok(hello) => check(relay, connection, ticket, door, &hello).map(|admitted| (admitted, hello)),
        Err(refusal) => Err(refusal),
    };
    match checked {
        Ok(((entrant, peer), hello)) => {
            if peer.is_some() {
                reader.trust();
            }
            Ok(Greeted {
                entrant,
                role: hello.role,
                peer,
                hello,
                reader,
                send,
            })
        }
        Err(refusal) => Err(Refused {
            refusal,
            send: Some(send),
        }),
    }
}

async fn read_hello(reader: &mut Reader) -> Result<Hello, Refusal> {
    match reader.next().await {
        Ok(message) => match message.kind {
            Some(Kind::Hello(hello)) => Ok(Hello::try_from(hello)?),
            _ => Err(unexpected()),
        },
        Err(End::Refused(refusal)) => Err(refusal),
        Err(_) => Err(Refusal::new(
            Reason::Timeout,
            "the connection was closed without a Hello",
        )),
    }
}

fn check(
    relay: &Shared,
    connection: &Connection,
    ticket: &mut Ticket,
    door: DoorKind,
    hello: &Hello,
) -> Result<(Entrant, Option<RelayId>), Refusal> {
    let served = match hello.role {
        Role::Peer => relay.cluster.is_some(),
        Role::Relay => !relay.forwards,
        _ => true,
    };
    if !door.admits(hello.role) || !served {
        return Err(Refusal::new(Reason::Role, "this role is not served here"));
    }
    if hello.role == Role::Relay && !relay.takes_relays {
        let text = "this relay carries no other relays' members: --allow-forward is not set there";
        return Err(Refusal::new(Reason::Role, text));
    }
    let mut exporter = [0; 32];
    let exported = connection.export_keying_material(&mut exporter, EXPORTER_LABEL, &[]);
    exported.map_err(|_| Refusal::new(Reason::Internal, "the connection exports no key"))?;
    let identity = admission::prove(&hello.identity_key, &exporter, &hello.proof)?;
    let admit = |policy: &Policy, role| {
        policy.admit(Claim {
            identity_key: &hello.identity_key,
            grant: &hello.grant,
            role,
            unix_now: unix_now(),
        })
    };
    let entrant = match hello.role {
        // A prober gets nothing but PONGs, and a peer shows a certificate.
        Role::Probe | Role::Peer => Entrant::without_grant(identity),
        Role::Relay => admit(&relay.relay_policy, GrantRole::Relay)?,
        // Unspecified is never parsed.
        Role::Member | Role::Unspecified => admit(&relay.policy.load(), GrantRole::Member)?,
    };
    let peer = match hello.role {
        Role::Peer => Some(peer_of(relay, connection)?),
        _ => None,
    };
    match hello.role {
        Role::Probe => ticket.probe()?,
        Role::Relay if !entrant.opens_every_room() => {
            let text = "a relay needs a grant for every room";
            return Err(Refusal::new(Reason::GrantRoom, text));
        }
        _ => {}
    }
    ticket.identify(hello.identity_key)?;
    Ok((entrant, peer))
}

/// The relay of this cluster whose certificate is at the other end.
fn peer_of(relay: &Shared, connection: &Connection) -> Result<RelayId, Refusal> {
    let no = |text| Refusal::new(Reason::Role, text);
    let shown = connection.peer_identity();
    let chain = shown.and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
    let (Some(cluster), Some(chain)) = (&relay.cluster, chain) else {
        return Err(no("a peer shows a certificate of this cluster"));
    };
    match cluster.keys.peer_of(&chain) {
        Some(peer) if peer == *cluster.id() => Err(no("another relay has this relay's name")),
        Some(peer) => Ok(peer),
        None => Err(no("the certificate is none of a relay of this cluster")),
    }
}

/// Seconds since 1970, for the validity of grants; a clock before that makes every grant one of the future.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
