//! What protects every route alike: who may be addressed, and from where. Pure.
//!
//! A web page that the user merely visits can send requests to this machine. Three headers that a page cannot forge
//! tell it apart: `Host` (a page that rebinds its name to 127.0.0.1 still sends that name), `Origin` and
//! `Sec-Fetch-Site`. Every route is checked, GETs that start a process included.
//!
//! No page reaches a Unix socket but through a proxy that somebody put in front of it. So there, names without a dot are
//! ours as well, `curl --unix-socket S http://x/` for example: nobody can have a page under such a name.

use std::net::IpAddr;

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, header};

use super::problem::Refusal;

/// By what the caller may address us, beside names.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reached {
    /// The address that was connected to, and the one that is listened on, by which we announce ourselves even where it
    /// stands for every address.
    At([IpAddr; 2]),
    /// A file.
    ByFile,
}

impl Reached {
    fn is(self, ip: IpAddr) -> bool {
        matches!(self, Self::At(ours) if ours.iter().any(|ours| ours.to_canonical() == ip))
    }
}

/// The names under which the gateway may be addressed.
#[derive(Debug, Default)]
pub(super) struct Edge {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Edge {
    /// Beside the loopback names and the address that was connected to, these: names, and addresses with or without
    /// the brackets of IPv6.
    pub(super) fn new(hosts: &[String]) -> Self {
        let mut edge = Self::default();
        for host in hosts {
            match address(host) {
                Some(ip) => edge.addresses.push(ip),
                None => edge.names.push(host.to_ascii_lowercase()),
            }
        }
        edge
    }

    /// Refuses what a foreign web page may have sent.
    pub(super) fn check(&self, head: &Parts, ours: Reached) -> Result<(), Refusal> {
        let host = only(&head.headers, &header::HOST)?;
        if host.is_none() && head.uri.authority().is_none() {
            return Err(Refusal::malformed("the `Host` header is missing"));
        }
        for named in [head.uri.authority().map(Authority::as_str), host].into_iter().flatten() {
            if !self.knows(named, ours) {
                return Err(Refusal::ForeignHost { host: named.to_owned() });
            }
        }
        if let Some(origin) = only(&head.headers, &header::ORIGIN)?
            && !self.knows_origin(origin, ours)
        {
            return Err(Refusal::ForeignOrigin { origin: origin.to_owned() });
        }
        if head.headers.get_all("sec-fetch-site").iter().any(|site| site.as_bytes() == b"cross-site") {
            return Err(Refusal::CrossSite);
        }
        Ok(())
    }

    fn knows_origin(&self, origin: &str, ours: Reached) -> bool {
        // As browsers write it: RFC 6454, section 6.2.
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        authority.is_some_and(|authority| self.knows(authority, ours))
    }

    /// Whether `host` or `host:port` is one of ours.
    fn knows(&self, named: &str, ours: Reached) -> bool {
        let Ok(authority) = named.parse::<Authority>() else { return false };
        if authority.as_str().contains('@') || !has_port_or_none(&authority) {
            return false;
        }
        let host = authority.host().to_ascii_lowercase();
        if let Some(ip) = address(&host) {
            // Brackets are those of IPv6: RFC 3986, section 3.2.2.
            if host.starts_with('[') && !host.contains(':') {
                return false;
            }
            return ip.is_loopback() || self.addresses.contains(&ip) || ours.is(ip);
        }
        let unowned = matches!(ours, Reached::ByFile) && !host.contains('.');
        host == "localhost" || unowned || self.names.contains(&host)
    }
}

/// Whether what follows the host is nothing, or a colon and a port, which may be empty (RFC 3986, section 3.2.3). Reading an
/// authority does not look at it.
fn has_port_or_none(authority: &Authority) -> bool {
    let port = &authority.as_str()[authority.host().len()..];
    let is_number =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    matches!(port, "" | ":") || port.strip_prefix(':').is_some_and(is_number)
}

/// The address that a host is, if it is one.
fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// What the caller shows of himself: the token of `Authorization: Bearer`, or that of `X-API-Key`. Another scheme is
/// somebody else's, a proxy's for example.
pub(super) fn credential(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let bearer = only(headers, &header::AUTHORIZATION)?.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        // The name of a scheme is of any case: RFC 9110, section 11.1.
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match (bearer, only(headers, &HeaderName::from_static("x-api-key"))?) {
        (Some(one), Some(other)) if one != other => {
            Err(Refusal::malformed("`Authorization` and `X-API-Key` show different tokens: send one of them"))
        }
        (one, other) => Ok(one.or(other)),
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Refusal::malformed(format!("the `{name}` header is not plain ASCII"))),
        },
        (Some(_), Some(_)) => Err(Refusal::malformed(format!("the `{name}` header is given twice"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let head = request.body(()).unwrap().into_parts().0;
        let hosts = ["Tools.Example", "[2001:db8::5]", "192.0.2.7"].map(ToOwned::to_owned);
        let ours = "192.168.1.5".parse().unwrap();
        Edge::new(&hosts).check(&head, Reached::At([ours, ours]))
    }

    #[test]
    fn loopback_names_configured_names_and_our_own_address_are_known() {
        for host in [
            "localhost",
            "LOCALHOST:5001",
            "localhost:",
            "127.0.0.1:5001",
            "127.8.9.10",
            "[::1]:5001",
            "[::ffff:127.0.0.1]",
            "192.168.1.5:80",
            "tools.example",
            "TOOLS.example:443",
            "[2001:db8::5]:5001",
            "[2001:DB8:0::5]",
            "192.0.2.7",
            "[::ffff:192.0.2.7]:1",
        ] {
            assert!(check("/", &[("host", host)]).is_ok(), "{host}");
        }
    }

    #[test]
    fn the_address_of_a_listener_on_every_address_is_known_where_there_is_one() {
        let request = http::Request::builder().uri("/").header("host", "0.0.0.0:5001").body(()).unwrap();
        let head = request.into_parts().0;
        let check =
            |ours: [&str; 2]| Edge::default().check(&head, Reached::At(ours.map(|ip| ip.parse().unwrap())));
        assert!(check(["127.0.0.1", "0.0.0.0"]).is_ok());
        assert!(check(["127.0.0.1", "127.0.0.1"]).is_err());
        assert!(check(["127.0.0.1", "::"]).is_err());
    }

    #[test]
    fn a_name_that_nobody_can_own_is_ours_behind_a_file_only() {
        let check = |host: &str, ours| {
            let request = http::Request::builder().uri("/").header("host", host).body(()).unwrap();
            Edge::default().check(&request.into_parts().0, ours).is_ok()
        };
        let loopback = Reached::At(["127.0.0.1".parse().unwrap(); 2]);
        for (host, behind_a_file) in
            [("x", true), ("localhost", true), ("x.example", false), ("192.0.2.1", false), ("x@y", false)]
        {
            assert_eq!(check(host, Reached::ByFile), behind_a_file, "{host}");
            assert_eq!(check(host, loopback), host == "localhost", "{host}");
        }
    }

    #[test]
    fn every_other_host_is_refused() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "192.168.1.6",
            "user@localhost",
            "127.0.0.1.evil.example",
            "0.0.0.0",
            "[::2]",
            "localhost:5001/x",
            "localhost:5001x",
            "localhost:+80",
            "[::1]:65536",
            "[::1]1",
            "[127.0.0.1]",
        ] {
            assert!(matches!(check("/", &[("host", host)]), Err(Refusal::ForeignHost { .. })), "{host}");
        }
        assert!(check("http://evil.example/", &[("host", "localhost")]).is_err());
        assert!(check("http://localhost/", &[("host", "evil.example")]).is_err());
        assert!(check("http://localhost/", &[]).is_ok(), "as HTTP/2 sends it");
    }

    #[test]
    fn a_request_without_a_host_or_with_two_is_malformed() {
        assert!(matches!(check("/", &[]), Err(Refusal::Malformed(_))));
        let two = [("host", "localhost"), ("host", "localhost")];
        assert!(matches!(check("/", &two), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn an_origin_must_be_ours_if_there_is_one() {
        let with = |origin| check("/", &[("host", "localhost"), ("origin", origin)]);
        for good in ["http://localhost:3000", "https://tools.example", "http://127.0.0.1", "http://[::1]:1"] {
            assert!(with(good).is_ok(), "{good}");
        }
        for bad in [
            "null",
            "https://evil.example",
            "file://",
            "chrome-extension://localhost",
            "localhost",
            "HTTP://localhost",
            "http://localhost/x",
            "http://[127.0.0.1]",
            "",
        ] {
            assert!(matches!(with(bad), Err(Refusal::ForeignOrigin { .. })), "{bad:?}");
        }
    }

    #[test]
    fn what_a_browser_calls_cross_site_is_refused() {
        let with = |site| check("/", &[("host", "localhost"), ("sec-fetch-site", site)]);
        assert!(matches!(with("cross-site"), Err(Refusal::CrossSite)));
        for good in ["same-origin", "same-site", "none"] {
            assert!(with(good).is_ok(), "{good}");
        }
    }
}
