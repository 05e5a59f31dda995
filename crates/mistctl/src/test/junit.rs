//! Results as JUnit XML, which CI systems show.

use std::fmt::Write as _;
use std::time::Duration;

/// Maximum number of bytes of a failure's text.
pub(crate) const MAX_TEXT: usize = 64 << 10;

/// A test that was run.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) time: Duration,
    /// One line, and the rest.
    pub(crate) failure: Option<(String, String)>,
}

/// Returns the report on one suite. `error` is why its tests could not run.
pub(crate) fn report(suite: &str, cases: &[Case], error: Option<&str>) -> String {
    let failures = cases.iter().filter(|case| case.failure.is_some()).count();
    let time = cases.iter().map(|case| case.time).sum::<Duration>().as_secs_f64();
    let errors = usize::from(error.is_some());
    let (suite, tests) = (escaped(suite), cases.len() + errors);
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{time:.3}\"");
    let counts = format!("name=\"{suite}\" {counts}");
    let mut xml =
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  <testsuite {counts}>\n");
    for Case { name, time, failure } in cases {
        let (name, time) = (escaped(name), time.as_secs_f64());
        let _ = write!(xml, "    <testcase name=\"{name}\" classname=\"{suite}\" time=\"{time:.3}\"");
        match failure {
            None => xml.push_str("/>\n"),
            Some((message, text)) => {
                let text = text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default();
                let (message, text) = (escaped(message), escaped(text));
                let _ = write!(xml, ">\n      <failure message=\"{message}\">{text}</failure>\n    </testcase>\n");
            }
        }
    }
    if let Some(error) = error {
        let _ = writeln!(xml, "    <testcase name=\"{suite}\" classname=\"{suite}\" time=\"0.000\">");
        let _ = writeln!(xml, "      <error message=\"{}\"/>\n    </testcase>", escaped(error));
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

/// Returns a text for an attribute or an element. XML 1.0 has no way to write some control characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // In an attribute, a reader would turn them into spaces.
            '\n' | '\t' | '\r' => {
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c if c < ' ' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_package_says_is_xml() {
        let failure = ("one\nline".to_owned(), "\u{1b}[2J]]>\u{ffff}\u{0}".to_owned());
        let cases = [
            Case { name: "a<b>&\"c\"".to_owned(), time: Duration::from_millis(1_500), failure: None },
            Case { name: "b".to_owned(), time: Duration::ZERO, failure: Some(failure) },
        ];
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<testsuites name=\"p\" tests=\"2\" failures=\"1\" errors=\"0\" time=\"1.500\">
  <testsuite name=\"p\" tests=\"2\" failures=\"1\" errors=\"0\" time=\"1.500\">
    <testcase name=\"a&lt;b&gt;&amp;&quot;c&quot;\" classname=\"p\" time=\"1.500\"/>
    <testcase name=\"b\" classname=\"p\" time=\"0.000\">
      <failure message=\"one&#10;line\">\u{fffd}[2J]]&gt;\u{fffd}\u{fffd}</failure>
    </testcase>
  </testsuite>
</testsuites>
";
        assert_eq!(report("p", &cases, None), expected);
    }
}
