//! What the labels say was true, beside what was decided: outages, how long they hurt, and whether anybody noticed.

use super::Label;
use super::findings::{EventKind, Findings, Outage, OutageEnd, Rightness};
use drover_model::{EndpointKey, Span, Timestamp};
use std::collections::BTreeMap;

/// What is known of one endpoint.
#[derive(Default)]
struct Known {
    open: Option<Open>,
    last_ended_at: Option<Timestamp>,
}

/// An outage that goes on.
struct Open {
    outage: Outage,
    /// Since when it is sent traffic although it is out; nothing while it is sent none.
    exposed_since: Option<Timestamp>,
}

impl Open {
    fn expose(&mut self, now: Timestamp, carries: bool) {
        if let Some(since) = self.exposed_since.take() {
            self.outage.exposed = self.outage.exposed.plus(now.since(since));
        }
        self.exposed_since = carries.then_some(now);
        if carries && self.outage.end == OutageEnd::Sheltered {
            self.outage.end = OutageEnd::Missed;
        }
    }
}

/// Every labelled endpoint.
#[derive(Default)]
pub(super) struct Truth(BTreeMap<EndpointKey, Known>);

impl Truth {
    /// What was true of `endpoint` at `now`, while it was sent traffic or not.
    pub(super) fn label(
        &mut self,
        endpoint: &EndpointKey,
        label: Label,
        now: Timestamp,
        carries: bool,
        findings: &mut Findings,
    ) {
        let known = match self.0.get_mut(endpoint) {
            Some(known) => known,
            None => self.0.entry(endpoint.clone()).or_default(),
        };
        match (label, &known.open) {
            (Label::Outage, None) => {
                let outage = Outage {
                    endpoint: endpoint.clone(),
                    began_at: now,
                    ended_at: None,
                    end: if carries { OutageEnd::Missed } else { OutageEnd::Sheltered },
                    delay: None,
                    exposed: Span::ZERO,
                };
                known.open = Some(Open { outage, exposed_since: carries.then_some(now) });
            }
            (Label::Fine, Some(_)) => {
                if let Some(mut open) = known.open.take() {
                    open.outage.ended_at = Some(now);
                    known.last_ended_at = Some(now);
                    close(open, now, findings);
                }
            }
            (Label::Outage, Some(_)) | (Label::Fine, None) => {}
        }
    }

    /// The history is over; what lasts has no end.
    pub(super) fn end(&mut self, now: Timestamp, findings: &mut Findings) {
        for open in self.0.values_mut().filter_map(|known| known.open.take()) {
            close(open, now, findings);
        }
        findings.outages.sort_by_key(|o| o.began_at);
    }

    /// `endpoint` is sent traffic from now on, or is not.
    pub(super) fn carries(&mut self, endpoint: &EndpointKey, now: Timestamp, carries: bool) {
        if let Some(open) = self.0.get_mut(endpoint).and_then(|known| known.open.as_mut()) {
            open.expose(now, carries);
        }
    }

    /// Was it right to leave these endpoints now, or to ask for it? What it was right about has been noticed with that.
    pub(super) fn judge(
        &mut self,
        kind: EventKind,
        endpoints: impl Iterator<Item = EndpointKey>,
        now: Timestamp,
        grace: Span,
    ) -> Rightness {
        let (mut delay, mut late, mut labelled) = (None, false, false);
        for endpoint in endpoints {
            let Some(known) = self.0.get_mut(&endpoint) else { continue };
            labelled = true;
            late |= known.last_ended_at.is_some_and(|ended| now.since(ended) < grace);
            let Some(open) = &mut known.open else { continue };
            let since = now.since(open.outage.began_at);
            delay = delay.max(Some(since));
            match (kind, open.outage.end) {
                (EventKind::Failover, OutageEnd::Moved)
                | (EventKind::Question, OutageEnd::Moved | OutageEnd::Asked) => {}
                (EventKind::Failover, _) => {
                    open.outage.end = OutageEnd::Moved;
                    open.outage.delay = Some(since);
                }
                (EventKind::Question, _) => {
                    open.outage.end = OutageEnd::Asked;
                    open.outage.delay = Some(since);
                }
            }
        }
        match delay {
            Some(delay) => Rightness::Right { delay },
            None if late => Rightness::Late,
            None if labelled => Rightness::Wrong,
            None => Rightness::Unlabelled,
        }
    }
}

fn close(mut open: Open, now: Timestamp, findings: &mut Findings) {
    open.expose(now, false);
    findings.keep_outage(open.outage, now);
}
