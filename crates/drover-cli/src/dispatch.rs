//! From a verb to what it does.

use crate::args::{
    Args, AuditVerb, AuditVerifyArgs, BreakGlassVerb, ConfigVerb, DnsArgs, DnsVerb, Global, PolicyVerb,
    RunbookVerb, Verb,
};
use crate::context::{Surroundings, Target};
use crate::demo;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::Out;
use crate::roles;
use crate::tls_files;
use crate::verbs::{self, Bench};

/// Does what was asked.
///
/// # Errors
/// Why it was not done.
pub async fn dispatch(args: Args, out: &Out) -> Result<ExitCode> {
    let Args { global, verb } = args;
    match verb {
        Verb::Agent(args) => roles::agent::run(&args, &global.tls).await,
        Verb::Coordinator(args) => roles::coordinator::run(&args, &global.tls).await,
        Verb::Gate(args) => roles::gate::run(&args).await,
        Verb::Dns(DnsArgs { verb: None, server }) => roles::dns::run(&server).await,
        Verb::Dns(DnsArgs { verb: Some(DnsVerb::Keygen(args)), .. }) => verbs::dns_keygen::run(out, &args),
        Verb::BreakGlass(BreakGlassVerb::Dns(verb)) => verbs::break_glass::run(out, verb).await,
        Verb::Pki(verb) => verbs::pki::run(out, verb).await,
        Verb::Demo(args) => demo::run_demo(args, out).await,
        Verb::Up(args) => demo::run_up(args, out).await,
        Verb::Break(args) => demo::run_break(args, out).await,
        Verb::Heal(args) => demo::run_heal(args, out).await,
        Verb::SampleService(args) => demo::service::run(args).await.map(|()| ExitCode::Done),
        Verb::Launch(args) => roles::launch::run(&args).await,
        Verb::Store(verb) => verbs::store::run(out, verb).await,
        Verb::Completions { shell } => verbs::tools::completions(out, shell),
        Verb::Man { dir } => verbs::tools::man(out, dir.as_deref()),
        Verb::Config(ConfigVerb::Validate { dir, runbooks }) => verbs::config::validate(out, dir, runbooks),
        Verb::Config(ConfigVerb::Schema { runbook }) => verbs::config::schema(out, runbook),
        Verb::Runbook(RunbookVerb::Lint { dir }) => verbs::runbook::lint(out, dir),
        Verb::Audit(AuditVerb::Verify(AuditVerifyArgs { export: Some(file), heads })) => {
            verbs::audit::verify_export(out, heads, &file)
        }
        Verb::Policy(PolicyVerb::Backtest(args)) => verbs::policy::backtest(out, &args),
        Verb::Simulate(args) => verbs::simulate::run(out, &args),
        Verb::Policy(PolicyVerb::History(args)) => verbs::policy::history::run(out, &args),
        verb => ask(verb, &Bench::new(target(&global)?, out.clone())?).await,
    }
}

fn target(global: &Global) -> Result<Target> {
    let mut target = Surroundings::new(global.coordinator.clone(), global.context.clone()).target()?;
    target.tls = tls_files::Said::of(&global.tls).files(target.tls.as_ref())?;
    Ok(target)
}

/// The verbs that speak to a coordinator.
async fn ask(verb: Verb, bench: &Bench) -> Result<ExitCode> {
    match verb {
        Verb::Status(args) => verbs::status::run(bench, &args).await,
        Verb::Explain(args) => verbs::explain::run(bench, &args).await,
        Verb::Failover(args) => verbs::moves::failover(bench, args).await,
        Verb::Failback(args) => verbs::moves::failback(bench, args).await,
        Verb::Drain(args) => verbs::moves::drain(bench, args).await,
        Verb::Undrain(args) => verbs::moves::undrain(bench, args).await,
        Verb::Apply(args) => verbs::moves::apply(bench, &args).await,
        Verb::Approve(args) => verbs::runs::approve(bench, args).await,
        Verb::Reject(args) => verbs::runs::reject(bench, args).await,
        Verb::Freeze(args) => verbs::orders::freeze(bench, args).await,
        Verb::Unfreeze(args) => verbs::orders::unfreeze(bench, args).await,
        Verb::Rearm(args) => verbs::orders::rearm(bench, args).await,
        Verb::Log(args) => verbs::orders::log(bench, &args).await,
        Verb::Audit(AuditVerb::Verify(args)) => verbs::audit::verify(bench, args.heads).await,
        Verb::Audit(AuditVerb::Head) => verbs::audit::head(bench).await,
        Verb::Token(verb) => verbs::token::run(bench, verb).await,
        Verb::Dataset(verb) => verbs::dataset::run(bench, verb).await,
        Verb::BreakGlass(BreakGlassVerb::Reconcile(args)) => verbs::break_glass::reconcile(bench, args).await,
        Verb::Doctor(_) => verbs::doctor::run(bench).await,
        Verb::Run(verb) => verbs::runs::run(bench, verb).await,
        Verb::Dns(DnsArgs { verb: Some(verb), .. }) => verbs::dns::run(bench, verb).await,
        Verb::Config(ConfigVerb::Diff { dir }) => verbs::config::diff(bench, dir).await,
        Verb::Config(ConfigVerb::Show) => verbs::config::show(bench).await,
        Verb::Runbook(RunbookVerb::Show { name, dir }) => verbs::runbook::show(bench, &name, dir).await,
        Verb::Runbook(RunbookVerb::List { dir }) => verbs::runbook::list(bench, dir).await,
        // `dispatch` does every other verb itself.
        _ => Err(Failure::new(ExitCode::Internal, "this verb asks no coordinator")),
    }
}
