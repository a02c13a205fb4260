//! What the exit status of `drover` says: an interface for scripts, so numbers are never reused.

use drover_model::journal::RunState;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Done = 0,
    /// A fault of drover's own.
    Internal = 1,
    /// The command line or the configuration is wrong; nothing was done.
    Usage = 2,
    /// A guard refused; nothing was done.
    Refused = 3,
    /// It was tried and failed.
    Failed = 4,
    /// Only a person can go on.
    NeedsOperator = 5,
    /// The coordinator can't be reached.
    Unreachable = 6,
    /// Done, with exceptions.
    DoneWithExceptions = 7,
    /// Something needs attention (`status --exit-code`, `doctor`), or changes are pending (`--plan`, `config diff`).
    Attention = 8,
    /// A coordinator ends because another one leads: whoever supervises it starts it as a follower.
    Deposed = 9,
    /// What should vouch for the past does not (`audit verify`).
    EvidenceBroken = 10,
}

impl ExitCode {
    /// Every code in order, for the help.
    pub const ALL: [ExitCode; 11] = [
        ExitCode::Done,
        ExitCode::Internal,
        ExitCode::Usage,
        ExitCode::Refused,
        ExitCode::Failed,
        ExitCode::NeedsOperator,
        ExitCode::Unreachable,
        ExitCode::DoneWithExceptions,
        ExitCode::Attention,
        ExitCode::Deposed,
        ExitCode::EvidenceBroken,
    ];

    /// The number that a script sees.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// In a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            ExitCode::Done => "done",
            ExitCode::Internal => "internal error",
            ExitCode::Usage => "usage or configuration",
            ExitCode::Refused => "refused by a guard",
            ExitCode::Failed => "failed",
            ExitCode::NeedsOperator => "needs an operator",
            ExitCode::Unreachable => "coordinator unreachable",
            ExitCode::DoneWithExceptions => "done with exceptions",
            ExitCode::Attention => "attention needed or changes pending",
            ExitCode::Deposed => "another coordinator leads",
            ExitCode::EvidenceBroken => "the audit is broken",
        }
    }

    /// What whoever followed a run is told when it came to rest.
    pub fn of_run(state: RunState) -> Self {
        match state {
            RunState::Succeeded => ExitCode::Done,
            RunState::SucceededWithExceptions => ExitCode::DoneWithExceptions,
            RunState::RolledBack | RunState::Aborted | RunState::Rejected | RunState::ExpiredUnapproved => {
                ExitCode::Failed
            }
            RunState::AwaitingApproval | RunState::Paused | RunState::NeedsOperator => {
                ExitCode::NeedsOperator
            }
            // Not at rest: whoever stopped looking has a run that goes on.
            RunState::Running | RunState::Validating | RunState::RollingBack => ExitCode::Attention,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        std::process::ExitCode::from(code.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_an_interface() {
        let numbers: Vec<u8> = ExitCode::ALL.iter().map(|c| c.number()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn a_run_that_came_to_rest_has_its_code() {
        use RunState as S;
        for (state, number) in [
            (S::Succeeded, 0),
            (S::SucceededWithExceptions, 7),
            (S::RolledBack, 4),
            (S::Aborted, 4),
            (S::Rejected, 4),
            (S::ExpiredUnapproved, 4),
            (S::AwaitingApproval, 5),
            (S::Paused, 5),
            (S::NeedsOperator, 5),
            (S::Running, 8),
            (S::Validating, 8),
            (S::RollingBack, 8),
        ] {
            assert_eq!(ExitCode::of_run(state).number(), number, "{state}");
        }
    }
}
