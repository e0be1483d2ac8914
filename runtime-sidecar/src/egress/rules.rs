//! Addresses that no user may name, and the spellings they have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that no user may name, whatever the settings.
pub fn forbidden(address: IpAddr) -> Option<&'static str> {
    const METADATA: [Ipv6Addr; 2] = [
        // AWS, and Google Cloud's IPv6 form.
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    ];
    match address {
        IpAddr::V4(v4) => {
            // Alibaba Cloud and Oracle put their metadata service outside 169.254.0.0/16.
            let metadata = [
                Ipv4Addr::new(100, 100, 100, 200),
                Ipv4Addr::new(192, 0, 0, 192),
            ];
            if v4.octets()[0] == 0 {
                Some("unspecified")
            } else if v4.is_link_local() {
                Some("link-local")
            } else if v4.is_multicast() {
                Some("multicast")
            } else if v4.is_broadcast() {
                Some("broadcast")
            } else if metadata.contains(&v4) {
                Some("a metadata service")
            } else {
                None
            }
        }
        IpAddr::V6(v6) => {
            if v6.is_unspecified() {
                Some("unspecified")
            } else if v6.is_unicast_link_local() {
                Some("link-local")
            } else if v6.is_multicast() {
                Some("multicast")
            } else if METADATA.contains(&v6) {
                Some("a metadata service")
            } else {
                None
            }
        }
    }
}

/// The IPv4 address inside an IPv6 one (mapped, compatible, NAT64, 6to4), where there is one: each
/// of these forms reaches the IPv4 address.
pub fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            embedded(high, low)
        }
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        _ => address,
    }
}
