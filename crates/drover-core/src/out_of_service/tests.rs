use super::*;
use drover_model::Weight;
use proptest::prelude::*;

const REGIONS: [&str; 3] = ["ap", "eu", "us"];

fn region(name: &str) -> RegionId {
    RegionId::new(name).unwrap()
}

fn weights(of: [u8; 3]) -> Weights {
    REGIONS.iter().zip(of).map(|(name, weight)| (region(name), Weight(weight))).collect()
}

fn out(names: &[&str]) -> BTreeSet<RegionId> {
    names.iter().map(|name| region(name)).collect()
}

fn names(of: &Weights, out_of_service: &[&str]) -> Vec<String> {
    answered(of, &out(out_of_service)).keys().map(ToString::to_string).collect()
}

#[test]
fn route_53_answers_weight_before_none_and_never_nothing() {
    let all = weights([20, 50, 30]);
    assert_eq!(names(&all, &[]), ["ap", "eu", "us"]);
    assert_eq!(answered(&all, &out(&["eu"])).into_values().collect::<Vec<_>>(), [20, 30]);
    // Whoever is declared out together with everybody else is answered: it is the last good state (I4).
    assert_eq!(names(&all, &["ap", "eu", "us"]), ["ap", "eu", "us"]);
    // A record of weight 0 is a reserve: also of a region that was drained.
    let drained = weights([0, 60, 40]);
    assert_eq!(names(&drained, &["eu"]), ["us"]);
    assert_eq!(names(&drained, &["eu", "us"]), ["ap"]);
    assert_eq!(names(&drained, &["ap", "eu", "us"]), ["eu", "us"], "all unhealthy: by weight again");
    // Of several in reserve each counts the same.
    assert_eq!(answered(&weights([0, 100, 0]), &out(&["eu"])).into_values().collect::<Vec<_>>(), [1, 1]);
    // All zero, which drover never publishes (I4).
    assert_eq!(names(&weights([0, 0, 0]), &[]), ["ap", "eu", "us"]);
    assert_eq!(names(&weights([0, 0, 0]), &["ap"]), ["eu", "us"]);
    assert_eq!(names(&weights([0, 0, 0]), &["ap", "eu", "us"]), ["ap", "eu", "us"]);
}

fn told(declared: &[&str]) -> Told {
    declared.iter().fold(Told::default(), |told, name| told.with(&region(name), Standing::Declared))
}

fn decide(name: &str, told: &Told, target: [u8; 3], records: Records) -> Result<Standing, Stays> {
    let (service, target) = (ServiceId::new("checkout").unwrap(), weights(target));
    let one = Concerned { service: &service, target: &target, records };
    next(&region(name), told, Facts { concerned: &[one], is_heard: false, is_all_settled: false })
}

#[test]
fn a_region_is_declared_when_all_targets_want_it_out_and_records_do_not_say_so() {
    let seen = |of| Records::Seen(weights(of));
    assert_eq!(decide("eu", &told(&[]), [40, 0, 60], seen([20, 50, 30])), Ok(Standing::Declared));
    for (target, records, why) in [
        ([20, 50, 30], seen([20, 50, 30]), "agree"),
        ([40, 0, 60], seen([40, 0, 60]), "agree"),
        ([40, 0, 60], Records::Unknown, "not known"),
        // Drained ap is the reserve, and would be answered as well as us.
        ([0, 0, 100], seen([0, 100, 0]), "answered with ap and us"),
        // So would nobody that the target wants.
        ([100, 0, 0], seen([0, 50, 50]), "answered with us"),
    ] {
        let stays = decide("eu", &told(&[]), target, records).unwrap_err();
        assert!(stays.to_string().contains(why), "{stays}");
    }
    // Of two services one stays.
    let (a, b) = (ServiceId::new("a").unwrap(), ServiceId::new("b").unwrap());
    let (leaves, keeps) = (weights([40, 0, 60]), weights([20, 50, 30]));
    let both = [
        Concerned { service: &a, target: &leaves, records: seen([20, 50, 30]) },
        Concerned { service: &b, target: &keeps, records: seen([20, 50, 30]) },
    ];
    let facts = Facts { concerned: &both, is_heard: true, is_all_settled: false };
    assert_eq!(next(&region("eu"), &told(&[]), facts), Err(Stays::NotAllLeave { service: b.clone() }));
}

#[test]
fn a_declaration_ends_on_proof_alone() {
    let proven = |of| Records::Proven(weights(of));
    // The records took over.
    assert_eq!(decide("eu", &told(&["eu"]), [40, 0, 60], proven([40, 0, 60])), Ok(Standing::Withdrawing));
    // It comes back: weights first.
    assert_eq!(decide("eu", &told(&["eu"]), [20, 50, 30], proven([20, 50, 30])), Ok(Standing::Withdrawing));
    for (target, records, why) in [
        ([40, 0, 60], proven([20, 50, 30]), "not yet"),
        ([40, 0, 60], Records::Seen(weights([40, 0, 60])), "read anew"),
        ([40, 0, 60], Records::Unknown, "not known"),
    ] {
        let stays = decide("eu", &told(&["eu"]), target, records).unwrap_err();
        assert!(stays.to_string().contains(why), "{stays}");
    }
    // With us declared as well, eu would be the reserve. Where nothing else is to be waited for, they go together.
    let stays = decide("eu", &told(&["eu", "us"]), [0, 0, 100], proven([0, 0, 100]));
    assert!(matches!(stays, Err(Stays::WouldAnswer { .. })), "{stays:?}");
    let (service, target) = (ServiceId::new("checkout").unwrap(), weights([0, 0, 100]));
    let one = Concerned { service: &service, target: &target, records: proven([0, 0, 100]) };
    let facts = Facts { concerned: &[one], is_heard: false, is_all_settled: true };
    assert_eq!(next(&region("eu"), &told(&["eu", "us"]), facts), Ok(Standing::Withdrawing));
}

#[test]
fn a_region_that_serves_nothing_any_more_is_declared_no_longer() {
    let facts = Facts { concerned: &[], is_heard: false, is_all_settled: false };
    assert_eq!(next(&region("eu"), &told(&["eu"]), facts), Ok(Standing::Withdrawing));
    assert_eq!(next(&region("eu"), &told(&[]), facts), Err(Stays::NothingToDo));
}

#[test]
fn who_may_not_have_heard_that_it_is_over_counts_with_its_last_word() {
    let withdrawing = told(&[]).with(&region("eu"), Standing::Withdrawing);
    let all = Records::Proven(weights([20, 50, 30]));
    // eu is back, as far as those have heard who say so: us is declared only because ap is there as well.
    let left = |target, records: &Records| decide("us", &withdrawing, target, records.clone());
    assert_eq!(left([40, 60, 0], &all), Ok(Standing::Declared));
    assert!(matches!(
        left([0, 100, 0], &Records::Seen(weights([0, 60, 40]))),
        Err(Stays::WouldAnswer { .. })
    ));
    let heard = |is_heard| {
        let (service, target) = (ServiceId::new("checkout").unwrap(), weights([20, 50, 30]));
        let one = Concerned { service: &service, target: &target, records: all.clone() };
        next(&region("eu"), &withdrawing, Facts { concerned: &[one], is_heard, is_all_settled: false })
    };
    assert_eq!((heard(false), heard(true)), (Err(Stays::NotHeard), Ok(Standing::InService)));
    // It fails again before anybody has heard.
    assert_eq!(decide("eu", &withdrawing, [40, 0, 60], all.clone()), Ok(Standing::Declared));
}

/// What happens in the world.
#[derive(Debug, Clone)]
enum Event {
    /// The targets become these; the planner never makes one all zero.
    Retarget(usize, [u8; 3]),
    /// The API goes, or comes back.
    Api(bool),
    /// The reconciler reads the records, and writes those of a service that differ, as far as the API lets it.
    Reconcile(usize),
    /// A call was made and its answer lost.
    LostWrite(usize),
    /// The coordinator looks at every region once, having read the records anew where it could.
    Look,
    /// The status servers hear the newest word, or none of them does.
    Pages(bool),
}

/// Two services in three regions, Route 53, and what the coordinator keeps on disk: it has nothing else, so that a crash between any two
/// events changes nothing.
struct Sim {
    targets: [Weights; 2],
    records: [Weights; 2],
    has_api: bool,
    told: Told,
    /// What the status servers declare: they may be behind.
    pages: BTreeSet<RegionId>,
    hears: bool,
    /// On disk: what was live when it was read or written last.
    kept: [Weights; 2],
    services: [ServiceId; 2],
}

impl Sim {
    fn new() -> Self {
        let all = weights([20, 50, 30]);
        Self {
            targets: [all.clone(), all.clone()],
            records: [all.clone(), all.clone()],
            has_api: true,
            told: Told::default(),
            pages: BTreeSet::new(),
            hears: true,
            kept: [all.clone(), all],
            services: ["a", "b"].map(|name| ServiceId::new(name).unwrap()),
        }
    }

    fn look(&mut self) {
        let is_all_settled =
            self.has_api && (0..2).all(|n| says_the_same(&self.records[n], &self.targets[n]));
        let mut stands = Vec::new();
        for name in REGIONS {
            let records = |n: usize| match self.has_api {
                true => Records::Proven(self.records[n].clone()),
                false => Records::Seen(self.kept[n].clone()),
            };
            let one =
                |n| Concerned { service: &self.services[n], target: &self.targets[n], records: records(n) };
            let concerned = [one(0), one(1)];
            let is_heard = self.pages == self.told.declared();
            let facts = Facts { concerned: &concerned, is_heard, is_all_settled };
            if let Ok(next) = next(&region(name), &self.told, facts) {
                self.told = self.told.with(&region(name), next);
                stands.push((name, next));
            }
        }
        // Told at once to whoever hears it, and checked before and after.
        stands.iter().for_each(|(name, next)| self.check(name, *next));
        self.hear();
        stands.iter().for_each(|(name, next)| self.check(name, *next));
    }

    fn hear(&mut self) {
        if self.hears {
            self.pages = self.told.declared();
        }
    }

    /// Nobody is answered whom no target wants, whatever became of a write whose answer was lost; and somebody is.
    fn check(&self, name: &str, next: Standing) {
        let all_out = |of: &Weights| {
            of.iter().filter(|(_, w)| w.0 > 0).all(|(r, _)| self.told.may_be_out().contains(r))
        };
        for n in 0..2 {
            let (target, now) = (&self.targets[n], answered(&self.records[n], &self.pages));
            assert!(!now.is_empty());
            // What it decides of this region, it decides for as long as the pages say what it told them, or less.
            if self.pages.is_subset(&self.told.may_be_out()) && self.told.declared().is_subset(&self.pages) {
                // Who is in service is so by the records, and nothing is told anew.
                let is_told = next != Standing::InService;
                let came_back = is_told && now.contains_key(&region(name)) && target.of(&region(name)).0 == 0;
                assert!(!came_back, "{name} came back by itself: {now:?}, {next:?}");
                let is_dark = next == Standing::Declared && all_out(&self.records[n]) && all_out(target);
                assert!(!is_dark, "{name} was declared beside all that are wanted: {:?}", self.told);
            }
        }
    }

    fn play(&mut self, event: &Event) {
        // Out because it was declared, and still unwanted: neither the API nor a look brings it back.
        let gone: Vec<(usize, RegionId)> = (0..2)
            .flat_map(|n| self.told.declared().into_iter().map(move |r| (n, r)))
            .filter(|(n, r)| {
                self.pages.contains(r) && !answered(&self.records[*n], &self.pages).contains_key(r)
            })
            .collect();
        match event {
            Event::Retarget(n, of) => self.targets[*n] = weights(*of),
            Event::Api(has) => self.has_api = *has,
            Event::Reconcile(n) if self.has_api => {
                self.records[*n] = self.targets[*n].clone();
                self.kept = self.records.clone();
            }
            Event::LostWrite(n) if self.has_api => self.records[*n] = self.targets[*n].clone(),
            Event::Reconcile(_) | Event::LostWrite(_) => {}
            Event::Look => self.look(),
            Event::Pages(hears) => {
                self.hears = *hears;
                self.hear();
            }
        }
        let changes_no_record = matches!(event, Event::Look | Event::Api(_));
        for (n, r) in gone.into_iter().filter(|(n, r)| changes_no_record && self.targets[*n].of(r).0 == 0) {
            let now = answered(&self.records[n], &self.pages);
            assert!(!now.contains_key(&r), "{r} was taken out, and {now:?} is answered after {event:?}");
        }
    }

    /// The API is back, the pages hear, and everything comes to rest.
    fn settle(&mut self) {
        self.has_api = true;
        for n in 0..2 {
            self.play(&Event::Reconcile(n));
        }
        self.play(&Event::Pages(true));
        // What one withdrawal waits for may be another.
        for _ in 0..2 * REGIONS.len() {
            self.look();
        }
    }
}

fn any_target() -> impl Strategy<Value = [u8; 3]> {
    let one = prop_oneof![Just(0_u8), 1..=100_u8];
    [one.clone(), one.clone(), one].prop_filter("never all zero (I4)", |of| of.iter().any(|w| *w > 0))
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..2_usize, any_target()).prop_map(|(n, of)| Event::Retarget(n, of)),
        2 => any::<bool>().prop_map(Event::Api),
        2 => (0..2_usize).prop_map(Event::Reconcile),
        1 => (0..2_usize).prop_map(Event::LostWrite),
        4 => Just(Event::Look),
        2 => any::<bool>().prop_map(Event::Pages),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever happens in whatever order: a region that was taken out does not come back by itself, a declaration makes nothing dark and
    /// lets nobody in who is not wanted, and it is over when the records say what the targets want.
    #[test]
    fn no_order_of_failures_brings_a_region_back_or_makes_all_dark(events in prop::collection::vec(any_event(), 1..60)) {
        let mut sim = Sim::new();
        for event in &events {
            sim.play(event);
        }
        sim.settle();
        for n in 0..2 {
            let now = answered(&sim.records[n], &sim.pages);
            prop_assert!(now.keys().all(|r| sim.targets[n].of(r).0 > 0), "{now:?}, {:?}", sim.told);
        }
    }
}
