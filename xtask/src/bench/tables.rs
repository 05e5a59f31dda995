//! The results as markdown.

use std::fmt::Write as _;

use super::measured::{Environment, Group, Measured, Report, Row, Unit};

/// Returns one table per group, for a terminal.
pub(super) fn tables(measured: &Measured) -> String {
    let groups = measured.groups.iter().map(|group| format!("## {}\n\n{}", group.title, table(group)));
    groups.collect::<Vec<_>>().join("\n")
}

/// The document's section about the peers.
const PEERS: &str = "
Beside them stand other layers ([`benches/src/peers`](../benches/src/peers)), used as their documentation recommends.
wasm_runtime_layer runs the same packages if they have no imports. waPC and Extism have protocols of their own. They run
their own guests, which output their input as the package here does. waPC's guest has one function in place of four: it
compiles faster, and takes one call in place of four. `static, waPC's guest` is the layer with that guest, by
[a protocol outside of it](../examples/wapc), so that the package interface is not part of the comparison.
wasm_runtime_layer and waPC use an engine like that of the hand-written host, with its pool of instances where it has
one. Extism also uses such a pool, but a newer wasmtime. It creates an engine for each package
that it compiles, and that engine contains code of Extism's own.
";

/// Returns the whole document. Charts are linked as files in a directory beside it.
pub(super) fn document(report: &Report, charts: &str) -> String {
    let (peers, option) = if report.measured.peers { (PEERS, " --peers") } else { ("", "") };
    format!(
        "# Benchmarks

This document compares the layer with hosts that are written by hand for one engine each
([`benches/src/baseline`](../benches/src/baseline)). These hosts resolve everything once, access the memory as a slice,
and follow [the interface](abi.md) for an output. They have no limits, no uniform errors, and of WASI only what Go's
runtime needs. So the layer runs without limits here, too, except where the cost of limits is measured. `by hand` is the
hand-written host. `static` is `Package<Wasmtime>` and similar. `erased` is `AnyPackage`, whose engine is chosen at run
time.
{peers}
Rows of the same engine and package ran alternately in one process, so ratios are more reliable than times. A ratio is
the median of the ratios to the hand-written host within one round. Above 1.00 is slower. Half of the values lie between
the two numbers in brackets. The output of each host was checked before it was timed. Sizes and memory are counted once.

`cargo xtask bench{option} --report docs/benchmarks.md` updates this file.

{}{}",
        environment_of(&report.environment),
        sections(&report.measured.groups, charts),
    )
}

/// Returns where and when the benchmark ran, as a list.
pub(super) fn environment_of(environment: &Environment) -> String {
    format!(
        "- {}, {} cores{}, {}\n- {}\n- built with the profile `bench`, and run on {}{}\n",
        environment.cpu.as_deref().unwrap_or("an unknown processor"),
        environment.cores,
        environment.memory_gib.map(|memory| format!(", {memory:.0} GiB")).unwrap_or_default(),
        environment.os,
        environment.versions.join(", "),
        environment.date,
        busy(environment.other_load, environment.cores),
    )
}

/// Returns a section for each group, with its chart and its table.
pub(super) fn sections(groups: &[Group], charts: &str) -> String {
    let mut text = String::new();
    for group in groups {
        let (title, name) = (&group.title, &group.name);
        let _ = write!(text, "\n## {title}\n\n{}\n\n![{title}]({charts}/{name}.svg)\n\n", group.about);
        text += &table(group);
    }
    text
}

/// Returns the load of other programs, in words.
fn busy(other_load: Option<f64>, cores: usize) -> String {
    match other_load {
        None => String::new(),
        Some(load) if load < 0.05 => ", with nothing else to do".to_owned(),
        Some(load) => format!(", while other programs had {load:.1} of the {cores} cores"),
    }
}

/// Returns the table of a group, followed by its notes.
fn table(group: &Group) -> String {
    let mut lines: Vec<[String; 5]> =
        vec![["", "engine", &group.column, group.unit.heading(), "ratio"].map(str::to_owned)];
    for (row, before) in group.rows.iter().zip([None].into_iter().chain(group.rows.iter().map(Some))) {
        // Cells that repeat the row before stay empty.
        let what = before.is_none_or(|before| before.what != row.what);
        let engine = what || before.is_none_or(|before| before.engine != row.engine);
        let new = |text: &str, is_new: bool| if is_new { escaped(text) } else { String::new() };
        lines.push([new(&row.what, what), new(&row.engine, engine), escaped(&row.host), value(group, row), ratio(row)]);
    }
    let mut text = aligned(&lines);
    for note in &group.notes {
        let _ = write!(text, "\n{note}\n");
    }
    text
}

/// Returns lines of cells as a table. The first line is the heading.
pub(super) fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text += "|\n";
        if at == 0 {
            for width in widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            text += "|\n";
        }
    }
    text
}

fn value(group: &Group, row: &Row) -> String {
    let value = group.unit.show(row.value);
    let [low, high] = row.quartiles;
    if low == high {
        return value;
    }
    // The lower quartile of a rate belongs to the longer time.
    let [low, high] = if group.unit == Unit::Rate { [high, low] } else { [low, high] };
    let [low, high] = [low, high].map(|quartile| group.unit.show(quartile));
    // A unit that both share is printed once.
    let low = match (low.split_once(' '), high.split_once(' ')) {
        (Some((number, unit)), Some((_, other))) if unit == other => number.to_owned(),
        _ => low,
    };
    format!("{value} ({low} – {high})")
}

fn ratio(row: &Row) -> String {
    let [low, high] = row.ratio_quartiles;
    match low == high {
        true => format!("{:.2}", row.ratio),
        false => format!("{:.2} ({low:.2} – {high:.2})", row.ratio),
    }
}

/// Escapes text for a table cell.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::measured::sample;
    use super::*;

    pub(crate) fn environment() -> Environment {
        Environment {
            date: "2026-01-02".to_owned(),
            cpu: Some("A processor".to_owned()),
            cores: 4,
            memory_gib: Some(7.6),
            os: "an OS".to_owned(),
            other_load: Some(1.26),
            versions: vec!["rustc 1".to_owned(), "wasmi 2".to_owned()],
        }
    }

    #[test]
    fn a_table_names_what_is_new_in_a_row() {
        let mut group = sample();
        group.rows[2].host = "a|b".to_owned();
        let expected = "\
|                      | engine   | host    | median                    | ratio                 |
|----------------------|----------|---------|---------------------------|-----------------------|
| a <package> & \"more\" | wasmtime | by hand | 512 ns (461 – 564 ns)     | 1.00 (0.99 – 1.01)    |
|                      |          | static  | 1.03 µs (931 ns – 1.14 µs) | 1.02 (1.01 – 1.03)    |
|                      |          | a\\|b    | 100 ms (90.0 – 110 ms)    | 12.50 (12.38 – 12.62) |

One is left out.
";
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").replace('-', "");
        assert_eq!(squeezed(&table(&group)), squeezed(expected));
        let table = table(&group);
        let widths: Vec<_> = table.lines().take(5).map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{widths:?}");
    }

    #[test]
    fn another_subject_names_its_engine_again() {
        let mut group = sample();
        group.rows[2].what = "another".to_owned();
        let table = table(&group);
        assert!(
            table.lines().nth(4).is_some_and(|line| line.contains("another") && line.contains("wasmtime")),
            "{table}"
        );
    }

    #[test]
    fn the_quartiles_of_a_rate_ascend() {
        let mut group = sample();
        group.unit = Unit::Rate;
        assert!(table(&group).contains("1.95 M/s (1.77 – 2.17 M/s)"), "{}", table(&group));
    }

    #[test]
    fn what_was_counted_once_has_no_brackets() {
        let mut group = sample();
        group.unit = Unit::Bytes;
        group.rows.truncate(1);
        (group.rows[0].quartiles, group.rows[0].ratio_quartiles) = ([group.rows[0].value; 2], [1.0; 2]);
        let table = table(&group);
        assert!(table.contains("| size  | ratio |") && table.contains("| 512 B | 1.00  |"), "{table}");
    }

    #[test]
    fn the_document_says_where_it_ran_and_what_else_did() {
        let measured = Measured { quick: false, optimised: true, peers: false, groups: vec![sample()] };
        let mut report = Report { environment: environment(), measured };
        let text = document(&report, "benchmarks");
        for expected in [
            "- A processor, 4 cores, 8 GiB, an OS\n- rustc 1, wasmi 2\n",
            "run on 2026-01-02, while other programs had 1.3 of the 4 cores\n",
            "## An answer\n\nWhat it is.\n\n![An answer](benchmarks/round-trip.svg)\n\n|",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in {text}");
        }
        report.measured.peers = true;
        let with_peers = document(&report, "benchmarks");
        for expected in ["\n\nBeside them stand other layers", "`cargo xtask bench --peers --report"] {
            assert!(with_peers.contains(expected) && !text.contains(expected), "{expected:?}");
        }
    }
}
