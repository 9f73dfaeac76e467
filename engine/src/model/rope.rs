//! Rotary embeddings whose frequencies are the same at every position: a key is turned by an angle that grows with its
//! position, so that a key at one position becomes that of the same token at another by turning it further or back.
//!
//! YaRN scales keys too, by a factor that is the same everywhere and stays as it is.

use std::f64::consts::{PI, TAU};

use half::f16;
use serde_json::Value;

use super::Element;
use crate::error::NoShift;

/// Which numbers of a key turn together, and how fast.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rope {
    /// Radians that each pair of numbers turns by from one position to the next.
    speeds: Vec<f64>,
    /// Pairs are neighbours; else the first half of the turned numbers is paired with the second.
    neighbours: bool,
}

/// Rows of two tables, cosines and sines, each one pair a column.
pub(super) trait Tables {
    /// Positions that they hold.
    fn rows(&self) -> usize;

    /// Cosines and sines of one position.
    fn row(&self, position: usize) -> Option<(Vec<f32>, Vec<f32>)>;
}

/// An angle in a table may differ by so much from what its speed says, in radians: 16-bit tables and 32-bit products of
/// large positions do by less, other frequencies by more.
const ROUNDING: f64 = 0.05;

impl Rope {
    /// The speeds behind tables; none where they are not the same at all positions.
    pub(super) fn of_tables(tables: &impl Tables, neighbours: bool) -> Option<Self> {
        let rows = tables.rows();
        let (cos, sin) = tables.row(0)?;
        let begins = cos.iter().all(|cos| *cos > 0.0) && sin.iter().all(|sin| sin.abs() < 1e-3);
        if rows < 2 || !begins {
            return None;
        }
        let mut speeds = vec![0.0; cos.len()];
        // Twice as far each time: the rounding of one angle is divided by the positions that it stands for.
        let doubled = std::iter::successors(Some(1), |row| Some(row * 2)).take_while(|row| *row < rows);
        let between = (1..16).map(|part| part * (rows - 1) / 16).chain([rows - 1]);
        let checked = doubled.map(|row| (row, true)).chain(between.map(|row| (row, false)));
        for (row, learns) in checked {
            let (cos, sin) = tables.row(row)?;
            for ((cos, sin), speed) in cos.into_iter().zip(sin).zip(&mut speeds) {
                let told = f64::from(sin).atan2(f64::from(cos));
                let off = wrapped(told - *speed * row as f64);
                if row > 1 && off.abs() > ROUNDING {
                    return None;
                }
                *speed += if learns { off / row as f64 } else { 0.0 };
            }
        }
        Some(Self { speeds, neighbours })
    }

    /// What a configuration in transformers' form says of keys of so many numbers.
    pub(super) fn of_config(config: &Value, head_dim: usize) -> Result<Self, NoShift> {
        let unknown = |what: &str| NoShift::Unknown { what: what.to_owned() };
        let now = &config["rope_parameters"];
        let scaling = if now.is_object() { now } else { &config["rope_scaling"] };
        let number = |name: &str| scaling[name].as_f64().or_else(|| config[name].as_f64());
        let theta =
            number("rope_theta").ok_or_else(|| unknown("its folder does not tell of a rotary embedding"))?;
        let part = number("partial_rotary_factor").unwrap_or(1.0);
        let turned = (head_dim as f64 * part) as usize / 2 * 2;
        let plain = |pair: usize| theta.powf(-2.0 * pair as f64 / turned as f64);
        let missing = |name: &str| unknown(&format!("its rotary scaling has no `{name}`"));
        let given = |name: &str| number(name).filter(|n| *n > 0.0).ok_or_else(|| missing(name));
        let kind = scaling["rope_type"].as_str().or_else(|| scaling["type"].as_str()).unwrap_or("default");
        let speed: Box<dyn Fn(usize) -> f64> = match kind {
            "default" => Box::new(plain),
            "linear" => {
                let factor = given("factor")?;
                Box::new(move |pair| plain(pair) / factor)
            }
            "llama3" => {
                let bands = Llama3 {
                    factor: given("factor")?,
                    low: given("low_freq_factor")?,
                    high: given("high_freq_factor")?,
                    context: given("original_max_position_embeddings")?,
                };
                Box::new(move |pair| bands.scaled(plain(pair)))
            }
            "dynamic" => return Err(NoShift::Dynamic),
            "longrope" | "su" => return Err(NoShift::LongRope),
            other => {
                return Err(unknown(&format!(
                    "its rotary scaling `{other}` is known from tables in the graph alone"
                )));
            }
        };
        // As transformers computes them, in 32 bits.
        let speeds = (0..turned / 2).map(|pair| f64::from(speed(pair) as f32)).collect();
        Ok(Self { speeds, neighbours: false })
    }

    /// Numbers of a key that are turned, from the first one on.
    pub(super) fn width(&self) -> usize {
        2 * self.speeds.len()
    }

    /// Turns keys by so many positions, each of `head_dim` numbers.
    pub(crate) fn turn(&self, keys: &mut [u8], head_dim: usize, element: Element, positions: i64) {
        let turned: Vec<(f32, f32)> = self
            .speeds
            .iter()
            .map(|speed| wrapped(speed * positions as f64).sin_cos())
            .map(|(sin, cos)| (sin as f32, cos as f32))
            .collect();
        let half = (|bytes| f16::from_le_bytes(bytes).to_f32(), |number| f16::from_f32(number).to_le_bytes());
        match element {
            Element::F16 => self.turn_all(keys, head_dim, &turned, half),
            _ => self.turn_all(keys, head_dim, &turned, (f32::from_le_bytes, f32::to_le_bytes)),
        }
    }

    fn turn_all<const BYTES: usize>(
        &self,
        keys: &mut [u8],
        head_dim: usize,
        turned: &[(f32, f32)],
        (read, write): (impl Fn([u8; BYTES]) -> f32, impl Fn(f32) -> [u8; BYTES]),
    ) {
        let half = turned.len();
        for key in keys.chunks_exact_mut(head_dim * BYTES) {
            let (numbers, _) = key.as_chunks_mut::<BYTES>();
            for (pair, (sin, cos)) in turned.iter().enumerate() {
                let (a, b) = if self.neighbours { (2 * pair, 2 * pair + 1) } else { (pair, pair + half) };
                let (x, y) = (read(numbers[a]), read(numbers[b]));
                numbers[a] = write(x * cos - y * sin);
                numbers[b] = write(x * sin + y * cos);
            }
        }
    }
}

/// Llama 3's scaling (transformers, `_compute_llama3_parameters`): slow frequencies are divided, fast ones stay, and
/// those between go over from one to the other.
#[derive(Debug, Clone, Copy)]
struct Llama3 {
    factor: f64,
    low: f64,
    high: f64,
    /// Tokens that the model was trained with at first.
    context: f64,
}

impl Llama3 {
    fn scaled(self, speed: f64) -> f64 {
        let turns = self.context * speed / TAU;
        let share = ((turns - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        (1.0 - share) * speed / self.factor + share * speed
    }
}

/// The same angle, from -π to π.
fn wrapped(angle: f64) -> f64 {
    angle - ((angle + PI) / TAU).floor() * TAU
}

#[cfg(test)]
#[path = "rope_tests.rs"]
mod tests;
