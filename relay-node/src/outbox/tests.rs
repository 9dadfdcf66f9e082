use super::*;

fn is_cut(outbox: &Outbox) -> Option<Slow> {
    match outbox.0.cut.get()? {
        Cut::SlowReader(slow) => Some(*slow),
        Cut::Goodbye(_) => None,
    }
}

#[test]
fn messages_of_others_are_lost_and_cut_nobody_off() {
    let (outbox, mut outgoings) = outbox(Role::Member, &Budget::new(usize::MAX));
    let big = Bytes::from(vec![0; 64 << 10]);
    let taken = (0..100).filter(|&from| outbox.push_peer(from, Share::Member, big.clone()));
    assert_eq!(taken.count(), 8);
    let own = Bytes::from_static(b"own");
    outbox.push(own.clone());
    for _ in 0..8 {
        assert_eq!(outgoings.try_next().map(|frame| frame.len()), Some(64 << 10));
    }
    assert_eq!(outgoings.try_next(), Some(own.clone()));
    for _ in 0..MEMBER.messages {
        outbox.push(own.clone());
    }
    assert_eq!(is_cut(&outbox), None);
    outbox.push(own);
    assert_eq!(is_cut(&outbox), Some(Slow::Full));
    assert_eq!(outgoings.try_next(), None);
}

#[test]
fn whoever_leaves_too_many_bytes_of_the_relay_is_cut_off() {
    for (role, most) in [(Role::Member, 4), (Role::Relay, 80)] {
        let (outbox, _outgoings) = outbox(role, &Budget::new(usize::MAX));
        let big = Bytes::from(vec![0; 64 << 10]);
        for _ in 0..most {
            outbox.push(big.clone());
        }
        assert_eq!(is_cut(&outbox), None);
        outbox.push(big);
        assert_eq!(is_cut(&outbox), Some(Slow::Full));
    }
}

#[test]
fn all_queues_together_stay_within_the_budget_and_leave_nothing_behind() {
    let budget = Budget::new(1 << 20);
    let mut queues: Vec<_> = (0..100).map(|_| outbox(Role::Relay, &budget)).collect();
    let frame = Bytes::from(vec![0; 8 << 10]);
    for (at, (queue, _)) in queues.iter().enumerate() {
        // The first have the most.
        for _ in at..100 {
            queue.push(frame.clone());
            budget.relieve();
        }
        assert!(budget.load() <= 1.0);
    }
    let cut = queues
        .iter()
        .filter(|(queue, _)| is_cut(queue) == Some(Slow::Memory));
    assert!((10..90).contains(&cut.count()));
    assert_eq!(is_cut(&queues[99].0), None);
    while queues[99].1.try_next().is_some() {}
    queues.truncate(99);
    for (queue, outgoings) in queues {
        drop(outgoings);
        queue.push(frame.clone());
    }
    assert!(budget.load() <= 0.0);
    assert!(budget.queues().is_empty());
}
