//! One dataset's keeper, fed with what happens, and its wishes carried out.

use super::coordinators::Coordinators;
use super::gate_line::{GateLine, GateOrders};
use super::known::Known;
use super::peers::PeerClient;
use super::{Asked, KeptRight};
use crate::clock::boot_now;
use crate::state::StateDir;
use drover_exec::write_right::{Keeper, KeeperEffect, KeeperEvent};
use drover_model::write_right::{
    Ask, BootTime, GateOrder, PeerAnswer, Renew, RenewAnswer, RenewRequest, RightForAgent, RightIntervals,
    Seal, Sealed, WriteGeneration,
};
use drover_model::{AgentId, DatasetId, Span};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Pause before a seal that the disk did not take is written again.
const DISK_AGAIN: Duration = Duration::from_secs(1);

/// That no coordinator answers is told this often.
const TOLD_EVERY: Span = Span::from_secs(60);

/// What happens to a dataset here.
pub(crate) enum Inbox {
    /// How its right stands, as a coordinator says.
    Right(Box<RightForAgent>),
    /// A coordinator answered a renewal.
    Renewal(Box<RenewAnswer>),
    /// Another member asks.
    Asked(Box<Asked>),
    /// Another member answered.
    Answered(PeerAnswer),
    /// The gate says that nothing runs, in answer to the order of this number.
    Stopped(u64),
}

/// What a dataset is kept with.
pub(super) struct Keeping {
    pub(super) me: AgentId,
    pub(super) dataset: DatasetId,
    pub(super) session: u64,
    pub(super) state: Arc<StateDir>,
    pub(super) kept: Option<KeptRight>,
    pub(super) known: Known,
    pub(super) gate: GateLine,
    pub(super) coordinators: Arc<Coordinators>,
    pub(super) peers: Arc<PeerClient>,
    pub(super) tell: mpsc::Sender<Inbox>,
    pub(super) inbox: mpsc::Receiver<Inbox>,
}

impl Keeping {
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let orders = self.gate.orders();
        let line = tokio::spawn(self.gate.run(shutdown.clone()));
        let kept = match self.kept.take() {
            Some(kept) => Some(kept),
            None => shutdown.run_until_cancelled(first_right(&mut self.inbox)).await,
        };
        if let Some(kept) = kept {
            let hands = Hands {
                me: self.me,
                dataset: self.dataset,
                state: self.state,
                coordinators: self.coordinators,
                peers: self.peers,
                known: self.known,
                tell: self.tell,
                kept,
                orders,
                complaint: None,
                asked_told: None,
            };
            shutdown.run_until_cancelled(hands.keep(self.session, self.inbox)).await;
        }
        // It ends with the shutdown as well.
        let _ = line.await;
    }
}

/// Waits for what the first coordinator says. An agent that has no seal yet takes the store's word for which store it is; sealed
/// for nothing, it writes nothing before it is sealed for what it is to write.
async fn first_right(inbox: &mut mpsc::Receiver<Inbox>) -> KeptRight {
    loop {
        match inbox.recv().await {
            Some(Inbox::Right(right)) => {
                let seal =
                    Seal { incarnation: right.right.incarnation, generation: WriteGeneration::default() };
                return KeptRight { seal, intervals: right.intervals };
            }
            // Whoever knows nothing vouches for nobody; what is asked is not answered.
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

/// What carries out a keeper's wishes.
struct Hands {
    me: AgentId,
    dataset: DatasetId,
    state: Arc<StateDir>,
    coordinators: Arc<Coordinators>,
    peers: Arc<PeerClient>,
    known: Known,
    tell: mpsc::Sender<Inbox>,
    kept: KeptRight,
    orders: GateOrders,
    complaint: Option<String>,
    /// When it was told last that members are asked.
    asked_told: Option<BootTime>,
}

/// A keeper and what it waits for.
struct Kept {
    keeper: Keeper,
    intervals: RightIntervals,
    wake: Option<BootTime>,
}

impl Hands {
    async fn keep(mut self, session: u64, mut inbox: mpsc::Receiver<Inbox>) {
        let intervals = match RightIntervals::new(self.kept.intervals) {
            Ok(intervals) => intervals,
            Err(e) => {
                let error = drover_model::chain(&e);
                tracing::error!(dataset = %self.dataset, error, "the intervals of the write right don't hold together; nothing is kept");
                return std::future::pending().await;
            }
        };
        // Durable before it counts: of a dataset that was never kept here, that it is now.
        self.write_down().await;
        let (keeper, effects) =
            Keeper::start(self.me.clone(), intervals, self.kept.seal, session, boot_now());
        let mut kept = Kept { keeper, intervals, wake: None };
        self.perform(&mut kept, effects, None).await;
        loop {
            let wait = kept.wake.map(|at| at.since(boot_now()).to_duration().max(Duration::from_millis(1)));
            let happened = tokio::select! {
                happened = inbox.recv() => happened,
                () = until(wait) => {
                    kept.wake = None;
                    self.happens(&mut kept, KeeperEvent::Tick, None).await;
                    continue;
                }
            };
            match happened {
                Some(happened) => self.take(&mut kept, happened).await,
                None => return,
            }
        }
    }

    async fn take(&mut self, kept: &mut Kept, happened: Inbox) {
        match happened {
            Inbox::Right(right) => self.read(kept, *right).await,
            Inbox::Renewal(answer) => match *answer {
                RenewAnswer::Renewed { renewed } => {
                    self.happens(kept, KeeperEvent::Renewed(renewed), None).await;
                }
                RenewAnswer::Refused { right } => self.happens(kept, KeeperEvent::Record(right), None).await,
            },
            Inbox::Asked(asked) => {
                let (ask, answer) = *asked;
                self.happens(kept, KeeperEvent::Asked(ask), Some(answer)).await;
            }
            Inbox::Answered(answer) => self.happens(kept, KeeperEvent::Answered(answer), None).await,
            Inbox::Stopped(number) => {
                if number == self.orders.number() {
                    self.happens(kept, KeeperEvent::Stopped, None).await;
                }
            }
        }
    }

    /// The record, and the order that it may hold for this agent.
    async fn read(&mut self, kept: &mut Kept, read: RightForAgent) {
        if read.intervals != self.kept.intervals {
            return self
                .complain("the store has other intervals for it than this agent keeps it by".to_owned());
        }
        let seal = read.right.seal_for(&self.me);
        self.happens(kept, KeeperEvent::Record(read.right), None).await;
        if let Some(seal) = seal {
            self.happens(kept, KeeperEvent::SealOrdered(seal), None).await;
        }
    }

    /// Tells the keeper, and does what it wants, and what comes of that.
    async fn happens(
        &mut self,
        kept: &mut Kept,
        event: KeeperEvent,
        asker: Option<oneshot::Sender<PeerAnswer>>,
    ) {
        let effects = kept.keeper.handle(event, boot_now());
        self.perform(kept, effects, asker).await;
    }

    async fn perform(
        &mut self,
        kept: &mut Kept,
        effects: Vec<KeeperEffect>,
        mut asker: Option<oneshot::Sender<PeerAnswer>>,
    ) {
        let mut due: Vec<KeeperEffect> = effects;
        while !due.is_empty() {
            for effect in std::mem::take(&mut due) {
                match effect {
                    KeeperEffect::Renew(renew) => self.renew(renew),
                    KeeperEffect::Ask(members, ask) => self.ask(&members, &ask),
                    KeeperEffect::Answer(answer) => {
                        // Whoever hung up asks again.
                        drop(asker.take().map(|asker| asker.send(answer)));
                    }
                    KeeperEffect::Persist(seal) => {
                        self.kept.seal = seal;
                        self.write_down().await;
                        tracing::info!(dataset = %self.dataset, generation = %seal.generation, "sealed");
                        due.extend(kept.keeper.handle(KeeperEvent::Persisted(seal), boot_now()));
                    }
                    KeeperEffect::Sealed(sealed) => self.sealed(sealed),
                    KeeperEffect::Promote(right) => {
                        tracing::info!(dataset = %self.dataset, generation = %right.generation(), "may write");
                        self.orders.say(GateOrder::Run(right.permit(&kept.intervals)));
                    }
                    KeeperEffect::Extend(right) => {
                        self.orders.say(GateOrder::Run(right.permit(&kept.intervals)));
                    }
                    KeeperEffect::Stop => {
                        tracing::info!(dataset = %self.dataset, "may not write");
                        self.orders.say(GateOrder::Stop);
                    }
                    KeeperEffect::Foreign(incarnation) => {
                        self.complain(format!("another store ({incarnation}) speaks of it"));
                    }
                    KeeperEffect::WakeAt(at) => kept.wake = Some(at),
                }
            }
        }
    }

    /// Says what is wrong with what a coordinator says, and not again each second.
    fn complain(&mut self, what: String) {
        if self.complaint.as_ref() != Some(&what) {
            tracing::error!(dataset = %self.dataset, what, "nothing that is said of this write right is followed");
            self.complaint = Some(what);
        }
    }

    /// Comes back when it is on disk: what is not durable is not told to anybody.
    async fn write_down(&self) {
        loop {
            let (state, dataset, kept) = (Arc::clone(&self.state), self.dataset.clone(), self.kept.clone());
            let written = tokio::task::spawn_blocking(move || state.save_right(&dataset, &kept)).await;
            let error = match written {
                Ok(Ok(())) => return,
                Ok(Err(e)) => drover_model::chain(&e),
                Err(e) => e.to_string(),
            };
            tracing::error!(dataset = %self.dataset, error, "a seal can't be written, so that nobody is told of it");
            tokio::time::sleep(DISK_AGAIN).await;
        }
    }

    fn renew(&self, renew: Renew) {
        let asked = RenewRequest { renew, writing: self.orders.is_obeyed() };
        let (coordinators, tell, dataset) =
            (Arc::clone(&self.coordinators), self.tell.clone(), self.dataset.clone());
        tokio::spawn(async move {
            match coordinators.renew(&dataset, &asked).await {
                Ok(answer) => drop(tell.send(Inbox::Renewal(Box::new(answer))).await),
                Err(e) => {
                    let error = drover_model::chain(&e);
                    tracing::debug!(%dataset, error, "no coordinator renews the write right");
                }
            }
        });
    }

    fn ask(&mut self, members: &[AgentId], ask: &Ask) {
        let now = boot_now();
        if self.asked_told.is_none_or(|told| now.since(told) > TOLD_EVERY) {
            self.asked_told = Some(now);
            tracing::warn!(dataset = %self.dataset, ?members, "no coordinator answers; the other members are asked");
        }
        let known = self.known.now();
        for member in members {
            let Some(at) = known.get(member).cloned() else {
                tracing::error!(dataset = %self.dataset, %member, "it is not known where this member answers");
                continue;
            };
            let (peers, tell) = (Arc::clone(&self.peers), self.tell.clone());
            let (dataset, ask, member) = (self.dataset.clone(), ask.clone(), member.clone());
            tokio::spawn(async move {
                if let Some(answer) = peers.ask(&member, &at, &dataset, &ask).await {
                    drop(tell.send(Inbox::Answered(answer)).await);
                }
            });
        }
    }

    fn sealed(&self, sealed: Sealed) {
        let (coordinators, dataset) = (Arc::clone(&self.coordinators), self.dataset.clone());
        tokio::spawn(async move { coordinators.sealed(&dataset, &sealed).await });
    }
}

/// After this long; never where there is nothing to wait for.
async fn until(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
