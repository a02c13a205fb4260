//! Who writes, and whether anybody does that must not (I5).
//!
//! A register behind each gate writes on and on, a numbered write every so often, from when it is started until nothing of it
//! runs. So it is enough to look whenever one begins: if an older one runs then, it writes after it.

use super::DatasetWorld;
use drover_model::write_right::WriteGeneration;
use drover_model::{Span, Timestamp};

/// Between two writes of one register.
const WRITE_EVERY: Span = Span::from_millis(100);

/// One copy that is being written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writing {
    machine: usize,
    pub(super) generation: WriteGeneration,
    since: Timestamp,
}

/// All writes to a dataset.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// The first at the latest generation that anybody has written at.
    newest: Option<Writing>,
    now: Vec<Writing>,
    /// How many there were, but for those of `now`.
    count: u64,
}

impl Writes {
    pub(super) fn by(&self, machine: usize) -> Option<&Writing> {
        self.now.iter().find(|writing| writing.machine == machine)
    }

    pub(super) fn writers(&self) -> usize {
        self.now.len()
    }

    /// The number of the last write.
    pub(super) fn number(&self, now: Timestamp) -> u64 {
        self.now.iter().fold(self.count, |count, writing| count + writing.count(now))
    }
}

impl Writing {
    fn count(&self, now: Timestamp) -> u64 {
        now.since(self.since).as_millis() / WRITE_EVERY.as_millis()
    }
}

impl DatasetWorld {
    pub(super) fn begins_to_write(&mut self, m: usize, generation: WriteGeneration) {
        let begins = Writing { machine: m, generation, since: self.now };
        let ours = &self.machines[m].name;
        let name = |writing: &Writing| &self.machines[writing.machine].name;
        let mut found = vec![];
        for other in self.writes.now.iter().filter(|other| other.machine != m) {
            let (theirs, older) = (name(other), other.generation.min(generation));
            found.push(format!(
                "{ours} begins to write at generation {generation} while {theirs} writes at {}: {older} is written on",
                other.generation
            ));
        }
        match &self.writes.newest {
            Some(newest) if newest.generation > generation => found.push(format!(
                "{ours} writes at generation {generation} after {} wrote at {}",
                name(newest),
                newest.generation
            )),
            Some(newest) if newest.generation == generation && newest.machine != m => {
                found.push(format!("{ours} and {} write at one generation, {generation}", name(newest)));
            }
            Some(newest) if newest.generation == generation => {}
            _ => self.writes.newest = Some(begins),
        }
        self.violations.append(&mut found);
        let number = self.writes.number(self.now);
        self.tell(format!("{ours} writes at generation {generation}, after write {number}"));
        self.writes.now.push(begins);
    }

    pub(super) fn ends_to_write(&mut self, m: usize) {
        let now = self.now;
        for ended in self.writes.now.extract_if(.., |writing| writing.machine == m) {
            self.writes.count += ended.count(now);
        }
    }
}
