//! Three coordinators around one record, driven through random orders of requests that are late, lost, or land after
//! their sender gave them up, through stops of one process, restarts, and clocks that run 5 % fast or slow.

use super::*;
use proptest::prelude::*;

const BOUND: Span = Span::from_secs(3);

fn at(millis: u64) -> BootTime {
    BootTime::after_boot(Span::from_millis(millis))
}

/// What the store holds.
#[derive(Debug, Default)]
struct Shelf {
    revision: u64,
    record: Option<(Revision, bool)>,
    beat: Option<Revision>,
}

impl Shelf {
    fn sight(&self) -> Sight {
        Sight {
            record: self.record.map(|(revision, _)| revision),
            is_released: self.record.is_some_and(|(_, released)| released),
            beat: self.beat,
        }
    }

    fn next(&mut self) -> Revision {
        self.revision += 1;
        Revision(self.revision)
    }

    fn holds(&self, fence: Revision) -> bool {
        self.record.is_some_and(|(revision, _)| revision == fence)
    }

    /// Does what was asked, as the store's transactions do, and says what came of it.
    fn apply(&mut self, effect: Effect, gives_way: bool) -> Event {
        match effect {
            Effect::Look => Event::Saw { sight: self.sight(), gives_way },
            Effect::TakeOver(seen) if seen == self.sight() => {
                let revision = self.next();
                self.record = Some((revision, false));
                self.beat = Some(revision);
                Event::TookOver(revision)
            }
            Effect::TakeOver(_) => Event::NotTakenOver,
            Effect::Beat(fence) if self.holds(fence) => {
                self.beat = Some(self.next());
                Event::BeatLanded
            }
            Effect::Beat(_) => Event::BeatRefused,
            Effect::Release(fence) => {
                if self.holds(fence) {
                    self.record = Some((self.next(), true));
                }
                Event::Released
            }
            Effect::Lead(_) | Effect::End(_) => unreachable!("no request"),
        }
    }
}

/// What is heard when nobody knows what came of it.
fn lost(effect: Effect) -> Event {
    match effect {
        Effect::Look => Event::LookFailed,
        Effect::TakeOver(_) => Event::NotTakenOver,
        Effect::Beat(_) => Event::BeatLost,
        Effect::Release(_) => Event::Released,
        Effect::Lead(_) | Effect::End(_) => unreachable!("no request"),
    }
}

#[derive(Debug)]
struct Node {
    machine: Leadership,
    /// Its clock, in thousandths of the real one.
    rate: u64,
    /// Another one hears more vantages, as it believes.
    gives_way: bool,
    request: Option<Effect>,
    answer: Option<Event>,
    fence: Option<Revision>,
    end: Option<End>,
}

#[derive(Debug)]
struct Room {
    real: u64,
    shelf: Shelf,
    nodes: Vec<Node>,
    /// Requests whose senders gave them up, which may land all the same.
    late: Vec<Effect>,
    takeovers: u64,
}

#[derive(Debug, Clone)]
enum Fate {
    Passes(u64),
    Tick(usize),
    Changed(usize),
    Lands(usize),
    Answers(usize),
    IsLost(usize),
    LandsLate,
    Restarts(usize),
    IsTold(usize),
    GivesWay(usize, bool),
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let node = 0..3_usize;
    let fate = prop_oneof![
        6 => (1..400_u64).prop_map(Fate::Passes),
        1 => (400..4_000_u64).prop_map(Fate::Passes),
        8 => node.clone().prop_map(Fate::Tick),
        1 => node.clone().prop_map(Fate::Changed),
        8 => node.clone().prop_map(Fate::Lands),
        8 => node.clone().prop_map(Fate::Answers),
        1 => node.clone().prop_map(Fate::IsLost),
        1 => Just(Fate::LandsLate),
        1 => node.clone().prop_map(Fate::Restarts),
        1 => node.clone().prop_map(Fate::IsTold),
        1 => (node, any::<bool>()).prop_map(|(n, gives_way)| Fate::GivesWay(n, gives_way)),
    ];
    proptest::collection::vec(fate, 1..400)
}

impl Room {
    fn new(rates: [u64; 3]) -> Self {
        let node = |rate| Node {
            machine: Leadership::follow(Bounds::new(BOUND), at(0)),
            rate,
            gives_way: false,
            request: None,
            answer: None,
            fence: None,
            end: None,
        };
        Self {
            real: 0,
            shelf: Shelf::default(),
            nodes: rates.map(node).into(),
            late: Vec::new(),
            takeovers: 0,
        }
    }

    fn clock(&self, node: usize) -> BootTime {
        at(self.real * self.nodes[node].rate / 1_000)
    }

    fn tell(&mut self, node: usize, event: Event) {
        let now = self.clock(node);
        for effect in self.nodes[node].machine.handle(event, now) {
            let me = &mut self.nodes[node];
            match effect {
                Effect::Lead(fence) => {
                    assert_eq!(me.fence, None, "it takes up what the leader does once");
                    me.fence = Some(fence);
                    self.takeovers += 1;
                }
                Effect::End(end) => me.end = Some(end),
                request => {
                    // Who is told to end may give up what is on its way.
                    if let Some(given_up) = me.request.replace(request) {
                        self.late.push(given_up);
                    }
                    me.answer = None;
                }
            }
        }
    }

    fn restart(&mut self, node: usize) {
        let now = self.clock(node);
        let me = &mut self.nodes[node];
        self.late.extend(me.request.take());
        me.answer = None;
        (me.fence, me.end) = (None, None);
        me.machine = Leadership::follow(Bounds::new(BOUND), now);
    }

    fn happens(&mut self, fate: Fate) {
        match fate {
            Fate::Passes(millis) => self.real += millis,
            Fate::Tick(n) => self.tell(n, Event::Tick),
            Fate::Changed(n) => self.tell(n, Event::Changed),
            Fate::IsTold(n) => self.tell(n, Event::Release),
            Fate::Restarts(n) => self.restart(n),
            Fate::Lands(n) => {
                let me = &mut self.nodes[n];
                if let (Some(request), None) = (me.request, me.answer) {
                    me.answer = Some(self.shelf.apply(request, me.gives_way));
                }
            }
            Fate::GivesWay(n, gives_way) => self.nodes[n].gives_way = gives_way,
            Fate::Answers(n) => {
                if let Some(answer) = self.nodes[n].answer.take() {
                    self.nodes[n].request = None;
                    self.tell(n, answer);
                }
            }
            Fate::IsLost(n) => {
                if let Some(request) = self.nodes[n].request.take() {
                    if self.nodes[n].answer.take().is_none() {
                        self.late.push(request);
                    }
                    self.tell(n, lost(request));
                }
            }
            Fate::LandsLate => {
                if let Some(request) = self.late.pop() {
                    self.shelf.apply(request, false);
                }
            }
        }
        self.check();
    }

    fn acting(&self) -> Vec<usize> {
        let acts = |n: &usize| self.nodes[*n].machine.acts_until().is_some_and(|t| self.clock(*n) < t);
        (0..self.nodes.len()).filter(acts).collect()
    }

    fn check(&self) {
        assert!(self.acting().len() <= 1, "two act at once: {self:?}");
        let holders = self.nodes.iter().filter(|n| n.fence.is_some_and(|f| self.shelf.holds(f))).count();
        assert!(holders <= 1, "two hold one fence: {self:?}");
    }

    /// Nothing goes wrong any more.
    fn settle(&mut self, millis: u64) {
        self.late.clear();
        for n in 0..self.nodes.len() {
            if self.nodes[n].end.is_some() {
                self.restart(n);
            }
        }
        let until = self.real + millis;
        while self.real < until {
            self.real += 50;
            for n in 0..self.nodes.len() {
                self.happens(Fate::Tick(n));
                self.happens(Fate::Lands(n));
                self.happens(Fate::Answers(n));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn two_never_act_at_once_and_one_does_in_the_end(
        fates in fates(),
        rates in [950..=1_050_u64, 950..=1_050_u64, 950..=1_050_u64],
    ) {
        let mut room = Room::new(rates);
        for fate in fates {
            room.happens(fate);
        }
        room.settle(4 * BOUND.as_millis());
        prop_assert_eq!(room.acting().len(), 1);
        let before = room.takeovers;
        room.settle(10 * BOUND.as_millis());
        prop_assert_eq!(room.takeovers, before, "who leads and is heard is left alone");
    }
}

/// A room in which the first leads and the others have heard its last beat.
fn led() -> Room {
    let mut room = Room::new([1_000; 3]);
    for fate in [Fate::Tick(0), Fate::Lands(0), Fate::Answers(0), Fate::Lands(0), Fate::Answers(0)] {
        room.happens(fate);
    }
    assert_eq!(room.acting(), [0]);
    for n in [1, 2] {
        for fate in [Fate::Tick(n), Fate::Lands(n), Fate::Answers(n)] {
            room.happens(fate);
        }
    }
    room
}

fn looks(room: &mut Room, n: usize) {
    for fate in [Fate::Changed(n), Fate::Lands(n), Fate::Answers(n)] {
        room.happens(fate);
    }
}

fn takes_over(room: &mut Room, n: usize) {
    looks(room, n);
    room.happens(Fate::Lands(n));
    room.happens(Fate::Answers(n));
}

#[test]
fn a_leader_that_is_stopped_past_the_bound_is_deposed_and_its_next_write_is_refused() {
    cov_mark::check!(i3_a_deposed_leader_ends);
    let mut room = led();
    room.real += BOUND.as_millis() - 1;
    looks(&mut room, 1);
    assert_eq!(room.nodes[1].request, None, "the bound is not over");
    assert_eq!(room.acting(), Vec::<usize>::new(), "it has stopped by itself, before anybody may take over");
    room.real += 1;
    takes_over(&mut room, 1);
    assert_eq!(room.acting(), [1]);
    assert!(!room.shelf.holds(room.nodes[0].fence.unwrap()));
    // It goes on.
    for fate in [Fate::Tick(0), Fate::Lands(0), Fate::Answers(0)] {
        room.happens(fate);
    }
    assert_eq!(room.nodes[0].end, Some(End::Deposed));
}

#[test]
fn who_could_not_look_does_not_know_that_there_was_no_beat() {
    cov_mark::check!(i6_a_follower_that_could_not_look_counts_anew);
    let mut room = led();
    room.happens(Fate::Changed(1));
    room.real += 2 * BOUND.as_millis();
    room.happens(Fate::IsLost(1));
    looks(&mut room, 1);
    assert_eq!(room.nodes[1].request, None, "its count begins with what it has just read");
    room.real += BOUND.as_millis();
    looks(&mut room, 1);
    assert!(matches!(room.nodes[1].request, Some(Effect::TakeOver(_))));
}

#[test]
fn who_was_stopped_itself_judges_by_a_reading_of_its_own_and_not_by_its_clock() {
    let mut room = led();
    room.happens(Fate::Changed(1));
    room.happens(Fate::Lands(1));
    room.real += 10 * BOUND.as_millis();
    room.happens(Fate::Answers(1));
    assert_eq!(room.nodes[1].request, None, "what it asked for before the bound says nothing of now");
}

#[test]
fn a_beat_between_the_look_and_the_swap_keeps_the_leader() {
    let mut room = led();
    room.real += BOUND.as_millis();
    looks(&mut room, 1);
    for fate in [Fate::Tick(0), Fate::Lands(0), Fate::Answers(0), Fate::Lands(1), Fate::Answers(1)] {
        room.happens(fate);
    }
    assert_eq!((room.acting(), room.takeovers), (vec![0], 1));
}

#[test]
fn a_record_that_was_put_down_is_taken_at_once() {
    let mut room = led();
    room.happens(Fate::IsTold(0));
    assert_eq!(room.acting(), Vec::<usize>::new(), "who hands over acts no more");
    room.happens(Fate::Lands(0));
    takes_over(&mut room, 2);
    assert_eq!(room.acting(), [2]);
    room.happens(Fate::Answers(0));
    assert_eq!(room.nodes[0].end, Some(End::HandedOver));
}

#[test]
fn who_hears_fewer_vantages_gives_way_for_one_bound_and_no_longer() {
    let mut room = led();
    room.happens(Fate::GivesWay(1, true));
    room.happens(Fate::GivesWay(2, true));
    room.real += BOUND.as_millis();
    looks(&mut room, 1);
    assert_eq!(room.nodes[1].request, None, "another one shall take over");
    room.happens(Fate::GivesWay(2, false));
    looks(&mut room, 2);
    assert!(matches!(room.nodes[2].request, Some(Effect::TakeOver(_))));
    room.happens(Fate::IsLost(2));
    room.late.clear();
    room.real += BOUND.as_millis();
    takes_over(&mut room, 1);
    assert_eq!(room.acting(), [1], "nobody else did");

    let mut room = led();
    room.happens(Fate::GivesWay(1, true));
    room.happens(Fate::IsTold(0));
    room.happens(Fate::Lands(0));
    looks(&mut room, 1);
    assert_eq!(room.nodes[1].request, None, "also of what was put down");
    room.real += BOUND.as_millis();
    takes_over(&mut room, 1);
    assert_eq!(room.acting(), [1]);
}

#[test]
fn the_margins_of_the_bound_as_shipped() {
    let bounds = Bounds::new(BOUND);
    assert_eq!(bounds.acts_for(), Span::from_millis(2_700));
    assert_eq!(bounds.beat_every(), Span::from_millis(500));
}
