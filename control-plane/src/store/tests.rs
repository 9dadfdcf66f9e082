//! Every test runs on a SQLite file and on a real PostgreSQL.

use std::{
    path::PathBuf,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use wzp_control_core::{Cause, Lease, Seat, leases::Write, policy::RoomPolicy};
use wzp_testkit::postgres::Postgres;
use wzp_wire::{Epoch, RelayId, RoomName};

use super::*;

static POSTGRES: LazyLock<Postgres> = LazyLock::new(Postgres::start);
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Empty databases, one of each kind; the folder goes when this is dropped.
struct Databases {
    folder: PathBuf,
    all: [Database; 2],
}

impl Databases {
    fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("wzp-store-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let postgres = Database::Postgres {
            url: POSTGRES.database(&format!("store{number}")),
            connections: 8,
        };
        let all = [Database::Sqlite(folder.join("wzp.db")), postgres];
        Self { folder, all }
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn ignore() -> Observer {
    Arc::new(|_, _, _| {})
}

async fn open(database: &Database) -> Store {
    Store::open(database, ignore()).await.unwrap()
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn seats(text: &[(&str, bool)]) -> Vec<Seat> {
    let seat = |(relay, carries): &(&str, bool)| Seat {
        relay: RelayId::parse(relay).unwrap(),
        carries: *carries,
    };
    text.iter().map(seat).collect()
}

fn change(expected: u64, text: &[(&str, bool)]) -> Write {
    let expected = Epoch(expected);
    let lease = Lease {
        room: room("tea"),
        epoch: expected.next(),
        seats: seats(text),
    };
    let cause = Cause::Join;
    Write {
        expected,
        lease,
        cause,
    }
}

fn key(id: &str, active_at: u64) -> KeyRow {
    KeyRow {
        id: id.to_owned(),
        secret: vec![1; 32],
        public: vec![2; 32],
        made_at: active_at,
        active_at,
    }
}

#[tokio::test]
async fn a_lease_is_written_once_and_every_member_has_its_own_sender() {
    for database in &Databases::new().all {
        let store = open(database).await;
        let tea = room("tea");
        assert_eq!(store.join(&tea, None, 1).await.unwrap(), None);
        let first = change(0, &[("a", true), ("b", false)]);
        let joined = store.join(&tea, Some(&first), 1).await.unwrap().unwrap();
        assert_eq!(
            (joined.lease.epoch, joined.sender.get(), joined.written),
            (Epoch(1), 1, true)
        );
        assert_eq!(joined.lease.seats, first.lease.seats);
        // Somebody who decided at the same time is given what is there.
        let late = store
            .join(&tea, Some(&change(0, &[("c", true)])), 1)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (late.lease.clone(), late.sender.get(), late.written),
            (joined.lease, 2, false)
        );
        let third = store.join(&tea, None, 1).await.unwrap().unwrap();
        assert_eq!(third.sender.get(), 3);
    }
}

#[tokio::test]
async fn only_who_knows_the_epoch_changes_the_lease() {
    for database in &Databases::new().all {
        let store = open(database).await;
        let tea = room("tea");
        assert_eq!(
            store.change(&tea, &change(3, &[("a", true)]), 1).await.unwrap(),
            Changed::Gone
        );
        store.change(&tea, &change(0, &[("a", true)]), 1).await.unwrap();
        let Changed::Written(second) = store.change(&tea, &change(1, &[("b", true)]), 2).await.unwrap()
        else {
            panic!("lost");
        };
        assert_eq!((second.epoch, &second.seats), (Epoch(2), &seats(&[("b", true)])));
        let stale = store.change(&tea, &change(1, &[("c", true)]), 3).await.unwrap();
        assert_eq!(stale, Changed::Lost(second.clone()));
        assert_eq!(store.lease(&tea).await.unwrap(), Some(second));
    }
}

#[tokio::test]
async fn a_deleted_room_comes_back_with_a_higher_epoch() {
    for database in &Databases::new().all {
        let store = open(database).await;
        let tea = room("tea");
        assert_eq!(store.delete_room(&tea, 1).await.unwrap(), None);
        store.change(&tea, &change(0, &[("a", true)]), 1).await.unwrap();
        let gone = store.delete_room(&tea, 2).await.unwrap().unwrap();
        assert_eq!((gone.epoch, gone.seats.len()), (Epoch(2), 0));
        assert_eq!(store.join(&tea, None, 3).await.unwrap(), None);
        assert!(store.leases("", 10).await.unwrap().is_empty());
        let back = store
            .join(&tea, Some(&change(2, &[("a", true)])), 3)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(back.lease.epoch, Epoch(3));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_decide_at_once_one_wins_and_no_sender_is_given_twice() {
    for database in &Databases::new().all {
        let store = Arc::new(open(database).await);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..20_u8 {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                let mine = change(0, &[(&format!("relay-{number}"), true)]);
                store.join(&room("tea"), Some(&mine), 1).await.unwrap().unwrap()
            });
        }
        let all = tasks.join_all().await;
        assert_eq!(all.iter().filter(|joined| joined.written).count(), 1);
        let first = &all.first().unwrap().lease;
        assert!(all.iter().all(|joined| joined.lease == *first));
        let mut senders: Vec<_> = all.iter().map(|joined| joined.sender.get()).collect();
        senders.sort_unstable();
        assert_eq!(senders, (1..=20).collect::<Vec<u16>>());
    }
}

#[tokio::test]
async fn senders_begin_again_after_the_last_one() {
    for database in &Databases::new().all {
        let store = open(database).await;
        let tea = room("tea");
        store.change(&tea, &change(0, &[("a", true)]), 1).await.unwrap();
        store
            .db
            .write("UPDATE rooms SET last_sender = 49150", &[])
            .await
            .unwrap();
        for wanted in [LAST_SENDER, 1, 2] {
            let joined = store.join(&tea, None, 1).await.unwrap().unwrap();
            assert_eq!(joined.sender.get(), wanted);
        }
    }
}

#[tokio::test]
async fn leases_come_in_pages_by_name() {
    for database in &Databases::new().all {
        let store = open(database).await;
        for name in ["c", "a", "é", "b"] {
            store
                .change(&room(name), &change(0, &[("a", true)]), 1)
                .await
                .unwrap();
        }
        let names = |leases: Vec<Lease>| {
            leases
                .iter()
                .map(|lease| lease.room.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(store.leases("", 2).await.unwrap()), ["a", "b"]);
        assert_eq!(names(store.leases("b", 9).await.unwrap()), ["c", "é"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_at_once_agree_on_keys_and_settings() {
    let databases = Databases::new();
    let [_, postgres] = &databases.all;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..4_u8 {
        let postgres = postgres.clone();
        tasks.spawn(async move {
            let store = open(&postgres).await;
            let mine = format!("key-{number}");
            let keys = store.keys(KeyKind::Grant, &key(&mine, 1)).await.unwrap();
            let (cluster, _) = store.setting("cluster", &mine).await.unwrap();
            (keys.iter().map(|key| key.id.clone()).collect::<Vec<_>>(), cluster)
        });
    }
    let all = tasks.join_all().await;
    let first = all.first().unwrap();
    assert_eq!(first.0.len(), 1);
    assert!(all.iter().all(|one| one == first), "{all:?}");
}

#[tokio::test]
async fn two_keys_are_kept_and_kinds_are_apart() {
    for database in &Databases::new().all {
        let store = open(database).await;
        store.keys(KeyKind::Grant, &key("one", 1)).await.unwrap();
        for (id, at) in [("two", 2), ("three", 3)] {
            store.rotate_key(KeyKind::Grant, &key(id, at)).await.unwrap();
        }
        let ids = |keys: Vec<KeyRow>| keys.iter().map(|key| key.id.clone()).collect::<Vec<_>>();
        let grant = store.keys(KeyKind::Grant, &key("never", 9)).await.unwrap();
        assert_eq!(ids(grant), ["three", "two"]);
        let authority = store.keys(KeyKind::Authority, &key("ca", 1)).await.unwrap();
        assert_eq!(ids(authority), ["ca"]);
    }
}

#[tokio::test]
async fn a_relays_key_is_its_own_until_its_certificate_has_expired() {
    for database in &Databases::new().all {
        let store = open(database).await;
        let claim = async |relay: &str, now: u64| {
            let claimed = store.claim_relay_key(b"key", relay, now + 10, now).await;
            claimed.unwrap()
        };
        assert!(claim("a", 100).await);
        assert!(claim("a", 105).await);
        assert!(!claim("b", 110).await);
        assert!(claim("b", 116).await);
    }
}

#[tokio::test]
async fn a_nonce_is_good_once() {
    for database in &Databases::new().all {
        let store = open(database).await;
        assert!(store.take_nonce(b"me", b"n", 10, 5).await.unwrap());
        assert!(!store.take_nonce(b"me", b"n", 10, 6).await.unwrap());
        assert!(store.take_nonce(b"you", b"n", 10, 6).await.unwrap());
        assert!(store.take_nonce(b"me", b"n", 30, 11).await.unwrap());
    }
}

#[tokio::test]
async fn an_answer_is_kept_for_the_same_request() {
    for database in &Databases::new().all {
        let store = open(database).await;
        let kept = Kept {
            status: 200,
            body: b"{}".to_vec(),
        };
        assert_eq!(store.idempotent("o", "k", b"r", 1).await.unwrap(), Claimed::New);
        store.keep_answer(("o", "k"), b"r", &kept, 10, 1).await.unwrap();
        assert_eq!(
            store.idempotent("o", "k", b"r", 10).await.unwrap(),
            Claimed::Same(kept)
        );
        assert_eq!(
            store.idempotent("o", "k", b"s", 10).await.unwrap(),
            Claimed::Other
        );
        assert_eq!(store.idempotent("p", "k", b"r", 10).await.unwrap(), Claimed::New);
        assert_eq!(store.idempotent("o", "k", b"r", 11).await.unwrap(), Claimed::New);
    }
}

#[tokio::test]
async fn api_keys_are_kept_with_their_scopes_and_the_first_is_first_once() {
    for database in &Databases::new().all {
        let store = open(database).await;
        let row = |id: &str, scopes: &str| ApiKeyRow {
            id: id.to_owned(),
            name: "a name".to_owned(),
            hash: vec![7; 32],
            scopes: scopes.parse().unwrap(),
            made_at: 5,
        };
        assert!(store.add_api_key(&row("a", "admin"), true).await.unwrap());
        assert!(!store.add_api_key(&row("b", "admin"), true).await.unwrap());
        assert!(store.add_api_key(&row("c", "join,read"), false).await.unwrap());
        assert_eq!(
            store.api_keys().await.unwrap(),
            [row("a", "admin"), row("c", "join,read")]
        );
        assert!(store.delete_api_key("a").await.unwrap());
        assert!(!store.delete_api_key("a").await.unwrap());
    }
}

#[tokio::test]
async fn policies_come_in_pages_by_name() {
    for database in &Databases::new().all {
        let store = open(database).await;
        for name in ["b", "a"] {
            store.set_policy(&room(name), RoomPolicy::Open).await.unwrap();
        }
        store.set_policy(&room("b"), RoomPolicy::Key).await.unwrap();
        let all = [
            ("a".to_owned(), RoomPolicy::Open),
            ("b".to_owned(), RoomPolicy::Key),
        ];
        assert_eq!(store.policies("", 9).await.unwrap(), all);
        assert_eq!(store.policies("a", 9).await.unwrap(), all[1..]);
        assert_eq!(store.policy(&room("b")).await.unwrap(), Some(RoomPolicy::Key));
        assert!(store.delete_policy(&room("b")).await.unwrap());
        assert!(!store.delete_policy(&room("b")).await.unwrap());
        assert_eq!(store.policy(&room("b")).await.unwrap(), None);
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    for database in &Databases::new().all {
        let store = open(database).await;
        store
            .change(&room("tea"), &change(0, &[("a", true)]), 1)
            .await
            .unwrap();
        let before = store.lease(&room("tea")).await.unwrap();
        store.close().await;
        drop(store);
        assert_eq!(open(database).await.lease(&room("tea")).await.unwrap(), before);
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_stays_as_it_is() {
    for database in &Databases::new().all {
        let store = open(database).await;
        let newer = "UPDATE schema_version SET version = version + 1";
        store.db.write(newer, &[]).await.unwrap();
        store.close().await;
        drop(store);
        let error = Store::open(database, ignore()).await.err().unwrap().to_string();
        assert!(error.contains("newer wzp-control"), "{error}");
    }
}

#[tokio::test]
async fn a_second_process_on_one_file_is_refused_with_the_first_one_named() {
    let databases = Databases::new();
    let [sqlite, _] = &databases.all;
    let first = open(sqlite).await;
    let error = Store::open(sqlite, ignore()).await.err().unwrap().to_string();
    assert!(
        error.contains(&format!("process {}", std::process::id())),
        "{error}"
    );
    drop(first);
    open(sqlite).await;
}

#[tokio::test]
async fn a_file_that_is_no_database_or_damaged_is_refused() {
    let databases = Databases::new();
    let [sqlite, _] = &databases.all;
    let Database::Sqlite(path) = sqlite else { panic!() };
    let store = open(sqlite).await;
    for number in 0..500 {
        let name = format!("room {number}");
        store
            .change(&room(&name), &change(0, &[("a", true)]), 1)
            .await
            .unwrap();
    }
    store.close().await;
    drop(store);
    let mut damaged = fs::read(path).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle..].fill(0xab);
    for content in [
        b"this is a text file, not a database, whatever its name says".to_vec(),
        damaged,
    ] {
        fs::write(path, content).unwrap();
        let error = Store::open(sqlite, ignore()).await.err().unwrap();
        assert!(matches!(error, OpenError::Corrupt), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_server_is_noticed_and_found_again() {
    let mut server = Postgres::start();
    let database = Database::Postgres {
        url: server.url(),
        connections: 4,
    };
    let store = open(&database).await;
    store
        .change(&room("tea"), &change(0, &[("a", true)]), 1)
        .await
        .unwrap();
    server.stop();
    let error = store.join(&room("tea"), None, 1).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    assert!(!store.is_reachable());
    server.start_again();
    let joined = store.join(&room("tea"), None, 1).await.unwrap().unwrap();
    assert_eq!(joined.lease.epoch, Epoch(1));
    assert!(store.is_reachable());
}
