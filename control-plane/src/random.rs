//! Randomness of the system, for keys, the core's arguments and names.

use std::convert::Infallible;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
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

/// `N` random bytes as base64url.
pub(crate) fn random_text<const N: usize>() -> String {
    URL_SAFE_NO_PAD.encode(random::<N>())
}

#[expect(
    clippy::expect_used,
    reason = "a system without randomness cannot make keys either"
)]
fn fill(out: &mut [u8]) {
    getrandom::fill(out).expect("the system has randomness");
}
