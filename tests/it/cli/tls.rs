//! `check` with a configuration for TLS: its files are opened, and what is wrong with them is said.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, KeyPair};

use super::{PROGRAM, Place};

/// A place with a configuration for TLS, and a certificate that was valid between these years, with its key.
fn place(years: (i32, i32), more: &str) -> Place {
    let place = Place::new();
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["gateway.example".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    place.write("cert.pem", &params.self_signed(&key).expect("a certificate").pem());
    place.write("key.pem", &key.serialize_pem());
    let tls = format!("[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n{more}\n");
    place
        .write("spawnling.toml", &format!("{tls}[servers.demo]\ncommand = {PROGRAM:?}\nargs = [\"demo\"]\n"));
    place
}

#[test]
fn check_opens_the_files_for_tls_and_starts_the_servers_all_the_same() {
    let done = place((2020, 4000), "").run(&["check"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.starts_with("tls: ok\ndemo: ok: "), "{done:?}");

    let place = place((2020, 4000), "");
    fs::remove_file(place.path().join("key.pem")).expect("removed");
    let done = place.run(&["check"]);
    done.failed(1, "TLS cannot be set up");
    assert!(done.out.contains("key.pem: I/O error: No such file or directory"), "{done:?}");
    assert!(done.out.contains("\n    try: is that where it is?"), "{done:?}");
    assert!(done.out.contains("demo: ok: "), "{done:?}");
}

#[test]
fn check_says_what_is_wrong_with_a_file_for_tls_and_how_to_mend_it() {
    let other = KeyPair::generate().expect("a key").serialize_pem();
    let cases = [
        ("key.pem", other.as_str(), "different pairs"),
        ("key.pem", "no PEM", "-----BEGIN PRIVATE KEY-----"),
        ("cert.pem", "", "openssl x509"),
        ("cert.pem", "-----BEGIN CERTIFICATE-----\nMIIB", "not whole"),
    ];
    for (file, text, remedy) in cases {
        let place = place((2020, 4000), "");
        place.write(file, text);
        let done = place.run(&["check"]);
        done.failed(1, "TLS cannot be set up");
        let told = done.out.lines().take(2).collect::<Vec<_>>().join("\n");
        assert!(told.starts_with("tls: FAILED: cannot use ") && told.contains(file), "{remedy}: {done:?}");
        assert!(told.contains("\n    try: ") && told.contains(remedy), "{remedy}: {done:?}");
    }
    let place = place((2020, 4000), "client_ca = \"ca.pem\"");
    let done = place.run(&["check"]);
    done.failed(1, "TLS cannot be set up");
    assert!(done.out.contains("ca.pem: I/O error: No such file"), "{done:?}");
}

#[test]
fn a_file_for_tls_that_may_not_be_read_is_named_with_whom_it_has_to_be_readable_for() {
    let place = place((2020, 4000), "");
    let key = place.path().join("key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o000)).expect("changed");
    // Nobody keeps root from reading.
    if fs::read(&key).is_ok() {
        return;
    }
    let done = place.run(&["check"]);
    done.failed(1, "TLS cannot be set up");
    assert!(done.out.contains("let the user that the gateway runs as read it"), "{done:?}");
}

#[test]
fn a_certificate_that_has_expired_is_warned_of_and_shown_all_the_same() {
    let done = place((2020, 2021), "").run(&["check"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let told: Vec<&str> = done.out.lines().take(2).collect();
    assert_eq!(told[0], "tls: ok", "{done:?}");
    assert!(told[1].starts_with("    warning: ") && told[1].contains("the certificate expired "), "{done:?}");
    let done = place((3000, 4000), "").run(&["check"]);
    assert!(done.out.contains("warning: ") && done.out.contains("is not valid for another "), "{done:?}");
}
