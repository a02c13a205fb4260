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

/// Of services that are concerned: nobody has followed or read anything just now.
const fn facts<'a>(concerned: &'a [Concerned<'a>]) -> Facts<'a> {
    Facts { concerned, can_be_left: true, is_followed: false, is_proven: false, is_all_settled: false }
}

fn decide(name: &str, told: &Told, target: [u8; 3], records: Records) -> Result<Standing, Stays> {
    let (service, target) = (ServiceId::new("checkout").unwrap(), weights(target));
    let one = Concerned { service: &service, target: &target, records };
    next(&region(name), told, facts(&[one]))
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
    let facts = Facts { is_followed: true, ..facts(&both) };
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
    let concerned = [one];
    let facts = Facts { is_all_settled: true, ..facts(&concerned) };
    assert_eq!(next(&region("eu"), &told(&["eu", "us"]), facts), Ok(Standing::Withdrawing));
}

#[test]
fn a_region_that_serves_nothing_any_more_is_declared_until_somebody_has_read_that_it_does_not() {
    assert_eq!(next(&region("eu"), &told(&["eu"]), facts(&[])), Err(Stays::NotRead));
    let read = Facts { is_proven: true, ..facts(&[]) };
    assert_eq!(next(&region("eu"), &told(&["eu"]), read), Ok(Standing::Withdrawing));
    assert_eq!(next(&region("eu"), &told(&[]), facts(&[])), Err(Stays::NothingToDo));
}

#[test]
fn a_service_without_an_endpoint_there_is_concerned_for_as_long_as_its_records_have_the_region() {
    let records = Records::Seen(weights([20, 50, 30]));
    assert!(concerns(&region("eu"), false, &records) && concerns(&region("eu"), true, &Records::Unknown));
    assert!(concerns(&region("eu"), false, &Records::Proven(weights([20, 0, 30]))), "it is in reserve");
    assert!(!concerns(&region("sa"), false, &records) && !concerns(&region("sa"), false, &Records::Unknown));
    // Its endpoint was taken out of the configuration: the target knows nothing of it, and the records do.
    let stays = decide("eu", &told(&["eu"]), [40, 0, 60], records).unwrap_err();
    assert!(stays.to_string().contains("not yet"), "{stays}");
}

#[test]
fn a_region_that_too_few_pages_judge_is_not_declared_and_still_comes_back() {
    let (service, target) = (ServiceId::new("checkout").unwrap(), weights([40, 0, 60]));
    let one =
        [Concerned { service: &service, target: &target, records: Records::Seen(weights([20, 50, 30])) }];
    let few = Facts { can_be_left: false, is_followed: true, ..facts(&one) };
    assert_eq!(next(&region("eu"), &told(&[]), few), Err(Stays::TooFewPages));
    let withdrawing = told(&[]).with(&region("eu"), Standing::Withdrawing);
    assert_eq!(next(&region("eu"), &withdrawing, few), Ok(Standing::InService));
}

#[test]
fn weights_leave_nobody_where_all_that_have_any_may_be_out() {
    let told = told(&["eu"]).with(&region("us"), Standing::Withdrawing);
    assert!(told.leaves_some(&weights([1, 50, 50])));
    assert!(!told.leaves_some(&weights([0, 50, 50])) && !told.leaves_some(&weights([0, 0, 0])));
    assert!(Told::default().leaves_some(&weights([0, 100, 0])));
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
    let followed = |is_followed| {
        let (service, target) = (ServiceId::new("checkout").unwrap(), weights([20, 50, 30]));
        let one = Concerned { service: &service, target: &target, records: all.clone() };
        next(&region("eu"), &withdrawing, Facts { is_followed, ..facts(&[one]) })
    };
    assert_eq!((followed(false), followed(true)), (Err(Stays::NotHeard), Ok(Standing::InService)));
    // It fails again before anybody has heard.
    assert_eq!(decide("eu", &withdrawing, [40, 0, 60], all.clone()), Ok(Standing::Declared));
}

/// What happens in the world.
#[derive(Debug, Clone)]
enum Event {
    /// The targets become these; the planner never makes one all zero, and waits where nobody would surely be answered.
    Retarget(usize, [u8; 3]),
    /// A service's endpoint in a region is taken out of the configuration.
    Remove(usize, usize),
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
    /// Route 53's checkers of one region come to what its pages say.
    Follow(usize),
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
    /// What Route 53 leaves out: it follows the pages, and lags.
    followed: BTreeSet<RegionId>,
    /// The regions that a service has endpoints in.
    endpoints: [BTreeSet<RegionId>; 2],
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
            followed: BTreeSet::new(),
            endpoints: [out(&REGIONS), out(&REGIONS)],
            kept: [all.clone(), all],
            services: ["a", "b"].map(|name| ServiceId::new(name).unwrap()),
        }
    }

    fn look(&mut self) {
        let is_proven = self.has_api;
        if is_proven {
            self.kept = self.records.clone();
        }
        let is_all_settled = is_proven && (0..2).all(|n| says_the_same(&self.records[n], &self.targets[n]));
        for name in REGIONS {
            let region = region(name);
            let records = |n: usize| match is_proven {
                true => Records::Proven(self.records[n].clone()),
                false => Records::Seen(self.kept[n].clone()),
            };
            let one =
                |n| Concerned { service: &self.services[n], target: &self.targets[n], records: records(n) };
            let is_concerned =
                |n: &usize| concerns(&region, self.endpoints[*n].contains(&region), &records(*n));
            let concerned: Vec<Concerned<'_>> = (0..2).filter(is_concerned).map(one).collect();
            let is_followed = !self.pages.contains(&region) && !self.followed.contains(&region);
            let facts = Facts {
                concerned: &concerned,
                can_be_left: true,
                is_followed: self.pages == self.told.declared() && is_followed,
                is_proven,
                is_all_settled,
            };
            if let Ok(next) = next(&region, &self.told, facts) {
                self.told = self.told.with(&region, next);
            }
        }
        self.hear();
    }

    fn hear(&mut self) {
        if self.hears {
            self.pages = self.told.declared();
        }
    }

    /// Of what has no endpoint there is no record.
    fn write(&mut self, n: usize) {
        let written = self.targets[n].iter().filter(|(region, _)| self.endpoints[n].contains(*region));
        self.records[n] = written.map(|(region, weight)| (region.clone(), *weight)).collect();
    }

    /// A target is moved as runs move it: not to where nobody might be answered but the reserve.
    fn retarget(&mut self, n: usize, target: Weights) {
        if self.told.leaves_some(&target) {
            self.targets[n] = target;
        }
    }

    /// Whom a service is answered with, of all that its target gives nothing.
    fn unwanted(&self, n: usize) -> BTreeSet<RegionId> {
        let now = answered(&self.records[n], &self.followed);
        now.into_keys().filter(|region| self.targets[n].of(region).0 == 0).collect()
    }

    /// Whom a service is answered with now, and will be when pages and checkers have followed what is told already.
    fn comes_to_answer(&self, n: usize) -> BTreeSet<RegionId> {
        let out = [self.followed.clone(), self.pages.clone(), self.told.declared()];
        out.iter().flat_map(|out| answered(&self.records[n], out).into_keys()).collect()
    }

    /// Whatever happens, nobody comes in by it whom the target gives nothing; and whoever is answered is not one of those that are out, as
    /// it would be where all are (I4).
    fn play(&mut self, event: &Event) {
        let before: Vec<_> = (0..2).map(|n| self.comes_to_answer(n)).collect();
        self.happens(event);
        for (n, before) in before.iter().enumerate() {
            let unwanted = |region: &RegionId| self.targets[n].of(region).0 == 0;
            let mut came_in = self.comes_to_answer(n);
            let (told, followed) = (&self.told, &self.followed);
            // Whoever is declared is on its way out: until checkers follow, the reserve that another's declaration brings in has it, too.
            let is_leaving = |region: &RegionId| told.standing(region) == Standing::Declared;
            came_in.retain(|r| unwanted(r) && !before.contains(r) && !is_leaving(r));
            assert!(came_in.is_empty(), "{came_in:?} came in by {event:?}: {told:?}, {followed:?}");
            let now = answered(&self.records[n], followed);
            let is_dark = now.keys().any(|region| followed.contains(region));
            assert!(!is_dark, "all is out after {event:?}: {told:?}, {:?}", self.records[n]);
        }
    }

    fn happens(&mut self, event: &Event) {
        match event {
            // A write whose answer was lost is one that made what is wanted now: of an earlier one nobody would know (decision 0021).
            Event::Retarget(n, _) | Event::Remove(n, _) if self.records[*n] != self.kept[*n] => {}
            Event::Retarget(n, of) => {
                let mut target = weights(*of);
                let all = REGIONS.map(region).into_iter();
                all.filter(|r| !self.endpoints[*n].contains(r)).for_each(|r| target.insert(r, Weight(0)));
                self.retarget(*n, target);
            }
            Event::Remove(n, number) => {
                let region = region(REGIONS[*number]);
                let mut target = self.targets[*n].clone();
                target.insert(region.clone(), Weight(0));
                if self.told.leaves_some(&target) {
                    self.endpoints[*n].remove(&region);
                    self.retarget(*n, target);
                }
            }
            Event::Api(has) => self.has_api = *has,
            Event::Reconcile(n) if self.has_api => {
                self.write(*n);
                self.kept = self.records.clone();
            }
            Event::LostWrite(n) if self.has_api => self.write(*n),
            Event::Reconcile(_) | Event::LostWrite(_) => {}
            Event::Look => self.look(),
            Event::Pages(hears) => {
                self.hears = *hears;
                self.hear();
            }
            Event::Follow(number) => {
                let region = region(REGIONS[*number]);
                if self.pages.contains(&region) {
                    self.followed.insert(region);
                } else {
                    self.followed.remove(&region);
                }
            }
        }
    }

    /// The API is back, the pages hear, the checkers follow, and everything comes to rest.
    fn settle(&mut self) {
        self.play(&Event::Api(true));
        for n in 0..2 {
            self.play(&Event::Reconcile(n));
        }
        self.play(&Event::Pages(true));
        // What one withdrawal waits for may be another.
        for _ in 0..2 * REGIONS.len() {
            self.play(&Event::Look);
            (0..REGIONS.len()).for_each(|number| self.play(&Event::Follow(number)));
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
        1 => (0..2_usize, 0..REGIONS.len()).prop_map(|(n, number)| Event::Remove(n, number)),
        4 => (0..REGIONS.len()).prop_map(Event::Follow),
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
        prop_assert_eq!(&sim.told, &Told::default(), "it ends when the records say what the targets want");
        for n in 0..2 {
            prop_assert!(sim.unwanted(n).is_empty(), "{:?}, {:?}", sim.records[n], sim.targets[n]);
        }
    }
}
