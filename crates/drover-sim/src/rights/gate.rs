//! The process beside a database: it starts and stops what writes, as `Supervisor` decides.

use super::DatasetWorld;
use super::agenda::What;
use super::net::socket;
use drover_exec::write_right::{GateStep, StopReason, Supervisor};
use drover_model::write_right::{GateAnswer, GateOrder, Permit};
use drover_model::{Span, Timestamp};

/// Of so many databases one takes as long to stop as it may; and of so many gates one looks as late as it may.
const WORST_ONE_IN: u32 = 4;

/// One life of a gate.
pub(super) struct GateProcess {
    pub(super) life: u64,
    /// Whose orders count: the newest connection's.
    pub(super) session: u64,
    supervisor: Supervisor,
    looks_at: Option<Timestamp>,
    /// The database is being stopped until then.
    stopping: Option<Timestamp>,
}

impl DatasetWorld {
    /// A gate begins with a database that does not run.
    pub(super) fn gate_begins(&mut self, m: usize) {
        let machine = &mut self.machines[m];
        machine.lives += 1;
        let supervisor = Supervisor::default();
        machine.gate =
            Some(GateProcess { life: machine.lives, session: 0, supervisor, looks_at: None, stopping: None });
    }

    fn gate(&mut self, m: usize, life: u64) -> Option<&mut GateProcess> {
        self.machines[m].gate.as_mut().filter(|gate| gate.life == life)
    }

    /// An order of the agent's. The clock goes before it, and one that comes while the database stops waits for that.
    pub(super) fn ordered(&mut self, m: usize, life: u64, session: u64, (number, order): (u64, GateOrder)) {
        let here = self.machines[m].clock.at(self.now);
        let Some(gate) = self.gate(m, life).filter(|gate| gate.session == session) else { return };
        let again = What::Ordered { machine: m, life, session, number, order };
        if let Some(ends) = gate.stopping {
            return self.agenda.put(ends, again);
        }
        let answer = match gate.supervisor.look(false, here) {
            Some(why) => return self.stops(m, why, Some(again)),
            None => match gate.supervisor.obey(order, here) {
                GateStep::Stop(why) => return self.stops(m, why, Some(again)),
                GateStep::Start(permit) => {
                    gate.supervisor.started(permit, here);
                    self.begins_to_write(m, permit.generation);
                    self.gate_looks_again(m);
                    GateAnswer::Running { generation: permit.generation }
                }
                GateStep::Runs(generation) => GateAnswer::Running { generation },
                GateStep::Stopped(_) => GateAnswer::Stopped { why: None },
            },
        };
        let takes = socket(&mut self.chance);
        let answered = What::Answered { machine: m, session, number, order, answer };
        self.agenda.put(self.now + takes, answered);
    }

    /// The last look that is sure not to come too late is as late as a gate may be, and by chance as late as its tick allows.
    pub(super) fn gate_looks_again(&mut self, m: usize) {
        let worst = self.chance.u32(..WORST_ONE_IN) == 0;
        let share = if worst { 100 } else { self.chance.u64(0..=20) };
        let (now, machine) = (self.now, &mut self.machines[m]);
        let Some(gate) = &mut machine.gate else { return };
        let Some(Permit { until, gate_tick, .. }) = gate.supervisor.permit() else { return };
        let here = machine.clock.at(now);
        let last = here.plus(until.since(here).minus(gate_tick)).plus(Span::from_millis(1));
        let tick = Span::from_millis(gate_tick.as_millis().saturating_sub(1));
        let late = Span::from_millis(tick.as_millis() * share / 100);
        let at = machine.clock.when(last.plus(late).min(until.max(last)), now);
        gate.looks_at = Some(at);
        let looks = What::GateLooks(m, gate.life);
        self.agenda.put(at, looks);
    }

    pub(super) fn gate_looks(&mut self, m: usize, life: u64) {
        let (now, here) = (self.now, self.machines[m].clock.at(self.now));
        let Some(gate) = self.gate(m, life).filter(|gate| gate.looks_at == Some(now)) else { return };
        gate.looks_at = None;
        match gate.supervisor.look(false, here) {
            Some(why) => self.stops(m, why, None),
            None => self.gate_looks_again(m),
        }
    }

    /// It writes on until nothing of it runs any more. `then` is what waited for that.
    fn stops(&mut self, m: usize, why: StopReason, then: Option<What>) {
        let worst = self.chance.u32(..WORST_ONE_IN) == 0;
        let most = self.intervals.demotion();
        let takes = if worst { most } else { Span::from_millis(self.chance.u64(0..=most.as_millis() / 4)) };
        let (now, machine) = (self.now, &mut self.machines[m]);
        let here = machine.clock.at(now);
        let ends = machine.clock.when(here.plus(takes), now);
        let Some(gate) = &mut machine.gate else { return };
        gate.supervisor.stopped(why, here);
        (gate.looks_at, gate.stopping) = (None, Some(ends));
        let life = gate.life;
        let name = machine.name.clone();
        self.agenda.put(ends, What::Stopped(m, life));
        if let Some(then) = then {
            self.agenda.put(ends, then);
        }
        self.tell(format!("{name} stops writing: {why}"));
    }

    pub(super) fn database_stopped(&mut self, m: usize, life: u64) {
        let Some(gate) = self.gate(m, life) else { return };
        gate.stopping = None;
        self.ends_to_write(m);
    }
}
