/// Makes a package of a function.
///
/// ```
/// use mistletoe_guest::{Error, Files, package};
///
/// #[derive(serde::Deserialize)]
/// struct Input {
///     name: String,
///     #[serde(default)]
///     motd: String,
/// }
///
/// package!(generate, labels: [("mistletoe.dev/group", "examples")]);
///
/// fn generate(input: Input) -> Result<Files, Error> {
///     Files::new().text("motd.txt", format!("{}: {}\n", input.name, input.motd))
/// }
/// # fn main() {}
/// ```
///
/// The function takes the mapping `data` of the input, as any type with serde's `Deserialize`. An input that is not of
/// this type is an `Err` whose message names the place. It returns any [`Output`](crate::Output): [`Files`](crate::Files),
/// or a `Result` of them and any error that has a text (`Display`). If it panics, the host gets an `Err` with the
/// message and the line in the source.
///
/// The package has the name of the crate. These options follow the function, in any order:
///
/// | option | |
/// |---|---|
/// | `labels: [("name", "value"), …]` | the labels in the description |
/// | `defaults: VALUE` | the default values: a mapping, from any `Serialize` such as [`Yaml`](crate::Yaml). The host merges the values of its user over them. |
/// | `schema: VALUE` | the input's JSON Schema, from any `Serialize` |
/// | `schema` | the same from the input's type, which must implement `JsonSchema` of the crate `schemars` 1 (feature `schema`) |
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use mistletoe_guest::{Files, Yaml, package};
/// # use std::collections::BTreeMap;
///
/// package!(
///     generate,
///     defaults: Yaml("replicas: 1\nimage:\n  tag: stable\n"), // or `Yaml(include_str!("../defaults.yaml"))`
///     schema: Yaml(r#"{"type": "object", "required": ["replicas"]}"#),
/// );
/// # fn generate(input: BTreeMap<String, String>) -> Files { Files::new() }
/// # }
/// ```
///
/// # Strings
///
/// With `raw:`, the function takes the input's text and returns any [`Output`](crate::Output). This form needs neither
/// serde nor the documents. Where it returns a string, a panic is a trap: the crate does not know how such a protocol
/// reports errors.
///
/// ```
/// use mistletoe_guest::package;
///
/// package!(raw: shout);
///
/// fn shout(input: &str) -> String {
///     input.to_uppercase()
/// }
/// # fn main() {}
/// ```
///
/// # Exports
///
/// A crate has one package, at most one `package!`, and is a `cdylib`. The exports are only there on WebAssembly:
/// elsewhere, such as in tests of the crate, the macro only checks its arguments.
#[macro_export]
macro_rules! package {
    (raw: $generate:path $(, $option:ident $(: $value:expr)?)* $(,)?) => {
        $crate::__package!($generate, $crate::__private::identity, [$($option $(: $value)?),*]);
    };
    ($generate:path $(, $option:ident $(: $value:expr)?)* $(,)?) => {
        $crate::__package!($generate, $crate::__private::typed, [$($option $(: $value)?),*]);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __package {
    ($generate:path, $adapter:path, [$($option:ident $(: $value:expr)?),*]) => {
        // The names of these functions must not be those of the author's: items are not hygienic.
        const _: () = {
            fn __describe() -> $crate::__private::String {
                let info = $crate::__private::Info::new(::core::env!("CARGO_PKG_NAME"));
                $(let info = $crate::__option!(info, $generate, $option $(, $value)?);)*
                info.to_yaml()
            }

            #[inline]
            fn __generate(input: &str) -> $crate::__private::String {
                $adapter($generate, input)
            }

            fn __from_panic(message: &str) -> ::core::option::Option<$crate::__private::String> {
                $crate::__private::from_panic($generate, message)
            }

            $crate::__exports!(__describe, __generate, __from_panic);
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __option {
    ($info:ident, $generate:path, labels, $value:expr) => {
        $info.labels(&$value)
    };
    ($info:ident, $generate:path, defaults, $value:expr) => {
        $info.field("defaults", &$value)
    };
    ($info:ident, $generate:path, schema, $value:expr) => {
        $info.field("inputSchema", &$value)
    };
    ($info:ident, $generate:path, schema) => {
        $info.field("inputSchema", &$crate::__private::schema_of($generate))
    };
    ($info:ident, $generate:path, $option:ident $(, $value:expr)?) => {
        ::core::compile_error!(::core::concat!(
            "unknown option `",
            ::core::stringify!($option),
            "`; expected `labels: [(NAME, VALUE)]`, `defaults: VALUE`, `schema: VALUE` or `schema`"
        ))
    };
}

#[cfg(target_family = "wasm")]
#[doc(hidden)]
#[macro_export]
macro_rules! __exports {
    ($describe:path, $generate:path, $from_panic:path) => {
        #[unsafe(no_mangle)]
        pub static __mistletoe_panic: $crate::__private::Text = $crate::__private::Text::null();

        #[unsafe(no_mangle)]
        pub extern "C" fn __mistletoe_info() -> *const $crate::__private::Text {
            $crate::__private::info($describe)
        }

        #[unsafe(no_mangle)]
        pub extern "C" fn __mistletoe_alloc(length: usize) -> *mut u8 {
            $crate::__private::allocate(length)
        }

        /// # Safety
        ///
        /// Address and length are those of a block in use.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn __mistletoe_dealloc(address: *mut u8, length: usize) {
            // SAFETY: the caller's promise.
            unsafe { $crate::__private::free(address, length) }
        }

        /// # Safety
        ///
        /// Address and length are those of the input, which is UTF-8.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn __mistletoe_generate(
            address: *const u8,
            length: usize,
        ) -> *const $crate::__private::Text {
            fn __report(message: &str) {
                if let ::core::option::Option::Some(text) = $from_panic(message) {
                    __mistletoe_panic.set(text);
                }
            }
            $crate::__private::start(__report, $crate::__private::install_log);
            // SAFETY: the caller's promise.
            $crate::__private::output($generate(unsafe { $crate::__private::input(address, length) }))
        }
    };
}

#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __exports {
    ($describe:path, $generate:path, $from_panic:path) => {
        const _: (
            fn() -> $crate::__private::String,
            fn(&str) -> $crate::__private::String,
            fn(&str) -> ::core::option::Option<$crate::__private::String>,
        ) = ($describe, $generate, $from_panic);
    };
}
