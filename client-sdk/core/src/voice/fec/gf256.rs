//! Arithmetic of the field with 256 elements that RFC 6330 section 5.7 uses (polynomial 0x11d).

const EXP: [u8; 512] = tables().0;
const LOG: [u8; 256] = tables().1;

const fn tables() -> ([u8; 512], [u8; 256]) {
    let (mut exp, mut log) = ([0_u8; 512], [0_u8; 256]);
    let (mut power, mut value) = (0_usize, 1_u16);
    while power < 255 {
        exp[power] = value as u8;
        // Twice in a row, so that a sum of two logarithms needs no reduction.
        exp[power + 255] = value as u8;
        log[value as usize] = power as u8;
        value <<= 1;
        if value & 0x100 != 0 {
            value ^= 0x11d;
        }
        power += 1;
    }
    (exp, log)
}

pub(super) fn mul(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 {
        return 0;
    }
    EXP[usize::from(LOG[usize::from(a)]) + usize::from(LOG[usize::from(b)])]
}

/// The inverse of `a`, and 0 for 0, which has none.
pub(super) fn inverse(a: u8) -> u8 {
    if a == 0 {
        return 0;
    }
    EXP[255 - usize::from(LOG[usize::from(a)])]
}

/// `target += factor * source`, byte by byte.
pub(super) fn add_scaled(target: &mut [u8], source: &[u8], factor: u8) {
    match factor {
        0 => {}
        1 => target.iter_mut().zip(source).for_each(|(t, s)| *t ^= s),
        _ => {
            let shift = usize::from(LOG[usize::from(factor)]);
            for (t, s) in target.iter_mut().zip(source) {
                if *s != 0 {
                    *t ^= EXP[usize::from(LOG[usize::from(*s)]) + shift];
                }
            }
        }
    }
}

/// `target *= factor`, byte by byte.
pub(super) fn scale(target: &mut [u8], factor: u8) {
    target.iter_mut().for_each(|byte| *byte = mul(*byte, factor));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow_mul(mut a: u16, mut b: u16) -> u8 {
        let mut product = 0;
        while b > 0 {
            if b & 1 == 1 {
                product ^= a;
            }
            a <<= 1;
            if a & 0x100 != 0 {
                a ^= 0x11d;
            }
            b >>= 1;
        }
        product as u8
    }

    #[test]
    fn every_product_is_that_of_the_polynomial() {
        for a in 0..=255_u8 {
            for b in 0..=255_u8 {
                assert_eq!(mul(a, b), slow_mul(a.into(), b.into()), "{a} * {b}");
            }
            assert!(a == 0 || mul(a, inverse(a)) == 1);
        }
    }

    #[test]
    fn rows_are_added_and_scaled_byte_by_byte() {
        let source: Vec<u8> = (0..=255).collect();
        for factor in [0, 1, 2, 29, 255] {
            let mut target = vec![0x5a; 256];
            add_scaled(&mut target, &source, factor);
            let mut scaled = source.clone();
            scale(&mut scaled, factor);
            for (i, byte) in target.iter().enumerate() {
                assert_eq!(*byte, 0x5a ^ mul(source[i], factor));
                assert_eq!(scaled[i], mul(source[i], factor));
            }
        }
    }
}
