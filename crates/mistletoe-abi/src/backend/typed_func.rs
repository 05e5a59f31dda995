//! Functions whose type the engine knows when the backend is compiled.

/// Defines an enum of an engine's typed functions, and resolves and calls its values.
///
/// For backends whose engine calls a function faster if it knows the type at compile time. The enum has one variant for
/// each of the signatures that protocols call most, and one for any other signature.
///
/// ```ignore
/// typed_func!(enum Func, my_engine::TypedFunc, (my_engine::Func, FuncType));
///
/// // In `get_func`: the engine's typed function for any signature, or what any other is kept as.
/// let func = typed_func!(resolve Func, ty, func.typed(&store), Ok((func, ty.clone())));
///
/// // In `call`: how the engine is called with arguments, and what is done for any other.
/// macro_rules! call {
///     ($func:ident $($arg:expr)*) => { $func.call(&mut store $(, $arg)*) };
/// }
/// typed_func!(call Func, func, slots, call, |func, slots| call_untyped(func, &mut store, slots))
/// ```
#[macro_export]
macro_rules! typed_func {
    (enum $name:ident, $typed:ident, $other:ty) => {
        // `repr(u8)` keeps the tag apart from the payload, so that each call reads it once.
        #[repr(u8)]
        #[derive(Debug)]
        enum $name {
            Unit0($typed<(), ()>),
            Unit1($typed<u32, ()>),
            Unit2($typed<(u32, u32), ()>),
            Word0($typed<(), u32>),
            Word1($typed<u32, u32>),
            Word2($typed<(u32, u32), u32>),
            Long0($typed<(), u64>),
            Other($other),
        }
    };
    (resolve $name:ident, $ty:expr, $typed:expr, $other:expr) => {
        match (&*$ty.params, &*$ty.results) {
            ([], []) => $typed.map($name::Unit0),
            ([$crate::types::ValType::I32], []) => $typed.map($name::Unit1),
            ([$crate::types::ValType::I32, $crate::types::ValType::I32], []) => $typed.map($name::Unit2),
            ([], [$crate::types::ValType::I32]) => $typed.map($name::Word0),
            ([$crate::types::ValType::I32], [$crate::types::ValType::I32]) => $typed.map($name::Word1),
            ([$crate::types::ValType::I32, $crate::types::ValType::I32], [$crate::types::ValType::I32]) => {
                $typed.map($name::Word2)
            }
            ([], [$crate::types::ValType::I64]) => $typed.map($name::Long0),
            _ => $other.map($name::Other),
        }
    };
    (call $name:ident, $func:expr, $slots:expr, $call:ident, |$other:ident, $rest:ident| $untyped:expr) => {
        match ($func, &mut *$slots) {
            ($name::Unit0(func), []) => $call!(func),
            ($name::Unit1(func), &mut [a]) => $call!(func a as u32),
            ($name::Unit2(func), &mut [a, b]) => $call!(func a as u32, b as u32),
            ($name::Word0(func), [result]) => $call!(func).map(|word| *result = word.into()),
            ($name::Word1(func), [a]) => $call!(func *a as u32).map(|word| *a = word.into()),
            ($name::Word2(func), [a, b]) => $call!(func *a as u32, *b as u32).map(|word| *a = word.into()),
            ($name::Long0(func), [result]) => $call!(func).map(|long| *result = long),
            ($name::Other($other), $rest) => $untyped,
            _ => {
                return Err($crate::Error::engine(
                    $crate::Operation::Call,
                    "a function was called with other slots than it has",
                ));
            }
        }
    };
}
