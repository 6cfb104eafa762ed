//! Which network addresses the stand-in browser refuses to connect to.   (pure)
//!
//! A task is text from outside, so the address in it is too. Without this rule a caller could read whatever the
//! machine of this process can reach: the router, a database's status page, a cloud's metadata service. The rule is
//! by address and not by name, because a name can point anywhere. IPv6 addresses that carry an IPv4 address inside
//! are judged by the inner one as well.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Says why an address must not be connected to, or `None` when it is an ordinary public one.
pub(super) fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => refusal_v4(v4),
        IpAddr::V6(v6) => refusal_v6(v6),
    }
}

fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("an unspecified address"),
        [127, ..] => Some("a loopback address"),
        [10, ..] | [192, 168, ..] => Some("a private address"),
        [172, second, ..] if second & 0xf0 == 16 => Some("a private address"),
        [169, 254, ..] => Some("a link-local address, where cloud metadata services live"),
        [100, second, ..] if second & 0xc0 == 64 => Some("a carrier's shared address"),
        // Metadata and platform services of clouds that sit outside the link-local range.
        [168, 63, 129, 16] | [192, 0, 0, 192] => Some("a cloud metadata address"),
        [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("a reserved address"),
        [192, 88, 99, _] => Some("a relay address"),
        [198, 18 | 19, ..] => Some("a benchmark address"),
        [first, ..] if (224..=239).contains(&first) => Some("a multicast address"),
        [first, ..] if first >= 240 => Some("a reserved or broadcast address"),
        _ => None,
    }
}

fn refusal_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("an unspecified address");
    }
    if address.is_loopback() {
        return Some("a loopback address");
    }
    if let Some(inner) = inner_v4(address) {
        return refusal_v4(inner);
    }
    match address.segments() {
        [first, ..] if first & 0xff00 == 0xff00 => Some("a multicast address"),
        [first, ..] if first & 0xfe00 == 0xfc00 => Some("a unique local address"),
        [first, ..] if first & 0xffc0 == 0xfe80 => Some("a link-local address"),
        [first, ..] if first & 0xffc0 == 0xfec0 => Some("a site-local address"),
        // Mapped, translated and compatible forms were taken above; the rest of 0000::/8 is reserved.
        [first, ..] if first & 0xff00 == 0 => Some("a reserved address"),
        [0x0100, 0, 0, 0, ..] => Some("a discard address"),
        [0x2001, 0x0db8, ..] | [0x3fff, ..] => Some("a documentation address"),
        [0x2001, second, ..] if second < 0x0200 => Some("a reserved address"),
        [0x5f00, ..] => Some("a reserved address"),
        _ => None,
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, translated (NAT64), 6to4.
///
/// Teredo carries one too, but all of its range is refused as reserved.
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        // The local NAT64 prefix (64:ff9b:1::/48) may be laid out in several ways; it stays refused as reserved.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x0064, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> bool {
        refusal(text.parse().unwrap()).is_some()
    }

    #[test]
    fn addresses_that_lead_inside_are_refused() {
        for text in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "169.254.170.2",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "168.63.129.16",
            "192.0.0.192",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:10.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2001:0:7f00:1::",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "100::1",
        ] {
            assert!(refused(text), "{text} must be refused");
        }
    }

    #[test]
    fn public_addresses_are_taken() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.215.14",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "169.253.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert!(!refused(text), "{text} must be taken");
        }
    }
}
