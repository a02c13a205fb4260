//! Which regions are declared out of service, as the coordinators said last.
//!
//! It comes with the answer to a report, so that it is here within a report's interval. It is on disk before it counts: an agent that
//! starts while every coordinator is gone says what it said before (I12), and one that can't write keeps to what it has. Nothing but a later
//! declaration takes its place.

use crate::state::StateDir;
use drover_model::chain;
use drover_model::out_of_service::{HeldDeclaration, OutOfService};
use drover_model::{RegionId, out_of_service::NotTaken};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Holds the newest declaration.
#[derive(Debug)]
pub struct Declarations {
    state: Arc<StateDir>,
    held: Mutex<DeclarationView>,
    /// One is written at a time.
    taking: tokio::sync::Mutex<()>,
}

/// What an agent shows of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclarationView {
    /// What is held; nothing where no coordinator ever said anything.
    pub declared: Option<OutOfService>,
    /// Why what a coordinator said last is not taken, when it is not.
    pub refused: Option<String>,
}

impl Declarations {
    /// As it was kept.
    #[must_use]
    pub fn new(state: Arc<StateDir>) -> Self {
        let declared = state.load_declaration();
        Self {
            state,
            held: Mutex::new(DeclarationView { declared, refused: None }),
            taking: tokio::sync::Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, DeclarationView> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is this region declared out of service? Whatever is not known is not.
    #[must_use]
    pub fn is_out(&self, region: &RegionId) -> bool {
        self.lock().declared.as_ref().is_some_and(|declared| declared.regions.contains(region))
    }

    /// Which one is held.
    #[must_use]
    pub fn held(&self) -> Option<HeldDeclaration> {
        self.lock().declared.as_ref().map(OutOfService::held)
    }

    /// As it stands.
    #[must_use]
    pub fn view(&self) -> DeclarationView {
        self.lock().clone()
    }

    /// Takes what a coordinator says, if it is later than what is held.
    pub async fn take(&self, said: OutOfService) {
        let _one_at_a_time = self.taking.lock().await;
        let standing = self.lock().declared.clone();
        let taken = match said.replaces(standing.as_ref()) {
            Ok(false) => Ok(()),
            Ok(true) => self.keep(said).await,
            Err(why @ NotTaken::OtherIncarnation { .. }) => Err(format!(
                "{why}; where the other store is lost, stop the agent, remove {} and start it",
                self.state.declaration_path().display()
            )),
            Err(why) => Err(why.to_string()),
        };
        let mut held = self.lock();
        let refused = taken.err();
        if let Some(why) = refused.as_ref().filter(|why| held.refused.as_ref() != Some(why)) {
            tracing::warn!(%why, "a declaration of regions out of service is not taken");
        }
        held.refused = refused;
    }

    async fn keep(&self, said: OutOfService) -> Result<(), String> {
        let (state, kept) = (Arc::clone(&self.state), said.clone());
        let saved = tokio::task::spawn_blocking(move || state.save_declaration(&kept)).await;
        match saved {
            Ok(Ok(())) => {
                tracing::info!(generation = %said.generation, regions = ?said.regions, "declared out of service");
                cov_mark::hit!(i12_agent_keeps_its_declaration);
                self.lock().declared = Some(said);
                Ok(())
            }
            Ok(Err(e)) => Err(format!("it can't be kept, so what is held stays: {}", chain(&e))),
            Err(e) => Err(format!("it can't be kept, so what is held stays: {e}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::{Epoch, Generation};

    fn said(counter: u64, generation: u64, regions: &[&str]) -> OutOfService {
        OutOfService {
            epoch: Epoch { incarnation: 1, counter },
            generation: Generation(generation),
            regions: regions.iter().map(|r| RegionId::new(*r).unwrap()).collect(),
        }
    }

    #[tokio::test]
    async fn the_newest_word_survives_a_restart_and_no_earlier_one_replaces_it() {
        cov_mark::check!(i12_agent_keeps_its_declaration);
        let dir = tempfile::tempdir().unwrap();
        let eu = RegionId::new("eu-west").unwrap();
        let open = || Declarations::new(Arc::new(StateDir::open(dir.path()).unwrap()));
        let declarations = open();
        assert_eq!((declarations.held(), declarations.is_out(&eu)), (None, false));
        declarations.take(said(1, 4, &["eu-west"])).await;
        assert!(declarations.is_out(&eu));
        declarations.take(said(1, 3, &[])).await;
        assert!(declarations.is_out(&eu));
        assert!(declarations.view().refused.unwrap().contains("generation 3"));
        drop(declarations);
        let declarations = open();
        assert!(declarations.is_out(&eu), "no coordinator need answer");
        let mut other = said(9, 9, &[]);
        other.epoch.incarnation = 2;
        declarations.take(other).await;
        let view = declarations.view();
        assert!(declarations.is_out(&eu) && view.refused.as_ref().unwrap().contains("remove"), "{view:?}");
        declarations.take(said(2, 5, &[])).await;
        assert!(!declarations.is_out(&eu));
        assert_eq!(declarations.view().refused, None);
    }

    #[tokio::test]
    async fn what_can_not_be_kept_is_not_said() {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(StateDir::open(dir.path()).unwrap());
        // A directory in the way of the file that is to be written.
        let path = state.declaration_path();
        std::fs::create_dir(path.with_extension("json.new")).unwrap();
        let declarations = Declarations::new(state);
        declarations.take(said(1, 1, &["eu-west"])).await;
        assert_eq!(declarations.held(), None);
        assert!(declarations.view().refused.unwrap().contains("can't be kept"));
    }

    #[test]
    fn what_can_not_be_read_declares_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(StateDir::open(dir.path()).unwrap());
        std::fs::write(state.declaration_path(), b"{\"regions\": [").unwrap();
        assert_eq!(Declarations::new(state).held(), None);
    }
}
