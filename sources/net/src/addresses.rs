//! The addresses that the SSRF guard blocks.
//!
//! Server-side request forgery (SSRF): an author names a host that leads to this machine or to a
//! cloud's metadata service, and this program would send the request there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const GOOGLE_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);

/// The reason why an address is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forbidden {
    ThisMachine,
    LinkLocal,
    Unspecified,
    Multicast,
    Metadata,
}

impl Forbidden {
    fn name(self) -> &'static str {
        match self {
            Self::ThisMachine => "this machine",
            Self::LinkLocal => "a link-local address",
            Self::Unspecified => "not a valid destination",
            Self::Multicast => "a multicast or broadcast address",
            Self::Metadata => "a cloud's metadata service",
        }
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The reason why no request may reach `address`, or `None` if it is allowed. Private networks are
/// allowed: the registries of clusters are there.
pub fn forbidden_address(address: IpAddr) -> Option<&'static str> {
    classify(address).map(Forbidden::name)
}

pub(crate) fn classify(address: IpAddr) -> Option<Forbidden> {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(address) => classify_v4(address),
            None => classify_v6(address),
        },
    }
}

fn classify_v4(address: Ipv4Addr) -> Option<Forbidden> {
    if address.is_loopback() {
        Some(Forbidden::ThisMachine)
    } else if address.is_link_local() {
        Some(Forbidden::LinkLocal)
    } else if address.octets()[0] == 0 {
        Some(Forbidden::Unspecified)
    } else if address.is_multicast() || address.is_broadcast() {
        Some(Forbidden::Multicast)
    } else if address == Ipv4Addr::new(100, 100, 100, 200)
        || address == Ipv4Addr::new(168, 63, 129, 16)
    {
        Some(Forbidden::Metadata)
    } else {
        None
    }
}

fn classify_v6(address: Ipv6Addr) -> Option<Forbidden> {
    if address.is_loopback() {
        Some(Forbidden::ThisMachine)
    } else if address.is_unspecified() {
        Some(Forbidden::Unspecified)
    } else if address.is_unicast_link_local() {
        Some(Forbidden::LinkLocal)
    } else if address.is_multicast() {
        Some(Forbidden::Multicast)
    } else if address.segments()[..7] == [0xfd00, 0xec2, 0, 0, 0, 0, 0]
        || address == GOOGLE_METADATA
    {
        Some(Forbidden::Metadata)
    } else {
        None
    }
}

/// The IPv4 address inside a mapped, compatible, NAT64 or 6to4 address: packets are delivered to
/// it.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let low = || Ipv4Addr::from((u32::from(s[6]) << 16) | u32::from(s[7]));
    match s {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0 | 1, ..] => Some(low()),
        [0, 0, 0, 0, 0, 0, high, low_segment] if high != 0 || low_segment > 1 => Some(low()),
        [0x2002, a, b, ..] => Some(Ipv4Addr::from((u32::from(a) << 16) | u32::from(b))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_and_private_addresses_are_allowed() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "::169.254.169.254",
        ] {
            assert!(forbidden_address(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in [
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "8.8.8.8",
            "2001:db8::1",
            "fd12::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(forbidden_address(text.parse().unwrap()).is_none(), "{text}");
        }
    }
}
