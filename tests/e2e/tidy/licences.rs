//! The licences of what is linked in or built with. Each package's SPDX expression must be satisfiable by licences
//! of the list: of `A OR B` one is enough, of `A AND B` both are needed.

use super::Finding;
use spdx::{Expression, LicenseReq, ParseMode};

/// Permissive licences, compatible with drover's Apache-2.0.
const ALLOWED: [&str; 9] =
    ["Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Unicode-3.0", "Zlib", "0BSD", "CC0-1.0"];

/// A further licence for one package, with the reason.
pub struct Exception {
    pub package: &'static str,
    pub licence: &'static str,
    pub reason: &'static str,
}

pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        package: "option-ext",
        licence: "MPL-2.0",
        reason: "comes with dirs; copyleft by file, and its one file is used as published",
    },
    Exception {
        package: "libfuzzer-sys",
        licence: "NCSA",
        reason: "LLVM's earlier licence, permissive; linked into fuzz targets, which nobody ships",
    },
];

/// A package that is not ours.
pub struct Licensed {
    pub name: String,
    pub version: String,
    pub licence: Option<String>,
}

pub fn check(packages: &[Licensed], exceptions: &[Exception]) -> Vec<Finding> {
    let stale = exceptions
        .iter()
        .filter(|exception| !packages.iter().any(|package| package.name == exception.package))
        .map(|exception| {
            let what = format!("not used any more: take out its exception ({})", exception.reason);
            Finding::new(exception.package, what)
        });
    stale.chain(packages.iter().filter_map(|package| check_one(package, exceptions))).collect()
}

fn check_one(package: &Licensed, exceptions: &[Exception]) -> Option<Finding> {
    let place = format!("{} {}", package.name, package.version);
    let Some(text) = &package.licence else {
        return Some(Finding::new(place, "says no licence"));
    };
    // Lax: older packages write `MIT/Apache-2.0`.
    let expression = match Expression::parse_mode(text, ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => {
            return Some(Finding::new(
                place,
                format_args!("licence `{text}` can't be read: {}", error.reason),
            ));
        }
    };
    let excepted = exceptions.iter().find(|exception| exception.package == package.name);
    let satisfied = expression.evaluate(|required| is_allowed(required, excepted));
    (!satisfied).then(|| Finding::new(place, format_args!("licence `{text}` is not on the list")))
}

/// A licence with an addition (`WITH …`) is not the plain one and would need a place of its own.
fn is_allowed(required: &LicenseReq, excepted: Option<&Exception>) -> bool {
    let Some(id) = required.license.id().filter(|_| required.addition.is_none()) else { return false };
    ALLOWED.contains(&id.name) || excepted.is_some_and(|exception| exception.licence == id.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(licence: Option<&str>) -> usize {
        let package = Licensed {
            name: "p".to_owned(),
            version: "1.0.0".to_owned(),
            licence: licence.map(str::to_owned),
        };
        check(&[package], &[]).len()
    }

    #[test]
    fn an_alternative_is_enough_and_a_conjunction_needs_all() {
        assert_eq!(findings(Some("MIT")), 0);
        assert_eq!(findings(Some("GPL-3.0-only OR MIT")), 0);
        assert_eq!(findings(Some("Unlicense/MIT")), 0);
        assert_eq!(findings(Some("(MIT OR GPL-2.0-only) AND Unicode-3.0")), 0);
        assert_eq!(findings(Some("Apache-2.0 WITH LLVM-exception OR MIT")), 0);
        assert_eq!(findings(Some("MIT AND GPL-3.0-only")), 1);
        assert_eq!(findings(Some("AGPL-3.0-or-later")), 1);
        assert_eq!(findings(Some("Apache-2.0 WITH LLVM-exception")), 1);
    }

    #[test]
    fn no_licence_and_no_sense_are_found() {
        assert_eq!(findings(None), 1);
        assert_eq!(findings(Some("do what you like")), 1);
    }

    #[test]
    fn an_exception_is_for_its_package_and_its_licence_only() {
        let exceptions = [Exception { package: "p", licence: "MPL-2.0", reason: "a sample" }];
        let count = |name: &str, licence: &str| {
            let package = |name: &str, licence: &str| Licensed {
                name: name.to_owned(),
                version: "1.0.0".to_owned(),
                licence: Some(licence.to_owned()),
            };
            check(&[package("p", "MIT"), package(name, licence)], &exceptions).len()
        };
        assert_eq!(count("p", "MPL-2.0"), 0);
        assert_eq!(count("p", "GPL-3.0-only"), 1);
        assert_eq!(count("q", "MPL-2.0"), 1);
        assert_eq!(check(&[], &exceptions).len(), 1, "a stale exception");
    }
}
