//! Randomness of the system, for the core's arguments and for nonces.

use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};

/// The system's generator. A system without one cannot make keys either, so nothing works without it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemRng;

impl TryRng for SystemRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_ne_bytes(random()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_ne_bytes(random()))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        fill(out);
        Ok(())
    }
}

impl TryCryptoRng for SystemRng {}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

#[expect(
    clippy::expect_used,
    reason = "a system without randomness cannot make keys either"
)]
fn fill(out: &mut [u8]) {
    getrandom::fill(out).expect("the system has randomness");
}

/// Nonces, so many for one system call.
#[derive(Debug)]
pub(crate) struct Nonces {
    bytes: [u8; 512],
    used: usize,
}

impl Nonces {
    pub(crate) fn new() -> Self {
        Self {
            bytes: [0; 512],
            used: 512,
        }
    }

    pub(crate) fn next(&mut self) -> [u8; 8] {
        if self.used >= self.bytes.len() {
            fill(&mut self.bytes);
            self.used = 0;
        }
        let nonce = self
            .bytes
            .get(self.used..)
            .and_then(|rest| rest.first_chunk().copied());
        self.used += 8;
        nonce.unwrap_or_else(random)
    }
}
