//! The calls to Route 53, and what their failures mean.

use std::time::{Duration, SystemTime};

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError, future};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_route53::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_route53::types::{Change, ChangeBatch, ChangeStatus, ResourceRecordSet, RrType};
use aws_sdk_route53::{Client, Config};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use drover_model::config::Route53Dns;
use tokio::sync::OnceCell;

use super::pace::Paced;

/// Route 53 is one for the whole partition, and its API stands there.
const REGION: &str = "us-east-1";
/// Record sets of a page: the most that the API gives.
const PAGE_MAX: i32 = 300;
/// Tries of one call, the first included; the SDK pauses between them.
const TRIES: u32 = 3;
/// A file with credentials is read again after so long: a new key counts without a restart.
const CREDENTIALS_KEPT: Duration = Duration::from_secs(60);

/// Why a call did not do what was asked.
#[derive(Debug)]
pub(super) enum CallError {
    /// What the change was decided upon is not so any more. Nothing changed.
    Stale { detail: String },
    /// Nothing changed, and it may go better later.
    NotNow { detail: String },
    /// More was asked than the account may ask. Only the last of the SDK's tries is known to have done nothing.
    Busy { detail: String },
    /// It will never be accepted as it is.
    Refused { code: String, detail: String },
    /// No usable answer: whether anything changed is not known.
    Lost { detail: String },
}

/// Where to go on reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) name: String,
    pub(super) rtype: Option<RrType>,
    pub(super) identifier: Option<String>,
}

/// Some of a zone's record sets, in its order.
pub(super) struct Page {
    pub(super) sets: Vec<ResourceRecordSet>,
    pub(super) next: Option<Cursor>,
}

/// The API of one hosted zone.
#[derive(Debug)]
pub(super) struct Api {
    settings: Route53Dns,
    client: OnceCell<Client>,
}

impl Api {
    pub(super) fn new(settings: Route53Dns) -> Self {
        Self { settings, client: OnceCell::new() }
    }

    /// A page from `from` on, of `count` sets at most; without, of the whole zone from its beginning.
    pub(super) async fn list(&self, from: Option<&Cursor>, count: i32) -> Result<Page, CallError> {
        let mut request = self.client().await.list_resource_record_sets();
        request = request.hosted_zone_id(&self.settings.hosted_zone).max_items(count);
        if let Some(from) = from {
            request = request
                .start_record_name(&from.name)
                .set_start_record_type(from.rtype.clone())
                .set_start_record_identifier(from.identifier.clone());
        }
        let page = request.send().await.map_err(|e| self.failure(&e))?;
        let next = page.next_record_name().map(|name| Cursor {
            name: name.to_owned(),
            rtype: page.next_record_type().cloned(),
            identifier: page.next_record_identifier().map(str::to_owned),
        });
        let next = next.filter(|_| page.is_truncated());
        // Where it goes on from must be further on, or nobody would ever come to an end.
        if next.is_some() && next.as_ref() == from {
            return Err(CallError::Lost { detail: "its list does not go on".into() });
        }
        Ok(Page { sets: page.resource_record_sets, next })
    }

    /// The next page of a whole reading.
    pub(super) async fn page(&self, from: Option<&Cursor>) -> Result<Page, CallError> {
        self.list(from, PAGE_MAX).await
    }

    /// All of these happen, or none. Gives what the change is called.
    pub(super) async fn change(&self, changes: Vec<Change>) -> Result<String, CallError> {
        let invalid =
            |e: &dyn std::error::Error| CallError::Refused { code: "invalid".into(), detail: e.to_string() };
        let batch = ChangeBatch::builder().set_changes(Some(changes)).build().map_err(|e| invalid(&e))?;
        let request = self.client().await.change_resource_record_sets();
        let request = request.hosted_zone_id(&self.settings.hosted_zone).change_batch(batch);
        let changed = request.send().await.map_err(|e| self.failure(&e))?;
        match changed.change_info {
            Some(info) => Ok(info.id.trim_start_matches("/change/").to_owned()),
            None => Err(CallError::Lost { detail: "it does not say what the change is called".into() }),
        }
    }

    /// Has the change reached all name servers?
    pub(super) async fn is_in_sync(&self, change: &str) -> Result<bool, CallError> {
        let asked = self.client().await.get_change().id(change).send().await.map_err(|e| self.failure(&e))?;
        Ok(asked.change_info.is_some_and(|info| info.status == ChangeStatus::Insync))
    }

    pub(super) fn hosted_zone(&self) -> &str {
        &self.settings.hosted_zone
    }

    pub(super) async fn client(&self) -> &Client {
        self.client.get_or_init(|| connect(&self.settings)).await
    }

    pub(super) fn failure<E>(&self, error: &SdkError<E, HttpResponse>) -> CallError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let detail = drover_model::chain(error);
        let SdkError::ServiceError(answered) = error else {
            return match error {
                _ if has_no_credentials(error) => self.without_credentials(&detail),
                SdkError::ConstructionFailure(_) => CallError::NotNow { detail },
                _ => CallError::Lost { detail },
            };
        };
        let (code, said) = (answered.err().code().unwrap_or_default(), answered.err().message());
        let detail = format!("{code}: {}", said.unwrap_or("without a word"));
        let status = answered.raw().status().as_u16();
        match code {
            "InvalidChangeBatch" => CallError::Stale { detail },
            // Until 2024 it was told without a code, in an element of its own, and nobody promises that it never will be again.
            "" if tells_of_the_batch(answered.raw()) => {
                CallError::Stale { detail: "InvalidChangeBatch".into() }
            }
            "NoSuchHostedZone" => {
                let zone = &self.settings.hosted_zone;
                CallError::NotNow { detail: format!("{detail} (is `hosted_zone: {zone}` right?)") }
            }
            "InvalidInput" | "InvalidArgument" | "MalformedInput" | "TooManyHealthChecks" => {
                CallError::Refused { code: code.to_owned(), detail }
            }
            _ if is_busy(code) => CallError::Busy { detail },
            _ if status == 401 || status == 403 => self.without_credentials(&detail),
            _ if status >= 500 => CallError::Lost { detail },
            _ => CallError::NotNow { detail },
        }
    }

    fn without_credentials(&self, detail: &str) -> CallError {
        let source = match &self.settings.credentials_file {
            Some(file) => format!("the profile `default` of {}", file.display()),
            None => "AWS's usual chain: environment, profile, the machine's role".to_owned(),
        };
        CallError::NotNow { detail: format!("{detail} (credentials come from {source})") }
    }
}

fn has_no_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|one| one.is::<CredentialsError>())
}

fn tells_of_the_batch(raw: &HttpResponse) -> bool {
    const NAME: &[u8] = b"<InvalidChangeBatch";
    raw.body().bytes().is_some_and(|body| body.windows(NAME.len()).any(|some| some == NAME))
}

/// More requests than the account may send, or one before the last is done.
fn is_busy(code: &str) -> bool {
    matches!(
        code,
        "Throttling" | "ThrottlingException" | "PriorRequestNotComplete" | "TooManyRequestsException"
    )
}

async fn connect(settings: &Route53Dns) -> Client {
    let timeout = settings.timeout.to_duration();
    let http =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .http_client(http.clone())
        .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
        .timeout_config(TimeoutConfig::builder().connect_timeout(timeout).read_timeout(timeout).build());
    if let Some(file) = &settings.credentials_file {
        loader = loader.credentials_provider(CredentialsFile { file: file.clone(), http: http.clone() });
    }
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let shared = loader.load().await;
    let paced = Paced::new(http, settings.requests_per_second);
    Client::from_conf(Config::from(&shared).to_builder().http_client(paced).build())
}

/// A file as AWS's tools have it, read again every minute.
#[derive(Debug)]
struct CredentialsFile {
    file: std::path::PathBuf,
    /// For profiles that assume a role.
    http: SharedHttpClient,
}

impl ProvideCredentials for CredentialsFile {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            // The SDK would say "no profile" of a file that is not there.
            tokio::fs::metadata(&self.file).await.map_err(|e| {
                CredentialsError::not_loaded(format!("cannot read {}: {e}", self.file.display()))
            })?;
            let files =
                EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, &self.file).build();
            let read = ProfileFileCredentialsProvider::builder().profile_files(files).profile_name("default");
            let config = ProviderConfig::without_region()
                .with_region(Some(Region::new(REGION)))
                .with_http_client(self.http.clone());
            let mut credentials = read.configure(&config).build().provide_credentials().await?;
            let until = SystemTime::now() + CREDENTIALS_KEPT;
            let expiry = credentials.expiry_mut();
            *expiry = Some(expiry.map_or(until, |own| own.min(until)));
            Ok(credentials)
        })
    }
}
