//! Works lost symbols out of repair symbols: Gauss-Jordan elimination over GF(256), at most 15 by 15.

use super::{
    gf256,
    raptorq::{MAX_K, MAX_R, Rows},
};

/// A linear system whose unknowns are the lost source symbols, kept between uses for its memory.
#[derive(Debug, Default)]
pub(super) struct System {
    factors: [[u8; MAX_K]; MAX_R],
    /// The right-hand sides, one symbol each.
    sides: Vec<u8>,
    size: usize,
    rows: usize,
    unknowns: usize,
    /// Source index of each unknown.
    index: [u8; MAX_K],
}

impl System {
    /// Sets up the system of a block: `k` source symbols of `size` bytes, then repair symbols, in `symbols`; bit `i` of
    /// `present` says whether symbol `i` is known.
    pub(super) fn load(&mut self, rows: &Rows, k: usize, size: usize, symbols: &[u8], present: u32) {
        let known = |i: usize| present >> i & 1 == 1;
        self.size = size;
        self.unknowns = 0;
        for (i, slot) in (0..k).filter(|i| !known(*i)).zip(&mut self.index) {
            *slot = i as u8;
            self.unknowns += 1;
        }
        self.rows = 0;
        self.sides.clear();
        let (source, repair) = symbols.split_at(k * size);
        for (j, symbol) in repair
            .chunks_exact(size)
            .enumerate()
            .filter(|(j, _)| known(k + j))
        {
            let from = self.sides.len();
            self.sides.extend_from_slice(symbol);
            for (i, part) in source.chunks_exact(size).enumerate().filter(|(i, _)| known(*i)) {
                gf256::add_scaled(&mut self.sides[from..], part, rows[j][i]);
            }
            for (factor, i) in self.factors[self.rows]
                .iter_mut()
                .zip(&self.index[..self.unknowns])
            {
                *factor = rows[j][usize::from(*i)];
            }
            self.rows += 1;
        }
    }

    /// Solves as much as can be: hands every unknown that is determined to `found`, by source index.
    pub(super) fn solve(&mut self, mut found: impl FnMut(u8, &[u8])) {
        let mut rank = 0;
        for column in 0..self.unknowns {
            let Some(pivot) = (rank..self.rows).find(|row| self.factors[*row][column] != 0) else {
                continue;
            };
            self.swap(pivot, rank);
            self.eliminate(rank, column);
            rank += 1;
        }
        for (factors, side) in self.factors[..rank]
            .iter()
            .zip(self.sides.chunks_exact(self.size))
        {
            let mut involved = (0..self.unknowns).filter(|column| factors[*column] != 0);
            if let (Some(column), None) = (involved.next(), involved.next()) {
                found(self.index[column], side);
            }
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        if a != b {
            self.factors.swap(a, b);
            let (low, high) = (a.min(b), a.max(b));
            let (head, tail) = self.sides.split_at_mut(high * self.size);
            head[low * self.size..][..self.size].swap_with_slice(&mut tail[..self.size]);
        }
    }

    /// Makes the factor at (`row`, `column`) one, and zero in all other rows.
    fn eliminate(&mut self, row: usize, column: usize) {
        let inverse = gf256::inverse(self.factors[row][column]);
        gf256::scale(&mut self.factors[row], inverse);
        gf256::scale(&mut self.sides[row * self.size..][..self.size], inverse);
        let pivot = self.factors[row];
        for other in (0..self.rows).filter(|other| *other != row) {
            let factor = self.factors[other][column];
            gf256::add_scaled(&mut self.factors[other], &pivot, factor);
            let (head, tail) = self.sides.split_at_mut(row.max(other) * self.size);
            let (low, high) = (
                &mut head[row.min(other) * self.size..][..self.size],
                &mut tail[..self.size],
            );
            if row < other {
                gf256::add_scaled(high, low, factor);
            } else {
                gf256::add_scaled(low, high, factor);
            }
        }
    }
}
