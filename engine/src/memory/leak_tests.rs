use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;

const MIB: f64 = (1 << 20) as f64;

/// An engine of 8 GiB whose memory nothing runs in, with what is wrong with its readings.
struct Fake {
    random: ChaCha8Rng,
    /// Standard deviation of each reading, in bytes.
    noise: f64,
    /// How much of the last reading's deviation the next one keeps.
    memory: f64,
    deviation: [f64; COMPONENTS.len()],
    /// Share of readings that are off by up to 1 GiB.
    outliers: f64,
    /// Bytes that appear once, and when.
    step: (f64, u64),
    /// Bytes that the first readings fill up.
    filling: f64,
    leak: Option<(usize, f64)>,
    taken: u64,
}

const HELD: [f64; COMPONENTS.len()] = [4000.0, 0.0, 300.0, 200.0, 500.0, 3000.0];

impl Fake {
    /// A run without a leak, of any of the kinds that occur.
    fn healthy(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        Self {
            noise: random.random_range(0.0..12.0) * MIB,
            memory: [0.0, 0.5, 0.8][random.random_range(0..3)],
            deviation: [0.0; COMPONENTS.len()],
            outliers: random.random_range(0.0..0.03),
            step: (random.random_range(0.0..20.0) * MIB, random.random_range(0..60)),
            filling: random.random_range(0.0..20.0) * MIB,
            leak: None,
            taken: 0,
            random,
        }
    }

    fn normal(&mut self) -> f64 {
        // Twelve uniform numbers add up to a normal one.
        (0..12).map(|_| self.random.random_range(-0.5..0.5)).sum()
    }

    fn reading(&mut self) -> Components {
        let fresh = (1.0 - self.memory * self.memory).sqrt() * self.noise;
        let mut reading = [0; COMPONENTS.len()];
        let outlier = self.random.random_bool(self.outliers);
        let hit = self.random.random_range(0..COMPONENTS.len());
        for (component, bytes) in reading.iter_mut().enumerate() {
            self.deviation[component] = self.memory * self.deviation[component] + fresh * self.normal();
            let mut value = HELD[component] * MIB + self.deviation[component];
            let taken = self.taken as f64;
            if component >= 2 {
                value += if self.taken >= self.step.1 { self.step.0 } else { 0.0 };
                value += self.filling * (1.0 - (-taken / 15.0).exp());
            }
            if outlier && component == hit {
                value += self.random.random_range(0.0..1024.0) * MIB;
            }
            if let Some((_, each)) = self.leak.filter(|&(which, _)| which == component) {
                value += each * taken;
            }
            *bytes = value.max(0.0) as u64;
        }
        self.taken += 1;
        reading
    }
}

/// The first of `readings` at which a leak was told, and the component.
fn found(fake: &mut Fake, readings: u64) -> Option<(u64, &'static str)> {
    let mut detector = LeakDetector::default();
    (1..=readings).find_map(|reading| {
        let report = detector.sample(&fake.reading());
        (report.state == LeakState::Leak).then(|| (reading, report.component.expect("a component")))
    })
}

#[test]
fn planted_leaks_are_found_within_fifty_readings_with_their_component() {
    for (component, &name) in COMPONENTS.iter().enumerate() {
        for each in [3.0, 16.0, 200.0] {
            for seed in 0..5 {
                let mut fake = Fake { leak: Some((component, each * MIB)), ..Fake::healthy(seed) };
                let found = found(&mut fake, 50);
                let right = matches!(found, Some((_, told)) if told == name);
                assert!(right, "{name} at {each} MiB a reading, seed {seed}: {found:?}");
            }
        }
        // As slow as can pass the threshold in that time, without noise.
        let quiet = Fake { noise: 0.0, outliers: 0.0, step: (0.0, 0), filling: 0.0, ..Fake::healthy(1) };
        let mut slow = Fake { leak: Some((component, 2.2 * MIB)), ..quiet };
        assert!(matches!(found(&mut slow, 50), Some((_, told)) if told == name), "{name}");
    }
}

#[test]
fn leaks_too_slow_for_a_window_are_found_in_the_end() {
    for (component, &name) in COMPONENTS.iter().enumerate() {
        let mut fake = Fake { leak: Some((component, 0.1 * MIB)), ..Fake::healthy(7) };
        let found = found(&mut fake, 3000);
        assert!(matches!(found, Some((_, told)) if told == name), "{name}: {found:?}");
    }
}

/// Neither state is told in a run without a leak, whatever the noise.
fn quiet_runs(seeds: std::ops::Range<u64>, readings: u64) {
    for seed in seeds {
        let (mut fake, mut detector) = (Fake::healthy(seed), LeakDetector::default());
        for reading in 0..readings {
            let report = detector.sample(&fake.reading());
            assert_eq!(report.state, LeakState::Ok, "seed {seed}, reading {reading}: {report:?}");
        }
    }
}

#[test]
fn noise_alone_is_never_a_leak() {
    quiet_runs(0..500, 60);
}

#[test]
#[ignore = "long: 10,000 runs"]
fn noise_alone_is_never_a_leak_in_ten_thousand_runs() {
    quiet_runs(0..10_000, 100);
}

/// Memory that rises once and stays is told, and is no leak.
#[test]
fn a_rise_that_ends_is_suspect() {
    let mut detector = LeakDetector::default();
    let mut reading = HELD.map(|mib| (mib * MIB) as u64);
    for _ in 0..20 {
        assert_eq!(detector.sample(&reading).state, LeakState::Ok);
    }
    reading[3] += 200 << 20;
    let states: Vec<_> = (0..100).map(|_| detector.sample(&reading)).collect();
    assert!(states.iter().all(|report| report.state != LeakState::Leak));
    let report = states[10];
    assert_eq!(
        (report.state, report.component, report.growth),
        (LeakState::Suspect, Some("slack"), 200 << 20)
    );
    assert_eq!((report.of("slack"), report.of("weights")), (LeakState::Suspect, LeakState::Ok));
    reading[3] -= 200 << 20;
    let after = (0..10).map(|_| detector.sample(&reading)).last().unwrap();
    assert_eq!((after.state, after.growth), (LeakState::Ok, 0));
}

#[test]
fn the_threshold_is_a_share_of_much_and_a_floor_for_little() {
    for (held, threshold) in [(1 << 30, FLOOR), (100 << 30, (100 << 30) / 100)] {
        let mut detector = LeakDetector::default();
        let report = (0..20).map(|_| detector.sample(&[held, 0, 0, 0, 0, 0])).last().unwrap();
        assert_eq!((report.state, report.threshold, report.samples), (LeakState::Ok, threshold, 20));
    }
}

#[test]
fn a_new_beginning_forgets() {
    let mut fake = Fake { leak: Some((5, 100.0 * MIB)), ..Fake::healthy(3) };
    let mut detector = LeakDetector::default();
    let grown = (0..50).map(|_| detector.sample(&fake.reading())).last().unwrap();
    assert_eq!(grown.state, LeakState::Leak);
    detector.restart();
    assert_eq!(detector.report(), LeakReport::default());
}
