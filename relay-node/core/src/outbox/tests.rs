use super::*;

type Frame = Vec<u8>;

/// Numbers, two in a part.
#[derive(Debug)]
struct Numbers(Vec<u16>, bool);

impl List for Numbers {
    type Part = Vec<u16>;
    fn next_part(&mut self) -> Vec<u16> {
        let rest = self.0.split_off(self.0.len().min(2));
        self.1 = rest.is_empty();
        std::mem::replace(&mut self.0, rest)
    }
    fn is_told(&self) -> bool {
        self.1
    }
    fn bytes(&self) -> usize {
        self.0.len() * 2
    }
    fn shorten(&mut self) {
        self.0.clear();
    }
}

const NOW: Instant = Instant::from_micros(5_000_000);

fn queue() -> Queue<Frame, Numbers> {
    Queue::new(Config {
        messages: 100,
        bytes: 4_000,
    })
}

fn frame(text: &str) -> Frame {
    text.as_bytes().to_vec()
}

fn drain(queue: &mut Queue<Frame, Numbers>) -> Vec<String> {
    let texts = std::iter::from_fn(|| queue.pop(NOW)).map(|next| match next {
        Next::Frame(frame) => String::from_utf8(frame).unwrap(),
        Next::Part(part) => format!("{part:?}"),
    });
    let texts = texts.collect();
    assert_eq!((queue.bytes(), queue.stalled_since()), (0, None));
    assert!(queue.came.is_empty() && queue.peers.by_sender.is_empty());
    assert_eq!((queue.own.messages, queue.own.bytes), (0, 0));
    texts
}

#[test]
fn everything_is_told_in_the_order_in_which_it_happened() {
    let mut queue = queue();
    queue.push(NOW, frame("welcome")).unwrap();
    queue.push_list(NOW, [1, 2, 3], Numbers(vec![1, 2, 3], false));
    queue.push_came(NOW, 4, frame("4 came"));
    assert!(queue.push_peer(NOW, 4, Share::Member, frame("from 4")));
    queue.push_left(NOW, 2, frame("2 left"));
    let told = ["welcome", "[1, 2]", "[3]", "4 came", "from 4", "2 left"];
    assert_eq!(drain(&mut queue), told);
}

#[test]
fn who_came_and_went_unnoticed_is_not_told_of() {
    let mut queue = queue();
    queue.push_left(NOW, 7, frame("7 left"));
    for _ in 0..100_000 {
        queue.push_came(NOW, 7, frame("7 came"));
        queue.push_left(NOW, 7, frame("7 left"));
    }
    assert!(queue.bytes() < 200);
    queue.push_came(NOW, 7, frame("7 came"));
    assert_eq!(drain(&mut queue), ["7 left", "7 came"]);
    queue.push_left(NOW, 7, frame("7 left"));
    assert_eq!(drain(&mut queue), ["7 left"]);
}

#[test]
fn news_of_others_never_fill_the_queue() {
    let mut queue = queue();
    for key in 0..10_000 {
        queue.push_left(NOW, key, frame("left"));
        queue.push_came(NOW, key, frame("came"));
    }
    assert_eq!(queue.push(NOW, frame("own")), Ok(()));
}

#[test]
fn a_list_replaces_the_news_of_those_in_it() {
    let mut queue = queue();
    queue.push_came(NOW, 1, frame("1 came"));
    queue.push_came(NOW, 2, frame("2 came"));
    queue.push_list(NOW, [1], Numbers(vec![1], false));
    queue.push_left(NOW, 1, frame("1 left"));
    assert_eq!(drain(&mut queue), ["2 came", "[1]", "1 left"]);
}

#[test]
fn who_has_left_its_room_hears_no_more_of_it_but_the_end_of_a_list() {
    let mut queue = queue();
    queue.push(NOW, frame("own")).unwrap();
    queue.push_list(NOW, 0..1_000, Numbers((0..1_000).collect(), false));
    queue.push_came(NOW, 2_000, frame("came"));
    queue.push_left(NOW, 1, frame("left"));
    queue.leave_room();
    assert!(queue.bytes() < 300);
    queue.push_left(NOW, 2_000, frame("of another room"));
    assert_eq!(drain(&mut queue), ["own", "[]", "of another room"]);
}

#[test]
fn who_asks_and_does_not_read_fills_the_queue() {
    let mut queue = queue();
    for _ in 0..100 {
        queue.push(NOW, frame("answer")).unwrap();
    }
    assert_eq!(queue.push(NOW, frame("answer")), Err(Full));
    queue.pop(NOW);
    assert_eq!(queue.push(NOW, vec![0; 4_000]), Err(Full));
    assert_eq!(queue.push(NOW, frame("answer")), Ok(()));
}

#[test]
fn messages_of_others_are_lost_beyond_their_share() {
    let mut queue = queue();
    let big = vec![0; 64 << 10];
    let taken = (0..100).filter(|&from| queue.push_peer(NOW, from, Share::Member, big.clone()));
    assert_eq!(taken.count(), 8);
    drain(&mut queue);
    let taken = (0..10_000).filter(|n| queue.push_peer(NOW, n % 100, Share::Member, frame("small")));
    assert_eq!(taken.count(), PEER_MESSAGES);
    assert_eq!(queue.push(NOW, frame("own")), Ok(()));
}

#[test]
fn who_floods_a_reader_takes_no_place_from_others() {
    for (share, messages, bytes) in [(Share::Member, 512, 64 << 10), (Share::Relay, 2_048, 256 << 10)] {
        let mut queue = queue();
        let flood = |queue: &mut Queue<Frame, Numbers>, from, len| {
            let pushed = (0..5_000).filter(|_| queue.push_peer(NOW, from, share, vec![b'.'; len]));
            pushed.count()
        };
        assert_eq!(flood(&mut queue, 1, 5), messages);
        assert_eq!(flood(&mut queue, 2, 4_096), bytes / 4_096);
        assert!(queue.push_peer(NOW, 3, share, frame("small")));
        assert!(!queue.push_peer(NOW, 1, share, frame("small")));
        // One read, one more.
        queue.pop(NOW);
        assert_eq!(flood(&mut queue, 1, 5), 1);
        drain(&mut queue);
    }
}

#[test]
fn a_reader_stalls_from_the_last_thing_it_took() {
    let at = |secs: u64| Instant::from_micros(secs * 1_000_000);
    let mut queue = queue();
    assert_eq!(queue.stalled_since(), None);
    queue.push(at(1), frame("a")).unwrap();
    queue.push(at(2), frame("b")).unwrap();
    assert_eq!(queue.stalled_since(), Some(at(1)));
    queue.pop(at(3));
    assert_eq!(queue.stalled_since(), Some(at(3)));
    queue.pop(at(4));
    assert_eq!(queue.stalled_since(), None);
}

#[test]
fn the_largest_of_the_stalled_are_cut_off_first() {
    let load = |bytes, ago_ms: u64| Load {
        bytes,
        stalled_since: Some(Instant::from_micros(5_000_000 - ago_ms * 1_000)),
    };
    let queues = vec![
        ("reads, large", load(1_000, 0)),
        ("stalled", load(50, 2_000)),
        ("stalled, large", load(500, 2_000)),
        ("stalled longer, large", load(500, 4_000)),
        ("reads", load(10, 500)),
        ("empty", load(0, 5_000)),
    ];
    let cut = |excess| victims(NOW, excess, queues.clone());
    assert_eq!(cut(1), ["stalled longer, large"]);
    assert_eq!(cut(501), ["stalled longer, large", "stalled, large"]);
    assert_eq!(
        cut(1_051),
        [
            "stalled longer, large",
            "stalled, large",
            "stalled",
            "reads, large"
        ]
    );
    assert_eq!(cut(usize::MAX).len(), 5);
}
