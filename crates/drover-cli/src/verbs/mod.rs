//! What each verb does. Asking and deciding whom to ask happens here, rendering in `render`.

pub mod audit;
pub mod break_glass;
pub mod config;
pub mod dataset;
pub mod dns;
pub mod dns_keygen;
pub mod dns_verify;
pub mod doctor;
pub mod explain;
pub mod joining;
pub mod moves;
pub mod orders;
pub mod pki;
pub mod policy;
pub mod runbook;
pub mod runs;
pub mod simulate;
pub mod status;
pub mod store;
pub mod token;
pub mod tools;

use crate::client::Client;
use crate::context::Target;
use crate::failure::Result;
use crate::output::Out;
use drover_model::traffic::Actor;
use std::sync::OnceLock;

/// What a verb works with.
#[derive(Debug)]
pub struct Bench {
    /// Whom to speak to.
    pub target: Target,
    /// By which means.
    pub client: Client,
    /// To whom to answer.
    pub out: Out,
}

impl Bench {
    /// For a target.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new(target: Target, out: Out) -> Result<Self> {
        let client = Client::new(&target)?;
        Ok(Self { target, client, out })
    }
}

/// Who runs this program, for the audit: the person behind `sudo` where there is one.
pub fn me() -> Actor {
    static ME: OnceLock<Actor> = OnceLock::new();
    ME.get_or_init(|| {
        let uid = nix::unistd::getuid();
        let sudo = uid.is_root().then(|| std::env::var("SUDO_USER").ok()).flatten();
        let user = || nix::unistd::User::from_uid(uid).ok().flatten().map(|u| u.name);
        let name = sudo.or_else(user).unwrap_or_else(|| format!("uid {uid}"));
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Actor::Person { name, host: host.trim().to_owned() }
    })
    .clone()
}
