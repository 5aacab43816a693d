//! IANA's special-purpose addresses. Generated from `sources/net/iana/`; do not edit.
//!
//! The files there are copies of IANA's registries (RFC 6890), as IANA published them on
//! 2026-07-18:
//!
//! - <https://www.iana.org/assignments/iana-ipv4-special-registry/iana-ipv4-special-registry-1.csv>
//! - <https://www.iana.org/assignments/iana-ipv6-special-registry/iana-ipv6-special-registry-1.csv>
//!
//! To update the table, replace the copies and the date, and run the tests of this crate with
//! `UPDATE_SPECIAL_PURPOSE=1`.

use crate::blocks::{Block, v4, v6};

/// The blocks in the order of the registries. A smaller block is an exception from a larger one.
#[rustfmt::skip]
pub(crate) const BLOCKS: &[Block] = &[
    v4([0, 0, 0, 0], 8, "\"This network\"", false),
    v4([0, 0, 0, 0], 32, "\"This host on this network\"", false),
    v4([10, 0, 0, 0], 8, "Private-Use", false),
    v4([100, 64, 0, 0], 10, "Shared Address Space", false),
    v4([127, 0, 0, 0], 8, "Loopback", false),
    v4([169, 254, 0, 0], 16, "Link Local", false),
    v4([172, 16, 0, 0], 12, "Private-Use", false),
    v4([192, 0, 0, 0], 24, "IETF Protocol Assignments", false),
    v4([192, 0, 0, 0], 29, "IPv4 Service Continuity Prefix", false),
    v4([192, 0, 0, 8], 32, "IPv4 dummy address", false),
    v4([192, 0, 0, 9], 32, "Port Control Protocol Anycast", true),
    v4([192, 0, 0, 10], 32, "Traversal Using Relays around NAT Anycast", true),
    v4([192, 0, 0, 170], 32, "NAT64/DNS64 Discovery", false),
    v4([192, 0, 0, 171], 32, "NAT64/DNS64 Discovery", false),
    v4([192, 0, 2, 0], 24, "Documentation (TEST-NET-1)", false),
    v4([192, 31, 196, 0], 24, "AS112-v4", true),
    v4([192, 52, 193, 0], 24, "AMT", true),
    v4([192, 88, 99, 0], 24, "Deprecated (6to4 Relay Anycast)", false),
    v4([192, 88, 99, 2], 32, "6a44-relay anycast address", false),
    v4([192, 168, 0, 0], 16, "Private-Use", false),
    v4([192, 175, 48, 0], 24, "Direct Delegation AS112 Service", true),
    v4([198, 18, 0, 0], 15, "Benchmarking", false),
    v4([198, 51, 100, 0], 24, "Documentation (TEST-NET-2)", false),
    v4([203, 0, 113, 0], 24, "Documentation (TEST-NET-3)", false),
    v4([240, 0, 0, 0], 4, "Reserved", false),
    v4([255, 255, 255, 255], 32, "Limited Broadcast", false),
    v6([0, 0, 0, 0, 0, 0, 0, 0x1], 128, "Loopback Address", false),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, "Unspecified Address", false),
    v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, "IPv4-mapped Address", false),
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, "IPv4-IPv6 Translat.", true),
    v6([0x64, 0xff9b, 0x1, 0, 0, 0, 0, 0], 48, "IPv4-IPv6 Translat.", false),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "Discard-Only Address Block", false),
    v6([0x100, 0, 0, 0x1, 0, 0, 0, 0], 64, "Dummy IPv6 Prefix", false),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "IETF Protocol Assignments", false),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "TEREDO", false),
    v6([0x2001, 0x1, 0, 0, 0, 0, 0, 0x1], 128, "Port Control Protocol Anycast", true),
    v6([0x2001, 0x1, 0, 0, 0, 0, 0, 0x2], 128, "Traversal Using Relays around NAT Anycast", true),
    v6([0x2001, 0x1, 0, 0, 0, 0, 0, 0x3], 128, "DNS-SD Service Registration Protocol Anycast", true),
    v6([0x2001, 0x2, 0, 0, 0, 0, 0, 0], 48, "Benchmarking", false),
    v6([0x2001, 0x3, 0, 0, 0, 0, 0, 0], 32, "AMT", true),
    v6([0x2001, 0x4, 0x112, 0, 0, 0, 0, 0], 48, "AS112-v6", true),
    v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, "Deprecated (previously ORCHID)", false),
    v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, "ORCHIDv2", true),
    v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28, "Drone Remote ID Protocol Entity Tags (DETs) Prefix", true),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "Documentation", false),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4", false),
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, "Direct Delegation AS112 Service", true),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "Documentation", false),
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "Segment Routing (SRv6) SIDs", false),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "Unique-Local", false),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "Link-Local Unicast", false),
];
