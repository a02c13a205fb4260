//! Disks that fail at the worst moment.

use super::*;
use crate::publish::change_log::Appending;
use crate::publish::{Batch, Change, ShortTime};
use crate::zone::{Answering, Member, NameServer, RecordKey, RecordSet, RecordType};
use std::path::PathBuf;

const EPOCH: Epoch = Epoch { incarnation: 0x5eed, counter: 1 };

/// How an append fails.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// After so many bytes the disk is full.
    Full(usize),
    /// All bytes are in the file; that they are on disk can't be had.
    Sync,
}

#[derive(Debug)]
struct Failing(Box<dyn Appending>, Fault);

impl Appending for Failing {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.1 {
            Fault::Full(kept) => {
                self.0.append(&bytes[..kept.min(bytes.len() - 1)])?;
                Err(io::ErrorKind::StorageFull.into())
            }
            Fault::Sync => self.0.append(bytes),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        Err(io::Error::other("input/output error"))
    }

    fn is_at(&self, path: &Path, length: u64) -> io::Result<bool> {
        self.0.is_at(path, length)
    }
}

struct Bed {
    directory: tempfile::TempDir,
    publisher: Option<Publisher>,
}

impl Bed {
    /// `app` is live at generation 1, the snapshot at 2.
    fn new() -> Self {
        let mut bed = Self { directory: tempfile::tempdir().unwrap(), publisher: None };
        bed.restart();
        bed.put(1).unwrap();
        bed
    }

    /// As after a kill: nothing is written on the way out.
    fn restart(&mut self) {
        self.publisher = None;
        let servers = ["ns1.example.test", "ns2.example.test"].map(|name| {
            let addresses = vec!["127.0.0.1".parse().unwrap()];
            NameServer { name: name.parse().unwrap(), addresses }
        });
        let zone = ZoneConfig::new("example.test".parse().unwrap(), servers.into()).unwrap();
        self.publisher = Some(Publisher::open(self.directory.path(), zone).unwrap());
    }

    fn publisher(&self) -> &Publisher {
        self.publisher.as_ref().unwrap()
    }

    fn put(&self, generation: u64) -> Result<Published, PublishError> {
        let member = Member { set_id: "eu-west".into(), value: "192.0.2.1".into(), weight: 1 };
        let record_set = RecordSet {
            name: "app.example.test".into(),
            rtype: RecordType::A,
            ttl_seconds: 30,
            members: vec![member],
            generation,
            epoch: EPOCH,
            owner: "drover".into(),
            note: String::new(),
            answering: Answering::USUAL,
        };
        let expected_generation = Some(generation - 1).filter(|before| *before > 0);
        let changes = vec![Change::Put { expected_generation, record_set, take_over: false }];
        self.publisher().publish(&Batch { epoch: EPOCH, idempotency_key: "key".into(), changes })
    }

    /// The next append fails.
    fn fail(&self, fault: Fault) {
        let mut writer = self.publisher().writer();
        let log = writer.log.take().expect("all is written");
        writer.log = Some(log.with_file(|file| Box::new(Failing(file, fault))));
    }

    /// The whole can't be written, as on a full disk.
    fn block(&self) -> PathBuf {
        let partial = self.directory.path().join(format!("{STATE_FILE_NAME}.partial"));
        fs::create_dir(&partial).unwrap();
        partial
    }

    fn live(&self) -> u64 {
        let key = RecordKey::new("app.example.test".parse().unwrap(), RecordType::A);
        self.publisher().snapshot().get(&key).unwrap().document().generation
    }

    fn file(&self) -> String {
        fs::read_to_string(self.directory.path().join(STATE_FILE_NAME)).unwrap()
    }
}

const FAULTS: [Fault; 4] = [Fault::Full(0), Fault::Full(40), Fault::Full(usize::MAX), Fault::Sync];

#[test]
fn a_change_that_can_not_be_appended_is_written_with_the_whole() {
    for fault in FAULTS {
        let mut bed = Bed::new();
        bed.fail(fault);
        assert_eq!(bed.put(2).unwrap(), Published::Changed { generation: 3 }, "{fault:?}");
        assert_eq!(bed.file().lines().count(), 2, "{fault:?}: nothing is appended to a file that failed");
        assert_eq!(bed.put(3).unwrap(), Published::Changed { generation: 4 }, "{fault:?}");
        bed.restart();
        assert_eq!((bed.live(), bed.publisher().fence().generation), (3, 4), "{fault:?}");
    }
}

#[test]
fn on_a_full_disk_nothing_changes_and_a_part_of_a_change_is_never_served() {
    for kept in [0, 40, usize::MAX] {
        let mut bed = Bed::new();
        bed.fail(Fault::Full(kept));
        let partial = bed.block();
        assert!(matches!(bed.put(2), Err(PublishError::NotWritten(_))), "{kept}");
        assert_eq!(bed.live(), 1, "{kept}");
        // The file's end is of no use any more, however much room there is.
        assert!(matches!(bed.put(2), Err(PublishError::NotWritten(_))), "{kept}");
        bed.restart();
        assert_eq!(bed.live(), 1, "{kept}");
        fs::remove_dir(&partial).unwrap();
        assert_eq!(bed.put(2).unwrap(), Published::Changed { generation: 3 }, "{kept}");
        bed.restart();
        assert_eq!(bed.live(), 2, "{kept}");
    }
}

#[test]
fn a_change_that_may_be_on_disk_is_served_and_not_acknowledged_before_it_is() {
    for is_killed in [false, true] {
        let mut bed = Bed::new();
        bed.fail(Fault::Sync);
        let partial = bed.block();
        assert!(matches!(bed.put(2), Err(PublishError::NotDurable(_))));
        assert_eq!(bed.live(), 2, "never less is served than is on disk");
        if is_killed {
            bed.restart();
            assert_eq!(bed.live(), 2);
        }
        let before = bed.file();
        // Its wish is granted already, but that is not durable yet.
        assert!(matches!(bed.put(2), Err(PublishError::NotDurable(_))));
        assert!(matches!(bed.put(3), Err(PublishError::NotWritten(_))));
        assert_eq!((bed.live(), bed.file()), (2, before), "a file that failed is not touched again");
        if !is_killed {
            assert!(matches!(bed.publisher().settle(), Err(PublishError::NotWritten(_))));
        }
        fs::remove_dir(&partial).unwrap();
        // Whoever asked for it looks, finds it served, and asks no more.
        assert_eq!(bed.publisher().settle().unwrap(), !is_killed, "what a start read, it synced");
        assert!(!bed.publisher().settle().unwrap());
        assert_eq!(bed.put(2).unwrap(), Published::Unchanged { generation: 3 });
        assert_eq!(bed.file().lines().count(), 2, "the whole");
        bed.restart();
        assert_eq!(bed.live(), 2);
    }
}

#[test]
fn what_is_shortened_ends_by_itself_and_is_written_nowhere() {
    let mut bed = Bed::new();
    let key = RecordKey::new("app.example.test".parse().unwrap(), RecordType::A);
    let told = |for_seconds| Shortened {
        epoch: EPOCH,
        for_seconds,
        times: vec![ShortTime { name: key.name.clone(), rtype: key.rtype, ttl_seconds: 5 }],
    };
    let is_short = |bed: &Bed| !bed.publisher().snapshot().short_times().is_empty();
    let (now, before) = (Instant::now(), bed.file());
    let after = |seconds| now + std::time::Duration::from_secs(seconds);
    bed.publisher().shorten(&told(10), now).unwrap();
    bed.publisher().lapse(after(9));
    assert!(is_short(&bed));
    bed.publisher().shorten(&told(10), after(9)).unwrap();
    bed.publisher().lapse(after(18));
    assert!(is_short(&bed), "told again");
    bed.publisher().lapse(after(19));
    assert!(!is_short(&bed));
    bed.publisher().shorten(&told(u32::MAX), now).unwrap();
    bed.publisher().lapse(after(60));
    assert!(!is_short(&bed), "no longer than the longest");
    bed.publisher().shorten(&told(60), now).unwrap();
    assert_eq!(bed.file(), before);
    bed.restart();
    assert!(!is_short(&bed));
}
