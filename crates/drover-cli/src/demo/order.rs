//! `drover break` and `drover heal`: trouble ordered from the world that `drover up` runs here, and from no other.

use super::service::control;
use super::world_file::WorldFile;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::document::Versioned;
use crate::output::{Out, table};
use drover_model::api::Done;
use drover_model::{Percent, Span};
use serde::{Deserialize, Serialize};

/// Arguments of `break`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(override_usage = "drover break REGION\n       drover break link REGION REGION\n       \
                            drover break slow REGION DURATION\n       drover break errors REGION SHARE")]
#[command(
    after_help = "Examples:\n  drover break eu-west                 SIGKILL to its services and agents\n  \
                        drover break link eu-west us-east    drop the packets between their vantages and services\n  \
                        drover break slow eu-west 3s         every answer takes so much longer\n  \
                        drover break errors eu-west 60%      this share of answers are errors\n\n\
                        Acts on the world of `drover up` in this directory only; `drover heal` mends all of it."
)]
pub struct BreakArgs {
    /// Region whose services and agents are killed
    #[arg(required = true, value_name = "REGION")]
    pub region: Option<String>,
    /// Something else than a whole region.
    #[command(subcommand)]
    pub what: Option<BreakWhat>,
}

/// What else can be broken.
#[derive(Debug, clap::Subcommand)]
pub enum BreakWhat {
    /// Drop the packets between two regions
    #[command(after_help = "Example:\n  drover break link eu-west us-east")]
    Link {
        /// One region
        a: String,
        /// The other
        b: String,
    },
    /// Make every answer of a region slower
    #[command(after_help = "Example:\n  drover break slow eu-west 3s")]
    Slow {
        /// Which region
        region: String,
        /// By how much
        by: Span,
    },
    /// Make a share of a region's answers errors
    #[command(after_help = "Example:\n  drover break errors eu-west 60%")]
    Errors {
        /// Which region
        region: String,
        /// Which share
        share: Percent,
    },
}

/// Arguments of `heal`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drover heal\n  drover heal eu-west\n\n\
                        What is dead is started again. Traffic comes back by `drover failback`.")]
pub struct HealArgs {
    /// Only this region
    pub region: Option<String>,
}

/// What the world is told to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Kill a region.
    Kill {
        /// Which.
        region: String,
    },
    /// Drop packets both ways.
    Link {
        /// One end.
        a: String,
        /// The other.
        b: String,
    },
    /// Make it slow.
    Slow {
        /// Which region.
        region: String,
        /// By how much.
        by: Span,
    },
    /// Make it fail.
    Errors {
        /// Which region.
        region: String,
        /// How often.
        share: Percent,
    },
    /// Mend it.
    Heal {
        /// Only this region.
        region: Option<String>,
    },
}

/// What the world says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// It was done.
    pub done: bool,
    /// In one sentence.
    pub sentence: String,
    /// What to do.
    pub hint: Option<String>,
    /// It was not done because the order makes no sense.
    #[serde(default)]
    pub misused: bool,
}

/// Breaks something.
///
/// # Errors
/// When no world runs here, or it refuses.
pub async fn run_break(args: BreakArgs, out: &Out) -> Result<ExitCode> {
    let order = match (args.what, args.region) {
        (Some(BreakWhat::Link { a, b }), _) => Order::Link { a, b },
        (Some(BreakWhat::Slow { region, by }), _) => Order::Slow { region, by },
        (Some(BreakWhat::Errors { region, share }), _) => Order::Errors { region, share },
        (None, Some(region)) => Order::Kill { region },
        (None, None) => return Err(Failure::usage("say what to break").hint("drover break --help")),
    };
    send(&order, out).await
}

/// Mends what was broken.
///
/// # Errors
/// When no world runs here, or it can't.
pub async fn run_heal(args: HealArgs, out: &Out) -> Result<ExitCode> {
    send(&Order::Heal { region: args.region }, out).await
}

async fn send(order: &Order, out: &Out) -> Result<ExitCode> {
    let Some(world) = WorldFile::find()? else {
        let message = "no sample world runs in this directory, and nothing else may be broken with this";
        return Err(Failure::new(ExitCode::Refused, message).hint("drover up"));
    };
    let internal = |e| Failure::because(ExitCode::Internal, "can't put the order into words", &e);
    let line = serde_json::to_string(order).map_err(internal)?;
    let failed = |e| {
        Failure::because(
            ExitCode::Failed,
            format!("can't order it from the world (process {})", world.pid),
            &e,
        )
    };
    let answer = control::exchange(&world.control, &line).await.map_err(failed)?;
    let said: Said = serde_json::from_str(&answer)
        .map_err(|e| Failure::because(ExitCode::Internal, "can't read what the world says", &e))?;
    if !said.done {
        let failure =
            Failure::new(if said.misused { ExitCode::Usage } else { ExitCode::Failed }, said.sentence);
        return Err(match said.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        });
    }
    let done = Done { sentence: said.sentence.clone() };
    out.show(&Versioned::of(&done), |look| table::paragraph(look, &said.sentence))?;
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: BreakArgs,
    }

    fn parse(line: &str) -> std::result::Result<BreakArgs, clap::Error> {
        Line::try_parse_from(std::iter::once("break").chain(line.split(' ').filter(|w| !w.is_empty())))
            .map(|l| l.args)
    }

    #[test]
    fn a_region_or_something_else_is_broken() {
        assert_eq!(parse("eu-west").unwrap().region.as_deref(), Some("eu-west"));
        assert!(matches!(parse("link a b").unwrap().what, Some(BreakWhat::Link { .. })));
        let slow = parse("slow eu-west 3s").unwrap().what;
        assert!(matches!(slow, Some(BreakWhat::Slow { by, .. }) if by == Span::from_secs(3)));
        assert!(matches!(parse("errors eu-west 60%").unwrap().what, Some(BreakWhat::Errors { .. })));
        for bad in ["", "link a", "slow eu-west 3", "errors eu-west 60"] {
            assert!(parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
