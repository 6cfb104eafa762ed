//! The HTTP edge: where it listens, what it shows, how much it bears and for how long.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::server::Around;
use super::table::Table;
use super::tree::Value;
use super::value::{self, Parsed};
use crate::http::listen::address::{Address, UNIX};

/// The longest path of a Unix socket: `sun_path` of `unix(7)`, without the NUL at its end.
const LONGEST_PATH: usize = 107;

/// How much the edge bears, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edge {
    /// Connections served at once.
    pub(crate) max_connections: usize,
    /// How long the head of a request may take, and how long a connection may idle.
    pub(crate) header_timeout: Duration,
    /// How long a body may take.
    pub(crate) body_timeout: Duration,
    /// How long a reader may take nothing.
    pub(crate) write_timeout: Duration,
    /// Bytes of bodies and answers that are on their way, over all connections.
    pub(crate) in_flight: usize,
    /// The mode of the files of Unix sockets.
    pub(crate) socket_mode: u32,
    /// What TCP addresses show to their callers; `None`: they speak plain HTTP.
    pub(crate) tls: Option<Tls>,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_mins(1),
            in_flight: 256 << 20,
            socket_mode: 0o600,
            tls: None,
        }
    }
}

/// `[tls]`: files in PEM, absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    /// The certificate, and those between it and an authority.
    pub(crate) cert: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// The authorities of callers' certificates, if these must have any.
    pub(crate) client_ca: Option<PathBuf>,
}

/// Reads it. A body may be as large as `largest`, and one alone must always find room.
pub(super) fn edge(table: &mut Table<'_>, largest: usize, around: Around<'_>) -> Edge {
    let usual = Edge::default();
    let in_flight = |value: &Value| match value::positive_size(value)? {
        size if size < largest => Err("must be at least `body_limit`".to_owned()),
        size => Ok(size),
    };
    Edge {
        max_connections: table.get("max_connections", value::positive_count).unwrap_or(usual.max_connections),
        header_timeout: table.get("header_timeout", value::positive_duration).unwrap_or(usual.header_timeout),
        body_timeout: table.get("body_timeout", value::positive_duration).unwrap_or(usual.body_timeout),
        write_timeout: table.get("write_timeout", value::positive_duration).unwrap_or(usual.write_timeout),
        in_flight: table.get("in_flight", in_flight).unwrap_or(usual.in_flight.max(largest)),
        socket_mode: table.get("socket_mode", mode).unwrap_or(usual.socket_mode),
        tls: table.table("tls").and_then(|table| tls(table, around)),
    }
}

fn tls(mut table: Table<'_>, around: Around<'_>) -> Option<Tls> {
    let path = |value: &Value| value::text(value).map(|text| around.base.join(text));
    for key in ["cert", "key"] {
        if !table.has(key) {
            table.complain(format!("has no `{key}`"));
        }
    }
    let (cert, key) = (table.get("cert", path), table.get("key", path));
    let client_ca = table.get("client_ca", path);
    table.finish();
    Some(Tls { cert: cert?, key: key?, client_ca })
}

/// The permissions of a file, as `chmod(1)` takes them.
fn mode(value: &Value) -> Parsed<u32> {
    let text = value::text(value).map_err(|_| "must be a string such as \"0660\"".to_owned())?;
    // A number may have a sign, permissions have none.
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let good = digits.then(|| u32::from_str_radix(&text, 8).ok()).flatten();
    let good = good.filter(|mode| *mode <= 0o777);
    good.ok_or_else(|| format!("{text:?} are no permissions: write \"0600\" or \"0660\", for example"))
}

/// An address to listen on. The path of a Unix socket starts from `base`.
pub(super) fn address(text: &str, base: &Path) -> Parsed<Address> {
    let Some(path) = text.strip_prefix(UNIX) else {
        return value::address(text).map(Address::Tcp);
    };
    if path.is_empty() || path.ends_with('/') {
        return Err(format!("{text:?} names no file"));
    }
    let path = base.join(path);
    match path.as_os_str().len() {
        ..=LONGEST_PATH => Ok(Address::Unix(path)),
        length => {
            Err(format!("{text:?}: the path of a socket has {LONGEST_PATH} bytes at most, not {length}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_of_a_network_or_a_path() {
        let base = Path::new("/base");
        let said = |text: &str| address(text, base).map(|address| address.to_string());
        assert_eq!(said("127.0.0.1:1"), Ok("127.0.0.1:1".to_owned()));
        assert_eq!(said("unix:s"), Ok("unix:/base/s".to_owned()));
        assert_eq!(said("unix:/run/s"), Ok("unix:/run/s".to_owned()));
        for text in ["unix:", "unix:/run/", "unix", "/run/s", &format!("unix:/{}", "x".repeat(107))] {
            assert!(said(text).is_err(), "{text}");
        }
        assert!(said(&format!("unix:/{}", "x".repeat(106))).is_ok());
    }

    #[test]
    fn permissions_are_octal_and_in_quotes() {
        let text = |text: &str| mode(&Value::Text(text.to_owned()));
        assert_eq!((text("0660"), text("777")), (Ok(0o660), Ok(0o777)));
        for wrong in ["", "660 ", "0888", "1777", "rw-", "06600"] {
            assert!(text(wrong).is_err(), "{wrong:?}");
        }
        assert!(mode(&Value::Number("660".to_owned())).is_err());
    }
}
