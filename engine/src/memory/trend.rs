//! Whether a series of readings grows steadily, in spite of noise, outliers and single steps.

/// Growth must exceed the noise by this many standard errors of a fitted line.
const CERTAINTY: f64 = 8.0;
/// Of growth in a straight line, each third adds a third; this share of it is enough.
const STEADY: f64 = 0.5;
/// From the median absolute deviation to the standard deviation of normal noise.
const MAD: f64 = 1.4826;

/// Whether at least `fewest` readings grow by `threshold` or more from the first to the last, by a Theil-Sen line (the
/// median of the slopes between all pairs), and do so in every part of the series: memory that rose once, or that is
/// filling up and comes to an end, is no leak.
pub(super) fn grows(readings: &[u64], fewest: usize, threshold: u64) -> bool {
    let n = readings.len();
    if n < fewest.max(6) {
        return false;
    }
    let values: Vec<f64> = readings.iter().map(|&bytes| bytes as f64).collect();
    let third = n / 3;
    let parts = [&values[..third], &values[third..n - third], &values[n - third..]];
    let [first, middle, last] = parts.map(|part| median(part.to_vec()));
    let rise = (last - first).max(0.0);
    // From the middle of the first third to that of the last, a straight line does two thirds of its growth.
    let (least, steady) = (threshold as f64 * STEADY, rise / 2.0 * STEADY);
    if rise < least || middle - first < steady || last - middle < steady {
        return false;
    }
    let slope = slope(&values);
    let growth = slope * (n - 1) as f64;
    growth >= threshold as f64 && growth >= CERTAINTY * error(&values, slope)
}

/// The median of the slopes between all pairs of readings.
fn slope(values: &[f64]) -> f64 {
    let pairs = (0..values.len()).flat_map(|a| (a + 1..values.len()).map(move |b| (a, b)));
    median(pairs.map(|(a, b)| (values[b] - values[a]) / (b - a) as f64).collect())
}

/// The standard error of the growth along a line of this slope, from how far the readings are off it. For equidistant
/// readings with deviation `s`, the slope's is `s * sqrt(12 / n^3)`.
fn error(values: &[f64], slope: f64) -> f64 {
    let off: Vec<f64> = values.iter().enumerate().map(|(i, value)| value - slope * i as f64).collect();
    let middle = median(off.clone());
    let deviation = MAD * median(off.into_iter().map(|value| (value - middle).abs()).collect());
    deviation * (12.0 / values.len() as f64).sqrt()
}

fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn series(bytes: impl Fn(u64) -> u64) -> Vec<u64> {
        (0..48).map(bytes).collect()
    }

    #[test]
    fn lines_grow_and_other_shapes_do_not() {
        let grows = |readings: Vec<u64>| grows(&readings, 16, 64 * MIB);
        assert!(grows(series(|i| 2 * i * MIB)));
        assert!(!grows(series(|i| i * MIB)), "47 MiB are below the threshold");
        assert!(!grows(series(|_| 500 * MIB)));
        assert!(!grows(series(|i| (4700 - 100 * i) * MIB)), "it shrinks");
        for step in 1..48 {
            assert!(!grows(series(|i| if i < step { 0 } else { 900 * MIB })), "one step at {step}");
        }
        assert!(!grows(series(|i| (20 * i).min(300) * MIB)), "it fills up and stays");
        assert!(!grows(vec![0, 900 * MIB, 1800 * MIB]), "too few");
    }

    #[test]
    fn outliers_neither_hide_growth_nor_make_it() {
        let spiked = |i: u64, bytes: u64| if i % 6 == 5 { bytes + 4000 * MIB } else { bytes };
        assert!(grows(&series(|i| spiked(i, 2 * i * MIB)), 16, 64 * MIB));
        assert!(!grows(&series(|i| spiked(i, 0)), 16, 64 * MIB));
    }

    #[test]
    fn the_line_is_the_median_of_slopes() {
        assert!((slope(&[0.0, 3.0, 6.0, 9.0, 1000.0]) - 3.0).abs() < 1e-9);
        assert!(error(&[0.0, 3.0, 6.0, 9.0], 3.0) < 1e-9);
    }
}
