//! From a signature known at run time to one known at compile time.

/// Expands a macro for the signature of a host function, with its types known at compile time.
///
/// For backends whose engine must know a host function's type at compile time to call it without allocating. The
/// expansion is `typed!([a: u32, b: u64,] u32)`, with a name and a type for each parameter and the type of the result,
/// `()` for none. It covers signatures with up to four parameters, each `i32` or `i64`, and at most one result of these
/// types. For any other signature the expansion is the expression `$other`.
///
/// `typed!` and `$other` must have the same type, because the expansion is a `match` over some ninety signatures.
#[macro_export]
macro_rules! by_signature {
    ($ty:expr, $typed:ident, $other:expr) => {{
        let ty: &$crate::types::FuncType = $ty;
        let (params, results): (&[$crate::types::ValType], &[$crate::types::ValType]) = (&ty.params, &ty.results);
        $crate::by_signature!(@param params results $typed $other; []; a b c d)
    }};
    (@param $params:ident $results:ident $typed:ident $other:expr; [$($done:tt)*]; $next:ident $($more:ident)*) => {
        match $params {
            [] => $crate::by_signature!(@result $results $typed $other; [$($done)*]),
            [$crate::types::ValType::I32, rest @ ..] => {
                $crate::by_signature!(@param rest $results $typed $other; [$($done)* $next: u32,]; $($more)*)
            }
            [$crate::types::ValType::I64, rest @ ..] => {
                $crate::by_signature!(@param rest $results $typed $other; [$($done)* $next: u64,]; $($more)*)
            }
            _ => $other,
        }
    };
    (@param $params:ident $results:ident $typed:ident $other:expr; [$($done:tt)*];) => {
        match $params {
            [] => $crate::by_signature!(@result $results $typed $other; [$($done)*]),
            _ => $other,
        }
    };
    (@result $results:ident $typed:ident $other:expr; [$($done:tt)*]) => {
        match $results {
            [] => $typed!([$($done)*] ()),
            [$crate::types::ValType::I32] => $typed!([$($done)*] u32),
            [$crate::types::ValType::I64] => $typed!([$($done)*] u64),
            _ => $other,
        }
    };
}
