//! The addresses that the SSRF guard blocks.
//!
//! Server-side request forgery (SSRF): an author names a host that leads to this machine or to a
//! cloud's metadata service, and this program would send the request there.
//!
//! These addresses are blocked:
//!
//! - this machine, link-local and multicast addresses
//! - metadata services of clouds
//! - every other block in IANA's special-purpose registries that is not globally reachable
//!   (`special_purpose.rs`), except private networks, because registries of clusters have such
//!   addresses
//! - IPv6 addresses that a translator or a tunnel delivers to a blocked IPv4 address

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::blocks::Block;
use crate::special_purpose::BLOCKS;

/// The names of IANA's blocks for private networks.
pub(crate) const PRIVATE: [&str; 3] = ["Private-Use", "Shared Address Space", "Unique-Local"];

/// The metadata services of clouds, and their services for credentials.
const METADATA_V4: [Ipv4Addr; 8] = [
    // Most clouds.
    Ipv4Addr::new(169, 254, 169, 254),
    // Amazon ECS and EKS.
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    // Alibaba Cloud.
    Ipv4Addr::new(100, 100, 100, 200),
    // Azure.
    Ipv4Addr::new(168, 63, 129, 16),
    // Oracle Cloud.
    Ipv4Addr::new(192, 0, 0, 192),
    // Tencent Cloud.
    Ipv4Addr::new(169, 254, 0, 23),
    // Scaleway.
    Ipv4Addr::new(169, 254, 42, 42),
];

/// The metadata services of clouds: the first segments of their addresses.
const METADATA_V6: [&[u16]; 4] = [
    // Amazon: several services in `fd00:ec2::/112`.
    &[0xfd00, 0xec2, 0, 0, 0, 0, 0],
    // Google Cloud.
    &[0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254],
    // Oracle Cloud.
    &[0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe],
    // Scaleway.
    &[0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42],
];

/// The lengths of prefixes before an IPv4 address, in bits (RFC 6052, section 2.2).
const PREFIX_LENGTHS: [u32; 6] = [32, 40, 48, 56, 64, 96];

/// The reason why an address is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forbidden {
    ThisMachine,
    LinkLocal,
    Unspecified,
    Multicast,
    Metadata,
    /// With IANA's name of the block.
    SpecialPurpose(&'static str),
}

impl Forbidden {
    fn name(self) -> &'static str {
        match self {
            Self::ThisMachine => "this machine",
            Self::LinkLocal => "a link-local address",
            Self::Unspecified => "not a valid destination",
            Self::Multicast => "a multicast or broadcast address",
            Self::Metadata => "a cloud's metadata service",
            Self::SpecialPurpose(_) => "reserved by IANA",
        }
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::SpecialPurpose(block) => write!(f, ": {block}"),
            _ => Ok(()),
        }
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
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> Option<Forbidden> {
    if address.is_loopback() {
        Some(Forbidden::ThisMachine)
    } else if address.is_link_local() {
        Some(Forbidden::LinkLocal)
    } else if METADATA_V4.contains(&address) {
        Some(Forbidden::Metadata)
    } else if address.octets()[0] == 0 {
        Some(Forbidden::Unspecified)
    } else if address.is_multicast() || address.is_broadcast() {
        Some(Forbidden::Multicast)
    } else {
        reserved(address.into())
    }
}

fn classify_v6(address: Ipv6Addr) -> Option<Forbidden> {
    if let Some(embedded) = embedded_v4(address) {
        return classify_v4(embedded);
    }
    let segments = address.segments();
    if METADATA_V6.iter().any(|start| segments.starts_with(start)) {
        Some(Forbidden::Metadata)
    } else if address.is_loopback() {
        Some(Forbidden::ThisMachine)
    } else if address.is_unspecified() {
        Some(Forbidden::Unspecified)
    } else if address.is_unicast_link_local() {
        Some(Forbidden::LinkLocal)
    } else if address.is_multicast() {
        Some(Forbidden::Multicast)
    } else if is_local_nat64(address) {
        translated_locally(address)
    } else {
        reserved(address.into()).or_else(|| translated(address))
    }
}

/// The smallest special-purpose block with this address.
pub(crate) fn special_purpose(address: IpAddr) -> Option<&'static Block> {
    let blocks = BLOCKS.iter().filter(|block| block.contains(address));
    blocks.max_by_key(|block| block.length)
}

/// An address in a block that is neither globally reachable nor a private network.
fn reserved(address: IpAddr) -> Option<Forbidden> {
    let block = special_purpose(address)?;
    let is_allowed = block.reachable || PRIVATE.contains(&block.name);
    (!is_allowed).then_some(Forbidden::SpecialPurpose(block.name))
}

/// The IPv4 address to which packets for an IPv6 address are delivered: in a mapped, translated
/// (RFC 7915), compatible or ISATAP (RFC 5214) address, or behind the well-known prefix of NAT64
/// (RFC 6052).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..]
        | [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Some(behind_prefix(address, 96)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => Some(behind_prefix(address, 96)),
        _ => None,
    }
}

/// Whether the address is in `64:ff9b:1::/48`, which networks use for NAT64 of their own (RFC
/// 8215).
fn is_local_nat64(address: Ipv6Addr) -> bool {
    address.segments()[..3] == [0x64, 0xff9b, 1]
}

/// The network chooses the length of its prefix, so each IPv4 address that the address can contain
/// is checked.
fn translated_locally(address: Ipv6Addr) -> Option<Forbidden> {
    let mut candidates = PREFIX_LENGTHS[2..]
        .iter()
        .map(|length| classify_v4(behind_prefix(address, *length)));
    // At a wrong position, there are usually zeros.
    let is_wrong = |why: &Option<Forbidden>| matches!(why, Some(Forbidden::Unspecified));
    if candidates.clone().all(|why| is_wrong(&why)) {
        return Some(Forbidden::Unspecified);
    }
    candidates.find_map(|why| why.filter(|why| *why != Forbidden::Unspecified))
}

/// A network can use any prefix of its own for NAT64, and its DNS server then makes IPv6 addresses
/// (DNS64, RFC 6147). The prefix is not known here. So an address is refused if it contains a
/// metadata service or `127.0.0.1` at a position that RFC 6052 defines.
fn translated(address: Ipv6Addr) -> Option<Forbidden> {
    PREFIX_LENGTHS.iter().find_map(|length| {
        let embedded = behind_prefix(address, *length);
        match embedded {
            Ipv4Addr::LOCALHOST => Some(Forbidden::ThisMachine),
            embedded if METADATA_V4.contains(&embedded) => Some(Forbidden::Metadata),
            _ => None,
        }
    })
}

/// The IPv4 address behind a prefix of this length. The bits 64 to 71 do not belong to the IPv4
/// address (RFC 6052, section 2.2).
fn behind_prefix(address: Ipv6Addr, length: u32) -> Ipv4Addr {
    let bits = address.to_bits();
    let low = u128::from(u64::MAX >> 8);
    let without_gap = (bits >> 64 << 56) | (bits & low);
    let shift = match length {
        96 => 0,
        length => 88 - length,
    };
    let embedded = match length {
        96 => bits,
        _ => without_gap >> shift,
    };
    let [.., a, b, c, d] = embedded.to_be_bytes();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_forbidden(text: &str) -> bool {
        forbidden_address(text.parse().unwrap()).is_some()
    }

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
            "192.0.0.192",
            "192.0.2.1",
            "198.18.0.1",
            "198.19.255.255",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "2001:db8::1",
            "3fff:fff::1",
            "5f00::1",
            "100::1",
            "100:0:0:1::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:10::1",
            "2002:7f00:1::",
            "2002:808:808::1",
        ] {
            assert!(is_forbidden(text), "{text}");
        }
        for text in [
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "100.64.0.1",
            "8.8.8.8",
            "192.0.0.9",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "fd12::1",
            "fd00:ec3::254",
            "2001:4860:4860::8888",
            "2001:1::1",
            "2001:20::1",
            "2620:4f:8000::1",
        ] {
            assert!(!is_forbidden(text), "{text}");
        }
    }

    #[test]
    fn an_embedded_address_decides_about_mapped_translated_and_isatap_addresses() {
        for prefix in [
            "::ffff:",
            "::ffff:0:",
            "::",
            "64:ff9b::",
            "2a00::5efe:",
            "fe80::5efe:",
            "fd00::200:5efe:",
        ] {
            for address in [
                "127.0.0.1",
                "127.1.2.3",
                "169.254.1.1",
                "192.0.0.192",
                "240.0.0.1",
            ] {
                let text = format!("{prefix}{address}");
                assert!(is_forbidden(&text), "{text}");
            }
        }
        for prefix in ["::ffff:", "::ffff:0:", "64:ff9b::", "2a00::5efe:"] {
            for address in ["8.8.8.8", "10.0.0.1"] {
                let text = format!("{prefix}{address}");
                assert!(!is_forbidden(&text), "{text}");
            }
        }
    }

    /// The examples of RFC 6052, section 2.4.
    #[test]
    fn the_address_behind_a_prefix_is_found_for_every_length() {
        for (length, text) in [
            (32, "2001:db8:c000:221::"),
            (40, "2001:db8:1c0:2:21::"),
            (48, "2001:db8:122:c000:2:2100::"),
            (56, "2001:db8:122:3c0:0:221::"),
            (64, "2001:db8:122:344:c0:2:2100::"),
            (96, "2001:db8:122:344::192.0.2.33"),
        ] {
            let address = behind_prefix(text.parse().unwrap(), length);
            assert_eq!(address, Ipv4Addr::new(192, 0, 2, 33), "{text}");
        }
    }

    /// The IPv4 address behind a prefix, as NAT64 writes it.
    fn nat64(prefix: &str, length: u32, address: &str) -> Ipv6Addr {
        let prefix: Ipv6Addr = prefix.parse().unwrap();
        let address: Ipv4Addr = address.parse().unwrap();
        let bits = u128::from(address.to_bits());
        let shifted = match length {
            96 => bits,
            length => {
                let without_gap = bits << (88 - length);
                (without_gap >> 56 << 64) | (without_gap & u128::from(u64::MAX >> 8))
            }
        };
        Ipv6Addr::from_bits(prefix.to_bits() | shifted)
    }

    #[test]
    fn addresses_behind_the_local_prefix_of_nat64_are_checked_for_every_length() {
        for length in [48, 56, 64, 96] {
            for address in [
                "127.0.0.1",
                "127.8.8.8",
                "169.254.1.1",
                "192.0.0.192",
                "224.0.0.1",
            ] {
                let translated = nat64("64:ff9b:1::", length, address);
                assert!(classify(translated.into()).is_some(), "{translated}");
            }
            for address in ["8.8.8.8", "10.1.2.3", "140.82.112.33"] {
                let translated = nat64("64:ff9b:1::", length, address);
                assert!(classify(translated.into()).is_none(), "{translated}");
            }
        }
        assert!(is_forbidden("64:ff9b:1::"));
    }

    /// A network's own prefix for NAT64, which this program does not know.
    #[test]
    fn metadata_services_behind_any_prefix_are_refused() {
        for length in PREFIX_LENGTHS {
            for prefix in ["2a00::", "fd00::"] {
                for address in [
                    "127.0.0.1",
                    "169.254.169.254",
                    "192.0.0.192",
                    "168.63.129.16",
                ] {
                    let translated = nat64(prefix, length, address);
                    assert!(classify(translated.into()).is_some(), "{translated}");
                }
                let translated = nat64(prefix, length, "140.82.112.33");
                assert!(classify(translated.into()).is_none(), "{translated}");
            }
        }
    }
}
