//! The three functions the phi formula needs, since `core` has no floating-point library.
//!
//! Each is good to 1e-12 relative on the range it is used on (tested against the platform's library);
//! the detector needs 1e-2.

const LN_2: f64 = core::f64::consts::LN_2;

/// `e^-x` for `x >= 0`; zero from where it would be subnormal.
pub(super) fn exp_neg(x: f64) -> f64 {
    if x.is_nan() || x > 700.0 {
        return 0.0;
    }
    // x = k ln 2 - r with |r| <= ln 2 / 2, so the Taylor series of e^r converges fast.
    let k = (x / LN_2 + 0.5) as u64;
    let r = k as f64 * LN_2 - x;
    let mut term = 1.0;
    let mut sum = 1.0;
    for n in 1..=14_u32 {
        term *= r / f64::from(n);
        sum += term;
    }
    sum * f64::from_bits((1023 - k) << 52)
}

/// `ln(1 + t)` for `-0.5 <= t <= 1`.
pub(super) fn ln_1p(t: f64) -> f64 {
    // ln(1 + t) = 2 atanh(t / (2 + t)); the argument is at most a third in size.
    let s = t / (2.0 + t);
    let square = s * s;
    let mut power = s;
    let mut sum = s;
    for n in 1..=14_u32 {
        power *= square;
        sum += power / f64::from(2 * n + 1);
    }
    2.0 * sum
}

/// The square root; zero for anything that has none.
pub(super) fn sqrt(x: f64) -> f64 {
    if !(x > 0.0 && x.is_finite()) {
        return 0.0;
    }
    // Halving the exponent in the bit pattern lands within 6 %; four Newton steps square that away.
    let mut root = f64::from_bits((x.to_bits() >> 1) + (511 << 52) + (1 << 51));
    for _ in 0..5 {
        root = 0.5 * (root + x / root);
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, x: f64, ours: f64, library: f64) {
        let error = if library == 0.0 { ours.abs() } else { ((ours - library) / library).abs() };
        assert!(error <= 1e-12, "{name}({x}) = {ours}, library {library}, relative error {error}");
    }

    #[test]
    fn agrees_with_the_platforms_library() {
        for i in 0..=70_000 {
            let x = f64::from(i) * 0.01;
            check("exp_neg", x, exp_neg(x), (-x).exp());
        }
        for i in -500..=1000 {
            let t = f64::from(i) * 0.001;
            check("ln_1p", t, ln_1p(t), t.ln_1p());
        }
        for exponent in -300..300 {
            for mantissa in [1.0, 1.1, 1.9, 2.5, 3.0, 9.99] {
                let x = mantissa * 10_f64.powi(exponent);
                check("sqrt", x, sqrt(x), x.sqrt());
            }
        }
    }

    #[test]
    fn is_finite_outside_its_range() {
        assert_eq!(exp_neg(f64::INFINITY), 0.0);
        assert_eq!(exp_neg(f64::NAN), 0.0);
        for x in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(sqrt(x), 0.0);
        }
    }
}
