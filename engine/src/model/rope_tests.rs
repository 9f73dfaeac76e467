use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::model::Model;

/// Tables as an exporter computes them: positions times frequencies, in 32 bits.
struct Made {
    rows: usize,
    scale: f32,
    speed: fn(usize, usize) -> f32,
    pairs: usize,
    half: bool,
}

impl Tables for Made {
    fn rows(&self) -> usize {
        self.rows
    }

    fn row(&self, position: usize) -> Option<(Vec<f32>, Vec<f32>)> {
        let angle = |pair| position as f32 * (self.speed)(pair, position);
        let round = |number: f32| if self.half { f16::from_f32(number).to_f32() } else { number };
        let all =
            |of: fn(f32) -> f32| (0..self.pairs).map(|pair| round(of(angle(pair)) * self.scale)).collect();
        Some((all(f32::cos), all(f32::sin)))
    }
}

fn plain(pair: usize, _: usize) -> f32 {
    500_000_f32.powf(-(pair as f32) / 64.0)
}

fn close(one: &Rope, other: &Rope, most: f64) -> bool {
    one.speeds.iter().zip(&other.speeds).all(|(a, b)| (a - b).abs() <= most)
}

#[test]
fn tables_tell_their_speeds() {
    let made = |scale, half| Made { rows: 131_072, scale, speed: plain, pairs: 64, half };
    let expected: Vec<_> = (0..64).map(|pair| f64::from(plain(pair, 0))).collect();
    // YaRN scales its tables; 16 bits hold three digits.
    for (scale, half, most) in [(1.0, false, 1e-9), (1.35, false, 1e-9), (1.0, true, 1e-7)] {
        let rope = Rope::of_tables(&made(scale, half), true).unwrap();
        let worst = rope.speeds.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < most, "{worst}");
        assert_eq!((rope.width(), rope.neighbours), (128, true));
    }
}

#[test]
fn tables_of_several_speeds_are_none() {
    // Other frequencies from a length on (longrope in one table), and by the length (dynamic NTK).
    fn switched(pair: usize, position: usize) -> f32 {
        if position < 3000 { plain(pair, 0) } else { plain(pair, 0) / 4.0 }
    }
    fn dynamic(pair: usize, position: usize) -> f32 {
        (500_000.0 * (1.0 + position as f32 / 4096.0)).powf(-(pair as f32) / 64.0)
    }
    for speed in [switched, dynamic] {
        let made = Made { rows: 8192, scale: 1.0, speed, pairs: 64, half: false };
        assert_eq!(Rope::of_tables(&made, false), None);
    }
    let single = Made { rows: 1, scale: 1.0, speed: plain, pairs: 4, half: false };
    assert_eq!(Rope::of_tables(&single, false), None);
}

#[test]
fn turning_forth_and_back_gives_the_same() {
    let rope = Rope { speeds: vec![1.0, 0.1], neighbours: false };
    let numbers = [1.0_f32, 2.0, 3.0, 4.0, 5.0];
    for element in [Element::F32, Element::F16] {
        let mut bytes: Vec<u8> = match element {
            Element::F16 => numbers.iter().flat_map(|n| f16::from_f32(*n).to_le_bytes()).collect(),
            _ => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
        };
        rope.turn(&mut bytes, 5, element, -1);
        let (sin, cos) = 1_f32.sin_cos();
        // The first number is paired with the third; the fifth is not turned.
        let turned = element.numbers(&bytes);
        assert!((turned[0] - (cos + 3.0 * sin)).abs() < 5e-3 && (turned[2] - (3.0 * cos - sin)).abs() < 5e-3);
        rope.turn(&mut bytes, 5, element, 1);
        let back = element.numbers(&bytes);
        assert!(back.iter().zip(numbers).all(|(a, b)| (a - b).abs() < 5e-3), "{back:?}");
        assert!((back[4] - 5.0).abs() < f32::EPSILON);
    }
    let mut bytes: Vec<u8> = numbers[..4].iter().flat_map(|n| n.to_le_bytes()).collect();
    Rope { neighbours: true, ..rope }.turn(&mut bytes, 4, Element::F32, 1);
    let turned = Element::F32.numbers(&bytes);
    assert!((turned[0] - (1_f32.cos() - 2.0 * 1_f32.sin())).abs() < 1e-6);
}

#[test]
fn configurations_that_do_not_say_enough_are_refused() {
    let of = |config: Value| Rope::of_config(&config, 64).map(drop).unwrap_err().to_string();
    let scaled = |scaling: Value| of(json!({"rope_theta": 1e4, "rope_scaling": scaling}));
    for (told, expected) in [
        (of(json!({"n_positions": 1024})), "does not tell of a rotary embedding"),
        (scaled(json!({"type": "dynamic", "factor": 2.0})), "dynamic NTK"),
        (scaled(json!({"type": "su"})), "longrope"),
        (
            scaled(json!({"rope_type": "yarn", "factor": 4.0})),
            "`yarn` is known from tables in the graph alone",
        ),
        (scaled(json!({"rope_type": "linear"})), "has no `factor`"),
    ] {
        assert!(told.contains(expected), "{told}");
    }
    let rope = |config: Value| Rope::of_config(&config, 64).unwrap();
    let plain = rope(json!({"rope_theta": 1e4, "rope_scaling": null, "partial_rotary_factor": 0.5}));
    let linear = rope(json!({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}));
    assert_eq!((plain.width(), linear.width()), (32, 64));
    assert!((plain.speeds[1] - 1e4_f64.powf(-2.0 / 32.0)).abs() < 1e-7);
    assert!((linear.speeds[1] - 1e4_f64.powf(-2.0 / 64.0) / 4.0).abs() < 1e-7);
}

/// The same model exported twice: what its configuration says of plain operations is what another exporter put into
/// tables.
#[test]
fn configurations_tell_what_tables_hold() {
    let models = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/models"));
    #[expect(clippy::disallowed_methods, reason = "tests are told by the environment where things are")]
    let required = std::env::var("PLIMSOLL_REQUIRE_SHARED").is_ok_and(|value| value == "1");
    if !models.is_dir() {
        assert!(!required, "{} is missing", models.display());
        println!("skipped: {} is missing", models.display());
        return;
    }
    for name in ["llama", "qwen2"] {
        let rope = |layout: &str| {
            let turns = Model::read(&models.join(name).join(layout)).unwrap().turns.unwrap();
            turns.into_iter().flatten().next().unwrap()
        };
        assert!(close(&rope("genai"), &rope("optimum"), 1e-7), "{name}");
    }
}
