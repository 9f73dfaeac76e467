use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

/// 10 bytes a token, 100 tokens, 3 slots, two may wait.
fn budget() -> Budget {
    Budget::new(1000, 10, 80, 3, 2)
}

fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn permits_free_what_they_hold() {
    let budget = budget();
    let permit = budget.try_reserve(30).unwrap();
    assert_eq!((permit.tokens(), permit.bytes(), budget.reserved()), (30, 300, 300));
    drop(permit);
    assert_eq!(budget.reserved(), 0);
}

#[test]
fn refusals_have_exact_numbers() {
    let budget = budget();
    let large = AdmitError::TooLarge { tokens: 81, needed: 810, limit_tokens: 80, limit: 1000 };
    assert_eq!(budget.try_reserve(81).unwrap_err(), large);
    let _held = budget.try_reserve(70).unwrap();
    let full =
        AdmitError::QueueFull { needed: 400, free: 300, limit: 1000, slots_free: 2, slots: 3, waiting: 0 };
    assert_eq!(budget.try_reserve(40).unwrap_err(), full);
    assert_eq!(
        full.to_string(),
        "400 bytes of KV cache are needed, 300 of 1000 and 2 of 3 slots are free, and 0 requests wait already: try again"
    );
}

#[test]
fn slots_are_counted_beside_bytes() {
    let budget = budget();
    let held: Vec<_> = (0..3).map(|_| budget.try_reserve(1).unwrap()).collect();
    assert!(matches!(budget.try_reserve(1), Err(AdmitError::QueueFull { slots_free: 0, free: 970, .. })));
    drop(held);
    budget.try_reserve(1).unwrap();
}

#[test]
fn waiters_are_served_in_order() {
    let budget = budget();
    let held = budget.try_reserve(80).unwrap();
    let (mut large, mut small) = (pin!(budget.reserve(60)), pin!(budget.reserve(5)));
    assert!(poll(large.as_mut()).is_pending());
    // It would fit, but it came later.
    assert!(poll(small.as_mut()).is_pending());
    assert_eq!(budget.waiting(), 2);
    assert!(matches!(budget.try_reserve(1), Err(AdmitError::QueueFull { waiting: 2, .. })));
    assert!(matches!(
        poll(pin!(budget.reserve(1))),
        Poll::Ready(Err(AdmitError::QueueFull { waiting: 2, .. }))
    ));
    drop(held);
    let (Poll::Ready(Ok(large)), Poll::Ready(Ok(small))) = (poll(large.as_mut()), poll(small.as_mut()))
    else {
        panic!("both fit now");
    };
    assert_eq!((budget.waiting(), budget.reserved()), (0, 650));
    drop((large, small));
    assert_eq!(budget.reserved(), 0);
}

#[test]
fn who_leaves_the_queue_lets_the_next_one_in() {
    let budget = budget();
    let _held = budget.try_reserve(50).unwrap();
    let mut small = pin!(budget.reserve(20));
    {
        let mut large = pin!(budget.reserve(70));
        assert!(poll(large.as_mut()).is_pending());
        assert!(poll(small.as_mut()).is_pending());
    }
    assert!(matches!(poll(small.as_mut()), Poll::Ready(Ok(_))));
}

#[test]
fn a_permit_that_nobody_took_is_given_on() {
    let budget = budget();
    let held = budget.try_reserve(80).unwrap();
    let mut second = pin!(budget.reserve(60));
    {
        let mut first = pin!(budget.reserve(70));
        assert!(poll(first.as_mut()).is_pending());
        assert!(poll(second.as_mut()).is_pending());
        // The first one is granted, and goes away without having looked.
        drop(held);
    }
    assert!(matches!(poll(second.as_mut()), Poll::Ready(Ok(_))));
    assert_eq!(budget.waiting(), 0);
}

#[test]
fn a_closed_budget_refuses_everybody() {
    let budget = budget();
    let _held = budget.try_reserve(80).unwrap();
    let mut waiting = pin!(budget.reserve(60));
    assert!(poll(waiting.as_mut()).is_pending());
    budget.close();
    assert!(matches!(poll(waiting.as_mut()), Poll::Ready(Err(AdmitError::Unloaded))));
    assert_eq!(budget.try_reserve(1).unwrap_err(), AdmitError::Unloaded);
}

#[test]
fn several_come_together_or_not_at_all() {
    let budget = budget();
    let many = AdmitError::TooMany { count: 4, slots: 3 };
    assert!(
        matches!(poll(pin!(budget.reserve_all(Ask::from(1).times(4)))), Poll::Ready(Err(error)) if error == many)
    );
    let large = AdmitError::TooLarge { tokens: 40, needed: 1200, limit_tokens: 80, limit: 1000 };
    assert!(
        matches!(poll(pin!(budget.reserve_all(Ask::from(40).times(3)))), Poll::Ready(Err(error)) if error == large)
    );
    let held = budget.try_reserve(20).unwrap();
    let (mut three, mut two) =
        (pin!(budget.reserve_all(Ask::from(10).times(3))), pin!(budget.reserve_all(Ask::from(10).times(2))));
    // Two slots are free, and none of them is taken by halves.
    assert!(poll(three.as_mut()).is_pending());
    assert!(poll(two.as_mut()).is_pending());
    assert_eq!((budget.waiting(), budget.reserved()), (2, 200));
    drop(held);
    let Poll::Ready(Ok(permits)) = poll(three.as_mut()) else { panic!("three slots are free") };
    assert_eq!((permits.len(), budget.reserved()), (3, 300));
    assert!(poll(two.as_mut()).is_pending());
    // Each permit is given back by itself.
    let mut permits = permits.into_iter();
    drop(permits.next());
    assert!(poll(two.as_mut()).is_pending());
    drop(permits.next());
    assert!(matches!(poll(two.as_mut()), Poll::Ready(Ok(permits)) if permits.len() == 2));
    drop(permits);
    assert_eq!(budget.reserved(), 0);
}

/// A budget whose prompts may begin with a segment of 64 tokens.
fn sharing() -> (Budget, crate::cache::SegmentId, Arc<[u32]>) {
    let budget = Budget::new(1000, 10, 80, 9, 9);
    let segments = budget.segments();
    segments.share_by(8);
    let prompt: Arc<[u32]> = (0..70).collect();
    let id = segments.add(&prompt[..64], None, 0).unwrap();
    (budget, id, prompt)
}

#[test]
fn what_is_shared_is_reserved_once() {
    let (budget, segment, prompt) = sharing();
    let ask = || Ask::new(76, prompt.clone());
    let all: Vec<_> = (0..3).map(|_| budget.try_reserve(ask()).unwrap()).collect();
    assert_eq!((all[0].bytes(), budget.reserved()), (120, 640 + 3 * 120));
    let full =
        AdmitError::QueueFull { needed: 120, free: 0, limit: 1000, slots_free: 6, slots: 9, waiting: 0 };
    assert_eq!(budget.try_reserve(ask()).unwrap_err(), full);
    // What is counted on is not dropped.
    assert_eq!(budget.segments().evict(), None);
    drop(all);
    assert_eq!((budget.reserved(), budget.segments().evict().map(|(id, _)| id)), (0, Some(segment)));
    assert_eq!(budget.try_reserve(ask()).unwrap().bytes(), 760);
}

#[test]
fn a_short_beginning_does_not_pay_for_a_long_segment() {
    let budget = Budget::new(10_000, 10, 1000, 9, 9);
    let segments = budget.segments();
    segments.share_by(8);
    let long: Vec<u32> = (0..504).collect();
    segments.add(&long, None, 0).unwrap();
    let prompt: Arc<[u32]> = long[..80].iter().copied().chain([9; 10]).collect();
    let ask = || Ask::new(100, prompt.clone());
    let permit = budget.try_reserve(ask()).unwrap();
    assert_eq!((permit.base(), permit.bytes()), (None, 1000));
    // Unless it is reserved for already.
    let other: Arc<[u32]> = long.iter().copied().chain([9]).collect();
    let other = budget.try_reserve(Ask::new(600, other)).unwrap();
    assert_eq!((other.bytes(), budget.reserved()), (960, 1000 + 5040 + 960));
    assert_eq!(budget.try_reserve(ask()).unwrap().bytes(), 200);
}

#[test]
fn who_comes_to_share_makes_room_for_who_waits() {
    let (budget, segment, prompt) = sharing();
    let base = Some(Base { segment, tokens: 64 });
    let mut one = budget.try_reserve(76).unwrap();
    let mut waiting = pin!(budget.reserve(Ask::new(76, prompt)));
    assert!(poll(waiting.as_mut()).is_pending());
    assert!(one.rest_on(base, false));
    let Poll::Ready(Ok(other)) = poll(waiting.as_mut()) else { panic!("there is room") };
    assert_eq!((other.base(), budget.reserved()), (base, 640 + 2 * 120));
    drop(other);
    // Going back takes more than it gives; where that is not there, all stays as it was.
    let held = budget.try_reserve(20).unwrap();
    assert!(one.rest_on(None, false) && one.rest_on(base, false));
    let more = budget.try_reserve(4).unwrap();
    drop(more);
    let large = budget.try_reserve(4).unwrap();
    assert!(one.rest_on(None, false));
    assert_eq!(budget.reserved(), 760 + 240);
    drop((one, held, large));
    assert_eq!(budget.reserved(), 0);
}

#[test]
fn more_than_there_is_is_taken_by_force_alone() {
    let (budget, segment, prompt) = sharing();
    let base = Some(Base { segment, tokens: 64 });
    let mut all: Vec<_> = (0..3).map(|_| budget.try_reserve(Ask::new(76, prompt.clone())).unwrap()).collect();
    assert!(!all[0].rest_on(None, false));
    assert_eq!((all[0].base(), budget.reserved()), (base, 1000));
    assert!(all[0].rest_on(None, true));
    assert_eq!((all[0].bytes(), budget.reserved()), (760, 1640));
    assert!(matches!(budget.try_reserve(1), Err(AdmitError::QueueFull { free: 0, .. })));
    drop(all);
    assert_eq!(budget.reserved(), 0);
}
