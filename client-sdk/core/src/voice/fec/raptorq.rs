//! RaptorQ (RFC 6330) for blocks of at most 15 symbols, without the work of a general solver.
//!
//! A repair symbol is a linear combination of the source symbols over GF(256), byte by byte, and its factors depend on
//! the block size only. The `raptorq` crate is asked once for them: it encodes the unit vectors, and what comes out
//! *is* the matrix. Encoding a frame is then one multiplication per byte and repair symbol, decoding a small linear
//! system, both without allocation and with the same bytes as `raptorq` itself.

use std::sync::LazyLock;

use raptorq::{ObjectTransmissionInformation, SourceBlockEncoder, SourceBlockEncodingPlan};

/// Most source symbols in a block: the header has 4 bits.
pub(super) const MAX_K: usize = 15;
/// Most repair symbols of a block: the header has 4 bits.
pub(super) const MAX_R: usize = 15;

/// `rows[j][i]`: what source symbol `i` contributes to repair symbol `j`, whose encoding symbol id is `k + j`.
pub(super) type Rows = [[u8; MAX_K]; MAX_R];

// A constant, except that it takes a solver to work it out; about a millisecond, when the first codec is made.
static ROWS: LazyLock<Box<[Rows; MAX_K]>> = LazyLock::new(|| {
    let mut all = Box::new([[[0; MAX_K]; MAX_R]; MAX_K]);
    for (k, rows) in (1_u16..).zip(all.iter_mut()) {
        *rows = derive(k);
    }
    all
});

/// The factors for blocks of `k` source symbols; `None` unless `k` is 1 to [`MAX_K`].
pub(super) fn rows(k: u8) -> Option<&'static Rows> {
    ROWS.get(usize::from(k).checked_sub(1)?)
}

fn derive(k: u16) -> Rows {
    let size = usize::from(k);
    let mut units = vec![0; size * size];
    units
        .iter_mut()
        .step_by(size + 1)
        .for_each(|diagonal| *diagonal = 1);
    let config = ObjectTransmissionInformation::new(0, k, 0, 1, 1);
    let plan = SourceBlockEncodingPlan::generate(k);
    let encoder = SourceBlockEncoder::with_encoding_plan(0, &config, &units, &plan);
    let mut rows = [[0; MAX_K]; MAX_R];
    for (row, packet) in rows.iter_mut().zip(encoder.repair_packets(0, MAX_R as u32)) {
        row[..size].copy_from_slice(packet.data());
    }
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use raptorq::{EncodingPacket, PayloadId, SourceBlockDecoder};

    use super::*;
    use crate::voice::fec::gf256;

    fn config(size: usize) -> ObjectTransmissionInformation {
        ObjectTransmissionInformation::new(0, size as u16, 0, 1, 1)
    }

    fn our_repair(k: usize, symbols: &[u8], index: usize) -> Vec<u8> {
        let size = symbols.len() / k;
        let mut repair = vec![0; size];
        for (i, symbol) in symbols.chunks(size).enumerate() {
            gf256::add_scaled(&mut repair, symbol, rows(k as u8).unwrap()[index][i]);
        }
        repair
    }

    #[test]
    fn block_sizes_outside_the_header_have_no_factors() {
        assert!(rows(0).is_none());
        assert!(rows(1).is_some() && rows(15).is_some());
        assert!(rows(16).is_none() && rows(255).is_none());
    }

    proptest! {
        #[test]
        fn repairs_are_those_of_raptorq(k in 1_usize..=15, size in 1_usize..=80, seed: u64) {
            let symbols: Vec<u8> = (0..k * size).map(|i| (seed.wrapping_mul(i as u64 * 2 + 1) >> 23) as u8).collect();
            let reference = SourceBlockEncoder::new(0, &config(size), &symbols);
            for (j, packet) in reference.repair_packets(0, MAX_R as u32).iter().enumerate() {
                prop_assert_eq!(packet.payload_id().encoding_symbol_id() as usize, k + j);
                prop_assert_eq!(packet.data(), our_repair(k, &symbols, j));
            }
        }

        #[test]
        fn raptorq_decodes_what_we_encode(k in 1_usize..=15, lost in any::<u16>(), size in 1_usize..=80, seed: u64) {
            let symbols: Vec<u8> = (0..k * size).map(|i| (seed.wrapping_mul(i as u64 * 2 + 1) >> 23) as u8).collect();
            let mut decoder = SourceBlockDecoder::new(0, &config(size), (k * size) as u64);
            let source = symbols.chunks(size).enumerate().filter(|(i, _)| lost >> i & 1 == 0);
            let received: Vec<_> = source
                .map(|(i, s)| (i, s.to_vec()))
                .chain((0..MAX_R).map(|j| (k + j, our_repair(k, &symbols, j))))
                .map(|(id, data)| EncodingPacket::new(PayloadId::new(0, id as u32), data))
                .collect();
            if let Some(decoded) = decoder.decode(received) {
                prop_assert_eq!(decoded, symbols);
            } else {
                // With all 15 repair symbols only the largest blocks can fail, and hardly ever.
                prop_assert!(k >= 13);
            }
        }
    }
}
