//! The links between the places: every place has a TUN device, and what one sends is handed to the device of whom it is for,
//! late, out of order or not at all. This does what `tc netem` does, in kernels that were built without it, too, and for
//! each direction of each pair by itself (decision 0033).

use crate::place::{Place, address, index_of};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Places that there can be; they are numbered from 1.
pub const PLACES_MAX: usize = 8;
/// What every device is called in its own network.
pub const DEVICE: &str = "drover0";
/// The largest packet: TUN devices segment what is larger before we see it.
const PACKET_BYTES_MAX: usize = 2_048;
/// Packets on their way. A real link drops what its queue has no room for.
const HELD_MAX: usize = 20_000;
/// `TUNSETIFF` of linux/if_tun.h: names a device and attaches the file to it.
const TUNSETIFF: u64 = 0x4004_54ca;

/// What becomes of packets on the way from one place to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    pub delay: Duration,
    /// Up to so much is added, drawn for each packet: later ones overtake.
    pub jitter: Duration,
    pub lost_percent: u8,
    /// Of those that are delayed, so many are not: they overtake all that are.
    pub reordered_percent: u8,
}

/// What the kernel reads of an `ifreq`: the name, and the kind of device.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: i16,
    padding: [u8; 22],
}

/// A packet on its way. The earliest is the greatest, as a heap wants it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: Reverse<Instant>,
    number: Reverse<u64>,
    to: usize,
    packet: Vec<u8>,
}

#[derive(Default)]
struct State {
    links: [[Link; PLACES_MAX]; PLACES_MAX],
    held: BinaryHeap<Held>,
    numbers: u64,
    is_over: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    devices: Vec<(usize, File)>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All links. They end with this value.
pub struct Fabric {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Fabric {
    /// Gives each place its device and address, and begins to carry packets.
    pub fn between(places: &[Place]) -> Self {
        let devices = places.iter().map(|place| (place.index, place.within(device))).collect();
        for place in places {
            let address = format!("{}/16", address(place.index));
            place.run(&["ip", "address", "add", &address, "dev", DEVICE]);
            place.run(&["ip", "link", "set", DEVICE, "up"]);
        }
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), devices });
        let mut threads = Vec::new();
        for number in 0..shared.devices.len() {
            let shared = shared.clone();
            threads.push(std::thread::spawn(move || carry(&shared, number)));
        }
        let late = shared.clone();
        threads.push(std::thread::spawn(move || deliver(&late)));
        Self { shared, threads }
    }

    /// What becomes of packets from one place to another, from now on.
    pub fn set(&self, from: usize, to: usize, link: Link) {
        self.shared.state().links[from][to] = link;
    }

    /// Ends all threads. The places' devices must be gone, or readers would wait for a packet.
    pub fn end(&mut self) {
        self.shared.state().is_over = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A TUN device in the network of the calling thread. It lives as long as the file.
fn device() -> File {
    let file = File::options().read(true).write(true).open("/dev/net/tun").unwrap_or_else(|e| {
        panic!(
            "/dev/net/tun: {e}: this test needs TUN devices (modprobe tun, or a container with /dev/net/tun)"
        )
    });
    let flags = i16::try_from(nix::libc::IFF_TUN | nix::libc::IFF_NO_PI).unwrap();
    let mut request = Request { name: [0; 16], flags, padding: [0; 22] };
    request.name[..DEVICE.len()].copy_from_slice(DEVICE.as_bytes());
    // SAFETY: the request is as large as the kernel's `ifreq` (40 bytes) and outlives the call, which keeps nothing of it;
    // the descriptor is open.
    #[allow(unsafe_code, reason = "no crate at hand makes a TUN device")]
    let done = unsafe { nix::libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) };
    assert_eq!(done, 0, "TUNSETIFF: {}", io::Error::last_os_error());
    file
}

/// Takes what a place sends, until its device is gone.
fn carry(shared: &Shared, number: usize) {
    let (from, device) = &shared.devices[number];
    let mut buffer = [0; PACKET_BYTES_MAX];
    while let Ok(length) = Read::read(&mut &*device, &mut buffer) {
        let packet = &buffer[..length];
        let Some(to) = destination(packet) else { continue };
        let mut state = shared.state();
        if state.is_over {
            return;
        }
        let link = state.links[*from][to];
        if fastrand::u8(..100) < link.lost_percent {
            continue;
        }
        let late = lateness(link);
        if late.is_zero() {
            drop(state);
            hand_over(shared, to, packet);
        } else if state.held.len() < HELD_MAX {
            state.numbers += 1;
            let (due, number) = (Reverse(Instant::now() + late), Reverse(state.numbers));
            state.held.push(Held { due, number, to, packet: packet.to_vec() });
            shared.changed.notify_all();
        }
    }
}

fn lateness(link: Link) -> Duration {
    if link.delay.is_zero() || fastrand::u8(..100) < link.reordered_percent {
        return Duration::ZERO;
    }
    link.delay + link.jitter.mul_f64(fastrand::f64())
}

/// Which place an IPv4 packet is for.
fn destination(packet: &[u8]) -> Option<usize> {
    let is_ipv4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    is_ipv4.then(|| index_of(Ipv4Addr::from(to))).flatten().filter(|to| *to < PLACES_MAX)
}

/// Hands over what is late when its time has come.
fn deliver(shared: &Shared) {
    let mut state = shared.state();
    while !state.is_over {
        let now = Instant::now();
        let Some(Held { due: Reverse(due), .. }) = state.held.peek() else {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        if *due > now {
            let wait = *due - now;
            state = shared.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        } else if let Some(held) = state.held.pop() {
            drop(state);
            hand_over(shared, held.to, &held.packet);
            state = shared.state();
        }
    }
}

/// A device that is full or gone drops it, as a wire would.
fn hand_over(shared: &Shared, to: usize, packet: &[u8]) {
    if let Some((_, device)) = shared.devices.iter().find(|(index, _)| *index == to) {
        let _ = Write::write(&mut &*device, packet);
    }
}

#[test]
fn packets_go_where_they_are_addressed() {
    let mut packet = [0; 20];
    packet[0] = 0x45;
    packet[16..].copy_from_slice(&address(3).octets());
    assert_eq!(destination(&packet), Some(3));
    packet[0] = 0x60;
    assert_eq!(destination(&packet), None, "IPv6 is nobody's here");
    assert_eq!(destination(&packet[..12]), None);
    packet[0] = 0x45;
    packet[16..].copy_from_slice(&[10, 77, 200, 1]);
    assert_eq!(destination(&packet), None);
}

#[test]
fn what_is_delayed_may_be_overtaken() {
    let link =
        Link { delay: Duration::from_millis(40), jitter: Duration::from_millis(20), ..Link::default() };
    let drawn: Vec<Duration> = (0..100).map(|_| lateness(link)).collect();
    assert!(drawn.iter().all(|late| *late >= link.delay && *late <= link.delay + link.jitter));
    assert!(drawn.iter().any(|late| *late != drawn[0]));
    assert_eq!(lateness(Link { reordered_percent: 100, ..link }), Duration::ZERO);
    assert_eq!(lateness(Link::default()), Duration::ZERO);
}
