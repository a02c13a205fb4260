//! How datasets stand, for scripts and for the end of a story; and what people command.

use super::{DatasetWorld, Rights};
use crate::state::State;
use drover_model::write_right::RightState;
use drover_model::{DatasetId, Span};

impl Rights {
    fn world(&mut self, name: &DatasetId) -> Result<&mut DatasetWorld, String> {
        self.datasets.get_mut(name).ok_or_else(|| format!("nothing is known of dataset {name} yet"))
    }

    /// What is not at rest: each dataset is written by whoever holds its right, and by nobody else.
    pub(crate) fn unrest(&self) -> Vec<String> {
        self.datasets.values().flat_map(DatasetWorld::unrest).collect()
    }

    /// One line a dataset.
    pub(crate) fn status(&self) -> Vec<String> {
        self.datasets.values().map(DatasetWorld::status).collect()
    }

    pub(crate) fn abort(&mut self, name: &DatasetId) -> Result<String, String> {
        Ok(self.world(name)?.aborts())
    }

    /// The leader's next transaction on a right is so long on its way.
    pub(crate) fn delay(&mut self, span: Span) {
        self.datasets.values_mut().for_each(|world| world.is_late_by(span));
    }
}

impl State {
    /// Moves a right to the member there.
    pub(crate) fn move_right(&mut self, name: &DatasetId, place: &str) -> Result<String, String> {
        let config = self.loaded.config.clone();
        let dataset = config.datasets.get(name).ok_or_else(|| format!("no dataset {name}"))?;
        let [target] = &config.members_at(dataset, place)[..] else {
            return Err(format!("no one member of {name} is at {place}"));
        };
        Ok(self.rights.world(name)?.moves(target.clone()))
    }
}

impl DatasetWorld {
    fn unrest(&self) -> Vec<String> {
        let record = &self.stored.record;
        let (name, holder) = (&self.name, &record.holder);
        let mut found = vec![];
        if !record.is_open() || self.lead.moves() {
            found.push(format!("the right to write {name} is still being moved"));
        }
        let of_holder = self.machines.iter().position(|machine| machine.name == *holder);
        let writing = of_holder.and_then(|m| self.writes.by(m)).filter(|w| w.generation == record.generation);
        if writing.is_none() || self.writes.writers() != 1 {
            let writers = self.writes.writers();
            found.push(format!(
                "{name} is written by {writers}, not by {holder} alone at generation {}",
                record.generation
            ));
        }
        found
    }

    fn status(&self) -> String {
        let record = &self.stored.record;
        let state = match &record.state {
            RightState::Open => String::new(),
            RightState::Closing { target, .. } => format!(", closing for {target}"),
        };
        let writers: Vec<String> = (self.machines.iter().enumerate())
            .filter_map(|(m, machine)| {
                Some(format!("{} writes at {}", machine.name, self.writes.by(m)?.generation))
            })
            .collect();
        let writers = if writers.is_empty() { "nobody writes".to_owned() } else { writers.join(", ") };
        format!("{}: generation {} of {}{state}; {writers}", self.name, record.generation, record.holder)
    }
}
