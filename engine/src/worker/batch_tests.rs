use std::sync::Mutex;

use super::*;
use crate::worker::tests::{Bench, prompt, request};

#[test]
fn a_batch_is_told_when_its_rows_change() {
    let mut bench = Bench::new(3);
    let told: Arc<Mutex<Vec<Batch>>> = Arc::default();
    let heard = told.clone();
    bench.worker.board.watch(Box::new(move |batch| heard.lock().unwrap().push(batch)));
    let tag = |name: &'static str| -> Option<Tag> { Some(Arc::new(name)) };
    let _one = bench.tagged(request(&prompt(50, 20), 40), 60, tag("one"));
    let _two = bench.tagged(request(&prompt(51, 20), 20), 40, None);
    let _three = bench.tagged(request(&prompt(52, 20), 10), 30, tag("three"));
    bench.work();
    let told = told.lock().unwrap();
    let names = |batch: &Batch| {
        let name = |tag: &Tag| *tag.downcast_ref::<&str>().unwrap();
        let mut names: Vec<_> = batch.tags.iter().map(name).collect();
        names.sort_unstable();
        names
    };
    // The first token of each comes from its prompt; the last row alone is no batch.
    assert!(told.iter().all(|batch| batch.rows > 1 && batch.started <= batch.ended), "{told:?}");
    let three: Vec<_> = told.iter().filter(|batch| batch.rows == 3).collect();
    assert_eq!(three.len(), 1, "{told:?}");
    assert_eq!(names(three[0]), ["one", "three"]);
    assert_eq!(names(told.last().unwrap()), ["one"]);
    let steps: u64 = told.iter().map(|batch| batch.steps * u64::from(batch.rows)).sum();
    let alone = 40 + 20 + 10 - 3 - steps;
    assert!((1..=39).contains(&alone), "{told:?}");
}

#[test]
fn no_batch_is_told_where_nobody_has_a_tag() {
    let mut bench = Bench::new(2);
    let told: Arc<Mutex<Vec<Batch>>> = Arc::default();
    let heard = told.clone();
    bench.worker.board.watch(Box::new(move |batch| heard.lock().unwrap().push(batch)));
    let _one = bench.ask(&prompt(50, 20), 20);
    let _two = bench.ask(&prompt(51, 20), 20);
    bench.work();
    assert!(told.lock().unwrap().is_empty());
}
