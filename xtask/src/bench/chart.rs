//! The results as bar charts. The charts have no background, and follow the reader's colour preference.

use std::fmt::Write as _;

use super::measured::{Chart, Group, Row};

const WIDTH: f64 = 760.0;
/// The maximum length of a bar, as a ratio, so that an outlier does not shrink the other bars.
///
/// Labels show the real value.
const LONGEST: f64 = 5.0;
/// Where bars begin, and where the longest may end. Labels follow after that.
const LEFT: f64 = 128.0;
const RIGHT: f64 = 580.0;
/// Heights: a bar with its spacing, the bar itself, and the spacing between engines and above a heading.
const STEP: f64 = 16.0;
const BAR: f64 = 11.0;
const GAP: f64 = 6.0;
const HEADING: f64 = 26.0;

const STYLE: &str = "
    svg { color: #1f2328; font: 12px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; }
    text { fill: currentColor; }
    .title { font-size: 15px; font-weight: 600; }
    .heading { font-weight: 600; }
    .quiet { fill-opacity: 0.7; font-size: 11px; }
    .value { font-size: 11px; font-variant-numeric: tabular-nums; }
    .grid { stroke: currentColor; stroke-opacity: 0.12; }
    .base { stroke: currentColor; stroke-opacity: 0.65; stroke-dasharray: 3 3; }
    .spread { stroke: currentColor; stroke-opacity: 0.75; stroke-width: 1.5; }
    .c0 { fill: #2a78d6; } .c1 { fill: #e8743b; } .c2 { fill: #1a9e77; } .c3 { fill: #8a8f98; }
    .c4 { fill: #9a5fd0; } .c5 { fill: #c2a318; } .c6 { fill: #d0427f; } .c7 { fill: #7a5c3e; }
    @media (prefers-color-scheme: dark) {
        svg { color: #e6edf3; }
        .c0 { fill: #4a95ee; } .c1 { fill: #e0703c; } .c2 { fill: #24b087; } .c3 { fill: #878d96; }
        .c4 { fill: #a873dc; } .c5 { fill: #b89a1c; } .c6 { fill: #de5f95; } .c7 { fill: #b0926f; }
    }
";

/// Returns the chart of a group.
pub(super) fn chart(group: &Group) -> String {
    let comparisons: Vec<&[Row]> = group.comparisons().collect();
    // In charts of ratios, the base is the same everywhere: the line at 1. It needs no bar.
    let shown = |comparison: &'_ [Row]| match group.chart {
        Chart::Ratio => comparison.get(1..).unwrap_or_default().to_vec(),
        Chart::Value => comparison.to_vec(),
    };
    let mut hosts: Vec<String> = Vec::new();
    for row in comparisons.iter().flat_map(|comparison| shown(comparison)) {
        if !hosts.contains(&row.host) {
            hosts.push(row.host);
        }
    }
    let ratios =
        comparisons.iter().flat_map(|comparison| shown(comparison)).map(|row| row.ratio_quartiles[1].max(row.ratio));
    let longest = ratios.clone().fold(1.1, f64::max).min(LONGEST);

    let mut body = String::new();
    let mut y = 22.0;
    let _ = writeln!(body, "<text class=\"title\" x=\"0\" y=\"{y}\">{}</text>", escaped(&group.title));
    y += 18.0;
    let mut bases: Vec<&str> = Vec::new();
    for base in comparisons.iter().filter_map(|comparison| comparison.first()) {
        if !bases.contains(&base.host.as_str()) {
            bases.push(&base.host);
        }
    }
    let clipped = if ratios.clone().any(|ratio| ratio > LONGEST) { "; bars with an arrow go beyond 5" } else { "" };
    let column = if group.column == "host" { String::new() } else { format!("with {}: ", group.column) };
    let explained = match group.chart {
        Chart::Value => "shorter is better; each part has a scale of its own".to_owned(),
        Chart::Ratio => {
            let bases = bases.join(" or ");
            format!("times as long as {column}{bases}, the dashed line; shorter is better{clipped}")
        }
    };
    let _ = writeln!(body, "<text class=\"quiet\" x=\"0\" y=\"{y}\">{}</text>", escaped(&explained));
    y += 22.0;
    let mut x = 0.0;
    for (at, host) in hosts.iter().enumerate() {
        let width = 40.0 + 7.0 * host.chars().count() as f64;
        if x + width > WIDTH {
            (x, y) = (0.0, y + 18.0);
        }
        let _ = writeln!(
            body,
            "<rect class=\"c{}\" x=\"{x}\" y=\"{}\" width=\"11\" height=\"11\" rx=\"2\"/>",
            color(host, at),
            y - 10.0
        );
        let _ = writeln!(body, "<text x=\"{}\" y=\"{y}\">{}</text>", x + 16.0, escaped(host));
        x += width;
    }
    y += 8.0;
    let top = y;

    let mut bars = String::new();
    for part in comparisons.chunk_by(|a, b| a.first().map(|row| &row.what) == b.first().map(|row| &row.what)) {
        y += HEADING;
        let what = part.first().and_then(|comparison| comparison.first()).map_or("", |row| &row.what);
        let _ = writeln!(
            bars,
            "<text class=\"heading\" x=\"0\" y=\"{}\">{}</text>",
            y - 7.0,
            escaped(&what.replace('`', ""))
        );
        let longest = match group.chart {
            Chart::Ratio => longest,
            Chart::Value => {
                part.iter().flat_map(|rows| rows.iter()).map(|row| row.quartiles[1].max(row.value)).fold(0.0, f64::max)
            }
        };
        let scale = |value: f64| LEFT + (RIGHT - LEFT) * value.min(longest) / longest;
        for comparison in part {
            let rows = shown(comparison);
            let engine = comparison.first().map_or("", |row| &row.engine);
            let middle = y + STEP * rows.len() as f64 / 2.0 + 4.0;
            let _ = writeln!(
                bars,
                "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>",
                LEFT - 10.0,
                escaped(engine)
            );
            for row in &rows {
                let (value, [low, high]) = match group.chart {
                    Chart::Ratio => (row.ratio, row.ratio_quartiles),
                    Chart::Value => (row.value, row.quartiles),
                };
                let at = hosts.iter().position(|host| *host == row.host).unwrap_or_default();
                let (bar, line) = (y + (STEP - BAR) / 2.0, y + STEP / 2.0);
                // A bar that goes beyond the end has a gap there, and an arrow after it.
                let (color, is_clipped) = (color(&row.host, at), value > longest);
                let length = scale(value) - LEFT - if is_clipped { 10.0 } else { 0.0 };
                let _ = writeln!(
                    bars,
                    "<rect class=\"c{color}\" x=\"{LEFT}\" y=\"{bar}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\"/>",
                );
                if is_clipped {
                    let (x, half) = (scale(value) - 7.0, BAR / 2.0);
                    let _ = writeln!(bars, "<path class=\"c{color}\" d=\"M{x:.1} {bar}l7 {half}l-7 {half}z\"/>");
                }
                let _ = writeln!(bars, "<path class=\"spread\" d=\"M{:.1} {line}H{:.1}\"/>", scale(low), scale(high),);
                let label = match group.chart {
                    Chart::Ratio => format!("{:.2} · {}", row.ratio, group.unit.show(row.value)),
                    Chart::Value => group.unit.show(row.value),
                };
                let _ = writeln!(
                    bars,
                    "<text class=\"value\" x=\"{:.1}\" y=\"{}\">{}</text>",
                    scale(value.max(high)) + 7.0,
                    line + 4.0,
                    escaped(&label),
                );
                y += STEP;
            }
            y += GAP;
        }
    }
    if group.chart == Chart::Ratio {
        let step = [0.25, 0.5, 1.0, 2.0, 5.0, 10.0].into_iter().find(|step| longest / step <= 6.0).unwrap_or(25.0);
        let mut tick = 0.0;
        while tick <= longest {
            let x = LEFT + (RIGHT - LEFT) * tick / longest;
            let class = if tick == 1.0 { "base" } else { "grid" };
            let _ = writeln!(body, "<path class=\"{class}\" d=\"M{x:.1} {top}V{y}\"/>");
            let _ = writeln!(
                body,
                "<text class=\"quiet\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>",
                y + 14.0
            );
            tick += step;
        }
        if step > 1.0 {
            let x = LEFT + (RIGHT - LEFT) / longest;
            let _ = writeln!(body, "<path class=\"base\" d=\"M{x:.1} {top}V{y}\"/>");
        }
        y += 20.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" height=\"{y}\" \
        role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n{body}{bars}</svg>\n",
        escaped(&group.title),
    )
}

/// Returns the colour of a host, which is the same in all charts.
fn color(host: &str, at: usize) -> usize {
    match host {
        "static" | "default" => 0,
        "erased" | "with fuel" => 1,
        "by hand" | "by hand, no pool" | "wasmi alone" | "wasmtime alone" => 3,
        "tiered" => 2,
        "wasm_runtime_layer" => 6,
        "static, from the cache" | "waPC" => 4,
        "by hand, from a file" | "Extism" => 5,
        "static, waPC's guest" => 7,
        _ => [2, 4, 5, 6][at % 4],
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use quick_xml::Reader;
    use quick_xml::events::Event;

    use super::super::measured::{Group, sample};
    use super::*;

    /// Returns all texts of a document, and checks that the document is well-formed.
    fn texts(svg: &str) -> Vec<String> {
        let (mut reader, mut texts, mut depth) = (Reader::from_str(svg), Vec::new(), 0);
        let mut text = String::new();
        loop {
            match reader.read_event().expect("well-formed XML") {
                Event::Start(element) => {
                    assert!(element.attributes().all(|attribute| attribute.is_ok()));
                    depth += 1;
                }
                Event::Empty(element) => assert!(element.attributes().all(|attribute| attribute.is_ok())),
                Event::End(_) => {
                    depth -= 1;
                    texts.push(std::mem::take(&mut text));
                }
                Event::Text(part) => text += part.decode().expect("UTF-8").trim(),
                Event::GeneralRef(name) => text += &format!("&{};", name.decode().expect("UTF-8")),
                Event::Eof => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(depth, 0);
        texts
    }

    fn of(chart: Chart) -> Group {
        Group { chart, ..sample() }
    }

    #[test]
    fn a_chart_is_xml_and_its_texts_are_escaped() {
        for group in [of(Chart::Ratio), of(Chart::Value)] {
            let texts = texts(&super::chart(&group));
            let heading = "a&lt;package&gt;&amp;&quot;more&quot;";
            assert!(texts.iter().any(|text| text.replace(' ', "") == heading), "{texts:?}");
        }
    }

    #[test]
    fn a_chart_of_ratios_leaves_the_base_to_its_line() {
        let ratios = texts(&chart(&of(Chart::Ratio)));
        assert!(ratios.iter().any(|text| text == "1.02 · 1.03 µs"), "{ratios:?}");
        assert!(!ratios.iter().any(|text| text == "by hand"), "{ratios:?}");
        let times = texts(&chart(&of(Chart::Value)));
        assert!(["by hand", "512 ns", "100 ms"].iter().all(|name| times.iter().any(|text| text == name)), "{times:?}");
    }

    #[test]
    fn no_bar_or_label_leaves_the_picture() {
        for group in [of(Chart::Ratio), of(Chart::Value)] {
            let svg = chart(&group);
            let number = |line: &str, name: &str| -> Option<f64> {
                let rest = line.split_once(&format!(" {name}=\""))?.1;
                rest.split_once('"')?.0.parse().ok()
            };
            let height = svg.lines().next().and_then(|line| number(line, "height")).expect("a height");
            for line in svg.lines().skip(1) {
                let right = number(line, "x").unwrap_or_default() + number(line, "width").unwrap_or_default();
                assert!(right <= WIDTH && number(line, "y").unwrap_or_default() < height, "{line}");
                // The longest label is about 130 pixels wide.
                assert!(!line.contains("\"value\"") || right + 130.0 <= WIDTH, "{line}");
            }
        }
    }

    #[test]
    fn a_bar_that_goes_beyond_the_end_has_an_arrow() {
        let mut group = of(Chart::Ratio);
        for row in &mut group.rows {
            (row.ratio, row.ratio_quartiles) = (row.ratio.min(2.0), row.ratio_quartiles.map(|ratio| ratio.min(2.0)));
        }
        assert!(!chart(&group).contains("l-7"), "none is longer than the chart");
        let row = group.rows.iter_mut().find(|row| row.host != "by hand").expect("a bar");
        (row.ratio, row.ratio_quartiles) = (25.0, [24.0, 26.0]);
        let svg = chart(&group);
        assert_eq!(svg.matches("l-7").count(), 1, "{svg}");
        assert!(svg.contains("bars with an arrow go beyond 5"), "{svg}");
    }

    #[test]
    fn hosts_that_share_a_chart_have_colours_of_their_own() {
        let hosts =
            ["static", "erased", "tiered", "wasm_runtime_layer", "waPC", "static, waPC's guest", "Extism", "by hand"];
        let colors: std::collections::BTreeSet<_> = hosts.iter().map(|host| color(host, 0)).collect();
        assert_eq!(colors.len(), hosts.len());
    }

    #[test]
    fn a_group_without_rows_has_an_empty_chart() {
        texts(&chart(&Group { rows: Vec::new(), ..sample() }));
    }
}
