//! The verbs of a script: those of the command line, those of fate, and those that look.

mod dataset;
mod fate;
mod operate;

use crate::render;
use crate::sim::Simulation;
use crate::state::State;
use drover_model::{AgentId, EndpointKey, RegionId, ServiceId, Span};
use std::collections::VecDeque;
use std::str::FromStr;

/// What is left of a line, word by word.
pub(crate) struct Words(VecDeque<String>);

impl Words {
    pub(crate) fn of(line: &str) -> Self {
        Self(line.split_whitespace().map(str::to_owned).collect())
    }

    pub(crate) fn next(&mut self, what: &str) -> Result<String, String> {
        self.0.pop_front().ok_or_else(|| format!("{what} is missing"))
    }

    fn optional(&mut self) -> Option<String> {
        self.0.pop_front()
    }

    /// The rest of the line.
    fn rest(&mut self) -> String {
        self.0.drain(..).collect::<Vec<_>>().join(" ")
    }

    /// Takes this word, wherever it stands.
    pub(crate) fn word(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|w| w == name);
        at.map(|at| self.0.remove(at)).is_some()
    }

    /// Takes `--name VALUE` out, wherever it stands.
    fn option(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(at) = self.0.iter().position(|w| w == name) else { return Ok(None) };
        self.0.remove(at);
        self.0.remove(at).map(Some).ok_or_else(|| format!("{name} needs a value"))
    }

    fn span(&mut self, what: &str) -> Result<Span, String> {
        let word = self.next(what)?;
        Span::from_str(&word).map_err(|e| format!("{word}: {e}"))
    }

    pub(crate) fn end(&self) -> Result<(), String> {
        match self.0.front() {
            None => Ok(()),
            Some(word) => Err(format!("`{word}` is one word too many")),
        }
    }
}

/// What a script may name.
enum Named {
    Region(RegionId),
    Endpoint(EndpointKey),
}

impl State {
    fn region(&self, name: &str) -> Result<RegionId, String> {
        let found = self.loaded.config.regions.keys().find(|r| r.as_str() == name);
        found.cloned().ok_or_else(|| format!("no region {name}"))
    }

    fn service(&self, name: &str) -> Result<ServiceId, String> {
        let found = self.loaded.config.services.keys().find(|s| s.as_str() == name);
        found.cloned().ok_or_else(|| format!("no service {name}"))
    }

    fn agent(&self, name: &str) -> Result<AgentId, String> {
        let found = self.agents.keys().find(|a| a.as_str() == name);
        found.cloned().ok_or_else(|| format!("no agent {name}"))
    }

    fn endpoint(&self, name: &str) -> Result<EndpointKey, String> {
        let found = self.endpoints().into_iter().find(|e| e.to_string() == name);
        found.ok_or_else(|| format!("no endpoint {name}"))
    }

    fn named(&self, name: &str) -> Result<Named, String> {
        if name.contains('@') {
            self.endpoint(name).map(Named::Endpoint)
        } else {
            self.region(name).map(Named::Region)
        }
    }

    /// A region stands for all its endpoints.
    fn endpoints_of(&self, name: &str) -> Result<Vec<EndpointKey>, String> {
        Ok(match self.named(name)? {
            Named::Endpoint(endpoint) => vec![endpoint],
            Named::Region(region) => self.endpoints().into_iter().filter(|e| e.region == region).collect(),
        })
    }
}

/// Does one verb; what it prints comes back.
///
/// # Errors
/// In words, when the line makes no sense. What drover refuses is no error: it is printed.
pub(crate) fn play(sim: &mut Simulation, verb: &str, mut words: Words) -> Result<Vec<String>, String> {
    let mut printed = match verb {
        "advance" => {
            let span = words.span("how long")?;
            words.end()?;
            sim.advance(span);
            vec![]
        }
        "status" => render::status(&sim.shared.lock()),
        "explain" => {
            let subject = words.next("a region or endpoint")?;
            words.end()?;
            render::explain(&sim.shared.lock(), &subject)?
        }
        "dns" => render::dns(&sim.shared.lock()),
        "run" => {
            let what = words.next("`list` or `show`")?;
            match (what.as_str(), words.optional()) {
                ("list", None) => render::run_list(&sim.shared.lock()),
                ("show", Some(run)) => render::run_show(&sim.shared.lock(), &run)?,
                _ => return Err("run list, or run show RUN".into()),
            }
        }
        _ => match fate::play(sim, verb, &mut words)? {
            Some(printed) => printed,
            None => match dataset::play(sim, verb, &mut words)? {
                Some(printed) => printed,
                None => operate::play(sim, verb, &mut words)?
                    .ok_or_else(|| format!("`{verb}` is no verb of a script"))?,
            },
        },
    };
    // What happened comes first, and what was asked for after it.
    let happened = sim.told().into_iter().map(|(at, what)| format!("{} {what}", render::clock(at)));
    printed.splice(0..0, happened.collect::<Vec<_>>());
    let state = sim.shared.lock();
    Ok(printed.into_iter().map(|line| render::plain(&state, line)).collect())
}
