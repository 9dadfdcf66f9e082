//! Packet counters: limits, and their recovery from the few bytes on the wire.

/// Counters stay below this: the replay window keeps 32 bits above its 11, so 2^43 is the end of a lane.
pub(crate) const LIMIT: u64 = 1 << 43;

/// Packets per key generation, as a power of two.
pub(crate) const GENERATION_BITS: u32 = 16;

/// This many packets into a generation the key before it is replaced by the one after it.
pub(crate) const ADVANCE: u64 = 1 << 14;

/// Media stops this many packets after the newest confirmed counter.
pub(crate) const MEDIA_UNCONFIRMED: u64 = 1 << 14;

/// Two counter bytes can be recovered no further ahead than this.
pub(crate) const UNCONFIRMED: u64 = 1 << 15;

/// A PING is due after this many packets.
pub(crate) const PING_EVERY: u64 = 1 << 10;

pub(crate) const fn generation(counter: u64) -> u64 {
    counter >> GENERATION_BITS
}

/// RFC 9000 A.3: the counter nearest to `expected` whose low `len` bytes are `truncated`.
pub(crate) const fn recover(expected: u64, truncated: u32, len: usize) -> u64 {
    let window = 1_u64 << (8 * len as u32);
    let half = window / 2;
    let candidate = (expected & !(window - 1)) | truncated as u64;
    if candidate + half <= expected {
        candidate + window
    } else if candidate > expected + half && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn recovers_the_example_of_rfc_9000() {
        assert_eq!(recover(0xa82f_30ea + 1, 0x9b32, 2), 0xa82f_9b32);
    }

    #[test]
    fn first_packets_of_a_lane_stay_where_they_are() {
        assert_eq!(recover(0, 0, 2), 0);
        assert_eq!(recover(0, 0xffff, 2), 0xffff);
        assert_eq!(recover(1, 0xff, 1), 0xff);
    }

    proptest! {
        #[test]
        fn recovers_across_loss_and_reordering(
            expected in 0..LIMIT,
            ahead in -0x7fff_i64..=0x8000,
            len in 2_usize..=4,
        ) {
            let counter = expected.saturating_add_signed(ahead);
            let mask = (1_u64 << (8 * len)) - 1;
            let truncated = u32::try_from(counter & mask).unwrap();
            prop_assert_eq!(recover(expected, truncated, len), counter);
        }

        #[test]
        fn never_overflows(expected in 0..=LIMIT, truncated: u32, len in 1_usize..=4) {
            let mask = (1_u64 << (8 * len)) - 1;
            recover(expected, truncated & u32::try_from(mask).unwrap(), len);
        }
    }
}
