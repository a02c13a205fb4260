//! `kind: Settings`.

use super::cursor::{Fields, Got};
use super::dns;
use super::sink::Sink;
use super::tree::Node;
use super::values::Scalar;
use crate::config::shapes::settings::SETTINGS;
use crate::config::{
    AccessSettings, EtcdSettings, PagingSettings, Retention, Settings, StoreSettings, VantageSettings,
    WebhookTarget,
};
use std::collections::BTreeMap;

/// What is known of the settings.
pub(super) struct Draft {
    pub path: String,
    pub zone: Option<String>,
    pub settings: Option<Settings>,
}

pub(super) fn read(sink: &Sink<'_>, node: &Node, path: &str) -> Draft {
    match Fields::open(sink, node, &SETTINGS, path.to_owned()) {
        Some(fields) => read_fields(&fields, path),
        None => Draft { path: path.to_owned(), zone: None, settings: None },
    }
}

/// The settings of a directory that has none.
pub(super) fn left_out(sink: &Sink<'_>) -> Option<Settings> {
    read_fields(&Fields::left_out(sink, &SETTINGS, "settings".to_owned()), "settings").settings
}

fn read_fields(fields: &Fields<'_, '_, '_>, path: &str) -> Draft {
    fields.text("kind");
    let listen = fields.socket("listen").value();
    let dns = match fields.variant("dns") {
        Got::Value(f) => Got::Value(dns::read(&f)),
        Got::Absent => Got::Absent,
        Got::Bad => Got::Bad,
    };
    let zone = match &dns {
        Got::Value((zone, _)) => zone.clone(),
        Got::Absent | Got::Bad => None,
    };
    let dns = match dns {
        Got::Value((_, settings)) => settings.map(Some),
        Got::Absent => Some(None),
        Got::Bad => None,
    };
    let store = match fields.object("store") {
        Got::Value(f) => store(&f).map(Some),
        Got::Absent => Some(None),
        Got::Bad => None,
    };
    let access = fields.object("access").value().and_then(|f| {
        let require_tokens = f.boolean("require_tokens").value();
        let connections_per_machine = f.integer("connections_per_machine").value();
        Some(AccessSettings {
            require_tokens: require_tokens?,
            connections_per_machine: connections_per_machine?,
        })
    });
    let vantage = fields.object("vantage").value().and_then(|f| vantage(&f));
    let paging = fields.object("paging").value().and_then(|f| paging(&f));
    let retention = fields.object("retention").value().and_then(|f| retention(&f));
    let settings = (|| {
        Some(Settings {
            listen: listen?,
            dns: dns?,
            store: store?,
            access: access?,
            vantage: vantage?,
            paging: paging?,
            retention: retention?,
        })
    })();
    Draft { path: path.to_owned(), zone, settings }
}

/// Reports a value that was used before.
pub(super) fn unique(
    fields: &Fields<'_, '_, '_>,
    name: &'static str,
    value: Option<&str>,
    seen: &mut BTreeMap<String, String>,
) {
    let Some(value) = value else { return };
    let place = fields.place_of(name);
    if let Some(first) = seen.get(value) {
        let message = format!("`{value}` is used twice, first at {first}");
        fields.sink.error(place, message, Some(format!("give each {} its own `{name}`", fields.shape.name)));
    } else {
        seen.insert(value.to_owned(), fields.sink.name_of(place));
    }
}

fn vantage(fields: &Fields<'_, '_, '_>) -> Option<VantageSettings> {
    let pick = |v: Scalar| if let Scalar::Socket(a) = v { Some(a) } else { None };
    let references = fields.scalars("references", pick).value();
    let reference_interval = fields.span("reference_interval").value();
    let report_interval = fields.span("report_interval").value();
    let silent_after = fields.span("silent_after").value();
    let max_clock_skew = fields.span("max_clock_skew").value();
    let common_cause_share = fields.percent("common_cause_share").value();
    let common_cause_window = fields.span("common_cause_window").value();
    let vantage = VantageSettings {
        references: references?,
        reference_interval: reference_interval?,
        report_interval: report_interval?,
        silent_after: silent_after?,
        max_clock_skew: max_clock_skew?,
        common_cause_share: common_cause_share?,
        common_cause_window: common_cause_window?,
    };
    let needed = vantage.silent_after_min();
    if vantage.silent_after < needed {
        let message = format!(
            "`silent_after` of {} calls an agent silent that reports every {}",
            vantage.silent_after, vantage.report_interval
        );
        fields.sink.error(
            fields.place_of("silent_after"),
            message,
            Some(format!("at least {needed}: two reports")),
        );
    }
    Some(vantage)
}

fn paging(fields: &Fields<'_, '_, '_>) -> Option<PagingSettings> {
    let pick = |v: Scalar| if let Scalar::Text(t) = v { Some(t) } else { None };
    let on_page = fields.scalars("on_page", pick).optional();
    let webhook = match fields.object("webhook") {
        Got::Value(f) => {
            let url = f.text("url").value();
            let secret_file = f.text("secret_file").value();
            url.zip(secret_file).map(|(url, file)| Some(WebhookTarget { url, secret_file: file.into() }))
        }
        Got::Absent => Some(None),
        Got::Bad => None,
    };
    Some(PagingSettings { on_page: on_page?, webhook: webhook? })
}

fn store(fields: &Fields<'_, '_, '_>) -> Option<StoreSettings> {
    let fields = fields.object("etcd").value()?;
    let pick = |v: Scalar| if let Scalar::Text(t) = v { Some(t) } else { None };
    let endpoints = fields.scalars("endpoints", pick).value();
    let prefix = fields.text("prefix").value();
    let keep_history = fields.span("keep_history").value();
    let leader_lost_after = fields.span("leader_lost_after").value();
    let etcd = EtcdSettings {
        endpoints: endpoints?,
        prefix: prefix?,
        keep_history: keep_history?,
        leader_lost_after: leader_lost_after?,
    };
    Some(StoreSettings { etcd })
}

fn retention(fields: &Fields<'_, '_, '_>) -> Option<Retention> {
    let observations = fields.span("observations").value();
    let transitions = fields.span("transitions").value();
    let store_alarm_bytes = fields.integer("store_alarm_bytes").value();
    Some(Retention {
        observations: observations?,
        transitions: transitions?,
        store_alarm_bytes: store_alarm_bytes?,
    })
}
