//! Cuts by cost: they may wait, and hold all that other cuts hold.

use plimsoll_policies::{Chain, Conversation, Limits, NoSummaries, Report};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::checks::{Growth, check_exchanges, check_kept};
use crate::generate::{Unit, body, history};
use crate::invariants::{fewer, limits, policies};
use crate::support::{Counter, Engine, Memory, parse, run_within, steps};

/// Chains that end in a guard with cuts of this kind, the same but for that.
fn chains() -> impl Strategy<Value = [Chain; 2]> {
    let name = |step: &Value| steps(&json!([step]))[0].name();
    let marks = prop::sample::select(vec![(0.85, 0.6), (0.6, 0.3), (0.9, 0.2)]);
    (prop::sample::subsequence(policies(), 0..8), marks).prop_map(move |(picked, (high, low))| {
        let mut list: Vec<Value> = Vec::new();
        for step in picked {
            if name(&step) != "fit_context" && !list.iter().any(|other| name(other) == name(&step)) {
                list.push(step);
            }
        }
        ["tokens", "costed"].map(|cuts| {
            let guard = json!({"fit_context": {"cuts": cuts, "high": high, "low": low}});
            let list: Vec<Value> = list.iter().cloned().chain([guard]).collect();
            Chain::build("test", &steps(&Value::Array(list)))
        })
    })
}

fn check_valid(before: &Conversation, after: &Conversation, report: &Report) -> Result<(), TestCaseError> {
    prop_assert!(report.tokens_after <= report.budget, "{report:?}");
    check_exchanges(before, after)?;
    check_kept(before, after)
}

/// A conversation that one process answers turn by turn; at some turns its prompts are gone.
fn check(chain: &Chain, units: &[Unit], limits: Limits, forgets: usize) -> Result<(), TestCaseError> {
    let (memory, engine) = (Memory::default(), Engine::default());
    let mut growth = Growth::of(chain);
    for count in 1..=units.len() {
        if count % forgets == 0 {
            engine.held.lock().unwrap().clear();
        }
        let before = parse(&body(&units[..count], Some(50)));
        let Ok((after, report)) = run_within(chain, &before, &engine, &memory, limits) else {
            growth.refused();
            continue;
        };
        check_valid(&before, &after, &report)?;
        engine.compute(&after);
        let (again, told) = run_within(chain, &before, &engine, &memory, limits).unwrap();
        prop_assert_eq!(again.to_json(), after.to_json(), "asked again it is another");
        prop_assert_eq!(&told.rows.last().unwrap().reason, &report.rows.last().unwrap().reason);
        let (fresh, other) = run_within(chain, &before, &Engine::default(), &NoSummaries, limits).unwrap();
        check_valid(&before, &fresh, &other)?;
        growth.check(&before, after, &report)?;
    }
    Ok(())
}

/// What the guard alone would drop is what the summary stands for.
fn check_agreement(units: &[Unit], limits: Limits) -> Result<(), TestCaseError> {
    let list = json!([{"summarize": {"max_tokens": 64}}, {"fit_context": {"cuts": "costed"}}]);
    let chain = Chain::build("test", &steps(&list));
    let (memory, engine) = (Memory::default(), Engine::default());
    for count in 1..=units.len() {
        let before = parse(&body(&units[..count], Some(50)));
        let Ok((after, report)) = run_within(&chain, &before, &engine, &memory, limits) else { continue };
        engine.compute(&after);
        let guard = &report.rows.last().unwrap().reason;
        prop_assert!(!guard.starts_with("over ") || guard.contains("after all"), "{:?}", report.rows);
    }
    Ok(())
}

proptest! {
    #![proptest_config(fewer(96))]

    #[test]
    fn growing_conversation([_, chain] in chains(), units in history(24), limits in limits(), forgets in 2_usize..12) {
        check(&chain, &units, limits, forgets)?;
    }

    #[test]
    fn summary_and_guard_agree(units in history(24), limits in limits()) {
        check_agreement(&units, limits)?;
    }

    /// Cuts by tokens do not ask what is held; by cost they are the same where nobody knows.
    #[test]
    fn by_tokens_nothing_changes([tokens, costed] in chains(), units in history(24), limits in limits()) {
        let before = parse(&body(&units, Some(50)));
        let engine = Engine::default();
        engine.compute(&before);
        let plain = run_within(&tokens, &before, &Counter::default(), &NoSummaries, limits);
        let held = run_within(&tokens, &before, &engine, &NoSummaries, limits);
        let unknown = run_within(&costed, &before, &Counter::default(), &Memory::default(), limits);
        for other in [held, unknown] {
            match (&plain, other) {
                (Ok((plain, _)), Ok((other, _))) => prop_assert_eq!(plain.to_json(), other.to_json()),
                (plain, other) => prop_assert!(plain.is_err() && other.is_err()),
            }
        }
    }
}
