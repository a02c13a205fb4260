//! Checks of what is published in ways that not every kind of server has.

use super::checks::lies_in;
use super::sink::Sink;
use super::{Directory, service};
use crate::config::diagnostic::suggest;
use crate::config::{Answering, Answers, DnsServers, DnsSettings, Draws, RecordType, Rfc2136Dns};
use crate::ids::RegionId;

fn dns(directory: &Directory) -> Option<&DnsSettings> {
    directory.settings.first()?.settings.as_ref()?.dns.as_ref()
}

/// What drover's own servers alone can say, and a name with one alias at most can't.
pub(super) fn answering(sink: &Sink<'_>, directory: &Directory, draft: &service::Draft) {
    let Some(service) = draft.service.as_ref().filter(|s| !s.answering.is_usual()) else { return };
    let Answering { answers, draws } = service.answering;
    let place = |field: &str| sink.place(&format!("{}/dns/{field}", draft.path));
    if service.record_type == RecordType::Cname && answers != Answers::One {
        let message = format!("`answers: {answers}` of a CNAME: a name has one alias at most");
        sink.error(place("answers"), message, Some("answers: one, or type A or AAAA".to_owned()));
    }
    if draws == Draws::Nearest {
        if answers != Answers::One {
            let message =
                format!("`answers: {answers}` beside `draws: nearest`: the others would not be near");
            sink.error(place("answers"), message, Some("answers: one".to_owned()));
        }
        if dns(directory).is_some_and(|dns| dns.embedded().is_some() && dns.geography.is_none()) {
            let message = "`draws: nearest`, and no `geography` says what is near";
            sink.error(
                place("draws"),
                message,
                Some("add `geography` to `dns` in `kind: Settings`".to_owned()),
            );
        }
    }
    let told = match dns(directory).map(|dns| &dns.servers) {
        None | Some(DnsServers::Embedded(_)) => return,
        Some(DnsServers::Rfc2136(Rfc2136Dns { weights: None, .. })) => {
            "servers of `kind: rfc2136` answer all that has weight anyway, in an order of their own"
        }
        Some(DnsServers::Rfc2136(_)) => "the programs of `weights: lua` answer one value, drawn anew",
        Some(DnsServers::Route53(_)) => "Route 53 answers one of its weighted records, drawn anew",
    };
    let wrong = [
        ("answers", answers != Answers::One, answers.to_string()),
        ("draws", draws != Draws::Anew, draws.as_str().to_owned()),
    ];
    for (field, _, value) in wrong.into_iter().filter(|(_, is_set, _)| *is_set) {
        let message = format!("`{field}: {value}` is for drover's own servers (`kind: embedded`): {told}");
        sink.error(place(field), message, Some(format!("leave `{field}` out")));
    }
}

/// Records that no traffic moves: in the zone, beside no alias, under a name of their own, and of drover's own servers.
pub(super) fn records(sink: &Sink<'_>, directory: &Directory) {
    let (Some(draft), Some(dns)) = (directory.settings.first(), dns(directory)) else { return };
    let at = |field: &str| sink.place(&format!("{}/dns/{field}", draft.path));
    if dns.embedded().is_none() && !dns.records.is_empty() {
        let message = "`records` are for drover's own servers (`kind: embedded`): your zone can have them without drover";
        let hint = "put them there with the zone's own tools; drover leaves them alone".to_owned();
        sink.error(at("records"), message, Some(hint));
        return;
    }
    for (place, record) in dns.records.iter().enumerate() {
        let report = |field: &str, message: String, hint: String| {
            sink.error(at(&format!("records/{place}/{field}")), message, Some(hint));
        };
        let (name, zone) = (&record.name, &dns.zone);
        if !lies_in(name, zone) {
            let message = format!("record `{name}` lies outside of the zone `{zone}`");
            report("name", message, format!("such as {zone} or _dmarc.{zone}"));
        }
        if dns.embedded().is_some_and(|own| own.nameservers.iter().any(|(server, _)| server == name)) {
            let message = format!("`{name}` belongs to a name server of the zone");
            report("name", message, "use another name".to_owned());
        }
        let mut services = directory.services.iter().filter_map(|s| s.service.as_ref());
        if services.clone().any(|s| s.name == record.id) {
            let message = format!("`{}` is a service already, and drover tells both by it", record.id);
            report("id", message, "give the record another `id`".to_owned());
        }
        if services.any(|s| s.record_type == RecordType::Cname && s.dns_name == *name) {
            let message = format!("`{name}` is an alias (CNAME), beside which no other record may stand");
            report("name", message, "put the record at the alias's target".to_owned());
        }
    }
}

/// Where clients are: regions and jurisdictions that there are, and of drover's own servers.
pub(super) fn geography(sink: &Sink<'_>, directory: &Directory) {
    let (Some(draft), Some(dns)) = (directory.settings.first(), dns(directory)) else { return };
    let Some(geography) = &dns.geography else { return };
    let at = |field: &str| sink.place(&format!("{}/dns/geography{field}", draft.path));
    if dns.embedded().is_none() {
        let message = "`geography` is for drover's own servers (`kind: embedded`): others don't look at it";
        sink.error(at(""), message, Some("leave it out".to_owned()));
        return;
    }
    let names = directory.services.iter().filter_map(|s| s.name.as_ref());
    if names.chain(dns.records.iter().map(|r| &r.id)).any(|name| *name == geography.id) {
        let message =
            format!("`{}` is a service or record already, and drover tells all by it", geography.id);
        sink.error(at(""), message, Some("give the geography another `id`".to_owned()));
    }
    if !directory.complete {
        return;
    }
    let regions: Vec<&str> =
        directory.regions.iter().filter_map(|r| r.name.as_ref()).map(RegionId::as_str).collect();
    let places: Vec<&str> = directory
        .regions
        .iter()
        .filter_map(|r| r.location.as_ref())
        .map(|l| l.jurisdiction.as_str())
        .collect();
    for (number, network) in geography.networks.iter().enumerate() {
        for region in network.prefer.iter().filter(|r| !regions.contains(&r.as_str())) {
            let message = format!("region `{region}` is not configured");
            let hint = suggest(region.as_str(), regions.iter().copied());
            sink.error(at(&format!("/networks/{number}/prefer")), message, hint);
        }
        // Of a region whose `location` is wrong it is not known where it lies; that error comes first.
        let wanted = network
            .jurisdiction
            .as_deref()
            .filter(|_| directory.regions.iter().all(|r| r.location.is_some()));
        if let Some(wanted) = wanted.filter(|j| !places.contains(j)) {
            let message = format!("no region lies in jurisdiction `{wanted}`");
            let hint = suggest(wanted, places.iter().copied());
            sink.error(at(&format!("/networks/{number}/jurisdiction")), message, hint);
        }
    }
}
