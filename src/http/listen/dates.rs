//! Whether certificates are valid by now. Nobody who shows them minds; whoever is shown them does.

use std::sync::Arc;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier as _;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore};

/// What is wrong with the dates of these certificates, a line for each that has wrong ones.
pub(super) fn untimely(chain: &[CertificateDer<'_>]) -> Vec<String> {
    let now = UnixTime::now();
    let of = |index: usize| match chain.len() {
        1 => "the certificate".to_owned(),
        all => format!("certificate {} of {all}", index + 1),
    };
    let all = chain.iter().enumerate();
    all.filter_map(|(index, certificate)| Some(format!("{} {}", of(index), wrong(certificate, now)?)))
        .collect()
}

/// What is wrong with the dates of this one at that time.
fn wrong(certificate: &CertificateDer<'_>, now: UnixTime) -> Option<String> {
    // Its dates are the first that a caller's library looks at; that it leads to no authority of ours is of no interest.
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone().into_owned()).ok()?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
    let anybody = ServerName::try_from("localhost").ok()?;
    let Err(Error::InvalidCertificate(error)) =
        verifier.verify_server_cert(certificate, &[], &anybody, &[], now)
    else {
        return None;
    };
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            let ago = words(time.as_secs().saturating_sub(not_after.as_secs()));
            Some(format!("expired {ago} ago, so that callers refuse it: have it renewed"))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let wait = words(not_before.as_secs().saturating_sub(time.as_secs()));
            Some(format!(
                "is not valid for another {wait}, so that callers refuse it: is the clock right here?"
            ))
        }
        CertificateError::Expired => {
            Some("has expired, so that callers refuse it: have it renewed".to_owned())
        }
        _ => None,
    }
}

/// A time for people.
fn words(seconds: u64) -> String {
    let units = [("day", 24 * 3600), ("hour", 3600), ("minute", 60), ("second", 1)];
    let fits = units.into_iter().find(|(_, unit)| seconds >= *unit).unwrap_or(("second", 1));
    let count = seconds / fits.1;
    format!("{count} {}{}", fits.0, if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn certificate(is_ca: IsCa) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["gateway.example".to_owned()]).unwrap();
        params.is_ca = is_ca;
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 2, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_is_untimely_before_and_after_its_dates_whatever_else_it_is() {
        let at = |seconds: u64| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        // `date -u -d 2020-01-01 +%s`
        let (begins, day) = (1_577_836_800, 24 * 3600);
        for kind in [IsCa::NoCa, IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
            let certificate = certificate(kind);
            let said = |time: u64| wrong(&certificate, at(time)).unwrap_or_default();
            assert!(said(begins - 2 * day).starts_with("is not valid for another 2 days, "));
            assert_eq!(said(begins + day), "");
            assert!(said(begins + 32 * day).starts_with("expired 1 day ago, "));
        }
        let one = certificate(IsCa::NoCa);
        assert!(untimely(std::slice::from_ref(&one))[0].starts_with("the certificate expired "));
        assert!(untimely(&[one.clone(), one])[1].starts_with("certificate 2 of 2 expired "));
    }

    #[test]
    fn times_are_told_in_their_largest_unit() {
        assert_eq!(
            [0, 1, 59, 60, 7300, 200_000].map(words).join(", "),
            "0 seconds, 1 second, 59 seconds, 1 minute, 2 hours, 2 days"
        );
    }
}
