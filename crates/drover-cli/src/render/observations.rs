//! `log --observations`: what was seen of one endpoint.

use crate::output::paint::{Tone, paint};
use crate::output::words::{clock, span};
use crate::output::{Look, table};
use drover_model::Span;
use drover_model::api::{ObservationPlace, ObservationView};
use drover_model::probe::ProbeOutcome;

/// One line an observation, newest first; what did not count says why.
pub fn render(seen: &[ObservationView], look: &Look) -> String {
    if seen.is_empty() {
        return "nothing was seen of it in this time\n".to_owned();
    }
    let row = |o: &ObservationView| {
        let outcome = match (&o.outcome, o.status) {
            (ProbeOutcome::Good, Some(status)) => paint(Tone::Good, format!("good ({status})")),
            (ProbeOutcome::Good, None) => paint(Tone::Good, "good"),
            (ProbeOutcome::Failed { kind, detail }, _) if detail.is_empty() => {
                paint(Tone::Bad, format!("failed: {kind}"))
            }
            (ProbeOutcome::Failed { kind, detail }, _) => {
                paint(Tone::Bad, format!("failed: {kind} ({detail})"))
            }
        };
        let place = match o.place {
            ObservationPlace::Current => String::new(),
            place => paint(Tone::Doubtful, format!("not counted: {place}")),
        };
        let took = span(Span::from_millis(o.latency_micros.div_ceil(1_000)));
        vec![clock(look, o.received_at), o.vantage.to_string(), outcome, took, place]
    };
    table::table(look, &["received", "vantage", "outcome", "took", ""], seen.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::fixture::{NOON_MILLIS, look};
    use crate::output::paint::finish;
    use drover_model::Timestamp;
    use drover_model::probe::FailureKind;

    #[test]
    fn what_did_not_count_says_why() {
        let at = Timestamp::from_millis(NOON_MILLIS);
        let good = ObservationView {
            received_at: at,
            vantage: "us-east-1".parse().unwrap(),
            endpoint: "checkout@eu-west".parse().unwrap(),
            outcome: ProbeOutcome::Good,
            status: Some(200),
            latency_micros: 1_200,
            began_at: at,
            age: Span::from_millis(5),
            place: ObservationPlace::Current,
        };
        let bad = ObservationView {
            outcome: ProbeOutcome::Failed { kind: FailureKind::TimedOut, detail: String::new() },
            status: None,
            place: ObservationPlace::Replayed,
            ..good.clone()
        };
        let text = finish(&render(&[bad, good], &look(100)), false);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].contains("failed: timed out") && lines[1].contains("not counted: replayed"),
            "{text}"
        );
        assert!(lines[2].contains("good (200)") && lines[2].contains("2 ms"), "{text}");
        assert!(!lines[2].contains("not counted"), "{text}");
    }
}
