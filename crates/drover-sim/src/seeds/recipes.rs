//! What happens in a story. A recipe is trouble that belongs together: what breaks, what goes on meanwhile, and what mends
//! it. Every story has one main recipe, which brings a decision of drover's about, and troubles beside it.

use super::Fault;
use super::generate::STORY_SPAN;
use super::worlds::{AGENTS, REGIONS, SERVICES, one_of};
use drover_model::Span;
use fastrand::Rng;

/// After every trouble there is one more with this chance.
pub(super) const ONE_MORE_PERCENT: u32 = 45;

/// A story that is being made.
pub(super) struct Draft {
    pub(super) chance: Rng,
    faults: Vec<Fault>,
}

impl Draft {
    pub(super) fn new(chance: Rng) -> Self {
        Self { chance, faults: vec![] }
    }

    pub(super) fn len(&self) -> usize {
        self.faults.len()
    }

    /// What happens besides.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.faults.extend(other.faults);
        self
    }

    /// In the order of their times; of equals in that in which they were added.
    pub(super) fn faults(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|f| f.at);
        self.faults
    }

    /// Whatever would come after the end comes just before it.
    pub(super) fn at(&mut self, seconds: u64, verb: impl Into<String>) {
        let last = Span::from_millis(STORY_SPAN.as_millis() - 1_000);
        self.faults.push(Fault { at: Span::from_secs(seconds).min(last), verb: verb.into() });
    }

    fn region(&mut self) -> &'static str {
        self.chance.choice(REGIONS).unwrap_or(REGIONS[0])
    }

    fn other(&mut self, region: &str) -> &'static str {
        let others = REGIONS.into_iter().filter(|r| *r != region);
        self.chance.choice(others.collect::<Vec<_>>()).unwrap_or(REGIONS[0])
    }

    fn service(&mut self) -> &'static str {
        self.chance.choice(SERVICES).unwrap_or(SERVICES[0])
    }

    fn agent(&mut self) -> &'static str {
        self.chance.choice(AGENTS).unwrap_or(AGENTS[0])
    }

    fn endpoint(&mut self) -> String {
        format!("{}@{}", self.service(), self.region())
    }

    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        self.chance.u64(from..=to)
    }

    pub(super) fn percent(&mut self, share: u32) -> bool {
        self.chance.u32(..100) < share
    }
}

type Recipe = fn(&mut Draft);

/// The trouble that a story is about.
pub(super) fn main(draft: &mut Draft) {
    let recipe: &Recipe = one_of(
        &mut draft.chance,
        &[
            (22, &(region_lost as Recipe)),
            (12, &(endpoint_lost as Recipe)),
            (12, &(everything_at_once as Recipe)),
            (10, &(leader_lost_meanwhile as Recipe)),
            (10, &(lost_twice as Recipe)),
            (10, &(flapping as Recipe)),
            (8, &(frozen as Recipe)),
            (8, &(overloaded as Recipe)),
            (8, &(busy as Recipe)),
            (8, &(too_few_left as Recipe)),
            (6, &(partitioned as Recipe)),
        ],
    );
    recipe(draft);
}

/// Drover asks, since the rest can't carry it. Then the load falls, a person moves the service's traffic otherwise and stops half-way, and
/// somebody else says yes to what drover asked: all within the same second, before drover looks again.
pub(super) fn answered_too_late(draft: &mut Draft) {
    let (service, region, t) = (draft.service(), draft.region(), draft.between(5, 100));
    let second = draft.other(region);
    draft.at(t, format!("load {service} 900rps"));
    draft.at(t, format!("break {service}@{region}"));
    let answer = t + draft.between(50, 150);
    draft.at(answer, format!("load {service} 50rps"));
    draft.at(answer, format!("drain {service} --from {second} --accept capacity"));
    draft.at(answer, "abort run-2");
    draft.at(answer, "approve run-1");
    let back = draft.between(100, 300);
    draft.at(answer + back, format!("heal {service}@{region}"));
}

fn region_lost(draft: &mut Draft) {
    let (region, t) = (draft.region(), draft.between(5, 150));
    draft.at(t, format!("break {region}"));
    if draft.percent(50) {
        leader_lost(draft, t + 25, t + 120);
    }
    if draft.percent(30) {
        let (second, later) = (draft.other(region), draft.between(40, 150));
        draft.at(t + later, format!("break {second}"));
        let back = draft.between(30, 200);
        draft.at(t + later + back, format!("heal {second}"));
    }
    let back = draft.between(100, 350);
    draft.at(t + back, format!("heal {region}"));
}

fn endpoint_lost(draft: &mut Draft) {
    let (endpoint, t) = (draft.endpoint(), draft.between(5, 200));
    draft.at(t, format!("break {endpoint}"));
    if draft.percent(40) {
        leader_lost(draft, t + 25, t + 120);
    }
    let back = draft.between(60, 300);
    draft.at(t + back, format!("heal {endpoint}"));
}

/// More than one region fails in one window: nobody should believe it.
fn everything_at_once(draft: &mut Draft) {
    let (region, t) = (draft.region(), draft.between(5, 200));
    let (second, later) = (draft.other(region), draft.between(0, 40));
    draft.at(t, format!("break {region}"));
    draft.at(t + later, format!("break {second}"));
    if draft.percent(40) {
        let crash = draft.between(45, 80);
        draft.at(t + crash, "crash");
    }
    let back = draft.between(80, 300);
    draft.at(t + back, format!("heal {region}"));
    let back = draft.between(80, 300);
    draft.at(t + back, format!("heal {second}"));
}

/// The leader dies about when it would decide: the next knows nothing yet.
fn leader_lost_meanwhile(draft: &mut Draft) {
    let (region, t) = (draft.region(), draft.between(5, 200));
    draft.at(t, format!("break {region}"));
    let (first, again) = (draft.between(18, 34), draft.between(1, 12));
    draft.at(t + first, "crash");
    draft.at(t + first + again, "crash");
    leader_lost(draft, t + 40, t + 140);
    let back = draft.between(120, 300);
    draft.at(t + back, format!("heal {region}"));
}

/// A second failure of a kind in the block period of the first.
fn lost_twice(draft: &mut Draft) {
    let (service, region, t) = (draft.service(), draft.region(), draft.between(5, 60));
    let second = draft.other(region);
    let what = |region: &str, one: bool| if one { format!("{service}@{region}") } else { region.to_owned() };
    let one = draft.percent(70);
    draft.at(t, format!("break {}", what(region, one)));
    let back = draft.between(60, 120);
    draft.at(t + back, format!("heal {}", what(region, one)));
    let again = back + draft.between(110, 220);
    draft.at(t + again, format!("break {}", what(second, one)));
    draft.at(t + again + 120, format!("heal {}", what(second, one)));
}

/// Where traffic stays, as it does when nobody may move it, an endpoint that comes and goes is doubted in the end. It is
/// gone for as long as it takes to be found, and back for longer than it takes to be believed.
fn flapping(draft: &mut Draft) {
    let (endpoint, mut t) = (draft.endpoint(), draft.between(5, 20));
    if draft.percent(80) {
        draft.at(t, "freeze");
        draft.at(t + 500, "unfreeze");
    }
    for _ in 0..4 {
        draft.at(t, format!("break {endpoint}"));
        t += draft.between(40, 55);
        draft.at(t, format!("heal {endpoint}"));
        t += draft.between(65, 95);
    }
}

fn frozen(draft: &mut Draft) {
    let (region, t) = (draft.region(), draft.between(5, 200));
    let freeze = draft.between(0, 25);
    draft.at(t, format!("break {region}"));
    draft.at(t + freeze, "freeze");
    if draft.percent(50) {
        let crash = draft.between(40, 60);
        draft.at(t + crash, "crash");
    }
    let thaw = draft.between(60, 200);
    draft.at(t + thaw, "unfreeze");
    let back = draft.between(80, 300);
    draft.at(t + back, format!("heal {region}"));
}

fn overloaded(draft: &mut Draft) {
    let (service, region, t) = (draft.service(), draft.region(), draft.between(5, 200));
    let rate = draft.between(350, 900);
    draft.at(t, format!("load {service} {rate}rps"));
    let down = draft.between(0, 60);
    draft.at(t + down, format!("break {region}"));
    let calm = draft.between(60, 250);
    draft.at(t + calm, format!("load {service} 300rps"));
    let back = draft.between(80, 300);
    draft.at(t + back, format!("heal {region}"));
}

/// A person moves something while something else breaks.
fn busy(draft: &mut Draft) {
    let (service, region, t) = (draft.service(), draft.region(), draft.between(20, 200));
    let second = draft.other(region);
    let verb = one_of(&mut draft.chance, &[(2, "drain"), (1, "failover")]);
    draft.at(t, format!("{verb} {service} --from {region}"));
    let at = draft.between(0, 20);
    draft.at((t + at).saturating_sub(20), format!("break {second}"));
    if draft.percent(50) {
        leader_lost(draft, t + 2, t + 60);
    }
    if draft.percent(50) {
        let later = draft.between(30, 250);
        draft.at(t + later, format!("undrain {service} --from {region}"));
    }
    let back = draft.between(80, 300);
    draft.at(t + back, format!("heal {second}"));
}

/// Some vantages are gone before the region is.
fn too_few_left(draft: &mut Draft) {
    let (region, t) = (draft.region(), draft.between(5, 150));
    let others: Vec<&str> = AGENTS.into_iter().filter(|a| !a.starts_with(region)).collect();
    for agent in draft.chance.choose_multiple(others, 2) {
        let how = one_of(&mut draft.chance, &[(2, "silence"), (1, "blind")]);
        let early = draft.between(0, 90);
        draft.at((t + 60).saturating_sub(early), format!("{how} {agent}"));
        let back = draft.between(60, 250);
        draft.at(t + 60 + back, format!("heal {agent}"));
    }
    draft.at(t + 60, format!("break {region}"));
    let back = draft.between(120, 300);
    draft.at(t + 60 + back, format!("heal {region}"));
}

fn partitioned(draft: &mut Draft) {
    let (region, t) = (draft.region(), draft.between(5, 200));
    let mut from: Vec<&str> = REGIONS.into_iter().chain(["witness"]).filter(|r| *r != region).collect();
    draft.chance.shuffle(&mut from);
    let cut = draft.chance.usize(1..=from.len());
    let back = draft.between(60, 300);
    for other in from.into_iter().take(cut) {
        let way = one_of(&mut draft.chance, &[(2, ""), (1, " one-way")]);
        draft.at(t, format!("break link {other} {region}{way}"));
        draft.at(t + back, format!("heal link {other} {region}"));
    }
}

fn leader_lost(draft: &mut Draft, from: u64, to: u64) {
    let t = draft.between(from, to);
    let how = one_of(&mut draft.chance, &[(2, "crash"), (1, "depose"), (3, "")]);
    if how.is_empty() {
        let (when, others) =
            (one_of(&mut draft.chance, &[(1, "before"), (1, "after")]), draft.between(0, 14));
        draft.at(t.saturating_sub(30), format!("crash {when} record {others}"));
    } else {
        draft.at(t, how);
    }
}

/// Something else that goes wrong, or that people do.
pub(super) fn trouble(draft: &mut Draft) {
    let recipe: &Recipe = one_of(
        &mut draft.chance,
        &[
            (10, &(vantage as Recipe)),
            (6, &(network as Recipe)),
            (6, &(link as Recipe)),
            (6, &(provider as Recipe)),
            (8, &(condition as Recipe)),
            (4, &(load as Recipe)),
            (8, &(person as Recipe)),
            (6, &(command as Recipe)),
            (6, &(any_leader_lost as Recipe)),
        ],
    );
    recipe(draft);
}

fn vantage(draft: &mut Draft) {
    let (agent, t) = (draft.agent(), draft.between(0, 500));
    let what = *one_of(&mut draft.chance, &[(3, &0u8), (2, &1), (2, &2), (2, &3), (1, &4), (1, &5)]);
    let verb = match what {
        0 => format!("silence {agent}"),
        1 => format!("blind {agent}"),
        2 => format!(
            "lie {agent} {} {}",
            draft.endpoint(),
            one_of(&mut draft.chance, &[(3, "bad"), (1, "good")])
        ),
        3 => format!(
            "skew {agent} {}{}s",
            one_of(&mut draft.chance, &[(1, "+"), (1, "-")]),
            draft.between(1, 90)
        ),
        4 => format!("restart {agent}"),
        _ => format!("replay {agent}"),
    };
    draft.at(t, verb);
    if what < 4 {
        let back = draft.between(20, 250);
        draft.at(t + back, format!("heal {agent}"));
    }
}

fn network(draft: &mut Draft) {
    let (agent, t) = (draft.agent(), draft.between(0, 500));
    let verb = match draft.chance.u8(..4) {
        0 => format!("delay {agent} {}s", draft.between(1, 40)),
        1 => format!("twice {agent}"),
        2 => format!("swap {agent}"),
        _ => {
            let sign = one_of(&mut draft.chance, &[(1, "+"), (1, "-")]);
            format!("drift {agent} {sign}{}ppm", draft.between(50, 20_000))
        }
    };
    draft.at(t, verb);
    let back = draft.between(30, 300);
    draft.at(t + back, format!("heal {agent}"));
}

fn link(draft: &mut Draft) {
    let (a, t) = (draft.region(), draft.between(0, 500));
    let b = draft.other(a);
    let b = if draft.percent(30) { "witness" } else { b };
    let way = one_of(&mut draft.chance, &[(1, ""), (1, " one-way")]);
    draft.at(t, format!("break link {a} {b}{way}"));
    let back = draft.between(20, 250);
    draft.at(t + back, format!("heal link {a} {b}"));
}

fn provider(draft: &mut Draft) {
    let t = draft.between(0, 500);
    draft.at(t, "break dns");
    let back = draft.between(3, 90);
    draft.at(t + back, "heal dns");
}

fn condition(draft: &mut Draft) {
    let (endpoint, t) = (draft.endpoint(), draft.between(0, 500));
    let verb = match draft.chance.u8(..4) {
        0 => format!("ill {endpoint}"),
        1 => format!("slow {endpoint} {}ms", draft.between(100, 6_000)),
        2 => format!("errors {endpoint} {}%", draft.between(1, 100)),
        _ => format!("break {endpoint}"),
    };
    draft.at(t, verb);
    let back = draft.between(10, 250);
    draft.at(t + back, format!("heal {endpoint}"));
}

fn load(draft: &mut Draft) {
    let (service, t, rate) = (draft.service(), draft.between(0, 500), draft.between(50, 700));
    draft.at(t, format!("load {service} {rate}rps"));
    let back = draft.between(30, 250);
    draft.at(t + back, format!("load {service} 300rps"));
}

/// A move that a person commands.
fn person(draft: &mut Draft) {
    let (region, t) = (draft.region(), draft.between(0, 560));
    let service = draft.service();
    let services = if draft.percent(30) { "--all" } else { service };
    let verb = one_of(&mut draft.chance, &[(3, "drain"), (3, "undrain"), (2, "failover"), (3, "failback")]);
    let mut line = format!("{verb} {services} --from {region}");
    if *verb == *"drain" && draft.percent(40) {
        line.push_str(&format!(" --for {}s", draft.between(30, 240)));
    }
    if *verb == *"failback" && draft.percent(40) {
        line.push_str(" --accept stable_hold");
    }
    draft.at(t, line);
}

/// What a person says to a run, or to drover.
fn command(draft: &mut Draft) {
    let (run, t) = (draft.between(1, 3), draft.between(30, 580));
    let verb = one_of(
        &mut draft.chance,
        &[
            (4, "approve"),
            (2, "reject"),
            (2, "pause"),
            (2, "resume"),
            (1, "skip"),
            (2, "abort"),
            (1, "roll-back"),
            (1, "freeze"),
            (2, "rearm"),
        ],
    );
    match verb {
        "roll-back" => draft.at(t, format!("abort run-{run} --roll-back")),
        "freeze" => {
            let span = draft.between(20, 200);
            draft.at(t, format!("freeze {span}s"));
        }
        "rearm" => draft.at(t, "rearm"),
        verb => draft.at(t, format!("{verb} run-{run}")),
    }
    if verb == "pause" && draft.percent(60) {
        draft.at(t + 20, format!("resume run-{run}"));
    }
}

fn any_leader_lost(draft: &mut Draft) {
    leader_lost(draft, 0, 590);
}
