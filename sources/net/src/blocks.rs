//! Blocks of IP addresses for special purposes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of addresses for a special purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The first address.
    network: IpAddr,
    /// The length of the prefix, in bits.
    pub(crate) length: u32,
    /// IANA's name of the block.
    pub(crate) name: &'static str,
    /// Whether IANA's column "Globally Reachable" is `True`. It can also be `False`, `N/A` or
    /// empty.
    pub(crate) reachable: bool,
}

/// A block of IPv4 addresses.
pub(crate) const fn v4(octets: [u8; 4], length: u32, name: &'static str, reachable: bool) -> Block {
    Block {
        network: IpAddr::V4(Ipv4Addr::from_octets(octets)),
        length,
        name,
        reachable,
    }
}

/// A block of IPv6 addresses.
pub(crate) const fn v6(
    segments: [u16; 8],
    length: u32,
    name: &'static str,
    reachable: bool,
) -> Block {
    Block {
        network: IpAddr::V6(Ipv6Addr::from_segments(segments)),
        length,
        name,
        reachable,
    }
}

impl Block {
    /// Whether the address is in this block.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= self.length
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= self.length
            }
            _ => false,
        }
    }
}
