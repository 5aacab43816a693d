//! Tests of the table of special-purpose addresses.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::addresses::{PRIVATE, forbidden_address, special_purpose};

const REGISTRIES: [&str; 2] = ["ipv4-special-purpose.csv", "ipv6-special-purpose.csv"];

/// One address block of a registry.
struct Row {
    network: IpAddr,
    length: u32,
    name: String,
    reachable: bool,
}

impl Row {
    fn last_address(&self) -> IpAddr {
        match self.network {
            IpAddr::V4(network) => {
                let host = u32::MAX.checked_shr(self.length).unwrap_or(0);
                Ipv4Addr::from_bits(network.to_bits() | host).into()
            }
            IpAddr::V6(network) => {
                let host = u128::MAX.checked_shr(self.length).unwrap_or(0);
                Ipv6Addr::from_bits(network.to_bits() | host).into()
            }
        }
    }
}

fn crate_directory() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The cells of a CSV file (RFC 4180).
fn records(text: &str) -> Vec<Vec<String>> {
    let mut records = vec![vec![String::new()]];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let record = records.last_mut().unwrap();
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                record.last_mut().unwrap().push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(String::new()),
            '\n' if !quoted => records.push(vec![String::new()]),
            c => record.last_mut().unwrap().push(c),
        }
    }
    records.retain(|record| record.len() > 1);
    records
}

fn rows(registry: &str) -> Vec<Row> {
    let file = crate_directory().join("iana").join(registry);
    let mut records = records(&std::fs::read_to_string(file).unwrap()).into_iter();
    let header = records.next().unwrap();
    assert_eq!(
        [&header[0], &header[1], &header[8]],
        ["Address Block", "Name", "Globally Reachable"]
    );
    let mut rows = Vec::new();
    for record in records {
        for block in record[0].split(", ") {
            // A footnote is behind some blocks.
            let block = block.split(' ').next().unwrap();
            let (network, length) = block.split_once('/').unwrap();
            rows.push(Row {
                network: network.parse().unwrap(),
                length: length.parse().unwrap(),
                name: record[1].clone(),
                reachable: record[8].starts_with("True"),
            });
        }
    }
    rows
}

fn generated() -> String {
    let mut text = String::new();
    for row in REGISTRIES.into_iter().flat_map(rows) {
        let (kind, parts) = match row.network {
            IpAddr::V4(network) => ("v4", network.octets().map(|part| part.to_string()).to_vec()),
            IpAddr::V6(network) => {
                let hex = |part: u16| match part {
                    0 => "0".to_owned(),
                    part => format!("{part:#x}"),
                };
                ("v6", network.segments().map(hex).to_vec())
            }
        };
        let parts = parts.join(", ");
        let Row {
            length,
            name,
            reachable,
            ..
        } = row;
        writeln!(
            text,
            "    {kind}([{parts}], {length}, {name:?}, {reachable}),"
        )
        .unwrap();
    }
    text
}

#[test]
fn the_table_is_generated_from_ianas_registries() {
    let file = crate_directory().join("src/special_purpose.rs");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once("&[\n").unwrap();
    let (table, after) = rest.split_once("];\n").unwrap();
    let expected = generated();
    if std::env::var_os("UPDATE_SPECIAL_PURPOSE").is_some() {
        std::fs::write(&file, format!("{before}&[\n{expected}];\n{after}")).unwrap();
    } else {
        assert_eq!(table, expected, "run with UPDATE_SPECIAL_PURPOSE=1");
    }
}

#[test]
fn each_row_of_ianas_registries_is_refused_unless_it_is_reachable_or_private() {
    let mut checked = 0;
    for row in REGISTRIES.into_iter().flat_map(rows) {
        // The guard looks at the IPv4 address in a mapped or translated address.
        if row.name.starts_with("IPv4-") {
            continue;
        }
        for address in [row.network, row.last_address()] {
            let smallest = special_purpose(address).unwrap();
            let allowed = smallest.reachable || PRIVATE.contains(&smallest.name);
            assert_eq!(forbidden_address(address).is_none(), allowed, "{address}");
            checked += 1;
        }
    }
    assert!(checked > 80, "{checked}");
}

#[test]
fn the_smallest_block_decides() {
    for (address, name) in [
        ("192.0.0.9", "Port Control Protocol Anycast"),
        ("192.0.0.11", "IETF Protocol Assignments"),
        ("2001:1::2", "Traversal Using Relays around NAT Anycast"),
        ("2001::1", "TEREDO"),
        ("2001:5::1", "IETF Protocol Assignments"),
    ] {
        assert_eq!(
            special_purpose(address.parse().unwrap()).unwrap().name,
            name
        );
    }
    for address in ["8.8.8.8", "2a00::1", "2001:200::1"] {
        assert_eq!(special_purpose(address.parse().unwrap()), None);
    }
}
