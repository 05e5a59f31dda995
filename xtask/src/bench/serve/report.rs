//! The results as markdown, and as groups for charts.

use std::fmt::Write as _;

use super::super::measured::{Chart, Environment, Group, Row, Unit};
use super::super::tables::{aligned, environment_of};
use super::{Cell, Load};

/// Name, title and text of a section, and which cells belong to it.
type Section = (&'static str, &'static str, &'static str, fn(&Cell) -> bool);

const SECTIONS: [Section; 3] = [
    (
        "fresh",
        "A fresh instance for each request",
        "Each request gets an instance that no other request has touched.",
        |cell| is_plugin(cell) && cell.instances == "fresh",
    ),
    (
        "reused",
        "Instances that are reused",
        "Instances respond to one request after the other. By hand, each thread has one. The server on wazero has one in \
        all, with a lock.",
        |cell| is_plugin(cell) && cell.instances == "reused",
    ),
    (
        "kinds",
        "Other kinds of guests",
        "`command` is a CGI program in C with a body of 4 KiB. `package` is a package in C that returns a manifest. \
        `http-wasm` is middleware in C that requires a key, in front of a fixed response.",
        |cell| !is_plugin(cell),
    ),
];

fn is_plugin(cell: &Cell) -> bool {
    cell.kind == "httpwasm"
}

/// Returns the sections as tables, for a terminal.
pub(in super::super) fn tables(load: &Load) -> String {
    let sections = SECTIONS.iter().map(|(_, title, _, is_in)| format!("## {title}\n\n{}", table(load, *is_in)));
    sections.collect::<Vec<_>>().join("\n")
}

/// Returns the whole document. Charts are linked as files in a directory beside it.
pub(in super::super) fn document(load: &Load, environment: &Environment, charts: &str) -> String {
    let mut text = format!(
        "# The server under load

This document compares `mistctl serve` with servers that are written by hand for one engine each
([`by-hand`](../benches/src/bin/by-hand.rs)): hyper, tokio, and the engine's own interface, with the plugin compiled and
linked once. They have no limits, no log, no metrics and no WASI. `mistctl serve` has its default limits and its metrics,
and logs every request, to `/dev/null`. Both run guests on as many threads as there are processors. On wasmtime, both
take instances from a pool.

[`net/http and wazero`](../benches/peers/httpwasm.go) is such a server in Go on wazero, without limits.
[`net/http and http-wasm-host-go`](../benches/peers/httphandler.go) runs middleware on http-wasm's own host, on wazero,
too.

The plugin is [`httpwasm-c`](../examples/packages/httpwasm-c/hello.c). A body is one record, which it sends back after
`hello, `. An empty body has no record, and an empty response.

Each server is a process of its own. wrk sends POST requests over the loopback interface, on connections that stay open,
each as soon as the one before is answered. It compares every response with the expected one. wrk, the server and the
kernel share all processors; nothing is pinned, since a server with one processor has no contention. So a ratio of rates
includes the cost of wrk and the kernel, which is the same for all. `processor` is the server's own time per request,
in user mode and in the kernel.

In each of {} rounds, every server in a comparison is loaded for a second, and each round begins with another server.
`rate` and the percentiles of latency are medians of the rounds. A ratio is the median of the ratios of time per request
in one round, to the first server of the comparison. Above 1.00 is slower. Half of the values lie between the two numbers
in brackets. `p99 ratio` is the same for the 99th percentile. wrk corrects percentiles for coordinated omission: when a
response takes long, it adds the latencies of the requests that the connection would have sent meanwhile.

`cargo xtask bench --group serve --report docs/serve-load.md` updates this file.

{}",
        load.rounds,
        environment_of(environment),
    );
    for (name, title, about, is_in) in SECTIONS {
        let _ = write!(text, "\n## {title}\n\n{about}\n\n![{title}]({charts}/{name}.svg)\n\n{}", table(load, is_in));
    }
    text
}

fn table(load: &Load, is_in: fn(&Cell) -> bool) -> String {
    let headings =
        ["", "engine", "server", "rate", "ratio", "p50", "p99", "p99.9", "p99 ratio", "processor"].map(str::to_owned);
    let mut lines = vec![headings];
    let mut before = String::new();
    for cell in load.cells.iter().filter(|cell| is_in(cell)) {
        // Cells that repeat the row before stay empty.
        let what = Some(what(cell)).filter(|what| *what != before);
        before = what.clone().unwrap_or(before);
        for (at, server) in cell.servers.iter().enumerate() {
            let first = |text: &str| if at == 0 { text.to_owned() } else { String::new() };
            let time = |microseconds: f64| Unit::Time.show(microseconds * 1e3);
            let ([low, high], ratio) = (server.ratio.quartiles, server.ratio.median);
            lines.push([
                first(what.as_deref().unwrap_or_default()),
                first(&cell.engine),
                server.name.clone(),
                Unit::Rate.show(server.time.median),
                if at == 0 { "1.00".to_owned() } else { format!("{ratio:.2} ({low:.2} – {high:.2})") },
                time(server.p50),
                time(server.p99),
                time(server.p999),
                format!("{:.2}", server.p99_ratio),
                server.processor.map(time).unwrap_or_default(),
            ]);
        }
    }
    aligned(&lines)
}

/// Returns what is measured, as far as a section does not say so.
fn what(cell: &Cell) -> String {
    let body = match cell.body {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    };
    let connections = if cell.connections == 1 { "1 connection" } else { &format!("{} connections", cell.connections) };
    if is_plugin(cell) { format!("{body}, {connections}") } else { format!("{}, {}", cell.kind, cell.instances) }
}

/// Returns the rates of each section, for charts.
pub(in super::super) fn groups(load: &Load) -> Vec<Group> {
    let group = |(name, title, about, is_in): &(&str, &str, &str, fn(&Cell) -> bool)| {
        let cells = load.cells.iter().filter(|cell| is_in(cell));
        // In charts of ratios, the base is a line.
        let is_compared = cells.clone().all(|cell| cell.servers.len() > 1);
        let rows = cells.flat_map(|cell| {
            cell.servers.iter().map(|server| Row {
                what: what(cell),
                engine: cell.engine.clone(),
                host: server.name.clone(),
                value: server.time.median,
                quartiles: server.time.quartiles,
                ratio: server.ratio.median,
                ratio_quartiles: server.ratio.quartiles,
                rounds: load.rounds,
            })
        });
        Group {
            name: (*name).to_owned(),
            title: (*title).to_owned(),
            about: (*about).to_owned(),
            column: "host".to_owned(),
            unit: Unit::Rate,
            chart: if is_compared { Chart::Ratio } else { Chart::Value },
            notes: Vec::new(),
            rows: rows.collect(),
        }
    };
    SECTIONS.iter().map(group).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::load;
    use super::*;

    pub(crate) fn environment() -> Environment {
        Environment {
            date: "2026-01-02".to_owned(),
            cpu: None,
            cores: 2,
            memory_gib: None,
            os: "an OS".to_owned(),
            other_load: None,
            versions: vec!["wrk 1".to_owned()],
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_server_and_names_what_is_new() {
        let all = load();
        let table = table(&all, |_| true);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
        // Heading, rule, two engines with two servers each.
        assert_eq!(lines.len(), 6, "{table}");
        assert_eq!(lines[2][1..5], ["4 KiB, 16 connections", "wasmtime", "by hand", "10.0 k/s"]);
        assert_eq!(lines[3][1..7], ["", "", "mistctl serve", "5.00 k/s", "2.00 (2.00 – 2.00)", "200 µs"]);
        assert_eq!(lines[4][1..4], ["", "wasmi", "by hand"]);
        assert_eq!(lines[5][8..11], ["600 µs", "2.00", "20.0 µs"]);
    }

    #[test]
    fn the_document_says_how_it_was_measured_and_has_the_charts_that_are_written() {
        let text = document(&load(), &environment(), "serve-load");
        assert!(text.contains("In each of 1 rounds") && text.contains("\n- wrk 1\n"), "{text}");
        for group in groups(&load()) {
            assert!(text.contains(&format!("(serve-load/{}.svg)", group.name)), "{}", group.name);
        }
    }
}
