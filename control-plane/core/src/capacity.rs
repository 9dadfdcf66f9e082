//! How many relays there should be.

/// What relays are to be loaded with in the mean.
const TARGET: f32 = 0.6;
/// Of the relays, those that may be gone at once.
const SPARE: f32 = 0.15;

/// How many relays carry `loads` (corrected, one for each relay that is not draining) at 60 % in the mean, with 15 % of
/// them, and one at least, in reserve.
pub fn desired(loads: &[f32]) -> usize {
    let sum: f32 = loads.iter().filter(|load| load.is_finite()).sum();
    let carrying = (sum.max(0.0) / TARGET).ceil().max(1.0);
    let spare = (SPARE * carrying).ceil().max(1.0);
    (carrying + spare) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_one_to_spare() {
        assert_eq!(desired(&[]), 2);
        assert_eq!(desired(&[0.1]), 2);
        assert_eq!(desired(&[0.6, 0.6]), 3);
        assert_eq!(desired(&[0.9; 10]), 15 + 3);
        assert_eq!(desired(&[f32::NAN, 0.3]), 2);
    }
}
