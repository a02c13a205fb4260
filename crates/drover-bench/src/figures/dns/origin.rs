//! A service that can end: a process of this program that answers at one address.

use crate::error::{Attempt, Result, unexpected};
use crate::figures::probe::targets;
use crate::product::Role;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The word by which this program becomes one.
const WORD: &str = "dns-origin";
/// Connections that may wait; few, so that they are soon filled when it hangs.
const BACKLOG: i32 = 4;
const READY_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One that runs.
pub struct Origin {
    role: Role,
    address: SocketAddr,
}

/// How a service ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its process is killed: connections are refused.
    Killed,
    /// It does nothing any more, and what is sent to it is dropped.
    Hung,
}

/// What must be kept for as long as a service shall seem ended.
pub struct Ended {
    _role: Option<Role>,
    _waiting: Vec<TcpStream>,
}

impl Origin {
    /// Starts one that answers at `address`.
    pub fn start(directory: &Path, address: SocketAddr) -> Result<Self> {
        let directory = directory.join(format!("origin-{}", address.ip()));
        std::fs::create_dir_all(&directory).attempt("make a directory")?;
        let file = directory.join("address");
        std::fs::write(&file, address.to_string()).attempt(format!("write {}", file.display()))?;
        let mut command = Command::new(std::env::current_exe().attempt("find this program")?);
        let role = Role::start("origin", &directory, command.arg(WORD).arg("--peer").arg(&file))?;
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if began.elapsed() > READY_WITHIN {
                return unexpected(format!("nothing answers at {address}; see {}", role.log().display()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(Self { role, address })
    }

    /// Ends it, from now on.
    pub fn end(self, how: End) -> Result<Ended> {
        match how {
            End::Killed => {
                drop(self.role);
                Ok(Ended { _role: None, _waiting: vec![] })
            }
            End::Hung => {
                self.role.freeze()?;
                let waiting = targets::fill(self.address)?;
                Ok(Ended { _role: Some(self.role), _waiting: waiting })
            }
        }
    }
}

/// This process becomes one; it ends when its parent kills it.
pub fn run(file: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file).attempt(format!("read {}", file.display()))?;
    let address: SocketAddr = text.parse().attempt(format!("read {}", file.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.attempt("start the runtime")?.block_on(async {
        let listener = targets::listen_at(address, BACKLOG)?;
        targets::answer(tokio::net::TcpListener::from_std(listener).attempt("listen")?).await;
        Ok(())
    })
}
