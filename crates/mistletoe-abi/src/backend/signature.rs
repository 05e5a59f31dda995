//! From a signature that is known at run time to one that is known to the compiler.

/// For backends whose engine has to know a host function's type at compile time to call it without asking the
/// allocator: expands `typed!([a: u32, b: u64,] u32)` for the signature at hand, with a name and a type for each
/// parameter and the type of the result, `()` for none. Signatures of up to four `i32` and `i64` and no more than one
/// such result are known; for others it is the expression `$other`.
///
/// Both have to be of one type, since this is a `match` over some ninety signatures.
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
