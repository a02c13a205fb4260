//! Arguments of what works without a coordinator.

use super::PlanFlag;
use clap::Subcommand;
use drover_model::break_glass::How;
use drover_model::{RegionId, ServiceId};
use std::path::PathBuf;
use std::str::FromStr;

/// Verbs of `break-glass`.
#[derive(Debug, Subcommand)]
pub enum BreakGlassVerb {
    /// DNS as its provider has it: show, set
    #[command(subcommand)]
    Dns(BreakGlassDns),
    /// Bring the record to a coordinator that is back: into the audit, and what is held back to drover
    Reconcile(ReconcileArgs),
}

/// Verbs of `break-glass dns`.
#[derive(Debug, Subcommand)]
pub enum BreakGlassDns {
    /// What the provider has now, and who holds it
    Show(GlassShowArgs),
    /// Give a service other weights, and hold it so until it is taken back
    Set(GlassSetArgs),
}

/// Where the configuration is that says which provider, and how to reach it.
#[derive(Debug, Clone, clap::Args)]
pub struct GlassPlace {
    /// Directory of YAML documents; DROVER_CONFIG, ./regions or /etc/drover/regions when absent
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
}

/// Arguments of `break-glass dns show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drover break-glass dns show\n  \
    drover break-glass dns show checkout --config /etc/drover/regions")]
pub struct GlassShowArgs {
    /// Only these services
    #[arg(value_name = "SERVICE")]
    pub services: Vec<ServiceId>,
    #[command(flatten)]
    pub place: GlassPlace,
}

/// Arguments of `break-glass dns set`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    drover break-glass dns set checkout eu-west=0 us-east=100 --reason 'eu-west burns, no coordinator' --plan\n  \
    drover break-glass dns set checkout eu-west=0 --config /etc/drover/regions --reason 'eu-west burns'\n\n\
    It asks no coordinator. A coordinator that lives after all, or comes back, leaves the service alone until it\n\
    is told to take it again: docs/break-glass.md.")]
pub struct GlassSetArgs {
    /// Which service
    #[arg(value_name = "SERVICE")]
    pub service: ServiceId,
    /// Weights, 0 to 255; a region that is not named keeps what it has
    #[arg(value_name = "REGION=WEIGHT", required = true)]
    pub weights: Vec<RegionWeight>,
    #[command(flatten)]
    pub place: GlassPlace,
    /// Why; goes into the record, and from there into the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Record of what is done, made or gone on with; ./break-glass-TIME.jsonl when absent
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Show the change and stop (exit 8); with an id: make this change and no other
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "")]
    pub plan: Option<PlanFlag>,
    /// Don't ask; without a terminal `--plan ID` is needed as well
    #[arg(long)]
    pub yes: bool,
}

/// What becomes of what is held.
#[derive(Debug, Clone, Copy, clap::Args)]
#[group(multiple = false)]
pub struct HowArgs {
    /// Drover's own targets are published again
    #[arg(long)]
    pub release: bool,
    /// What was set becomes the target, as a drain of the regions that were emptied: nothing moves
    #[arg(long)]
    pub keep: bool,
}

impl HowArgs {
    /// Which of the two was said.
    pub const fn how(self) -> Option<How> {
        match (self.release, self.keep) {
            (true, _) => Some(How::Release),
            (_, true) => Some(How::Keep),
            _ => None,
        }
    }
}

/// Arguments of `break-glass reconcile`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    drover break-glass reconcile break-glass-20261128T010203000Z.jsonl --release --reason 'eu-west is back' --plan\n  \
    drover break-glass reconcile break-glass-20261128T010203000Z.jsonl --keep --reason 'eu-west stays empty until Monday'\n\n\
    The same file twice adds nothing. What was kept ends as any drain does: drover undrain REGION --service SERVICE.")]
pub struct ReconcileArgs {
    /// The record, as `drover break-glass dns set` wrote it
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub how: HowArgs,
    /// Why; goes into the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Show what would happen and stop (exit 8); with an id: this and nothing else
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "")]
    pub plan: Option<PlanFlag>,
    /// Don't ask; without a terminal `--plan ID` is needed as well
    #[arg(long)]
    pub yes: bool,
}

/// A region and its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionWeight {
    /// The region.
    pub region: RegionId,
    /// Its weight beside those of the others.
    pub weight: u16,
}

impl FromStr for RegionWeight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (region, weight) = text.split_once('=').ok_or("it is REGION=WEIGHT, such as eu-west=0")?;
        let region = RegionId::new(region).map_err(|e| e.to_string())?;
        let weight: u8 =
            weight.parse().map_err(|_| format!("`{weight}` is no weight: it is a number from 0 to 255"))?;
        Ok(Self { region, weight: weight.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_has_its_region_and_its_bounds() {
        let parsed: RegionWeight = "eu-west=100".parse().unwrap();
        assert_eq!((parsed.region.as_str(), parsed.weight), ("eu-west", 100));
        for (text, why) in [
            ("eu-west", "REGION=WEIGHT"),
            ("eu-west=256", "0 to 255"),
            ("eu-west=-1", "0 to 255"),
            ("EU=1", "a-z"),
        ] {
            let refused = text.parse::<RegionWeight>().unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
