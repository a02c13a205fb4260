//! `status` without the coordinator.

use super::status;
use crate::offline::{AgentAnswer, DnsAnswer, OfflineView, age};
use crate::output::paint::{Tone, paint};
use crate::output::words::{span, whole};
use crate::output::{Look, table};
use drover_model::decision::OpinionState;

/// The screen: what is true now first, then what was true then.
pub fn render(view: &OfflineView, context: &str, all: bool, look: &Look) -> String {
    let mut text = table::paragraph(look, &format!("{} {}", paint(Tone::Bad, "NO COORDINATOR:"), view.error));
    text.push_str(&table::paragraph(
        look,
        "DNS answers on as published last. Unless another coordinator leads, nothing is decided until this one is back; to \
         move traffic meanwhile: drover break-glass dns show",
    ));
    text.push_str(&others(view, look));
    text.push('\n');
    text.push_str(&dns(&view.dns, look));
    text.push('\n');
    text.push_str(&agents(&view.agents, look));
    text.push('\n');
    match &view.snapshot {
        None => text.push_str(&table::paragraph(
            look,
            "no earlier status of this context is kept here; a sample world: drover up; another coordinator: \
             --coordinator ADDRESS or --context NAME",
        )),
        Some(snapshot) => {
            let old = span(whole(age(snapshot, look.now)));
            text.push_str(&table::paragraph(look, &paint(Tone::Doubtful, format!("as it was {old} ago:"))));
            text.push_str(&status::render(snapshot, context, all, look));
        }
    }
    text
}

/// Those that shared its store when it was asked last: one of them may lead.
fn others(view: &OfflineView, look: &Look) -> String {
    let leadership = view.snapshot.as_ref().and_then(|snapshot| snapshot.coordinator.leadership.as_ref());
    let Some(l) = leadership else { return String::new() };
    let leader = l.leader.iter().filter(|leader| l.answered_by.as_ref() != Some(*leader));
    let urls: Vec<&str> = leader.chain(l.followers.iter().map(|f| &f.url)).map(String::as_str).collect();
    if urls.is_empty() {
        return String::new();
    }
    let asked = format!("others that there were: drover --coordinator {} status", urls.join(" | "));
    table::paragraph(look, &asked)
}

fn dns(answers: &[DnsAnswer], look: &Look) -> String {
    if answers.is_empty() {
        return "DNS now: no server is known\n".to_owned();
    }
    let row = |a: &DnsAnswer| {
        let says = match &a.error {
            Some(error) => format!("{} {error}", paint(Tone::Bad, "no answer:")),
            None => a.values.join(", "),
        };
        let generation = a.generation.map(|g| g.to_string()).unwrap_or_default();
        vec![a.instance.clone(), a.name.clone(), generation, format!("{} s", a.ttl_seconds), says]
    };
    table::table(
        look,
        &["DNS now", "name", "generation", "TTL", "answers"],
        answers.iter().map(row).collect(),
    )
}

fn agents(answers: &[AgentAnswer], look: &Look) -> String {
    if answers.is_empty() {
        return "agents now: no address is known; name them in the context (`agents:`)\n".to_owned();
    }
    let row = |a: &AgentAnswer| match &a.status {
        None => {
            vec![a.agent.clone(), String::new(), paint(Tone::Bad, a.error.as_deref().unwrap_or("no answer"))]
        }
        Some(s) => {
            let of = |state| s.opinions.iter().filter(|o| o.state == state).count();
            let failing: Vec<String> = s
                .opinions
                .iter()
                .filter(|o| o.state == OpinionState::Failing)
                .map(|o| o.endpoint.to_string())
                .collect();
            let blind = if s.self_check.blind {
                format!("{}; ", paint(Tone::Doubtful, "blind"))
            } else {
                String::new()
            };
            let bad = if failing.is_empty() { String::new() } else { format!(" ({})", failing.join(", ")) };
            let sees = format!(
                "{blind}{} healthy, {} failing{bad}, {} unknown; {} observations wait",
                of(OpinionState::Healthy),
                of(OpinionState::Failing),
                of(OpinionState::Unknown),
                s.buffered
            );
            vec![a.agent.clone(), s.region.to_string(), sees]
        }
    };
    table::table(look, &["agents now", "region", "sees"], answers.iter().map(row).collect())
}
