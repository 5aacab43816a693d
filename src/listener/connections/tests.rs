//! Tests of the table of connections.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;

const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const AGENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn table() -> Connections {
    Connections::new(Bounds {
        connections: 6,
        unverified: 3,
        unverified_time: Duration::from_secs(10),
        idle_time: Duration::from_mins(2),
        body_bytes: 100,
        spare_descriptors: 0,
    })
}

fn verified(table: &Connections) -> Admitted {
    let admitted = table.admit(AGENT);
    table.verify(admitted.id);
    admitted
}

#[test]
fn strangers_replace_their_own_oldest_connection() {
    let table = table();
    let agent = table.admit(AGENT);
    let strangers: Vec<_> = (0..20).map(|_| table.admit(STRANGER)).collect();
    let closed = strangers.iter().filter(|one| one.close.is_cancelled());
    assert_eq!(closed.count(), 18);
    assert!(!strangers[19].close.is_cancelled() && strangers[0].close.is_cancelled());
    assert!(!agent.close.is_cancelled(), "another address has its place");
    assert_eq!(strangers[19].crowding, Crowding::Crowded);
}

/// Other containers of the agent's pod have the agent's address.
#[test]
fn connections_from_loopback_replace_each_other_and_the_newest_stays() {
    let table = table();
    let other = table.admit(STRANGER);
    let flood: Vec<_> = (0..20).map(|_| table.admit(AGENT)).collect();
    let agent = table.admit(AGENT);
    table.verify(agent.id);
    let closed = flood.iter().filter(|one| one.close.is_cancelled());
    assert_eq!(closed.count(), 19);
    assert!(!agent.close.is_cancelled() && !other.close.is_cancelled());
}

#[test]
fn strangers_close_no_verified_connection() {
    let table = table();
    let agent = verified(&table);
    let _strangers: Vec<_> = (0..20).map(|_| table.admit(AGENT)).collect();
    assert!(!agent.close.is_cancelled());
}

#[test]
fn of_the_verified_connections_those_with_unfinished_bodies_are_closed_first() {
    let table = table();
    let working = verified(&table);
    table.enter(working.id, Phase::Handling);
    let sending = verified(&table);
    table.enter(sending.id, Phase::Body);
    let idle = verified(&table);
    let fourth = verified(&table);
    assert!(sending.close.is_cancelled() && !idle.close.is_cancelled());
    table.enter(fourth.id, Phase::Handling);
    let fifth = verified(&table);
    table.enter(fifth.id, Phase::Handling);
    assert!(idle.close.is_cancelled() && !working.close.is_cancelled());
}

#[test]
fn the_body_that_is_sent_for_the_longest_time_makes_room_for_another() {
    let table = table();
    let slow = verified(&table);
    table.enter(slow.id, Phase::Body);
    table.hold(slow.id, 60);
    let quick = verified(&table);
    table.enter(quick.id, Phase::Body);
    table.hold(quick.id, 40);
    assert!(!slow.close.is_cancelled());
    table.hold(quick.id, 80);
    assert!(slow.close.is_cancelled() && !quick.close.is_cancelled());
    table.enter(quick.id, Phase::Handling);
    assert_eq!(table.open.lock().body_bytes, 0);
}

#[test]
fn late_connections_are_closed() {
    let table = table();
    let stranger = table.admit(STRANGER);
    let idle = verified(&table);
    let working = verified(&table);
    table.enter(working.id, Phase::Handling);
    let now = Instant::now();
    table.close_late(now + Duration::from_secs(9));
    assert!(!stranger.close.is_cancelled());
    table.close_late(now + Duration::from_secs(11));
    assert!(stranger.close.is_cancelled() && !idle.close.is_cancelled());
    table.close_late(now + Duration::from_mins(3));
    assert!(idle.close.is_cancelled() && !working.close.is_cancelled());
}

#[test]
fn a_request_without_the_token_does_not_prolong_a_connection() {
    let table = table();
    let stranger = table.admit(STRANGER);
    let started = table.open.lock().entries[&stranger.id].since;
    table.enter(stranger.id, Phase::Handling);
    table.enter(stranger.id, Phase::Idle);
    assert_eq!(table.open.lock().entries[&stranger.id].since, started);
}
