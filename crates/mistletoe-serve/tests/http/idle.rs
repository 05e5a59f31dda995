//! Reused instances that nobody uses.

use std::time::{Duration, Instant};

use crate::client::get;
use crate::server::{assert_reply, route, start};

#[test]
fn an_instance_without_requests_is_closed() {
    let keys = "pool = { size = 2, reuse = true, idle = '100s' }";
    let server = start("", &[route("/count", "plugin-count", keys), route("/trap", "plugin-trap", keys)].concat());
    let idle = |count: usize| {
        server.wait_for(&format!("mistletoe_instances_idle{{route=\"/count\"}} {count}"));
        server.wait_for("mistletoe_instances_in_use{route=\"/count\"} 0");
    };
    let begun = Instant::now();
    assert_reply(&get(server.address, "/count"), 200, "1");
    idle(1);
    assert_reply(&get(server.address, "/count"), 200, "2");
    idle(1);
    // It has been idle since a time after the beginning.
    server.service.prune(begun + Duration::from_secs(100));
    idle(1);
    server.service.prune(Instant::now() + Duration::from_secs(101));
    idle(0);
    assert_reply(&get(server.address, "/count"), 200, "1");
    // An instance that failed is not kept.
    assert_eq!(get(server.address, "/trap").status, 500);
    server.wait_for("mistletoe_instances_in_use{route=\"/trap\"} 0");
    server.wait_for("mistletoe_instances_idle{route=\"/trap\"} 0");
    let status: serde_json::Value = serde_json::from_str(&server.service.status()).expect("JSON");
    assert_eq!(status["routes"][0]["instances"]["idle"], 1);
}

/// The server looks for them by itself.
#[test]
fn a_server_closes_idle_instances() {
    let server = start("", &route("/count", "plugin-count", "pool = { size = 1, reuse = true, idle = '1ms' }"));
    assert_reply(&get(server.address, "/count"), 200, "1");
    server.wait_for("mistletoe_instances_in_use{route=\"/count\"} 0");
    server.wait_for("mistletoe_instances_idle{route=\"/count\"} 0");
    assert_reply(&get(server.address, "/count"), 200, "1");
}
