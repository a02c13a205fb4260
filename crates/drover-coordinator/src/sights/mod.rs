//! What agents are asked to ask of the zone's servers, and what they saw: the board on which questions stand for as long as somebody
//! here wants to know.
//!
//! Unknown is not down: a vantage that says nothing holds up nobody, and is named. One that sees something else than the
//! coordinator does has news, since that is what clients near it get.

mod counted;

pub(crate) use counted::Counted;

use drover_dns::sight::question;
use drover_dns::zone::{RecordKey, RecordSet};
use drover_model::config::{DnsSettings, ZoneServer};
use drover_model::sight::{DnsQuestion, QUESTIONS_MAX, QuestionList, Seen, ServerSight, Sight};
use drover_model::{AgentId, RegionId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Record sets of one round, at most. Of more these are spread over all of them: they went to the same servers by the same change, and
/// a thousand services must not wait for a thousand questions from each vantage.
pub(crate) const ROUND_SETS_MAX: usize = 128;
/// A vantage that listens is waited for so long: an exchange that is lost and repeated takes two seconds.
pub(crate) const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// One that has fetched questions is at work on them for so long, at most.
const AT_WORK_MAX: Duration = Duration::from_secs(5);

/// Characters of what a vantage says that are kept: it may say anything, and it is journaled.
const WORDS_MAX: usize = 200;
/// Vantages and servers that are named in one line.
const NAMED_MAX: usize = 8;

/// The board.
#[derive(Debug)]
pub(crate) struct Sights {
    state: Mutex<State>,
    listed: watch::Sender<()>,
    heard: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    version: u64,
    next_id: u64,
    servers: Vec<ZoneServer>,
    open: BTreeMap<u64, Open>,
    counts: BTreeMap<u64, counted::Open>,
    listeners: BTreeMap<AgentId, Listener>,
}

#[derive(Debug)]
struct Open {
    question: DnsQuestion,
    /// What each vantage saw last.
    sights: BTreeMap<AgentId, Sight>,
}

#[derive(Debug, Default)]
struct Listener {
    /// Its newest request; whatever came before it is given up.
    turn: u64,
    waits: bool,
    fetched_at: Option<Instant>,
}

impl Listener {
    /// Will it hear of a question at once, or in a moment?
    fn listens(&self) -> bool {
        self.waits || self.fetched_at.is_some_and(|at| at.elapsed() < AT_WORK_MAX)
    }
}

/// Questions that stand until this is dropped.
#[derive(Debug)]
pub(crate) struct Round<'s> {
    board: &'s Sights,
    ids: Vec<u64>,
    /// Who listened when it began, or came since.
    awaited: BTreeSet<AgentId>,
    began: Instant,
    /// Record sets that it stands for.
    pub(crate) of: usize,
}

/// What a vantage saw that should not be there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Other {
    /// Its agent, or whoever else asked.
    pub(crate) agent: String,
    pub(crate) server: String,
    pub(crate) name: String,
    pub(crate) found: String,
    /// It is what stood there before.
    pub(crate) is_old: bool,
}

/// What came of a round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Vantages that answered every question.
    pub(crate) reported: BTreeSet<AgentId>,
    /// What they saw that should not be there.
    pub(crate) others: BTreeSet<Other>,
    /// Servers that a vantage does not reach at all.
    pub(crate) unreached: BTreeSet<(AgentId, String)>,
}

impl Sights {
    /// A board on which nothing stands. `started` tells it from that of a process before: agents ask by version.
    pub(crate) fn new(started_millis: i64) -> Self {
        let version = u64::try_from(started_millis).unwrap_or_default().max(1);
        let state = State {
            version,
            next_id: version,
            servers: vec![],
            open: BTreeMap::new(),
            counts: BTreeMap::new(),
            listeners: BTreeMap::new(),
        };
        Self { state: Mutex::new(state), listed: watch::Sender::new(()), heard: watch::Sender::new(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Half-made state is a question too many or too few, which the next round mends.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is asked, and has whoever listens told.
    fn relist<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = {
            let mut state = self.state();
            state.version += 1;
            change(&mut state)
        };
        self.listed.send_replace(());
        changed
    }

    /// Puts questions up that show whether these sets are answered.
    pub(crate) fn begin(&self, dns: &DnsSettings, sets: &[(RecordKey, RecordSet)]) -> Round<'_> {
        let every = sets.len().div_ceil(ROUND_SETS_MAX).max(1);
        let mut ids = vec![];
        let awaited = self.relist(|state| {
            state.servers = dns.zone_servers();
            for (key, set) in sets.iter().step_by(every) {
                state.next_id += 1;
                let Some(question) = question(state.next_id, key, set, dns) else { continue };
                ids.push(question.id);
                state.open.insert(question.id, Open { question, sights: BTreeMap::new() });
            }
            state.listening()
        });
        Round { board: self, ids, awaited, began: Instant::now(), of: sets.len() }
    }

    /// The questions, as soon as they are others than those of version `have`; none when they are not within `patience`, or when the
    /// agent asks anew meanwhile.
    pub(crate) async fn questions(
        &self,
        agent: &AgentId,
        region: &RegionId,
        have: u64,
        patience: Duration,
    ) -> Option<QuestionList> {
        let waiting = Waiting::begin(self, agent);
        let mut listed = self.listed.subscribe();
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let is_late = tokio::time::Instant::now() >= deadline;
            {
                let mut state = self.state();
                if !waiting.is_newest(&state) {
                    return None;
                }
                let is_news = state.version != have;
                if is_news || is_late {
                    // It asks now, also what it has asked before, and is back in a moment.
                    if let Some(listener) = state.listeners.get_mut(agent) {
                        listener.fetched_at = Some(Instant::now());
                    }
                    return is_news.then(|| state.list(region));
                }
            }
            // Late or not: the next look tells.
            let _ = tokio::time::timeout_at(deadline, listed.changed()).await;
        }
    }

    /// Takes in what a vantage saw: of servers that it was asked about, of each once.
    pub(crate) fn take(&self, agent: &AgentId, sights: Vec<Sight>) {
        {
            let mut state = self.state();
            let State { servers, open, .. } = &mut *state;
            for sight in sights {
                if let Some(open) = open.get_mut(&sight.question) {
                    open.sights.insert(agent.clone(), bounded(sight, servers));
                }
            }
        }
        self.heard.send_replace(());
    }
}

fn bounded(sight: Sight, listed: &[ZoneServer]) -> Sight {
    let mut told: BTreeMap<String, ServerSight> =
        sight.servers.into_iter().map(|s| (s.server.clone(), s)).collect();
    let mut one = |server: &ZoneServer| {
        let ServerSight { server, udp, tcp } = told.remove(&server.name)?;
        Some(ServerSight { server, udp: in_short(udp), tcp: in_short(tcp) })
    };
    Sight { question: sight.question, servers: listed.iter().filter_map(&mut one).collect() }
}

fn in_short(seen: Seen) -> Seen {
    match seen {
        Seen::Wanted => Seen::Wanted,
        Seen::Other { found, is_old } => Seen::Other { found: cut(found), is_old },
        Seen::Silent { why } => Seen::Silent { why: cut(why) },
    }
}

fn cut(mut words: String) -> String {
    if let Some((end, _)) = words.char_indices().nth(WORDS_MAX) {
        words.truncate(end);
    }
    words
}

/// The first of many, and how many more there are.
fn some_of(names: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let more = names.len().saturating_sub(NAMED_MAX);
    let mut some: Vec<String> = names.take(NAMED_MAX).collect();
    if more > 0 {
        some.push(format!("{more} more"));
    }
    some
}

impl State {
    fn listening(&self) -> BTreeSet<AgentId> {
        self.listeners.iter().filter(|(_, l)| l.listens()).map(|(agent, _)| agent.clone()).collect()
    }

    fn list(&self, region: &RegionId) -> QuestionList {
        let questions = self.open.values().take(QUESTIONS_MAX).map(|open| open.question.clone()).collect();
        let traffic = self.counts.values().filter(|open| open.region == *region);
        let traffic = traffic.take(QUESTIONS_MAX).map(|open| open.question.clone()).collect();
        QuestionList { version: self.version, servers: self.servers.clone(), questions, traffic }
    }
}

/// An agent's request that stands. It ends with the connection, too.
struct Waiting<'s> {
    board: &'s Sights,
    agent: AgentId,
    turn: u64,
}

impl<'s> Waiting<'s> {
    fn begin(board: &'s Sights, agent: &AgentId) -> Self {
        let turn = {
            let mut state = board.state();
            let listener = state.listeners.entry(agent.clone()).or_default();
            listener.turn += 1;
            (listener.waits, listener.fetched_at) = (true, None);
            listener.turn
        };
        board.listed.send_replace(());
        Self { board, agent: agent.clone(), turn }
    }

    fn is_newest(&self, state: &State) -> bool {
        state.listeners.get(&self.agent).is_some_and(|l| l.turn == self.turn)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.board.state();
        if let Some(listener) = state.listeners.get_mut(&self.agent).filter(|l| l.turn == self.turn) {
            listener.waits = false;
        }
    }
}

impl Round<'_> {
    /// How many record sets are asked for.
    pub(crate) fn asked(&self) -> usize {
        self.ids.len()
    }

    /// Waits until everybody who listens has answered, and nobody sees what stood there before where that `counts`; until the given time
    /// at most. Who does not answer within [`ANSWERS_WITHIN`] is not waited for.
    pub(crate) async fn told(&self, counts: impl Fn(&Other) -> bool, until: Instant) -> Told {
        let mut heard = self.board.heard.subscribe();
        loop {
            let told = self.now();
            let now = Instant::now();
            let answers_until = (self.began + ANSWERS_WITHIN).min(until);
            let is_waited_for = now < answers_until && !self.awaited.is_subset(&told.reported);
            let is_other = !self.held_by(&told, &counts).is_empty();
            let wake = if is_other { until } else { answers_until };
            if !(is_waited_for || is_other) || now >= wake {
                return told;
            }
            // Late or not: the next look tells.
            let _ = tokio::time::timeout_at(wake.into(), heard.changed()).await;
        }
    }

    /// Who listens and sees what stood there before, where that `counts`. What a vantage saw that is gone since, nobody can see right.
    pub(crate) fn held_by(&self, told: &Told, counts: impl Fn(&Other) -> bool) -> BTreeSet<AgentId> {
        let listening = self.board.state().listening();
        let sees_old = |agent: &AgentId| {
            told.others.iter().any(|other| other.agent == agent.as_str() && other.is_old && counts(other))
        };
        listening.into_iter().filter(sees_old).collect()
    }

    /// What is known so far.
    pub(crate) fn now(&self) -> Told {
        let state = self.board.state();
        let mut told = Told::default();
        let mut answered: BTreeMap<&AgentId, usize> = BTreeMap::new();
        for id in &self.ids {
            let Some(open) = state.open.get(id) else { continue };
            for (agent, sight) in &open.sights {
                *answered.entry(agent).or_default() += 1;
                for server in &sight.servers {
                    if let Some(found) = server.other() {
                        told.others.insert(Other {
                            agent: agent.to_string(),
                            server: server.server.clone(),
                            name: open.question.name.clone(),
                            found: server.old().unwrap_or(found).to_owned(),
                            is_old: server.old().is_some(),
                        });
                    } else if server.silent().is_some() {
                        told.unreached.insert((agent.clone(), server.server.clone()));
                    }
                }
            }
        }
        let all = self.ids.len();
        told.reported =
            answered.into_iter().filter(|(_, n)| *n >= all).map(|(agent, _)| agent.clone()).collect();
        told
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        self.board.relist(|state| {
            for id in &self.ids {
                state.open.remove(id);
            }
        });
    }
}

impl Told {
    /// In one line: of how many vantages it was seen, and who said nothing.
    pub(crate) fn sentence(&self, configured: &BTreeSet<AgentId>) -> String {
        let is_well = |agent: &&AgentId| self.others.iter().all(|other| other.agent != agent.as_str());
        let seen = configured.intersection(&self.reported).filter(is_well).count();
        let mut said = vec![format!("seen from {seen} of {} vantages", configured.len())];
        let silent: Vec<&AgentId> = configured.difference(&self.reported).collect();
        let silent = some_of(silent.into_iter().map(ToString::to_string));
        if !silent.is_empty() {
            said.push(format!("{} did not report", silent.join(", ")));
        }
        // What stood there before comes first: it is what a run waits for.
        let old = self.others.iter().find(|other| other.is_old);
        said.extend(old.or(self.others.first()).map(Other::to_string));
        said.extend(some_of(
            self.unreached.iter().map(|(agent, server)| format!("{agent} can't reach {server}")),
        ));
        said.join("; ")
    }
}

impl std::fmt::Display for Other {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { agent, server, name, found, .. } = self;
        write!(f, "{agent} sees {found} of {name} at {server}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::Bed;
    use crate::traffic::{record_key, record_set};
    use futures::FutureExt as _;

    const SOON: Duration = Duration::from_millis(50);

    async fn sets() -> (Bed, DnsSettings, Vec<(RecordKey, RecordSet)>) {
        let bed = Bed::new().await;
        let loaded = bed.c.loaded();
        let now = bed.c.clock.now();
        let one = |s: &drover_model::config::Service| {
            let target = drover_core::targets::initial_traffic(s, now);
            Some((record_key(s)?, record_set(s, &target, bed.c.db.epoch())))
        };
        let sets = loaded.config.services.values().filter_map(one).collect();
        let dns = loaded.config.settings.dns.clone().unwrap();
        (bed, dns, sets)
    }

    fn agent(name: &str) -> AgentId {
        AgentId::new(name).unwrap()
    }

    fn sights(list: &QuestionList, seen: &Seen) -> Vec<Sight> {
        let at = |server: &ZoneServer| ServerSight {
            server: server.name.clone(),
            udp: seen.clone(),
            tcp: seen.clone(),
        };
        let one = |q: &DnsQuestion| Sight { question: q.id, servers: list.servers.iter().map(at).collect() };
        list.questions.iter().map(one).collect()
    }

    fn home() -> RegionId {
        RegionId::new("eu-west").unwrap()
    }

    fn later() -> Instant {
        Instant::now() + crate::testbed::GUARD
    }

    #[tokio::test]
    async fn where_nobody_listens_nobody_is_waited_for_and_all_are_named() {
        let (_bed, dns, sets) = sets().await;
        let board = Sights::new(1);
        let round = board.begin(&dns, &sets);
        let told = round.told(|_| true, later()).await;
        assert_eq!(told, Told::default());
        let configured = BTreeSet::from([agent("ap-1"), agent("eu-1")]);
        assert_eq!(told.sentence(&configured), "seen from 0 of 2 vantages; ap-1, eu-1 did not report");
    }

    #[tokio::test]
    async fn who_listens_hears_of_a_round_at_once_and_is_waited_for() {
        let (_bed, dns, sets) = sets().await;
        let board = Sights::new(1);
        let eu = agent("eu-1");
        let vantage = async {
            let list = board.questions(&eu, &home(), 1, crate::testbed::GUARD).await.unwrap();
            assert_eq!(list.questions.len(), sets.len());
            assert_eq!(list.questions[0].mark.as_ref().unwrap().generation, 1);
            board.take(&eu, sights(&list, &Seen::Wanted));
        };
        let step = async {
            tokio::task::yield_now().await;
            let round = board.begin(&dns, &sets);
            assert!(round.awaited.contains(&eu));
            round.told(|_| true, later()).await
        };
        let ((), told) = tokio::join!(vantage, step);
        assert_eq!(told.reported, BTreeSet::from([eu.clone()]));
        let configured = BTreeSet::from([eu, agent("us-1")]);
        assert_eq!(told.sentence(&configured), "seen from 1 of 2 vantages; us-1 did not report");
    }

    #[tokio::test]
    async fn an_old_answer_holds_until_a_new_one_or_the_deadline_but_not_at_a_server_that_nobody_reaches() {
        let (_bed, dns, sets) = sets().await;
        let board = Sights::new(1);
        let eu = agent("eu-1");
        let round = board.begin(&dns, &sets);
        let list = board.questions(&eu, &home(), 1, SOON).await.unwrap();
        board.take(&eu, sights(&list, &Seen::Other { found: "generation 6".into(), is_old: true }));
        let held = round.told(|_| true, Instant::now() + SOON).await;
        let first = held.others.first().unwrap().to_string();
        assert!(first.starts_with("eu-1 sees generation 6 of ") && first.ends_with(" at dns-1"), "{first}");
        // The coordinator could not ask that server either: what it says is told, and holds nobody.
        assert_eq!(round.told(|_| false, later()).await, held);
        let waits = round.told(|_| true, later());
        let mends = async { board.take(&eu, sights(&list, &Seen::Wanted)) };
        let (told, ()) = tokio::join!(waits, mends);
        assert!(told.others.is_empty() && told.reported.contains(&eu));
    }

    #[tokio::test]
    async fn what_stands_between_a_vantage_and_a_server_holds_nobody() {
        let (_bed, dns, sets) = sets().await;
        let board = Sights::new(1);
        let eu = agent("eu-1");
        let round = board.begin(&dns, &sets);
        let list = board.questions(&eu, &home(), 1, SOON).await.unwrap();
        board.take(&eu, sights(&list, &Seen::Other { found: "REFUSED".into(), is_old: false }));
        let told = round.told(|_| true, later()).await;
        assert!(!told.others.is_empty() && round.held_by(&told, |_| true).is_empty());
    }

    #[tokio::test]
    async fn what_a_vantage_says_is_bounded() {
        let (_bed, dns, sets) = sets().await;
        let board = Sights::new(1);
        let eu = agent("eu-1");
        let round = board.begin(&dns, &sets);
        let mut list = board.questions(&eu, &home(), 1, SOON).await.unwrap();
        let servers = list.servers.len();
        let made_up =
            (0..100).map(|n| ZoneServer { name: format!("made-up-{n}"), ..list.servers[0].clone() });
        list.servers = list.servers.iter().cycle().take(50).cloned().chain(made_up).collect();
        let long = || "\u{e9}".repeat(5_000);
        board.take(&eu, sights(&list, &Seen::Other { found: long(), is_old: true }));
        let told = round.now();
        assert_eq!(told.others.len(), servers * sets.len());
        assert!(told.others.iter().all(|o| o.found.chars().count() == WORDS_MAX));
        board.take(&eu, sights(&list, &Seen::Silent { why: long() }));
        let kept = board.state().open[&round.ids[0]].sights[&eu].clone();
        assert_eq!(kept.servers.len(), servers);
        assert!(kept.servers.iter().all(|s| s.silent().unwrap().chars().count() == WORDS_MAX));
        let unreached = (0..1_000).map(|n| (eu.clone(), format!("dns-{n}"))).collect();
        let sentence = Told { unreached, ..Told::default() }.sentence(&BTreeSet::new());
        assert!(sentence.contains("can't reach dns-0") && sentence.ends_with("; 992 more"), "{sentence}");
    }

    #[tokio::test]
    async fn a_round_that_is_over_is_no_question_and_a_request_gives_way_to_the_next() {
        let (_bed, dns, sets) = sets().await;
        let board = Sights::new(1);
        let eu = agent("eu-1");
        let round = board.begin(&dns, &sets);
        let list = board.questions(&eu, &home(), 1, SOON).await.unwrap();
        drop(round);
        let list = board.questions(&eu, &home(), list.version, SOON).await.unwrap();
        assert!(list.questions.is_empty());
        let home = home();
        let first = board.questions(&eu, &home, list.version, crate::testbed::GUARD);
        let second = board.questions(&eu, &home, list.version, SOON);
        assert_eq!(tokio::join!(first, second), (None, None), "the first does not wait on");
        assert!(!board.begin(&dns, &sets).awaited.is_empty(), "it is at work on what it was told");
        let lost = board.questions(&eu, &home, board.state().version, crate::testbed::GUARD);
        assert_eq!(lost.now_or_never(), None);
        assert!(board.begin(&dns, &sets).awaited.is_empty(), "its connection has ended");
    }

    #[tokio::test]
    async fn of_many_record_sets_some_are_asked_for() {
        let (_bed, dns, sets) = sets().await;
        let many: Vec<_> = sets.iter().cycle().take(ROUND_SETS_MAX * 3 + 1).cloned().collect();
        let board = Sights::new(1);
        let round = board.begin(&dns, &many);
        assert!(round.asked() <= ROUND_SETS_MAX && round.asked() > ROUND_SETS_MAX / 2);
        assert_eq!(round.of, many.len());
    }
}
