//! What the coordinator says of the world, asked all the time: what scenes wait for, and what is told as it happens.

use super::api::Api;
use super::screen::Screen;
use super::stage::total_weight;
use crate::output::paint::Tone;
use drover_model::Timestamp;
use drover_model::api::StatusView;
use drover_model::decision::{VantageState, VerdictState};
use drover_model::journal::RunState;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(150);

/// The last answer, if the coordinator gives any.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The last answer ever.
    pub status: Option<StatusView>,
    /// It is from just now.
    pub fresh: bool,
}

/// Asks until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Begins; what changes is told on `screen`, by a clock that begins at `zero`.
    pub fn start(api: Api, screen: Screen, zero: watch::Receiver<Timestamp>) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let task = tokio::spawn(async move {
            let mut teller = Teller { screen, zero, told: BTreeMap::new() };
            loop {
                let answer = api.status().await.ok();
                teller.tell(answer.as_ref());
                sender.send_modify(|seen| {
                    seen.fresh = answer.is_some();
                    if answer.is_some() {
                        seen.status = answer;
                    }
                });
                tokio::time::sleep(ASK_EVERY).await;
            }
        });
        Self { seen, task }
    }

    /// What is known, now and later.
    pub fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.clone()
    }

    /// Waits until `found` finds something in a fresh status, for so long.
    pub async fn until<T>(
        &self,
        within: Duration,
        mut found: impl FnMut(&StatusView) -> Option<T>,
    ) -> Option<T> {
        let mut seen = self.seen.clone();
        let looking = async {
            loop {
                {
                    let now = seen.borrow_and_update();
                    if let Some(result) = now.status.as_ref().filter(|_| now.fresh).and_then(&mut found) {
                        return Some(result);
                    }
                }
                seen.changed().await.ok()?;
            }
        };
        tokio::time::timeout(within, looking).await.ok().flatten()
    }

    /// The last status.
    pub fn last(&self) -> Option<StatusView> {
        self.seen.borrow().status.clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tells each thing once, and again when it has changed.
struct Teller {
    screen: Screen,
    zero: watch::Receiver<Timestamp>,
    told: BTreeMap<String, String>,
}

impl Teller {
    fn tell(&mut self, status: Option<&StatusView>) {
        let Some(status) = status else {
            self.once(
                "coordinator",
                "gone",
                Tone::Bad,
                "the coordinator does not answer; DNS and services go on",
            );
            return;
        };
        self.once("coordinator", "there", Tone::Good, "the coordinator answers again");
        for vantage in &status.vantages {
            let (tone, word) = match vantage.state {
                VantageState::Reporting => (Tone::Good, "sees again and counts as a witness"),
                VantageState::Blind => {
                    (Tone::Doubtful, "is blind: it reaches nothing at all, so it is no witness")
                }
                VantageState::Silent => (Tone::Doubtful, "is silent"),
                VantageState::Skewed => (Tone::Doubtful, "has a clock that is off"),
                VantageState::NeverHeard => continue,
            };
            self.once(
                &format!("vantage {}", vantage.agent),
                word,
                tone,
                &format!("{} {word}", vantage.agent),
            );
        }
        // A coordinator that just took over has not heard everybody; until then it knows nothing, which is no news.
        let hears_everybody = status.vantages.iter().all(|v| v.state != VantageState::NeverHeard);
        for region in status
            .regions
            .iter()
            .filter(|r| !r.witness && (hears_everybody || r.worst != VerdictState::Unknown))
        {
            let tone = match region.worst {
                VerdictState::Healthy => Tone::Good,
                VerdictState::Down | VerdictState::Unreachable => Tone::Bad,
                _ => Tone::Doubtful,
            };
            let word = region.worst.to_string();
            self.once(&format!("region {}", region.name), &word, tone, &format!("{} is {word}", region.name));
            // Of a region that carries nothing there is nothing to decide.
            if let Some(sentence) =
                region.decision.as_ref().filter(|_| total_weight(status, &region.name) > 0)
            {
                self.once(&format!("decision {}", region.name), sentence, Tone::Strong, sentence);
            }
        }
        for run in &status.runs {
            let tone = match run.state {
                RunState::Succeeded => Tone::Good,
                RunState::Running | RunState::Validating => Tone::Strong,
                _ => Tone::Doubtful,
            };
            let services: Vec<&str> = run.services.iter().map(drover_model::ServiceId::as_str).collect();
            let (word, moves) = (run.state.to_string(), services.join(", "));
            let text = format!("{} ({} of {moves} from {}): {word}", run.id, run.purpose, run.region);
            self.once(&format!("run {}", run.id), &word, tone, &text);
        }
    }

    /// What holds when it is first seen is only worth telling when it is not normal.
    fn once(&mut self, subject: &str, word: &str, tone: Tone, text: &str) {
        let before = self.told.insert(subject.to_owned(), word.to_owned());
        let news = match before {
            Some(before) => before != word,
            None => tone != Tone::Good && !self.is_starting(),
        };
        if news && !self.is_starting() {
            let after = crate::output::now().as_millis() - self.zero.borrow().as_millis();
            self.screen.event(after, tone, text);
        }
    }

    /// Before the scene has begun, the world comes up, which is no news.
    fn is_starting(&self) -> bool {
        *self.zero.borrow() == Timestamp::default()
    }
}
