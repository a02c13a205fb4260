//! The scenes. Each has an expectation for everything that it claims, and fails when one is not met.

mod capacity;
mod recovery;
mod region;
mod returning;
mod takeover;
mod vantages;

use super::dns::DnsChoice;
use super::report::SceneReport;
use super::sample::Wanted;
use super::screen::Screen;
use super::stage::Stage;
use crate::failure::Result;
use std::path::Path;

/// One scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// A whole region dies.
    Region,
    /// Two vantages are cut off from a healthy region.
    Vantages,
    /// The others could not carry it.
    Capacity,
    /// The coordinator dies half-way.
    Takeover,
    /// The region comes back.
    Return,
}

impl Scene {
    /// In the order of the demo.
    pub const ALL: [Scene; 5] =
        [Scene::Region, Scene::Vantages, Scene::Capacity, Scene::Takeover, Scene::Return];

    /// From 1.
    pub fn number(self) -> u8 {
        match self {
            Scene::Region => 1,
            Scene::Vantages => 2,
            Scene::Capacity => 3,
            Scene::Takeover => 4,
            Scene::Return => 5,
        }
    }

    /// In a few words.
    pub fn title(self) -> &'static str {
        match self {
            Scene::Region => "a whole region dies",
            Scene::Vantages => "two vantages are cut off from a healthy region",
            Scene::Capacity => "the other regions could not carry it",
            Scene::Takeover => "the coordinator dies in the middle of a failover",
            Scene::Return => "the region comes back, step by step",
        }
    }

    fn story(self) -> &'static str {
        match self {
            Scene::Region => {
                "SIGKILL to everything in eu-west: both services and the agent. Drover must notice, move the traffic \
                 by itself, and prove with fresh numbers that it worked."
            }
            Scene::Vantages => {
                "Packets are dropped: us-east's agent loses all of the network, its references too, and ap-south's \
                 agent loses its link to eu-west. Both see eu-west fail, which is well. Drover must do nothing, and \
                 say why."
            }
            Scene::Capacity => {
                "Checkout's endpoints carry 120 requests a second here instead of 250. Then eu-west dies. To move all \
                 of its traffic would overload the others, so drover must refuse, show the numbers, and ask a person. \
                 Catalog still fits, and may move by itself."
            }
            Scene::Takeover => {
                "eu-west dies again. When new weights have just been published, the coordinator gets a SIGKILL. Its \
                 successor must finish the run from the journal, and publish nothing twice."
            }
            Scene::Return => {
                "eu-west is left and dead; now its processes are started again. Drover must not hurry: it waits until \
                 eu-west has been stable, offers to bring it back, and climbs the shipped ramp, each step proved by \
                 eu-west's own requests and probes. Wanted share stands beside measured share."
            }
        }
    }

    /// The world that it needs.
    fn wanted(self, factor: u64, dns: DnsChoice, at: &Path) -> Wanted {
        let capacity = (self == Scene::Capacity).then(capacity::reduced).flatten();
        Wanted { factor, capacity, on_page: Some(to_file(at)), runbooks: None, dns, only_services: false }
    }

    /// Does it show a part of a region's traffic? Servers that know no weights can't say one.
    pub fn needs_weights(self) -> bool {
        self == Scene::Return
    }

    /// Builds its world.
    ///
    /// # Errors
    /// When that does not come up.
    pub async fn build(self, screen: &Screen, factor: u64, dns: DnsChoice) -> Result<Stage> {
        let report = SceneReport::new(self.number(), self.title());
        Stage::build(screen, report, |at| self.wanted(factor, dns, at)).await
    }

    /// Can it go on in the world that `before` leaves, instead of making the same trouble again in a new one?
    pub fn goes_on_after(self, before: Scene) -> bool {
        (before, self) == (Scene::Takeover, Scene::Return)
    }

    /// Goes on in a world that another scene has left; that one's findings come back.
    pub fn go_on(self, stage: &mut Stage) -> SceneReport {
        stage.turn(SceneReport::new(self.number(), self.title()))
    }

    /// Says what it is about.
    pub fn introduce(self, screen: &Screen) {
        screen.title(&format!("{}  {}", self.number(), self.title()));
        screen.say(self.story());
        screen.line("");
    }

    /// Plays it; what was found is in the stage's report.
    ///
    /// # Errors
    /// When the world breaks in a way that the scene is not about.
    pub async fn play(self, stage: &mut Stage) -> Result<()> {
        // A scene that goes on begins as the one before it ended.
        if stage.is_played_on() {
            stage.raise().await?
        } else {
            stage.settle().await?
        }
        match self {
            Scene::Region => region::play(stage).await?,
            Scene::Vantages => vantages::play(stage).await?,
            Scene::Capacity => capacity::play(stage).await?,
            Scene::Takeover => takeover::play(stage).await?,
            Scene::Return => returning::play(stage).await?,
        }
        stage.curtain();
        Ok(())
    }
}

/// Where a world's pages arrive.
fn pages(at: &Path) -> std::path::PathBuf {
    at.join("pages.json")
}

/// The command that keeps a world's pages in a file.
pub(super) fn to_file(at: &Path) -> Vec<String> {
    vec!["tee".into(), "-a".into(), pages(at).display().to_string()]
}

/// The pages that arrived so far.
fn pages_of(stage: &Stage) -> Vec<drover_coordinator::outbox::PageRecord> {
    let text = std::fs::read_to_string(pages(stage.world.directory())).unwrap_or_default();
    // A page that is just being written is read the next time.
    serde_json::Deserializer::from_str(&text).into_iter().map_while(std::result::Result::ok).collect()
}
