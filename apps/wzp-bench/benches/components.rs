//! What each part of a packet's way costs. Run by `wzp-bench components`.
#![expect(clippy::unwrap_used, reason = "what fails in the set-up fails the bench")]

#[path = "components/packets.rs"]
mod packets;
#[path = "components/rooms.rs"]
mod rooms;
#[path = "components/voice.rs"]
mod voice;

use criterion::{criterion_group, criterion_main};

criterion_group! {
    name = components;
    config = criterion::Criterion::default()
        .sample_size(30)
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = packets::wire, packets::lane, packets::end_to_end, rooms::forwarding, voice::codecs, voice::fec,
        voice::receiver
}
criterion_main!(components);
