//! The coordinator's parts in one place, and how they start and stop.

use crate::access::Access;
use crate::audit::{AuditChain, Counter};
use crate::clock::Clock;
use crate::config_dir::{ConfigDir, Loaded, judge};
use crate::datasets::Datasets;
use crate::db::{Db, keys};
use crate::error::CoordinatorError;
use crate::leading::Leading;
use crate::live::Live;
use crate::out_of_service::OutOfServiceLive;
use crate::recorder::{DECISIONS_WAITING_MAX, ToRecord};
use crate::records::Records;
use crate::runs::RunTable;
use crate::sights::Sights;
use crate::worlds::Worlds;
use arc_swap::ArcSwap;
use drover_dns::provider::{Gate, WantedChecks, ZoneGenerations};
use drover_model::config::DnsSettings;
use drover_model::plan::StandingVerdict;
use drover_model::traffic::{Block, Freeze, Hold, TrafficState};
use drover_model::{EndpointKey, Timestamp};
use drover_pki::{Http, TlsFiles};
use drover_store::{History, Store};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How a coordinator is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where configuration and runbooks are read from.
    pub config: ConfigDir,
    /// Where the store, the socket and the history live.
    pub state_directory: PathBuf,
    /// Where the API listens, when the command line says so and not the settings.
    pub listen: Option<SocketAddr>,
    /// What starts the program of a `run` step, before its path and arguments: it must end the program when this
    /// process dies, so that the successor finds nothing still at work. Empty where a supervisor does that.
    pub launcher: Vec<OsString>,
    /// By which files it proves to other coordinators who it is; none: they are reached in plain text, on loopback or by a tunnel.
    pub tls: Option<TlsFiles>,
}

/// Everything that the coordinator's tasks share.
pub struct Coordinator {
    /// The time.
    pub clock: Clock,
    /// The store under this leader's epoch.
    pub db: Db,
    /// How it was started.
    pub options: Options,
    /// When.
    pub started_at: Timestamp,
    /// Where the API listens, from the start to the end of this process.
    pub listen: SocketAddr,
    /// Observations and transitions.
    pub history: History,
    /// The store itself.
    pub store: Arc<dyn Store>,
    pub(crate) records: Records,
    /// Who leads, where several share the store.
    pub(crate) leading: Leading,
    /// For metrics, application checks and webhooks: no proxy, no redirects.
    pub http: reqwest::Client,
    /// For the coordinator that leads.
    pub(crate) peers: Http,
    /// Tells every task to stop.
    pub stop: CancellationToken,
    /// Runs under way.
    pub runs: RunTable,
    /// Something changed that may need a decision.
    pub decide_wake: Notify,
    /// A page was written down.
    pub outbox_wake: Notify,
    /// The published targets may differ from DNS.
    pub reconcile_wake: Notify,
    /// Targets moved, or the records did: a region may be to declare out of service, or not any more.
    pub(crate) out_of_service_wake: Notify,
    /// Other health checks may be wanted.
    pub(crate) checks_wake: Notify,
    /// Reload now.
    pub reload_wake: Notify,
    pub(crate) loaded: ArcSwap<Loaded>,
    pub(crate) dns: ArcSwap<Option<Dns>>,
    /// Outlives the provider, so that none is given twice.
    pub(crate) zone_generations: Arc<ZoneGenerations>,
    pub(crate) live: Mutex<Live>,
    /// Commands that create runs are taken one at a time, so that two operators see each other (I2).
    pub(crate) admission: tokio::sync::Mutex<()>,
    /// A freeze must not wait behind an admission, only behind another freeze.
    pub(crate) freezing: tokio::sync::Mutex<()>,
    /// Targets, holds and block periods are changed by one at a time: an attempt that was dropped while its transaction
    /// was on its way is over before its undo looks, before its run ends, and before a new configuration counts.
    pub(crate) shifting: Arc<tokio::sync::Mutex<()>>,
    /// One reload at a time.
    pub(crate) reloading: tokio::sync::Mutex<()>,
    pub(crate) counters: Counters,
    /// Who may come in, and who was refused.
    pub(crate) access: Access,
    /// Write rights of datasets.
    pub(crate) datasets: Datasets,
    /// What vantages are asked about DNS, and saw.
    pub(crate) sights: Sights,
    /// Worlds on their way to the store.
    pub(crate) worlds: Worlds,
    /// When the decider finished a look, in milliseconds; zero before the first.
    looked_at: AtomicI64,
    /// Verdicts on their way to the store.
    pub(crate) recorder: mpsc::Sender<ToRecord>,
    inbox: Mutex<Option<mpsc::Receiver<ToRecord>>>,
    pub(crate) tasks: TaskTracker,
}

/// Where numbered records go on.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) audit: AuditChain,
    pub(crate) decisions: Counter,
    pub(crate) runs: Counter,
}

/// The provider in force.
pub struct Dns {
    /// What stands before it.
    pub gate: Arc<Gate>,
    /// The settings that it was made from: what they leave alone, a reload keeps.
    pub settings: DnsSettings,
    /// The health checks that it was made for.
    pub checks: Option<WantedChecks>,
}

/// What the store holds of what is kept in memory.
pub(crate) async fn recalled(db: &Db, now: Timestamp) -> Result<Live, CoordinatorError> {
    let mut live = Live::new(now);
    live.traffic = by_key(db.list_placed::<TrafficState>(keys::TRAFFIC).await?, |t| t.service.clone()).into();
    live.fixed = by_key(db.list_placed::<TrafficState>(keys::FIXED).await?, |t| t.service.clone()).into();
    live.holds = by_key(db.list_placed::<Hold>(keys::HOLDS).await?, |h| h.run.clone());
    live.blocks = db.list_placed::<Block>(keys::BLOCKS).await?.into_iter().collect();
    live.freeze = db.get_sound::<Freeze>(keys::FREEZE).await?.map(|(f, _)| f);
    live.out_of_service = OutOfServiceLive::recalled(db).await?;
    live.rearmed = db.get_sound(keys::REARMED).await?.map(|(r, _)| r).unwrap_or_default();
    Ok(live)
}

impl Coordinator {
    /// The configuration in force.
    #[must_use]
    pub fn loaded(&self) -> Arc<Loaded> {
        self.loaded.load_full()
    }

    /// The provider in force, when one is configured.
    #[must_use]
    pub fn dns(&self) -> Option<Arc<Gate>> {
        self.dns.load().as_ref().as_ref().map(|d| d.gate.clone())
    }

    /// Every endpoint that is configured.
    pub(crate) fn endpoints(&self) -> Vec<EndpointKey> {
        let loaded = self.loaded();
        let services = loaded.config.services.values();
        services.flat_map(|s| s.endpoints.keys().map(|r| EndpointKey::new(&s.name, r))).collect()
    }

    /// What is known at this moment. Held for microseconds, never across an await.
    pub fn live(&self) -> MutexGuard<'_, Live> {
        // A panic while the lock was held is a bug in a pure function; its half-made state is still only a cache of
        // what agents report next, so going on is better than dying with it.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The decider finished a look.
    pub(crate) fn note_look(&self, at: Timestamp) {
        self.looked_at.store(at.as_millis(), Ordering::Relaxed);
    }

    /// When the decider finished its last look.
    pub(crate) fn looked_at(&self) -> Option<Timestamp> {
        let at = self.looked_at.load(Ordering::Relaxed);
        (at != 0).then(|| Timestamp::from_millis(at))
    }

    /// Opens the store, reads the configuration, and takes over where nobody else can have the store; else it follows.
    ///
    /// # Errors
    /// When configuration or store can't be used; each error names the place and the next step.
    pub async fn open(
        options: Options,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Result<Arc<Self>, CoordinatorError> {
        let loaded = Self::read_config(&options)?;
        let wanted = loaded.1.config.settings.store.clone();
        let records = Records::open(&options.state_directory, wanted.as_ref()).await?;
        Self::open_on(records, loaded, options, stop, tasks).await
    }

    /// What the directory says, with the digest of its texts.
    pub(crate) fn read_config(options: &Options) -> Result<(String, Loaded), CoordinatorError> {
        let texts = options.config.read()?;
        let loaded = judge(&texts, Clock::start().now())
            .map_err(|diagnostics| CoordinatorError::BadConfig { diagnostics })?;
        for warning in &loaded.warnings {
            tracing::warn!("configuration: {warning}");
        }
        Ok((texts.digest(), loaded))
    }

    pub(crate) async fn open_on(
        records: Records,
        (config_digest, loaded): (String, Loaded),
        options: Options,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Result<Arc<Self>, CoordinatorError> {
        // The HTTP client needs a provider; a second installation is refused, and then one is there already.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let clock = Clock::start();
        let now = clock.now();
        let store = records.store();
        let history = open_history(&options)?;
        let alone = records.shared_bound().is_none();
        let db = if alone {
            let db = Db::take_over(store.clone(), now, fresh_incarnation()).await?;
            tracing::info!(epoch = %db.epoch(), config = loaded.version, "leading");
            db
        } else {
            crate::transfer::refuse_unusable(&*store).await?;
            tracing::info!(config = loaded.version, "following");
            Db::follow(store.clone())
        };
        let live = Live { config_digest, ..recalled(&db, now).await? };
        let (recorder, inbox) = mpsc::channel(DECISIONS_WAITING_MAX);
        let coordinator = Arc::new(Self {
            clock,
            db,
            started_at: now,
            listen: options.listen.unwrap_or(loaded.config.settings.listen),
            history,
            store,
            records,
            leading: Leading::new(alone),
            http: http_client()?,
            peers: http_to_peers(options.tls.as_ref())?,
            stop,
            runs: RunTable::default(),
            decide_wake: Notify::new(),
            outbox_wake: Notify::new(),
            reconcile_wake: Notify::new(),
            out_of_service_wake: Notify::new(),
            checks_wake: Notify::new(),
            reload_wake: Notify::new(),
            dns: ArcSwap::from_pointee(None),
            zone_generations: Arc::default(),
            loaded: ArcSwap::from_pointee(loaded),
            live: Mutex::new(live),
            admission: tokio::sync::Mutex::new(()),
            freezing: tokio::sync::Mutex::new(()),
            shifting: Arc::default(),
            reloading: tokio::sync::Mutex::new(()),
            counters: Counters::default(),
            access: Access::default(),
            datasets: Datasets::default(),
            sights: Sights::new(now.as_millis()),
            worlds: Worlds::default(),
            looked_at: AtomicI64::new(0),
            recorder,
            inbox: Mutex::new(Some(inbox)),
            tasks,
            options,
        });
        coordinator.recall_tokens().await?;
        if alone {
            coordinator.begin_alone().await?;
        }
        Ok(coordinator)
    }

    /// What one begins with that has its store for itself.
    async fn begin_alone(&self) -> Result<(), CoordinatorError> {
        self.find_counters().await?;
        let standing = self.stored_standing().await?;
        self.begin_with(standing);
        self.connect_dns();
        self.retarget_all().await
    }

    fn begin_with(&self, recalled: BTreeMap<EndpointKey, StandingVerdict>) {
        let mut live = self.live();
        live.recalled = recalled;
        live.keep_only(&self.loaded().config);
    }

    /// Starts every task, or those of a follower, which starts the others when it begins to lead. They end when `stop` is
    /// cancelled.
    ///
    /// # Errors
    /// When the runs of the store can't be read.
    pub async fn start(self: &Arc<Self>) -> Result<(), CoordinatorError> {
        match self.records.shared_bound() {
            None => self.start_leading().await?,
            Some(lost_after) => {
                self.begin_leadership(lost_after);
                self.keep_going("mirror", self.clone().run_mirror());
                self.keep_going("roster", self.clone().run_roster(lost_after));
            }
        }
        self.keep_going("reload", self.clone().run_reload());
        self.keep_going("verdicts", self.clone().run_verdicts());
        self.keep_going("upkeep", self.clone().run_upkeep());
        self.keep_going("retention", self.clone().run_retention());
        self.keep_going("unreadable", self.clone().run_unreadable());
        Ok(())
    }

    /// Goes on with the runs of the store, and starts what only a leader does.
    pub(crate) async fn start_leading(self: &Arc<Self>) -> Result<(), CoordinatorError> {
        self.resume_runs().await?;
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(inbox) = inbox {
            self.keep_going("recorder", self.clone().run_recorder(inbox));
        }
        self.keep_going("worlds", self.clone().run_worlds());
        self.keep_going("outbox", self.clone().run_outbox());
        self.keep_going("reconciler", self.clone().run_reconciler());
        self.keep_going("out_of_service", self.clone().run_out_of_service());
        self.keep_going("health_checks", self.clone().run_health_checks());
        self.keep_going("rotation", self.clone().run_rotation());
        self.keep_going("short_ttls", self.clone().run_short_ttls());
        self.keep_going("scraper", self.clone().run_scraper());
        self.keep_going("decider", self.clone().run_decider());
        self.keep_going("attention", self.clone().run_attention());
        self.keep_going("datasets", self.clone().run_datasets());
        self.keep_going("refusals", self.clone().run_refusals());
        Ok(())
    }

    /// Spawns a loop that ends only when told to. One that ends otherwise, by a panic or by giving up, leaves a
    /// coordinator that looks alive and is not: then everything stops, and whoever supervises starts it again.
    pub(crate) fn keep_going(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let ended = tokio::spawn(work).await;
            if !stop.is_cancelled() {
                tracing::error!("the {name} loop ended by itself ({ended:?}); stopping");
                stop.cancel();
            }
        });
    }
}

fn by_key<K: Ord, V>(list: Vec<(String, V)>, key: impl Fn(&V) -> K) -> BTreeMap<K, V> {
    list.into_iter().map(|(_, v)| (key(&v), v)).collect()
}

/// A random name for a new store's lifetime; 53 bits, so that it survives any JSON reader.
pub(crate) fn fresh_incarnation() -> u64 {
    fastrand::u64(1..1 << 53)
}

fn http_builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
}

fn http_client() -> Result<reqwest::Client, CoordinatorError> {
    http_builder().build().map_err(|source| CoordinatorError::HttpClient { source: source.into() })
}

/// Certificates that are renewed are used from the next request on.
fn http_to_peers(tls: Option<&TlsFiles>) -> Result<Http, CoordinatorError> {
    let http = match tls {
        Some(files) => Http::with_certificates(files.clone(), http_builder, |_| Ok(())),
        None => Http::fixed(http_builder()),
    };
    http.map_err(|source| CoordinatorError::HttpClient { source: source.into() })
}

fn open_history(options: &Options) -> Result<History, CoordinatorError> {
    let directory = &options.state_directory;
    let (history, report) =
        History::open(directory.join("history.redb"), drover_store::HistoryOptions::default()).map_err(
            |e| CoordinatorError::OpenStore { place: directory.display().to_string(), source: e.into() },
        )?;
    tracing::debug!(?report, "history opened");
    Ok(history)
}
