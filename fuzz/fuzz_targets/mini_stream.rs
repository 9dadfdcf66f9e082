//! Whatever a receiver accepted before, a header that it reads is one that can be written; and a sender that is fed
//! with such headers is understood by a receiver that heard all of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wzp_wire::{Compressor, Decompressor, Header, Instant, Kind, Stream, media::FULL_LEN};

fuzz_target!(|bytes: &[u8]| {
    let mut receiver = Decompressor::new();
    let mut pair = (
        Compressor::new(Stream::Source),
        Compressor::new(Stream::Repair),
        Decompressor::new(),
    );
    let mut rest = bytes;
    let mut now = Instant::ZERO;
    // Each packet is led by its length, whose top bit says that it did not authenticate.
    while let Some((&front, behind)) = rest.split_first() {
        let (packet, behind) = behind.split_at(behind.len().min(usize::from(front & 0x1f)));
        rest = behind;
        let Ok((header, tail, len)) = receiver.read(packet) else {
            continue;
        };
        assert_eq!(tail, &packet[len..]);
        let full = header.encode().expect("a header that was read is in range");
        assert_eq!(Header::decode(&full), Ok((header, &[][..])));
        if len == FULL_LEN && front & 0x80 == 0 {
            receiver.accept(&header);
        }
        now += header.codec.frame_duration();
        send(&mut pair, now, header);
    }
});

fn send(pair: &mut (Compressor, Compressor, Decompressor), now: Instant, header: Header) {
    let (source, repair, receiver) = pair;
    let sender = if header.kind == Kind::Repair {
        repair
    } else {
        source
    };
    let (mut sent, mut out) = (header, [0; FULL_LEN]);
    let len = sender
        .write(now, &mut sent, &mut out)
        .expect("the header is in range");
    assert_eq!(
        Header {
            context: header.context,
            ..sent
        },
        header
    );
    let (got, _, _) = receiver.read(&out[..len]).expect("every full header was heard");
    assert_eq!(got, sent);
    if len == FULL_LEN {
        receiver.accept(&got);
    }
}
