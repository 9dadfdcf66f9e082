//! Who may join which room, where that is not the default.

use wzp_control_core::policy::RoomPolicy;
use wzp_wire::RoomName;

use super::{Store, StoreError, db::Row};

impl Store {
    /// The policy of a room, if it has one of its own.
    pub(crate) async fn policy(&self, room: &RoomName) -> Result<Option<RoomPolicy>, StoreError> {
        retried!(self, "policy", |db| {
            let select = "SELECT room, policy FROM room_policies WHERE room = $1";
            let row = db.row(select, &[room.as_str().into()]).await?;
            row.as_ref().map(policy).transpose()
        })
    }

    /// Up to `limit` policies of rooms with names behind `after`, by name.
    pub(crate) async fn policies(
        &self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(String, RoomPolicy)>, StoreError> {
        retried!(self, "policies", |db| {
            let select = "SELECT room, policy FROM room_policies WHERE room > $1 ORDER BY room LIMIT $2";
            let rows = db.rows(select, &[after.into(), u64::from(limit).into()]).await?;
            rows.iter().map(|row| Ok((row.text(0)?, policy(row)?))).collect()
        })
    }

    /// Gives a room a policy of its own.
    pub(crate) async fn set_policy(&self, room: &RoomName, policy: RoomPolicy) -> Result<(), StoreError> {
        let policy = policy.to_string();
        retried!(self, "set_policy", |db| {
            let upsert = "INSERT INTO room_policies (room, policy) VALUES ($1, $2) \
                          ON CONFLICT (room) DO UPDATE SET policy = excluded.policy";
            db.write(upsert, &[room.as_str().into(), policy.as_str().into()])
                .await
                .map(drop)
        })
    }

    /// Takes it away again; `false`: it had none.
    pub(crate) async fn delete_policy(&self, room: &RoomName) -> Result<bool, StoreError> {
        retried!(self, "delete_policy", |db| {
            let delete = "DELETE FROM room_policies WHERE room = $1";
            Ok(db.write(delete, &[room.as_str().into()]).await? > 0)
        })
    }
}

fn policy(row: &Row) -> Result<RoomPolicy, sqlx::Error> {
    let policy = row.text(1)?.parse();
    policy.map_err(|error: wzp_control_core::policy::UnknownWord| sqlx::Error::Decode(error.into()))
}
