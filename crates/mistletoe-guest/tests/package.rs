//! Packages and plugins as the macros make them, called without WebAssembly. `conformance/tests/packages.rs` calls real
//! ones.
#![cfg(feature = "serde")]

use mistletoe::documents::{MistPackage, MistResult};
use mistletoe_guest::__private::{Info, from_panic, identity, typed};
use mistletoe_guest::{Error, Files, Output, Yaml};
use serde::Deserialize;

#[derive(Deserialize)]
struct Input {
    name: String,
}

fn generate(input: Input) -> Result<Files, Error> {
    match &*input.name {
        "twice" => Files::new().text("a", "1")?.text("a", "2"),
        "none" => Ok(Files::new()),
        "strange" => {
            Ok(Files::new().text("", "")?.text("../a\nb: 'c'", " x\r\n")?.text("1e3", "null")?.message("'m'\n"))
        }
        name => Ok(Files::new().text("a.txt", format!("{name}\n"))?.yaml("b.yaml", &[1, 2])?.message("two files")),
    }
}

#[track_caller]
fn result(name: &str) -> MistResult {
    let output = typed(generate, &format!("data: {{name: {name}}}"));
    MistResult::parse(&output).unwrap_or_else(|error| panic!("{error}:\n{output}"))
}

fn ok(message: Option<&str>, files: &[(&str, &str)]) -> MistResult {
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    MistResult::Ok { message: message.map(str::to_owned), files: files.iter().map(owned).collect() }
}

fn err(message: &str) -> MistResult {
    MistResult::Err { message: Some(message.to_owned()) }
}

#[test]
fn files_are_a_result() {
    assert_eq!(result("web"), ok(Some("two files"), &[("a.txt", "web\n"), ("b.yaml", "- 1\n- 2\n")]));
    assert_eq!(result("none"), ok(None, &[]));
    assert_eq!(result("strange"), ok(Some("'m'\n"), &[("", ""), ("../a\nb: 'c'", " x\r\n"), ("1e3", "null")]));
}

#[test]
fn errors_are_a_result() {
    assert_eq!(result("twice"), err("there are two files with the name `a`"));
    assert_eq!(result("[]"), err("`data.name`: invalid type: sequence, expected a string"));
    let other = |_: Input| Err::<Files, _>(Box::<dyn std::error::Error>::from("no: such\nversion"));
    let output = typed(other, "data: {name: web}");
    assert_eq!(MistResult::parse(&output).expect("a document"), err("no: such\nversion"));
}

#[test]
fn panics_are_a_result_where_the_output_is_one() {
    let output = from_panic(generate, "panicked at src/lib.rs:1:2: no").expect("a document");
    assert_eq!(MistResult::parse(&output).expect("a document"), err("panicked at src/lib.rs:1:2: no"));
    assert_eq!(from_panic(str::to_uppercase, "no"), None);
    assert_eq!(<&str>::from_panic("no"), None);
}

#[test]
fn strings_are_not_changed() {
    assert_eq!(identity(|text: &str| text.to_owned(), "any\0thing"), "any\0thing");
    assert_eq!(identity(|text| text, ""), "");
}

#[test]
fn a_description_is_a_document() {
    let info = Info::new("example-nginx").labels(&[("mistletoe.dev/group", "web"), ("on", "1")]);
    let text = info.field("defaults", &Yaml("a: {b: [1]}")).field("inputSchema", &Yaml("type: object")).to_yaml();
    let expected = "\
apiVersion: mistletoe.dev/v1alpha1
kind: MistPackage
metadata:
  name: example-nginx
  labels:
    mistletoe.dev/group: web
    \"on\": \"1\"
defaults:
  a:
    b:
    - 1
inputSchema:
  type: object
";
    assert_eq!(text, expected);
    let package = MistPackage::parse(&text).expect("a document");
    assert_eq!((package.name.as_str(), package.labels.len()), ("example-nginx", 2));
    assert!(MistPackage::parse(&Info::new("'\n").to_yaml()).is_ok_and(|package| package.name == "'\n"));
}

#[cfg(feature = "schema")]
#[test]
fn a_schema_has_the_descriptions_of_the_type() {
    /// What the package takes.
    #[derive(Deserialize, schemars::JsonSchema)]
    #[allow(dead_code)]
    struct Input {
        /// Name of the installation.
        name: String,
        #[serde(default)]
        replicas: Option<u32>,
    }

    let schema = mistletoe_guest::__private::schema_of(|_: Input| Files::new());
    let schema = serde_json::to_value(schema).expect("is JSON");
    assert_eq!(schema["description"], "What the package takes.");
    assert_eq!(schema["properties"]["name"]["description"], "Name of the installation.");
    assert_eq!(schema["required"], serde_json::json!(["name"]));
}
