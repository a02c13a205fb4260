//! Arguments of the verbs that move traffic or stop automatic action.

use drover_model::plan::Acceptance;
use drover_model::{PlanId, RegionId, ServiceId, Span};

/// Which services: named ones, or all.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub struct WhichServices {
    /// Services to move
    #[arg(value_name = "SERVICE")]
    pub services: Vec<ServiceId>,
    /// All services that have an endpoint in the region
    #[arg(long)]
    pub all: bool,
}

/// What `--plan` was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanFlag {
    /// Nothing: show the plan and stop.
    Show,
    /// The id of the plan that may run.
    Exactly(PlanId),
}

impl std::str::FromStr for PlanFlag {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Ok(PlanFlag::Show)
        } else if text.starts_with("plan-") {
            Ok(PlanFlag::Exactly(PlanId::from_text(text)))
        } else {
            Err("that is no plan id; put a bare `--plan` at the end of the line".to_owned())
        }
    }
}

/// How a plan becomes a run.
#[derive(Debug, Clone, clap::Args)]
pub struct ConsentArgs {
    /// Take on a guard's refusal by name: capacity (more load than the rest may carry), stable_hold (back too early)
    #[arg(long, value_name = "GUARD")]
    pub accept: Vec<Acceptance>,
    /// Show the plan and stop (exit 8 when there is one); with an id: run this plan and no other
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "")]
    pub plan: Option<PlanFlag>,
    /// Don't ask; without a terminal `--plan ID` is needed as well
    #[arg(long)]
    pub yes: bool,
    /// Start the run and leave, instead of following it
    #[arg(long)]
    pub no_wait: bool,
}

/// How long something holds.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub struct HowLong {
    /// For how long, such as 2h; drover warns before it lapses
    #[arg(long = "for", value_name = "SPAN")]
    pub span: Option<Span>,
    /// Until somebody ends it
    #[arg(long)]
    pub no_expiry: bool,
}

/// Arguments of `failover`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drover failover --all --from eu-west --plan\n  \
    drover failover checkout --from eu-west --to us-east --reason 'rack fire'\n  \
    drover failover checkout --from eu-west --accept capacity --plan\n  \
    drover failover --all --from eu-west --reason 'rack fire' --yes --plan plan-0a1b2c3d4e5f")]
pub struct FailoverArgs {
    #[command(flatten)]
    pub which: WhichServices,
    /// Region to leave
    #[arg(long, value_name = "REGION")]
    pub from: RegionId,
    /// Region that takes all of the traffic; by weight when absent
    #[arg(long, value_name = "REGION")]
    pub to: Option<RegionId>,
    /// Why; goes into the audit and the timeline
    #[arg(long, value_name = "TEXT", required_unless_present = "plan")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub consent: ConsentArgs,
}

/// Arguments of `failback`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drover failback --all --from eu-west --plan\n  \
    drover failback checkout --from eu-west --reason 'rack replaced'\n  \
    drover failback --all --from eu-west --accept stable_hold --reason 'it was the power, which is back'")]
pub struct FailbackArgs {
    #[command(flatten)]
    pub which: WhichServices,
    /// Region that was left, and comes back
    #[arg(long, value_name = "REGION")]
    pub from: RegionId,
    /// Why; goes into the audit and the timeline
    #[arg(long, value_name = "TEXT", required_unless_present = "plan")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub consent: ConsentArgs,
}

/// Arguments of `drain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drover drain eu-west --for 2h --plan\n  \
    drover drain eu-west --service checkout --for 2h --reason 'kernel update'\n  \
    drover drain eu-west --no-expiry --reason 'region is being closed'")]
pub struct DrainArgs {
    /// Region to take traffic off
    pub region: RegionId,
    /// Only this service; may be given several times
    #[arg(long = "service", value_name = "SERVICE")]
    pub services: Vec<ServiceId>,
    #[command(flatten)]
    pub how_long: HowLong,
    /// Why; shown in every status
    #[arg(long, value_name = "TEXT", required_unless_present = "plan")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub consent: ConsentArgs,
}

/// Arguments of `undrain`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drover undrain eu-west --plan\n  drover undrain eu-west --service checkout"
)]
pub struct UndrainArgs {
    /// Region to bring back
    pub region: RegionId,
    /// Only this service; may be given several times
    #[arg(long = "service", value_name = "SERVICE")]
    pub services: Vec<ServiceId>,
    /// Why; goes into the audit and the timeline
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    #[command(flatten)]
    pub consent: ConsentArgs,
}

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drover apply plan-0a1b2c3d4e5f --reason 'rack fire'\n  \
    drover apply plan-0a1b2c3d4e5f --yes --no-wait")]
pub struct ApplyArgs {
    /// The plan's id, as it was shown
    #[arg(value_name = "PLAN")]
    pub plan: String,
    /// Why; goes into the audit
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Don't ask; needed without a terminal
    #[arg(long)]
    pub yes: bool,
    /// Start the run and leave, instead of following it
    #[arg(long)]
    pub no_wait: bool,
}

/// Arguments of `freeze`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drover freeze --for 2h --reason 'network maintenance'\n  \
    drover freeze --no-expiry --reason 'until the audit is over'")]
pub struct FreezeArgs {
    #[command(flatten)]
    pub how_long: HowLong,
    /// Why; shown in every status
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Arguments of what needs a reason alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  drover unfreeze --reason 'maintenance is over'")]
pub struct ReasonArgs {
    /// Why; goes into the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Arguments of `rearm`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drover rearm checkout --reason 'cause found and mended'\n  drover rearm"
)]
pub struct RearmArgs {
    /// Of this service; all when absent
    pub service: Option<ServiceId>,
    /// Why; goes into the audit
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::super::{Args, Verb};
    use super::*;
    use clap::Parser;

    fn parse(line: &str) -> Result<Verb, clap::Error> {
        Args::try_parse_from(line.split(' ')).map(|a| a.verb)
    }

    #[test]
    fn a_bare_plan_shows_and_an_id_is_exact() {
        let flag = |line: &str| match parse(line).unwrap() {
            Verb::Failover(args) => args.consent.plan,
            other => panic!("{other:?}"),
        };
        assert_eq!(flag("drover failover --all --from eu-west --plan"), Some(PlanFlag::Show));
        let id = PlanId::from_text("plan-0a1b2c3d4e5f");
        let line = "drover failover --all --from eu-west --reason x --yes --plan plan-0a1b2c3d4e5f";
        assert_eq!(flag(line), Some(PlanFlag::Exactly(id)));
        let swallowed = parse("drover failover --from eu-west --plan checkout").unwrap_err().to_string();
        assert!(swallowed.contains("at the end of the line"), "{swallowed}");
    }

    #[test]
    fn what_would_be_ambiguous_is_refused() {
        for line in [
            "drover failover --from eu-west --plan",
            "drover failover checkout --all --from eu-west --plan",
            "drover failover --all --from eu-west",
            "drover drain eu-west --reason x",
            "drover drain eu-west --for 2h --no-expiry --reason x",
            "drover drain eu-west --for 2 --reason x",
            "drover freeze --for 2h",
            "drover explain",
            "drover failover --all --from EU --plan",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
