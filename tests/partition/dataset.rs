//! The dataset of this world: a register behind a gate in each region, who writes to it, and who moves it.

use crate::history::Acknowledged;
use crate::place::address;
use crate::site::{REGIONS, Site, WITNESS};
use crate::watch::{LOOK_TIMEOUT, now};
use crate::wire;
use drover_model::api::{DatasetView, RightStanding};
use drover_model::config::{Dataset, DatasetMember};
use drover_model::traffic::Actor;
use drover_model::write_right::RightSettings;
use drover_model::{AgentId, DatasetId};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const DATASET: &str = "orders";
/// Where an agent is asked by the other members.
pub const MEMBER_PORT: u16 = 7414;
const REGISTER_PORT: u16 = 7500;
/// A client waits so long for a connection, and for an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// Whoever wants a move asks again for so long, and so often.
const MOVE_ASKED_FOR: Duration = Duration::from_secs(15);
const MOVE_AGAIN_AFTER: Duration = Duration::from_millis(500);

fn register(region: usize) -> SocketAddr {
    SocketAddr::from((address(region), REGISTER_PORT))
}

/// The agent beside a region's register.
pub fn member(region: usize) -> AgentId {
    AgentId::new(format!("{}-1", REGIONS[region - 1])).unwrap()
}

/// As it is configured: each region has a copy, and the second one writes first.
pub fn configured() -> Dataset {
    let peer = |region: usize| SocketAddr::from((address(region), MEMBER_PORT));
    let members =
        (1..=REGIONS.len()).map(|region| DatasetMember { agent: member(region), peer: peer(region) });
    Dataset {
        name: DatasetId::new(DATASET).unwrap(),
        holder: member(2),
        members: members.collect(),
        write_right: RightSettings::default(),
    }
}

/// What a gate starts in a region: a register that keeps its writes in this file.
pub fn command(region: usize, kept: &str) -> Vec<String> {
    let program = env!("CARGO_BIN_EXE_drover-test-register");
    [program, &register(region).to_string(), kept].map(str::to_owned).to_vec()
}

/// One write: at which generation it was acknowledged, where it was.
fn write(region: usize, number: u64) -> std::io::Result<u64> {
    let mut stream = TcpStream::connect_timeout(&register(region), WRITE_TIMEOUT)?;
    stream.set_read_timeout(Some(WRITE_TIMEOUT))?;
    writeln!(stream, "{number}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    let words: Vec<&str> = answer.split_whitespace().collect();
    let acknowledged = match words.as_slice() {
        [generation, said] if *said == number.to_string() => generation.parse().ok(),
        _ => None,
    };
    acknowledged.ok_or_else(|| std::io::Error::other(format!("it said {answer:?}")))
}

/// A write as a client sees it.
pub fn try_write(region: usize, number: u64) -> Option<Acknowledged> {
    let begun = now();
    let generation = write(region, number).ok()?;
    Some(Acknowledged { begun, ended: now(), register: region, generation })
}

/// Somebody who moves the dataset, and what came of asking.
pub type Moving = JoinHandle<Result<String, String>>;

/// Somebody moves the dataset, and asks again until a coordinator takes it on; its words, or those of the last refusal.
pub fn move_to(sockets: Vec<PathBuf>, region: usize) -> Moving {
    std::thread::spawn(move || {
        let by = Actor::Person { name: "on-call".into(), host: "desk".into() };
        let body = json!({"by": by, "reason": "drill", "to": member(region)}).to_string();
        let (began, mut last) = (Instant::now(), "nobody was asked".to_owned());
        while began.elapsed() < MOVE_ASKED_FOR {
            for socket in &sockets {
                let path = format!("/v1/datasets/{DATASET}/move");
                match wire::socket_within(LOOK_TIMEOUT, socket, "POST", &path, &body) {
                    Ok((200, _)) => return Ok(format!("to {}", REGIONS[region - 1])),
                    // An answer that was lost may have begun it.
                    Ok((409, said)) if said.contains("move_under_way") || said.contains("holds_already") => {
                        return Ok(format!("to {}", REGIONS[region - 1]));
                    }
                    Ok((_, said)) => last = said,
                    Err(e) => last = e.to_string(),
                }
            }
            std::thread::sleep(MOVE_AGAIN_AFTER);
        }
        Err(last)
    })
}

/// The dataset, by the leader in this region, when it is at rest: one holds the right and writes, no other does, and each of the
/// others could take over.
pub fn at_rest(site: &Site, leader: usize) -> Result<DatasetView, String> {
    let (code, said) = site.ask(leader, "GET", "/v1/datasets", "");
    let views: Vec<DatasetView> =
        serde_json::from_str(&said).map_err(|e| format!("the leader says {code} {said} of datasets: {e}"))?;
    let view = views.into_iter().next().ok_or("the leader knows no dataset")?;
    if view.standing != RightStanding::Held || view.ready.len() + 1 != REGIONS.len() {
        return Err(format!("{DATASET} is {:?}, {:?} could take over", view.standing, view.ready));
    }
    if let Some(moved) = view.last_move.as_ref().filter(|last| last.ended.is_none()) {
        return Err(format!("{DATASET} still moves to {}", moved.to));
    }
    one_writes(site, &view)?;
    Ok(view)
}

fn one_writes(site: &Site, view: &DatasetView) -> Result<(), String> {
    let all = 1..=REGIONS.len();
    let written: Vec<(usize, u64)> = site.place(WITNESS).within(|| {
        let written = all.filter_map(|region| Some((region, try_write(region, 0)?.generation)));
        written.collect()
    });
    let holds = |(region, generation): &(usize, u64)| {
        member(*region) == view.holder && view.generation.is_some_and(|g| g.0 == *generation)
    };
    match written.as_slice() {
        [one] if holds(one) => Ok(()),
        other => Err(format!("{} holds {DATASET}, and these write: {other:?}", view.holder)),
    }
}
