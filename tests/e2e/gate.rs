//! `drover gate`: a database runs while it may write, and what is over is stopped, whatever became of its agent.

use crate::faults::role::{Role, Site, wait_for};
use crate::world::{GUARD, Said, binary, surroundings};
use drover_model::Span;
use drover_model::write_right::{BootTime, GateAnswer, GateOrder, Permit, WriteGeneration};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use serde_json::json;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Of every permit here: a killed process is gone within milliseconds, but two cores are shared by many tests.
const DEMOTION: Span = Span::from_secs(10);

fn boot_now() -> BootTime {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
    BootTime::after_boot(Span::from_millis(Duration::from(now).as_millis().try_into().unwrap()))
}

fn permit(generation: u64, lasts: Span) -> Permit {
    let until = boot_now().plus(lasts);
    let gate_tick = Span::from_millis(100);
    Permit { generation: WriteGeneration(generation), until, gate_tick, demotion: DEMOTION }
}

/// An agent's connection to a gate.
struct Line(BufReader<UnixStream>);

impl Line {
    fn to(gate: &Gated) -> Self {
        let stream = UnixStream::connect(&gate.socket).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        Self(BufReader::new(stream))
    }

    fn say(&mut self, order: GateOrder) {
        let line = serde_json::to_string(&order).unwrap() + "\n";
        self.0.get_mut().write_all(line.as_bytes()).unwrap();
    }

    fn hear(&mut self) -> GateAnswer {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e} in {line:?}"))
    }

    fn order(&mut self, order: GateOrder) -> GateAnswer {
        self.say(order);
        self.hear()
    }

    /// It must run at the permit's generation.
    #[track_caller]
    fn run(&mut self, permit: Permit) -> Permit {
        let running = GateAnswer::Running { generation: permit.generation };
        assert_eq!(self.order(GateOrder::Run(permit)), running);
        permit
    }
}

/// A gate before a register, or before another program.
struct Gated {
    site: Site,
    socket: PathBuf,
    register: SocketAddr,
    gate: Option<Role>,
}

impl Gated {
    fn register() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self::before(port, |site| {
            let program = env!("CARGO_BIN_EXE_drover-test-register");
            vec![program.to_owned(), port.to_string(), site.path("register.log").display().to_string()]
        })
    }

    fn before(register: SocketAddr, command: impl FnOnce(&Site) -> Vec<String>) -> Self {
        let site = Site::new();
        let socket = site.path("gate.sock");
        let file = json!({"dataset": "orders", "socket": socket, "command": command(&site)});
        fs::write(site.path("gate.yaml"), file.to_string()).unwrap();
        let mut gated = Self { site, socket, register, gate: None };
        gated.start();
        gated
    }

    fn start(&mut self) {
        let file = self.site.path("gate.yaml").display().to_string();
        let mut gate = self.site.start("gate", &[], &["gate", "--config", &file]);
        gate.ready();
        self.gate = Some(gate);
    }

    /// Writes one number; nothing where nobody answers.
    fn write(&self, number: u64) -> Option<String> {
        let mut stream = TcpStream::connect(self.register).ok()?;
        stream.set_read_timeout(Some(GUARD)).unwrap();
        writeln!(stream, "{number}").ok()?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).ok().filter(|n| *n > 0)?;
        Some(answer.trim().to_owned())
    }

    /// Writes until somebody answers.
    fn first_write(&self, number: u64) -> String {
        wait_for("the register answers", || self.write(number))
    }
}

#[test]
fn a_database_writes_while_it_may_and_is_stopped_when_its_agent_falls_silent() {
    let gated = Gated::register();
    assert_eq!(gated.write(0), None, "it begins stopped");
    let mut agent = Line::to(&gated);
    agent.run(permit(7, Span::from_secs(4)));
    assert_eq!(gated.first_write(1), "7 1");
    let last = agent.run(permit(7, Span::from_secs(4)));
    // From here the agent says nothing, as one that is stopped.
    let mut number = 2;
    let mut acknowledged = boot_now();
    while gated.write(number).is_some() {
        (acknowledged, number) = (boot_now(), number + 1);
    }
    assert!(acknowledged < last.until.plus(DEMOTION), "{acknowledged} after {}", last.until);
    // What was cut off in the middle may be followed by a connection to nobody; the gate says when it is over.
    assert_eq!(agent.order(GateOrder::Stop), GateAnswer::Stopped { why: None });
    assert_eq!(gated.write(number), None);
    // A right that is over opens nothing, and the next one does.
    let GateAnswer::Stopped { why: Some(why) } = agent.order(GateOrder::Run(permit(7, Span::ZERO))) else {
        panic!("it opened for a right that is over")
    };
    assert!(why.contains("over"), "{why}");
    agent.run(permit(9, Span::from_secs(60)));
    assert_eq!(gated.first_write(1), "9 1");
}

/// What kills a gate that hangs is fed by the loop that keeps the deadline.
#[test]
fn a_gate_says_that_it_lives_before_and_while_its_database_runs() {
    let mut gated = Gated::register();
    gated.gate = None;
    let notified = gated.site.path("notify.sock");
    let heard = UnixDatagram::bind(&notified).unwrap();
    heard.set_read_timeout(Some(GUARD)).unwrap();
    let (file, socket) = (gated.site.path("gate.yaml"), format!("NOTIFY_SOCKET={}", notified.display()));
    let words = ["gate", "--config", file.to_str().unwrap()];
    let mut gate = gated.site.start("gate", &["env", &socket, "WATCHDOG_USEC=2000000"], &words);
    gate.ready();
    gated.gate = Some(gate);
    let hear = || {
        let mut said = [0; 256];
        let length = heard.recv(&mut said).unwrap();
        String::from_utf8_lossy(&said[..length]).into_owned()
    };
    let until_alive = || while !hear().contains("WATCHDOG=1") {};
    until_alive();
    let mut agent = Line::to(&gated);
    agent.run(permit(1, Span::from_secs(60)));
    gated.first_write(1);
    until_alive();
    until_alive();
    assert_eq!(agent.order(GateOrder::Stop), GateAnswer::Stopped { why: None });
    until_alive();
    // One that is stopped says nothing more.
    gated.gate.as_ref().unwrap().signal(Signal::SIGSTOP);
    heard.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    while heard.recv(&mut [0; 256]).is_ok() {}
    gated.gate.as_ref().unwrap().signal(Signal::SIGCONT);
    heard.set_read_timeout(Some(GUARD)).unwrap();
    until_alive();
}

#[test]
fn what_an_agent_before_a_restart_said_late_is_not_obeyed() {
    let gated = Gated::register();
    let mut before = Line::to(&gated);
    before.run(permit(3, Span::from_secs(60)));
    let mut after = Line::to(&gated);
    assert_eq!(after.order(GateOrder::Stop), GateAnswer::Stopped { why: None });
    // Its connection is closed or unread; either way nothing comes of it.
    let late = serde_json::to_string(&GateOrder::Run(permit(3, Span::from_secs(60)))).unwrap() + "\n";
    let _ = before.0.get_mut().write_all(late.as_bytes());
    assert_eq!(after.order(GateOrder::Stop), GateAnswer::Stopped { why: None });
    assert_eq!(gated.write(1), None);
}

#[test]
fn a_new_generation_is_another_life_of_the_database() {
    let gated = Gated::register();
    let mut agent = Line::to(&gated);
    agent.run(permit(1, Span::from_secs(60)));
    assert_eq!(gated.first_write(1), "1 1");
    agent.run(permit(3, Span::from_secs(60)));
    assert_eq!(gated.first_write(2), "3 2");
}

/// PostgreSQL's processes lead groups of their own; so does this one.
#[test]
fn what_leaves_the_process_group_is_stopped_as_well() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let gated = Gated::before(nowhere, |site| {
        let pid = site.path("escaped.pid").display().to_string();
        let script = format!(
            "setsid sh -c 'echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 1000' & exec sleep 1000"
        );
        ["sh", "-c", &script].map(str::to_owned).to_vec()
    });
    let mut agent = Line::to(&gated);
    agent.run(permit(1, Span::from_secs(60)));
    let file = gated.site.path("escaped.pid");
    let pid = wait_for("the process that escapes runs", || fs::read_to_string(&file).ok());
    let lives = || fs::exists(format!("/proc/{}", pid.trim())).unwrap();
    assert!(lives());
    assert_eq!(agent.order(GateOrder::Stop), GateAnswer::Stopped { why: None });
    assert!(!lives(), "stopped is said when nothing is left");
}

#[test]
fn a_gate_that_dies_takes_its_database_along_and_is_alone_at_its_socket() {
    let mut gated = Gated::register();
    let mut agent = Line::to(&gated);
    agent.run(permit(1, Span::from_secs(600)));
    gated.first_write(1);
    let mut second = Command::new(binary());
    surroundings(&mut second, &gated.site.path(""));
    second.args(["gate", "--config"]).arg(gated.site.path("gate.yaml"));
    let refused = Said::of(second.output().unwrap());
    assert!(refused.code == 4 && refused.stderr.contains("another gate has the socket"), "{refused:?}");
    gated.gate.as_ref().unwrap().signal(Signal::SIGKILL);
    wait_for("the register is gone", || gated.write(2).is_none().then_some(()));
    gated.gate = None;
    gated.start();
    assert_eq!(gated.write(3), None, "a gate begins stopped");
}
