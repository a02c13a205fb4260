//! What people may ask of a run: always a record, or a refusal that says why not.

use crate::approved::{Approved, NotApproved};
use crate::error::Refused;
use crate::handle::Effect;
use crate::progress::{Phase, Standing};
use crate::state::{Execution, Work};
use drover_model::approvals::{NotCounted, Voice};
use drover_model::journal::{Entry, JOURNAL_RECORDS_MAX};
use drover_model::plan::StepKind;
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;
use drover_model::traffic::Actor;
use drover_model::{PlanId, Timestamp};

/// Past this many records only `abort` and `reject` are taken, so that the rest of the run still finds room: half of
/// [`JOURNAL_RECORDS_MAX`], since 64 steps of 20 attempts with two records each are 2,560.
pub const COMMAND_RECORDS_MAX: u64 = JOURNAL_RECORDS_MAX / 2;

/// A command to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Answer the open question with yes.
    Approve {
        /// Who.
        by: Actor,
        /// To exactly this plan (I9).
        plan: PlanId,
        /// Why.
        reason: String,
        /// As whom, where more than one must agree.
        voice: Voice,
    },
    /// Answer the open question with no.
    Reject {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// Hold; work under way is stopped, and tried afresh by `Resume`. What can be neither observed nor repeated needs a
    /// person then.
    Pause {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// Go on where the run stands.
    Resume {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// Let the step pass at which the run stands. The run can then end only with exceptions.
    Skip {
        /// Who.
        by: Actor,
        /// Why; must not be empty.
        reason: String,
        /// The step's id, as a check that it is the one meant.
        step: Option<String>,
    },
    /// End the run.
    Abort {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
        /// Undo what was done first.
        roll_back: bool,
    },
}

impl Command {
    /// The command's word, as on the command line.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Command::Approve { .. } => "approve",
            Command::Reject { .. } => "reject",
            Command::Pause { .. } => "pause",
            Command::Resume { .. } => "resume",
            Command::Skip { .. } => "skip",
            Command::Abort { roll_back: false, .. } => "abort",
            Command::Abort { roll_back: true, .. } => "abort --roll-back",
        }
    }
}

impl Execution {
    /// Takes a command: stops the work under way where the command calls for it, and puts the record on its way.
    pub(crate) fn command(&mut self, command: Command, now: Timestamp) -> Result<Vec<Effect>, Refused> {
        let entry = self.entry_for(command, now)?;
        let stops = matches!(entry, Entry::Paused { .. } | Entry::AbortRequested { .. });
        let working = stops && self.live.in_flight.take().is_some_and(|w| w.work != Work::Wait);
        let mut effects: Vec<Effect> = working.then_some(Effect::CancelAct).into_iter().collect();
        effects.extend(self.propose(entry, now));
        Ok(effects)
    }

    fn entry_for(&self, command: Command, now: Timestamp) -> Result<Entry, Refused> {
        let run = || self.origin.run.clone();
        if let Some(pending) = &self.live.pending {
            return Err(Refused::Busy { run: run(), sequence: pending.record.sequence });
        }
        let ends = matches!(command, Command::Abort { .. } | Command::Reject { .. });
        if self.progress.sequence >= COMMAND_RECORDS_MAX && !ends {
            return Err(Refused::TooManyRecords { run: run(), records: self.progress.sequence });
        }
        let word = command.word();
        let entry = match command {
            Command::Approve { by, plan, reason, voice } => {
                self.check_answer(word, Some(now))?;
                check_person(word, &by)?;
                self.check_plan(&plan)?;
                self.check_counts(&voice)?;
                let voice = if self.progress.approvals.asks_several() { voice } else { Voice::Claimed };
                Entry::Approved { by, plan, reason, voice }
            }
            Command::Reject { by, reason } => {
                self.check_answer(word, None)?;
                Entry::Rejected { by, reason }
            }
            Command::Pause { by, reason } => Entry::Paused { by, reason },
            Command::Resume { by, reason } => Entry::Resumed { by, reason },
            Command::Skip { by, reason, step } => {
                let standing = self.check_skip(word, &by, &reason, step)?;
                Entry::StepSkipped { step: standing, by, reason }
            }
            Command::Abort { by, reason, roll_back } => {
                self.check_end(&by, roll_back)?;
                Entry::AbortRequested { by, reason, roll_back }
            }
        };
        // The transition function says what is legal; asking it, on a copy, is better than a second table.
        self.progress.clone().apply(&entry, now).map_err(|_| self.wrong_state(word))?;
        Ok(entry)
    }

    fn wrong_state(&self, command: &str) -> Refused {
        Refused::State(Reason::WrongState {
            run: self.origin.run.clone(),
            state: self.state().to_string(),
            command: command.to_owned(),
        })
    }

    /// There must be a question, and for a yes it must still be open.
    fn check_answer(&self, word: &str, now: Option<Timestamp>) -> Result<(), Refused> {
        let expires_at = self.expires_at().ok_or_else(|| self.wrong_state(word))?;
        match now {
            Some(now) if now >= expires_at => {
                Err(Refused::QuestionExpired { run: self.origin.run.clone(), at: expires_at })
            }
            _ => Ok(()),
        }
    }

    /// Drover itself ends a failover only where it gives way. What it looked at when it decided so has passed: since then
    /// a step may have begun, or a person may hold it.
    fn check_end(&self, by: &Actor, roll_back: bool) -> Result<(), Refused> {
        let supersedes =
            *by == Actor::Automatic && !roll_back && self.plan().intent.purpose == Purpose::Failover;
        if supersedes && !self.gives_way() {
            return Err(Refused::DoesNotGiveWay { run: self.origin.run.clone() });
        }
        Ok(())
    }

    fn check_plan(&self, named: &PlanId) -> Result<(), Refused> {
        match Approved::named(&self.progress.plan, named) {
            Ok(_) => Ok(()),
            Err(NotApproved::OtherPlan { .. } | NotApproved::NotAutomatic { .. }) => {
                cov_mark::hit!(i9_other_plan_is_refused);
                Err(Refused::OtherPlan {
                    run: self.origin.run.clone(),
                    asked: self.progress.plan.id.clone(),
                    named: named.clone(),
                })
            }
        }
    }

    /// An approval that changes nothing is refused, lest its sender believe that it did.
    fn check_counts(&self, voice: &Voice) -> Result<(), Refused> {
        let run = self.origin.run.clone();
        match self.progress.approvals.after(voice) {
            Ok(_) => Ok(()),
            Err(NotCounted::Unproven) => {
                Err(Refused::NotProven { run, needed: self.progress.approvals.needed })
            }
            Err(NotCounted::Again(name)) => Err(Refused::SamePerson { run, name }),
        }
    }

    fn check_skip(
        &self,
        word: &'static str,
        by: &Actor,
        reason: &str,
        named: Option<String>,
    ) -> Result<u32, Refused> {
        check_person(word, by)?;
        if reason.trim().is_empty() {
            return Err(Refused::ReasonMissing { command: word });
        }
        let standing = match self.progress.phase {
            Phase::Backoff { .. } | Phase::Held { at: Standing::Step, .. } => self.progress.cursor,
            Phase::Held { at: Standing::Undo(step), .. } => step,
            _ => return Err(self.wrong_state(word)),
        };
        let id = &self.progress.step(standing).id;
        if let StepKind::Approve { approvals: 2.., .. } = self.progress.step(standing).kind {
            return Err(Refused::NotSkipped { run: self.origin.run.clone(), step: id.clone() });
        }
        match named {
            Some(named) if named != *id => {
                Err(Refused::OtherStep { run: self.origin.run.clone(), standing: id.clone(), named })
            }
            _ => Ok(standing),
        }
    }
}

fn check_person(command: &'static str, by: &Actor) -> Result<(), Refused> {
    match by {
        Actor::Person { .. } => Ok(()),
        Actor::Automatic => Err(Refused::NeedsPerson { command }),
    }
}
