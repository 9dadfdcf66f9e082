//! Single values that every replica must agree on.

use super::{Store, StoreError};

impl Store {
    /// The value of `name`; `first` becomes it if there is none yet. `true` if it did.
    pub(crate) async fn setting(&self, name: &str, first: &str) -> Result<(String, bool), StoreError> {
        retried!(self, "setting", |db| {
            let mut tx = db.begin().await?;
            let insert = "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
            let made = tx.write(insert, &[name.into(), first.into()]).await? > 0;
            let row = tx
                .row("SELECT value FROM settings WHERE name = $1", &[name.into()])
                .await?;
            tx.commit().await?;
            let value = row.ok_or(sqlx::Error::RowNotFound)?.text(0)?;
            Ok((value, made))
        })
    }
}
