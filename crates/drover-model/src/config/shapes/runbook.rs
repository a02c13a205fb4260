//! `kind: Runbook`.

use super::{Default, FROM_ZERO, Kind, POSITIVE, Rule, Shape, default, optional, required};
use crate::config::defaults;

/// Steps that a list of steps may have.
pub(crate) const STEPS_MAX: usize = 50;

/// Attempts that a step may have: with a doubling pause of 1 s the twentieth would come after six days.
pub(crate) const ATTEMPTS_MAX: u64 = 20;

pub(crate) static RUNBOOK: Shape = Shape {
    name: "Runbook",
    doc: "Typed steps in order.",
    fields: &[
        required("kind", Kind::Choice(&["Runbook"]), "Says what this document is."),
        required("name", Kind::Text(Rule::Name), "Its name."),
        required("purpose", Kind::Choice(&["failover", "failback", "drain", "undrain"]), "What it is for."),
        required("description", Kind::Text(Rule::Any), "One sentence for people."),
        required("steps", Kind::List { item: &STEP, min: 1, max: STEPS_MAX }, "The steps in order."),
    ],
};

/// The steps of a ramp: steps again, hence a static and not a constant.
pub(crate) static RAMP_STEPS: Kind = Kind::List { item: &STEP, min: 1, max: STEPS_MAX };

/// One step: the word that says what it does, with its options.
pub(crate) static STEP: Kind = Kind::Keyed(&[
    ("preflight", &Kind::Object(&PREFLIGHT)),
    ("verify_app", &Kind::Object(&VERIFY_APP)),
    ("shift_traffic", &Kind::Object(&SHIFT_TRAFFIC)),
    ("verify_dns", &Kind::Object(&VERIFY_DNS)),
    ("wait", &Kind::Object(&WAIT)),
    ("validate", &Kind::Object(&VALIDATE)),
    ("drained", &Kind::Object(&DRAINED)),
    ("approve", &Kind::Object(&APPROVE)),
    ("notify", &Kind::Object(&NOTIFY)),
    ("run", &Kind::Object(&RUN)),
    ("ramp", &RAMP_STEPS),
]);

/// A program and its arguments.
const COMMAND_LINE: Kind = Kind::List { item: &Kind::Text(Rule::Any), min: 1, max: 64 };
const REPEATABILITY: Kind = Kind::Choice(&["observable", "keyed", "at_most_once"]);

const ON_FAILURE: Kind = Kind::Choice(&["abort", "roll_back", "pause", "continue"]);
const TIMEOUT: &str =
    "Time for one attempt; for `wait` and `validate` beside the time that they take by design.";
const ATTEMPTS: &str = "Attempts in all.";
const BACKOFF: &str = "Pause before the second attempt, doubled for each further one.";
const FAILED: &str = "What follows when the last attempt failed: abort, roll_back, pause or continue.";

macro_rules! step {
    ($name:ident, $word:literal, $doc:literal, [$($own:expr),*], $timeout:expr, $attempts:expr, $on_failure:literal) => {
        pub(crate) static $name: Shape = Shape {
            name: $word,
            doc: $doc,
            fields: &[
                $($own,)*
                default("timeout", POSITIVE, Default::Span($timeout), TIMEOUT),
                default("attempts", Kind::Integer { min: 1, max: ATTEMPTS_MAX }, Default::Integer($attempts), ATTEMPTS),
                default("backoff", FROM_ZERO, Default::Span(defaults::STEP_BACKOFF), BACKOFF),
                default("on_failure", ON_FAILURE, Default::Text($on_failure), FAILED),
            ],
        };
    };
}

step!(
    PREFLIGHT,
    "preflight",
    "Evaluates every guard again on live facts. Nothing was done yet, so it aborts.",
    [],
    defaults::STEP_TIMEOUT,
    defaults::STEP_ATTEMPTS,
    "abort"
);
step!(
    VERIFY_APP,
    "verify_app",
    "Runs the service's scripted requests against every target endpoint.",
    [],
    defaults::STEP_TIMEOUT,
    defaults::STEP_ATTEMPTS,
    "pause"
);
step!(
    SHIFT_TRAFFIC,
    "shift_traffic",
    "Publishes the new weights.",
    [],
    defaults::SHIFT_TIMEOUT,
    defaults::STEP_ATTEMPTS,
    "pause"
);
step!(
    VERIFY_DNS,
    "verify_dns",
    "Asks every DNS instance and compares.",
    [],
    defaults::STEP_TIMEOUT,
    defaults::STEP_ATTEMPTS,
    "pause"
);
step!(
    WAIT,
    "wait",
    "Lets time pass.",
    [required(
        "for",
        Kind::ChoiceOrSpan(&["drain", "soak"]),
        "`drain`: until old answers have left the caches; `soak`: the service's `soak`; or a length of time."
    )],
    defaults::WAIT_TIMEOUT,
    1,
    "pause"
);
step!(
    VALIDATE,
    "validate",
    "Judges error rate, latency and availability over the validation window.",
    [],
    defaults::WAIT_TIMEOUT,
    1,
    "pause"
);
step!(
    DRAINED,
    "drained",
    "Waits out what caches keep and measures what still reaches the region that was left (`traffic` of a service). Traffic that stays is noted, and stops nothing.",
    [],
    defaults::DRAINED_TIMEOUT,
    1,
    "continue"
);
step!(
    APPROVE,
    "approve",
    "Asks a person. No answer is a no.",
    [required("message", Kind::Text(Rule::Any), "What is asked.")],
    defaults::APPROVE_TIMEOUT,
    1,
    "abort"
);
step!(
    NOTIFY,
    "notify",
    "Pages people. That nobody could be told is noted, and stops nothing.",
    [required("message", Kind::Text(Rule::Any), "What is sent.")],
    defaults::STEP_TIMEOUT,
    defaults::STEP_ATTEMPTS,
    "continue"
);
step!(
    RUN,
    "run",
    "Runs a program, without a shell. It is given DROVER_RUN, DROVER_STEP and DROVER_IDEMPOTENCY_KEY.",
    [
        required("command", COMMAND_LINE, "The program with its whole path, and its arguments."),
        required(
            "repeatability",
            REPEATABILITY,
            "What may be done after a crash in the middle of it. `observable`: look by `observe`, and run it only if it \
             is not done. `keyed`: run it again, it honours DROVER_IDEMPOTENCY_KEY. `at_most_once`: neither; a person \
             decides."
        ),
        optional(
            "observe",
            COMMAND_LINE,
            "For `observable`: a program that ends with 0 when it is done, with 1 when it is not."
        ),
        default(
            "undo",
            Kind::Choice(&["ask", "nothing"]),
            Default::Text("ask"),
            "What a rollback does about it: ask a person, or nothing because its effect may stay."
        )
    ],
    defaults::STEP_TIMEOUT,
    1,
    "pause"
);
