//! The leader's transfer of a right from its holder to another member, as a person asked for it.
//!
//! What is to be done is durable before the right is closed (I1). After that everything is read off the record: a leader that
//! takes over finds it closing, and goes on. Agents read the order to seal themselves off the record as well, so that nothing
//! here sends them anything; what they answer comes as an event.

use super::intervals_of;
use super::reading::ReadRight;
use crate::api::problem::ApiError;
use crate::clock::Clock;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use crate::leading::fence_of;
use axum::http::StatusCode;
use drover_exec::write_right::{
    Intent, NotTransferred, Outcome, Swap, SwapKind, Transfer, TransferEffect, TransferEvent,
};
use drover_model::api::{CommandRequest, Done, MoveBegun, MoveRequest};
use drover_model::config::Dataset;
use drover_model::traffic::Actor;
use drover_model::write_right::{BootTime, DatasetRecord, MoveEnd, MoveRecord, RightIntervals, RightState};
use drover_model::{AgentId, DatasetId, PlanId};
use drover_store::{Expect, Revision};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// What happens to a transfer and was not looked at yet, at most.
const EVENTS_MAX: usize = 32;

/// Pause before a store that failed is asked again.
const STORE_AGAIN: Duration = Duration::from_millis(200);

/// A holder that lives renews every second, and may do so between the look and the close. A person's move is not given up for
/// that.
const CLOSE_TRIES: u32 = 20;

fn conflict(code: &str, detail: String, next: String) -> ApiError {
    let mut error = ApiError::new(StatusCode::CONFLICT, code, detail);
    error.0.next = Some(next);
    error
}

fn not_transferred(dataset: &DatasetId, why: &NotTransferred) -> ApiError {
    let code = match why {
        NotTransferred::NotMember(_) => "not_a_member",
        NotTransferred::Unacknowledged { .. } => "member_not_acknowledged",
        NotTransferred::AnotherTransfer { .. } => "move_under_way",
        NotTransferred::Renewed(_) | NotTransferred::Superseded { .. } => "right_changed",
    };
    conflict(code, why.to_string(), format!("drover dataset status {dataset}"))
}

impl Coordinator {
    /// The one member that is meant.
    fn target_of(&self, dataset: &Dataset, place: &str) -> Result<AgentId, ApiError> {
        let found = self.loaded().config.members_at(dataset, place);
        match found.as_slice() {
            [one] => Ok(one.clone()),
            [] => {
                let known = dataset.agents().iter().map(ToString::to_string).collect();
                Err(ApiError::not_found(format!("a member of {} at {place}", dataset.name), known))
            }
            several => {
                let names: Vec<_> = several.iter().map(ToString::to_string).collect();
                let detail = format!("{place} has several members of {}: {}", dataset.name, names.join(", "));
                let next = format!("drover dataset move {} --to {}", dataset.name, names[0]);
                Err(conflict("several_members", detail, next))
            }
        }
    }

    /// Begins to move a right to another member. How it ends is read in the dataset's view.
    pub(crate) async fn move_dataset(
        self: &Arc<Self>,
        name: &str,
        request: &MoveRequest,
    ) -> Result<MoveBegun, ApiError> {
        crate::operator::need_reason(&request.reason)?;
        let dataset = self.dataset(name)?;
        let (id, target) = (dataset.name.clone(), self.target_of(&dataset, &request.to)?);
        let Some(ReadRight { kept, sighting, .. }) = self.right_of(&id).await? else {
            let detail = format!("nobody has the write right of {id} yet: its holder is to write first");
            return Err(conflict("not_granted", detail, format!("drover dataset status {id}")));
        };
        let record = kept.record;
        self.must_be_of_this_store(&record.right).await?;
        if record.right.holder == target {
            let detail = format!("{target} has the write right of {id} already");
            return Err(conflict("holds_already", detail, format!("drover dataset status {id}")));
        }
        let plan = PlanId::from_text(&format!("move-{id}-{}-{target}", record.right.generation));
        let from = record.right.generation;
        let intent = Intent { from, target: target.clone(), plan: plan.clone() };
        // The machine says at once what stands in the way; what it would do is thrown away.
        let (mut asked, _) =
            Transfer::begin(intervals_of(&id, record.intervals)?, self.db.epoch(), intent.clone());
        let holder = record.right.holder.clone();
        let effects = asked.handle(TransferEvent::Read(record.right.clone(), sighting), Clock::boot());
        if let Some(TransferEffect::Over(Outcome::Refused(why))) = effects.first() {
            return Err(not_transferred(&id, why));
        }
        let began_at = self.clock.now();
        let begun = MoveRecord {
            plan: plan.clone(),
            from: holder.clone(),
            to: target.clone(),
            by: request.by.clone(),
            reason: request.reason.clone(),
            began_at,
            ended: None,
        };
        let events = self.claim_move(&id)?;
        let outcome = format!("{plan}: from {holder} to {target}");
        if let Err(e) = self.keep_move(&id, &begun, "dataset move", &outcome).await {
            self.datasets.moving().remove(&id);
            return Err(e.into());
        }
        let moving = self.moving(&id, intervals_of(&id, record.intervals)?, events, intent);
        self.tasks.spawn(moving.see_through(begun));
        let sentence = format!("{id}: the right to write goes from {holder} to {target} ({plan})");
        Ok(MoveBegun { sentence, plan, began_at })
    }

    /// Gives the right back to its holder, where it is not granted yet.
    pub(crate) async fn abort_move(&self, name: &str, request: &CommandRequest) -> Result<Done, ApiError> {
        // Also of one that was taken out of the configuration meanwhile.
        let moving = DatasetId::new(name).ok().and_then(|id| {
            let transfer = self.datasets.moving().get(&id).cloned()?;
            Some((id, transfer))
        });
        let Some((id, transfer)) = moving else {
            let id = self.dataset(name)?.name;
            let detail = format!("no move of {id} is under way");
            return Err(conflict("no_move", detail, format!("drover dataset status {id}")));
        };
        self.noted(&request.by, "dataset abort", id.as_str(), &request.reason, "told").await?;
        // One that ended meanwhile hears nothing any more.
        let _ = transfer.send(TransferEvent::Abort).await;
        Ok(Done {
            sentence: format!("{id}: the move is told to give the right back, if it is not granted yet"),
        })
    }

    /// One at a time for each dataset (I2).
    fn claim_move(&self, id: &DatasetId) -> Result<mpsc::Receiver<TransferEvent>, ApiError> {
        let mut moving = self.datasets.moving();
        if moving.contains_key(id) {
            let detail = format!("a move of {id} is under way");
            return Err(conflict(
                "move_under_way",
                detail,
                format!("drover dataset abort {id} --reason WHY"),
            ));
        }
        let (tell, events) = mpsc::channel(EVENTS_MAX);
        moving.insert(id.clone(), tell);
        Ok(events)
    }

    /// Writes a move down, with the line of the audit that tells of it.
    async fn keep_move(
        &self,
        id: &DatasetId,
        record: &MoveRecord,
        verb: &str,
        outcome: &str,
    ) -> Result<(), CoordinatorError> {
        let txn = self.db.put_op(self.db.fenced(), &keys::dataset_move(id), record)?.for_journal();
        self.audit_with(txn, &record.by, [verb, id.as_str(), &record.reason, outcome]).await.map(drop)
    }

    /// Goes on with what the record is closing for, under this leader (step 14).
    pub(super) async fn resume_move(self: &Arc<Self>, id: &DatasetId) -> Result<(), CoordinatorError> {
        let Ok(events) = self.claim_move(id) else { return Ok(()) };
        // Read with the claim: a move that has ended since the right was seen closing is over.
        match self.left_closing(id).await {
            Ok(Some((intervals, intent, begun))) => {
                let (plan, target) = (&intent.plan, &intent.target);
                tracing::info!(dataset = %id, %plan, %target, "going on with a move that a leader before began");
                let moving = self.moving(id, intervals, events, intent);
                self.tasks.spawn(moving.see_through(begun));
                Ok(())
            }
            nothing => {
                self.datasets.moving().remove(id);
                nothing.map(drop)
            }
        }
    }

    /// What a right is closing for, and who asked for it; nothing of one that is open.
    async fn left_closing(
        &self,
        id: &DatasetId,
    ) -> Result<Option<(RightIntervals, Intent, MoveRecord)>, CoordinatorError> {
        let Some(DatasetRecord { right, intervals, .. }) =
            self.right_of(id).await?.map(|read| read.kept.record)
        else {
            return Ok(None);
        };
        let RightState::Closing { target, plan } = right.state else { return Ok(None) };
        let kept = self.db.get::<MoveRecord>(&keys::dataset_move(id)).await?.map(|(kept, _)| kept);
        let begun = kept.filter(|kept| kept.plan == plan).unwrap_or_else(|| MoveRecord {
            plan: plan.clone(),
            from: right.holder,
            to: target.clone(),
            by: Actor::Automatic,
            reason: "found closing".to_owned(),
            began_at: self.clock.now(),
            ended: None,
        });
        let intervals = intervals_of(id, intervals)?;
        Ok(Some((intervals, Intent { from: right.generation, target, plan }, begun)))
    }

    /// Writes down how a move ended whose leader died before it could.
    pub(super) async fn settle_move(&self, id: &DatasetId) -> Result<(), CoordinatorError> {
        if self.open_move(id).await?.is_none() {
            return Ok(());
        }
        // One that a person begins at this moment is no move of a dead leader: with the claim none is under way, and what is
        // read now says how the last one ended.
        let Ok(_events) = self.claim_move(id) else { return Ok(()) };
        let settled = self.settle_claimed(id).await;
        self.datasets.moving().remove(id);
        settled
    }

    /// The last move, where nobody wrote down how it ended.
    async fn open_move(&self, id: &DatasetId) -> Result<Option<MoveRecord>, CoordinatorError> {
        let kept = self.db.get::<MoveRecord>(&keys::dataset_move(id)).await?;
        Ok(kept.map(|(kept, _)| kept).filter(|kept| kept.ended.is_none()))
    }

    async fn settle_claimed(&self, id: &DatasetId) -> Result<(), CoordinatorError> {
        let Some(kept) = self.open_move(id).await? else { return Ok(()) };
        let Some(read) = self.right_of(id).await? else { return Ok(()) };
        let right = read.kept.record.right;
        if !right.is_open() {
            return Ok(()); // Gone on with at the next look.
        }
        let granted = right.holder == kept.to;
        let sentence = if granted {
            format!("{} holds the right at generation {}", right.holder, right.generation)
        } else {
            format!("{} keeps the right: the leader ended before it was closed; ask again", right.holder)
        };
        self.end_move(id, kept, granted, sentence).await
    }

    async fn end_move(
        &self,
        id: &DatasetId,
        mut record: MoveRecord,
        granted: bool,
        sentence: String,
    ) -> Result<(), CoordinatorError> {
        tracing::info!(dataset = %id, plan = %record.plan, sentence, "the move ended");
        record.ended = Some(MoveEnd { at: self.clock.now(), granted, sentence: sentence.clone() });
        self.keep_move(id, &record, "dataset move ended", &sentence).await
    }

    fn moving(
        self: &Arc<Self>,
        id: &DatasetId,
        intervals: RightIntervals,
        events: mpsc::Receiver<TransferEvent>,
        intent: Intent,
    ) -> Moving {
        Moving { c: self.clone(), id: id.clone(), intervals, events, intent }
    }
}

/// A transfer under way.
struct Moving {
    c: Arc<Coordinator>,
    id: DatasetId,
    intervals: RightIntervals,
    events: mpsc::Receiver<TransferEvent>,
    intent: Intent,
}

impl Moving {
    /// Drives it until it is over, or for as long as this coordinator leads: then the next one goes on.
    async fn see_through(mut self, begun: MoveRecord) {
        let mut tries = 0;
        let ended = loop {
            tries += 1;
            match self.drive().await {
                Some(Outcome::Refused(NotTransferred::Renewed(_))) if tries < CLOSE_TRIES => {}
                ended => break ended,
            }
        };
        if let Some(outcome) = ended {
            let (granted, sentence) = told(&outcome, &begun);
            if let Err(e) = self.c.end_move(&self.id, begun, granted, sentence).await {
                // The next look writes it down.
                tracing::warn!(dataset = %self.id, error = &e as &dyn std::error::Error, "can't write down how a move ended");
            }
        }
        self.c.datasets.moving().remove(&self.id);
    }

    async fn drive(&mut self) -> Option<Outcome> {
        let epoch = self.c.db.epoch();
        let (mut transfer, mut effects) = Transfer::begin(self.intervals, epoch, self.intent.clone());
        let mut wake = None;
        loop {
            let mut event = None;
            for effect in effects {
                match effect {
                    TransferEffect::Read => event = Some(self.read().await?),
                    TransferEffect::Swap(swap) => event = Some(self.swap(&swap).await?),
                    // Read off the record by whom it concerns (`WriteRight::seal_for`).
                    TransferEffect::Seal(..) => {}
                    TransferEffect::WakeAt(at) => wake = Some(at),
                    TransferEffect::Over(outcome) => return Some(outcome),
                }
            }
            let event = match event {
                Some(event) => event,
                None => self.next(wake.take()).await?,
            };
            effects = transfer.handle(event, Clock::boot());
        }
    }

    /// Waits for what happens, and no longer than until `wake`.
    async fn next(&mut self, wake: Option<BootTime>) -> Option<TransferEvent> {
        let wait = wake.map_or(self.intervals.retry(), |at| at.since(Clock::boot())).to_duration();
        tokio::select! {
            () = self.c.stop.cancelled() => None,
            Some(event) = self.events.recv() => Some(event),
            () = tokio::time::sleep(wait.max(Duration::from_millis(1))) => Some(TransferEvent::Tick),
        }
    }

    async fn read(&self) -> Option<TransferEvent> {
        while !self.c.stop.is_cancelled() {
            match self.c.right_of(&self.id).await {
                Ok(Some(read)) => return Some(TransferEvent::Read(read.kept.record.right, read.sighting)),
                Ok(None) => return None,
                Err(e) => {
                    tracing::warn!(dataset = %self.id, error = &e as &dyn std::error::Error, "can't read a write right");
                    tokio::time::sleep(STORE_AGAIN).await;
                }
            }
        }
        None
    }

    /// Nothing where this coordinator does not lead any more.
    async fn swap(&self, swap: &Swap) -> Option<TransferEvent> {
        self.c.until_it_acts().await;
        if self.c.stop.is_cancelled() || self.c.db.epoch() != swap.epoch() {
            return None;
        }
        match self.try_swap(swap).await {
            Ok(Some(revision)) => Some(TransferEvent::Committed(fence_of(revision))),
            Ok(None) => Some(TransferEvent::Unsettled),
            Err(CoordinatorError::Fenced { .. }) => None,
            Err(e) => {
                tracing::warn!(dataset = %self.id, error = &e as &dyn std::error::Error, "can't swap a write right");
                tokio::time::sleep(STORE_AGAIN).await;
                Some(TransferEvent::Unsettled)
            }
        }
    }

    /// Steps 8, 12 and 14: the leader's record is this one's, and the right is as it was seen.
    async fn try_swap(&self, swap: &Swap) -> Result<Option<Revision>, CoordinatorError> {
        let Some(ReadRight { kept, revision, .. }) = self.c.right_of(&self.id).await? else {
            return Ok(None);
        };
        let record = &kept.record;
        if fence_of(revision) != swap.expected() {
            return Ok(None);
        }
        // A right that is closing was renewed last when it was.
        let renewed_at = match swap.kind() {
            SwapKind::Close => record.renewed_at,
            SwapKind::Grant | SwapKind::Abort => self.c.clock.now(),
        };
        let right = swap.record().clone();
        // Whoever holds the right from now on says itself whether it writes.
        let swapped =
            kept.with(DatasetRecord { right, renewed_at, not_writing_since: None, ..record.clone() });
        let key = keys::write_right(&self.id);
        let txn = self.c.db.fenced().expect(&key, Expect::ModRevision(revision));
        let txn = self.c.db.put_op(txn, &key, &swapped)?.for_journal();
        self.c.db.commit(&format!("{:?} the write right of {}", swap.kind(), self.id), txn).await
    }
}

fn told(outcome: &Outcome, begun: &MoveRecord) -> (bool, String) {
    match outcome {
        Outcome::Granted(generation) => {
            (true, format!("{} holds the right at generation {generation}", begun.to))
        }
        Outcome::Aborted(generation) => {
            (false, format!("aborted: {} keeps the right, at generation {generation}", begun.from))
        }
        Outcome::Refused(why) => (false, format!("nothing was changed: {why}")),
    }
}
