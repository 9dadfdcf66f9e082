//! Leases: which relays serve a room, and the epoch that fences out whoever served it before.
//!
//! A change names the epoch it was decided under, and is written only if that is still the room's: of two replicas that
//! decide at once one wins, and the other is given what was written.

use wzp_control_core::{Lease, Seat, leases::Write};
use wzp_wire::{Epoch, RelayId, RoomName, SenderId};

use super::{
    Store, StoreError,
    db::{Row, Tx},
};

/// What is true after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// It was written.
    Written(Lease),
    /// Somebody else wrote before.
    Lost(Lease),
    /// There is no such room.
    Gone,
}

/// A member's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) lease: Lease,
    /// Nobody else in the room has it; ids come again after [`LAST_SENDER`] were given.
    pub(crate) sender: SenderId,
    /// The change that came with the join was written.
    pub(crate) written: bool,
}

/// The ids above are for members who join while the database is away.
pub(crate) const LAST_SENDER: u16 = 49_151;

const READ: &str = "SELECT room, epoch, seats FROM rooms WHERE room = $1";

impl Store {
    /// Takes a member into the room: under `change` if that is still possible, else under the lease that is there.
    /// `None`: the room has no relays, and there was no change, or it came too late.
    pub(crate) async fn join(
        &self,
        room: &RoomName,
        change: Option<&Write>,
        now: u64,
    ) -> Result<Option<Joined>, StoreError> {
        retried!(self, "join", |db| {
            let mut tx = db.begin().await?;
            let written = match change {
                Some(change) => write(&mut tx, room, change, now).await?,
                None => false,
            };
            let take = "UPDATE rooms SET last_sender = last_sender % 49151 + 1 WHERE room = $1 AND seats <> '' \
                        RETURNING room, epoch, seats, last_sender";
            let Some(row) = tx.row(take, &[room.as_str().into()]).await? else {
                return Ok(None);
            };
            let joined = Joined {
                lease: lease(&row)?,
                sender: sender(&row)?,
                written,
            };
            tx.commit().await?;
            Ok(Some(joined))
        })
    }

    /// Writes `change` unless somebody else was faster.
    pub(crate) async fn change(
        &self,
        room: &RoomName,
        change: &Write,
        now: u64,
    ) -> Result<Changed, StoreError> {
        retried!(self, "change", |db| {
            let mut tx = db.begin().await?;
            let written = write(&mut tx, room, change, now).await?;
            let row = tx.row(READ, &[room.as_str().into()]).await?;
            tx.commit().await?;
            Ok(match row.as_ref().map(lease).transpose()? {
                Some(lease) if written => Changed::Written(lease),
                Some(lease) => Changed::Lost(lease),
                None => Changed::Gone,
            })
        })
    }

    /// The lease of a room; without seats when it was deleted.
    pub(crate) async fn lease(&self, room: &RoomName) -> Result<Option<Lease>, StoreError> {
        retried!(self, "lease", |db| {
            let row = db.row(READ, &[room.as_str().into()]).await?;
            row.as_ref().map(lease).transpose()
        })
    }

    /// Up to `limit` leases of rooms with names behind `after`, by name.
    pub(crate) async fn leases(&self, after: &str, limit: u32) -> Result<Vec<Lease>, StoreError> {
        retried!(self, "leases", |db| {
            let select =
                "SELECT room, epoch, seats FROM rooms WHERE room > $1 AND seats <> '' ORDER BY room LIMIT $2";
            let rows = db.rows(select, &[after.into(), u64::from(limit).into()]).await?;
            rows.iter().map(lease).collect()
        })
    }

    /// Forgets a room that nobody can have a grant for any more, unless it has changed. `false`: it has.
    pub(crate) async fn forget_room(&self, room: &RoomName, epoch: Epoch) -> Result<bool, StoreError> {
        retried!(self, "forget_room", |db| {
            let delete = "DELETE FROM rooms WHERE room = $1 AND epoch = $2";
            Ok(db.write(delete, &[room.as_str().into(), epoch.0.into()]).await? > 0)
        })
    }

    /// Takes all relays from a room: at the next epoch nobody serves it. `None`: nobody did.
    pub(crate) async fn delete_room(&self, room: &RoomName, now: u64) -> Result<Option<Lease>, StoreError> {
        retried!(self, "delete_room", |db| {
            let mut tx = db.begin().await?;
            let update = "UPDATE rooms SET epoch = epoch + 1, seats = '', changed_at = $2 WHERE room = $1 \
                          AND seats <> '' RETURNING room, epoch, seats";
            let row = tx.row(update, &[room.as_str().into(), now.into()]).await?;
            tx.commit().await?;
            row.as_ref().map(lease).transpose()
        })
    }
}

async fn write(tx: &mut Tx, room: &RoomName, change: &Write, now: u64) -> Result<bool, sqlx::Error> {
    let (since, seats) = (change.expected, encode(&change.lease.seats));
    let touched = if since == Epoch::NONE {
        let insert = "INSERT INTO rooms (room, epoch, seats, last_sender, changed_at) VALUES ($1, 1, $2, 0, $3) \
                      ON CONFLICT (room) DO NOTHING";
        tx.write(insert, &[room.as_str().into(), seats.as_str().into(), now.into()])
            .await?
    } else {
        let update =
            "UPDATE rooms SET epoch = epoch + 1, seats = $2, changed_at = $3 WHERE room = $1 AND epoch = $4";
        let values = [
            room.as_str().into(),
            seats.as_str().into(),
            now.into(),
            since.0.into(),
        ];
        tx.write(update, &values).await?
    };
    Ok(touched > 0)
}

fn lease(row: &Row) -> Result<Lease, sqlx::Error> {
    Ok(Lease {
        room: RoomName::parse(&row.text(0)?).map_err(decode)?,
        epoch: Epoch(row.number(1)?),
        seats: parse(&row.text(2)?)?,
    })
}

fn sender(row: &Row) -> Result<SenderId, sqlx::Error> {
    let id = u16::try_from(row.int(3)?).ok().and_then(SenderId::new);
    id.ok_or_else(|| decode(std::fmt::Error))
}

/// `+a,-b`: a carries, b is a standby. Names of relays have no commas.
fn encode(seats: &[Seat]) -> String {
    let one = |seat: &Seat| format!("{}{}", if seat.carries { '+' } else { '-' }, seat.relay);
    seats.iter().map(one).collect::<Vec<_>>().join(",")
}

fn parse(text: &str) -> Result<Vec<Seat>, sqlx::Error> {
    let one = |part: &str| {
        let carries = part.starts_with('+');
        let relay = RelayId::parse(part.get(1..).unwrap_or_default()).map_err(decode)?;
        Ok(Seat { relay, carries })
    };
    text.split(',').filter(|part| !part.is_empty()).map(one).collect()
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}
