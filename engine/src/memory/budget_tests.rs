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
    assert!(matches!(poll(pin!(budget.reserve_all(1, 4))), Poll::Ready(Err(error)) if error == many));
    let large = AdmitError::TooLarge { tokens: 40, needed: 1200, limit_tokens: 80, limit: 1000 };
    assert!(matches!(poll(pin!(budget.reserve_all(40, 3))), Poll::Ready(Err(error)) if error == large));
    let held = budget.try_reserve(20).unwrap();
    let (mut three, mut two) = (pin!(budget.reserve_all(10, 3)), pin!(budget.reserve_all(10, 2)));
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
