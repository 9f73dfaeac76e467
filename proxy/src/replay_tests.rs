use super::*;

use serde_json::json;

use crate::count::Estimate;

fn recording(turns: usize) -> Arc<str> {
    let mut messages = vec![json!({"role": "system", "content": "Be brief."})];
    for turn in 0..turns {
        let words = "so many words of little use ".repeat(12);
        messages.push(json!({"role": "user", "content": format!("order ORD-{turn:04}: {words}")}));
        messages.push(json!({"role": "assistant", "content": format!("noted {turn}")}));
    }
    json!({"model": "m", "id": 7, "messages": messages}).to_string().into()
}

fn counter() -> Counter {
    Counter::Estimate(Arc::new(Estimate::new("o200k_base")))
}

fn candidate(name: &str) -> Candidate {
    let steps = plimsoll_policies::resolve(name, &Default::default()).unwrap();
    Candidate { chain: Chain::build(name, &steps), marks: None }
}

#[test]
fn a_request_stands_before_each_answer() {
    let all = requests(&recording(3)).unwrap();
    let sizes: Vec<usize> = all.iter().map(|request| request.messages().len()).collect();
    assert_eq!(sizes, [2, 4, 6]);
    assert_eq!(all[0].field("model"), Some(r#""m""#));
    let open: Arc<str> = json!({"messages": [{"role": "user", "content": "u"}]}).to_string().into();
    assert_eq!(requests(&open).unwrap().len(), 1, "the last one may have no answer yet");
}

#[test]
fn water_marks_prefill_less_than_cutting_at_every_turn() {
    let counter = counter();
    let mut replay = Replay::new(&counter, 1024, vec![candidate("agent"), candidate("off")]);
    replay.add("one", &requests(&recording(40)).unwrap());
    let rows = replay.rows();
    let [naive, agent, off] = &rows[..] else { unreachable!("three rows") };
    assert!(naive.counted == 1 && naive.requests == 40, "{naive:?}");
    assert!(agent.reuse > naive.reuse && agent.breaks < naive.breaks, "{agent:?} {naive:?}");
    assert!(agent.cuts > 1 && agent.cuts < naive.cuts && agent.recall > naive.recall, "{agent:?} {naive:?}");
    for row in [naive, agent] {
        assert_eq!((row.faults, row.over_window, row.refused), (0, 0, 0), "{row:?}");
    }
    assert!(off.over_window > 0 && off.breaks == 0 && (off.recall - 1.0).abs() < 1e-9, "{off:?}");
    // What is sent whole is computed once.
    assert!(off.prefilled < off.peak + 40 * 3 + 1, "{off:?}");
}

#[test]
fn a_conversation_that_cannot_fit_is_not_counted() {
    let counter = counter();
    let mut replay = Replay::new(&counter, 64, vec![candidate("agent")]);
    replay.add("one", &requests(&recording(3)).unwrap());
    assert!(replay.rows().iter().all(|row| row.counted == 0 && row.requests == 0));
}

#[test]
fn the_best_marks_prefill_least() {
    let steps = plimsoll_policies::resolve("agent", &Default::default()).unwrap();
    let tried = grid(&steps).into_iter();
    let tried =
        tried.map(|(marks, steps)| Candidate { chain: Chain::build("agent", &steps), marks: Some(marks) });
    let counter = counter();
    let mut replay = Replay::new(&counter, 1024, std::iter::once(candidate("agent")).chain(tried).collect());
    replay.add("one", &requests(&recording(40)).unwrap());
    let rows = replay.rows();
    let own = &rows[1];
    assert!(best(&rows[..2], own).is_none(), "its own are as good as themselves");
    let best = best(&rows, own).unwrap();
    assert!(best.marks.is_some() && best.prefilled <= own.prefilled, "{best:?} {own:?}");
}
