//! The simulation: a world, its clock, and the order in which things happen at each step.

use crate::agent::Sent;
use crate::runs;
use crate::state::{Leader, Shared, State, WARM_UP};
use crate::world::{Loaded, WorldError, WorldFiles};
use drover_exec::Command;
use drover_model::{Span, Timestamp};
use tokio::runtime::Runtime;

/// The longest step of time: drover itself looks at least this often.
const STEP: Span = Span::from_secs(1);
/// How often every task gets its turn without anything happening until nothing is left to do at one instant. A task
/// that was woken takes one turn to do something.
const QUIET_TURNS: usize = 8;

/// A world with a leader in it. Dropping it ends all that runs in it.
pub struct Simulation {
    runtime: Runtime,
    pub(crate) shared: Shared,
}

impl Simulation {
    /// The world of that name, in which all is well: probed for a while, or `fresh`, when nothing was probed yet.
    ///
    /// # Errors
    /// [`WorldError`] when there is no such world or it is not valid.
    pub fn new(files: &WorldFiles, name: &str, fresh: bool) -> Result<Self, WorldError> {
        let loaded = Loaded::read(files, name)?;
        let unreadable =
            |e: std::io::Error| WorldError::Unreadable { what: "the clock".into(), why: e.to_string() };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(unreadable)?;
        let shared = runtime.block_on(async {
            if fresh {
                tokio::time::sleep(WARM_UP.to_duration()).await;
            }
            Shared::new(State::new(loaded, fresh))
        });
        let mut sim = Self { runtime, shared };
        sim.within(async { sim.shared.lock().reconcile() });
        if !fresh {
            sim.advance(WARM_UP);
        }
        sim.told();
        Ok(sim)
    }

    /// While the guard lives, the time is this world's.
    pub(crate) fn handle(&self) -> tokio::runtime::Handle {
        self.runtime.handle().clone()
    }

    /// Does `work` inside of the world's time.
    pub(crate) fn within<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            let result = work.await;
            settle(&self.shared).await;
            result
        })
    }

    /// Lets time pass.
    pub fn advance(&mut self, span: Span) {
        let shared = self.shared.clone();
        self.within(async {
            let end = shared.lock().now() + span;
            loop {
                let now = shared.lock().now();
                if now >= end {
                    return;
                }
                tokio::time::sleep(end.since(now).min(STEP).to_duration()).await;
                let passed = shared.lock().now().since(now);
                step(&shared, passed).await;
            }
        });
    }

    /// What must never happen and did.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.shared.lock().watch.violations.clone()
    }

    /// What happened since this was asked last.
    pub(crate) fn told(&self) -> Vec<(Timestamp, String)> {
        std::mem::take(&mut self.shared.lock().told)
    }

    /// A successor takes over. The predecessor is dead, or, when `old_wakes`, goes on believing that it leads.
    pub(crate) fn succeed(&self, old_wakes: bool) {
        self.within(async { succeed(&self.shared, old_wakes) });
    }
}

/// One step: agents probe and report, the leader judges and decides, DNS is brought up to what stands.
async fn step(shared: &Shared, span: Span) {
    {
        let mut state = shared.lock();
        state.serve_users(span);
        state.hear_agents();
        state.keep_rights();
        state.judge();
    }
    settle(shared).await;
    let mut look = shared.lock().look();
    let commands = look.as_ref().map_or_else(Vec::new, |look| look.commands(&shared.lock()));
    if !commands.is_empty() {
        for (run, command) in commands {
            let stops = matches!(command, Command::Abort { .. });
            if let Err(refused) = runs::command(shared, &run, command).await {
                let what = if stops { "stopped" } else { "withdrawn" };
                shared.lock().tell(format!("{run} can't be {what}: {refused}"));
            }
        }
        look = shared.lock().look();
    }
    let new = shared.lock().decide(look);
    if let Some(new) = new
        && let Err(why) = runs::create(shared, new)
    {
        shared.lock().tell(format!("a run can't be created: {why}"));
    }
    settle(shared).await;
    let mut state = shared.lock();
    state.reconcile_deposed();
    state.reconcile();
    state.check_always();
}

/// Every task goes as far as it can at this instant. A leader that died on the way is succeeded at once.
async fn settle(shared: &Shared) {
    let (mut quiet, mut seen) = (0, shared.lock().happenings);
    while quiet < QUIET_TURNS && shared.lock().is_driven() {
        tokio::task::yield_now().await;
        if shared.lock().leader_died {
            succeed(shared, false);
        }
        let now = shared.lock().happenings;
        quiet = if now == seen { quiet + 1 } else { 0 };
        seen = now;
    }
}

fn succeed(shared: &Shared, old_wakes: bool) {
    {
        let mut state = shared.lock();
        state.saw_takeover();
        let tasks: Vec<_> = state.leader.runs.values_mut().filter_map(|run| run.task.take()).collect();
        if old_wakes {
            state.depose();
            state.awake.extend(tasks);
        } else {
            tasks.iter().for_each(tokio::task::JoinHandle::abort);
        }
        state.leader_died = false;
        state.happenings += 1;
        state.store.epoch.counter += 1;
        let counter = state.store.epoch.counter;
        let recalled = state.store.standing.clone();
        state.leader = Leader { started_at: state.now(), recalled, ..Leader::default() };
        state.tell(format!("epoch {counter} leads"));
    }
    runs::resume(shared);
}

impl State {
    fn serve_users(&mut self, span: Span) {
        let config = self.loaded.config.clone();
        let endpoints = self.loaded.endpoints.clone();
        for endpoint in endpoints.iter() {
            let answers = self.dns.answers.get(&endpoint.service);
            let weight = answers.and_then(|a| a.weights.get(&endpoint.region)).map_or(0, |w| w.0);
            let rate = self.truth.load(&config, &endpoint.service);
            self.truth.serve(endpoint, rate, weight, span);
        }
    }

    fn hear_agents(&mut self) {
        self.deliver();
        let (now, config) = (self.now(), self.loaded.config.clone());
        let mut reports = vec![];
        for (place, agent) in (0..).zip(self.agents.values_mut()) {
            agent.probe_due(&config, &self.truth, place, now);
            let way = agent.fate.way;
            if let Some(report) = agent.report(&config, &self.truth, now) {
                let arrivals = way.arrivals(agent.sent).into_iter();
                reports.extend(arrivals.map(|after| (now + after, report.clone())));
            }
        }
        for (arrives_at, report) in reports {
            if arrives_at <= now {
                self.take_in(&report);
            } else {
                self.under_way.push((arrives_at, report));
            }
        }
    }

    /// What is under way arrives in the order of its arrivals.
    fn deliver(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let now = self.now();
        let mut due: Vec<_> = self.under_way.extract_if(.., |(arrives_at, _)| *arrives_at <= now).collect();
        due.sort_by_key(|(arrives_at, _)| *arrives_at);
        for (_, report) in due {
            self.take_in(&report);
        }
    }

    /// One that is refused, as from an earlier boot, is lost.
    pub(crate) fn take_in(&mut self, report: &Sent) {
        _ = self.ingest(report);
    }
}
