//! Health checks and scripted requests.

use super::cursor::{Fields, Got};
use super::settings::unique;
use super::values::Scalar;
use crate::config::shapes::service::APP_CHECK;
use crate::config::{AppCheck, HealthCheck, HttpCheck, TcpCheck, TlsOptions};
use crate::time::Span;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A health check with its rhythm.
#[derive(Default)]
pub(super) struct Probe {
    pub check: Option<HealthCheck>,
    pub interval: Option<Span>,
    pub timeout: Option<Span>,
}

pub(super) fn probe(service: &Fields<'_, '_, '_>) -> Probe {
    let Got::Value(fields) = service.variant("health_check") else { return Probe::default() };
    let kind = fields.text("kind").value();
    let interval = fields.span("interval").value();
    let timeout = fields.span("timeout").value();
    if let (Some(interval), Some(timeout)) = (interval, timeout)
        && timeout > interval
    {
        let message =
            format!("`timeout` of {timeout} is longer than the interval of {interval}: probes would overlap");
        let place = fields.place_of("timeout");
        fields.sink.error(place, message, Some(format!("at most {interval}, or a longer interval")));
    }
    let max_latency = fields.span("max_latency").optional();
    if let (Some(Some(latency)), Some(timeout)) = (max_latency, timeout)
        && latency > timeout
    {
        let message =
            format!("`max_latency` of {latency} can't be seen: a probe is given up after {timeout}");
        fields.sink.error(fields.place_of("max_latency"), message, Some(format!("at most {timeout}")));
    }
    let check = match kind.as_deref() {
        Some("tcp") => max_latency.map(|max_latency| HealthCheck::Tcp(TcpCheck { max_latency })),
        Some(kind) => http(&fields, kind == "https", max_latency).map(HealthCheck::Http),
        None => None,
    };
    Probe { check, interval, timeout }
}

#[allow(clippy::option_option, reason = "the outer level is: could it be read")]
fn http(fields: &Fields<'_, '_, '_>, tls: bool, max_latency: Option<Option<Span>>) -> Option<HttpCheck> {
    let path = fields.text("path").value();
    let status = |v: Scalar| if let Scalar::Integer(n) = v { u16::try_from(n).ok() } else { None };
    let expect_status = fields.scalars("expect_status", status).value();
    let expect_body = fields.text("expect_body").optional();
    let host = fields.text("host").optional();
    let secret_header = match fields.object("secret_header") {
        Got::Value(f) => {
            let name = f.text("name").value();
            let file = f.text("file").value();
            name.zip(file).map(|(name, file)| Some((name, PathBuf::from(file))))
        }
        Got::Absent => Some(None),
        Got::Bad => None,
    };
    // Without TLS there is nothing to say about it; the type's own default keeps two plain checks equal.
    let tls_options = if tls { tls_options(fields) } else { Some(TlsOptions::default()) };
    Some(HttpCheck {
        tls,
        path: path?,
        expect_status: expect_status?,
        expect_body: expect_body?,
        max_latency: max_latency?,
        host: host?,
        tls_options: tls_options?,
        secret_header: secret_header?,
    })
}

fn tls_options(fields: &Fields<'_, '_, '_>) -> Option<TlsOptions> {
    let sni = fields.text("sni").optional();
    let ca_file = fields.text("ca_file").optional();
    let certificate = fields.text("client_certificate_file").optional();
    let key = fields.text("client_key_file").optional();
    let expiry_warning = fields.span("expiry_warning").value();
    for (there, missing) in [
        (("client_certificate_file", &certificate), ("client_key_file", &key)),
        (("client_key_file", &key), ("client_certificate_file", &certificate)),
    ] {
        if matches!((there.1, missing.1), (Some(Some(_)), Some(None))) {
            let message = format!("`{}` is of no use without `{}`", there.0, missing.0);
            fields.sink.error(fields.place_of(there.0), message, Some(format!("add `{}`", missing.0)));
        }
    }
    Some(TlsOptions {
        sni: sni?,
        ca_file: ca_file?.map(PathBuf::from),
        client_certificate_file: certificate?.map(PathBuf::from),
        client_key_file: key?.map(PathBuf::from),
        expiry_warning: expiry_warning?,
    })
}

pub(super) fn app_checks(service: &Fields<'_, '_, '_>) -> Option<Vec<AppCheck>> {
    let mut names = BTreeMap::new();
    let items = service.list("app_checks").value()?;
    let read: Vec<Option<AppCheck>> = items
        .into_iter()
        .map(|(path, node)| {
            let fields = Fields::open(service.sink, node, &APP_CHECK, path)?;
            let check = app_check(&fields);
            unique(&fields, "name", check.as_ref().map(|c| c.name.as_str()), &mut names);
            check
        })
        .collect();
    read.into_iter().collect()
}

fn app_check(fields: &Fields<'_, '_, '_>) -> Option<AppCheck> {
    let name = fields.text("name").value();
    let method = fields.text("method").value();
    let path = fields.text("path").value();
    let body = fields.text("body").optional();
    let expect_status = fields.integer("expect_status").value();
    let expect_body = fields.text("expect_body").optional();
    let timeout = fields.span("timeout").value();
    Some(AppCheck {
        name: name?,
        method: method?,
        path: path?,
        body: body?,
        expect_status: expect_status?,
        expect_body: expect_body?,
        timeout: timeout?,
    })
}
