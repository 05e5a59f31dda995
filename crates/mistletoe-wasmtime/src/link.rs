//! Host functions for wasmtime.

use std::mem::MaybeUninit;

use mistletoe_abi::backend::{HostFunc, by_signature};
use mistletoe_abi::host::{WasmResults as _, WasmTy as _};
use mistletoe_abi::types::ValType;
use wasmtime::{Caller, InstancePre, Linker, Module, ValRaw};

use crate::instance::{FEW, Host, MANY, WasmtimeInstance, carried};

/// Links a module with its imports.
pub(crate) fn link(module: &Module, imports: &[HostFunc]) -> wasmtime::Result<InstancePre<Host>> {
    let mut linker = Linker::new(module.engine());
    for import in imports {
        define(&mut linker, import)?;
    }
    linker.instantiate_pre(module)
}

/// Links a host function.
fn define(linker: &mut Linker<Host>, import: &HostFunc) -> wasmtime::Result<()> {
    let (module, name, host) = (import.module(), import.name(), import.clone());
    macro_rules! typed {
        ([$($param:ident: $param_ty:ty,)*] $result:ty) => {
            linker.func_wrap(
                module,
                name,
                move |mut caller: Caller<'_, Host>, $($param: $param_ty),*| -> wasmtime::Result<$result> {
                    let mut instance = WasmtimeInstance { store: &mut caller };
                    let result = host.call_few_unwinding(&mut instance, [$($param.into_slot()),*]).map_err(carried)?;
                    Ok(<$result>::from_slots(&[result]))
                },
            )
        };
    }
    by_signature!(import.ty(), typed, define_untyped(linker, import)).map(drop)
}

/// Links a host function whose signature is known only at run time.
fn define_untyped<'a>(linker: &'a mut Linker<Host>, import: &HostFunc) -> wasmtime::Result<&'a mut Linker<Host>> {
    let ty = import.ty();
    let types = |types: &[ValType]| types.iter().map(val_type).collect::<wasmtime::Result<Vec<_>>>();
    let (params, results) = (ty.params.len(), ty.results.len());
    let ty = wasmtime::FuncType::new(linker.engine(), types(&ty.params)?, types(&ty.results)?);
    let host = import.clone();
    let call = move |mut caller: Caller<'_, Host>, values: &mut [MaybeUninit<ValRaw>]| {
        with_slots(values.len(), |slots| {
            for (slot, value) in slots.iter_mut().zip(values.iter()).take(params) {
                // SAFETY: the engine has initialised the parameters. Any bits are a number, and the function's type has
                // only numbers.
                #[allow(unsafe_code)]
                let value = unsafe { value.assume_init_ref() };
                *slot = value.get_u64();
            }
            host.call(&mut WasmtimeInstance { store: &mut caller }, slots).map_err(carried)?;
            for (slot, value) in slots.iter().zip(values.iter_mut()).take(results) {
                value.write(ValRaw::u64(*slot));
            }
            Ok(())
        })
    };
    // SAFETY: a host function returns `Ok` once its results are in the slots. Each result is a number, any bits of
    // which are valid.
    #[allow(unsafe_code)]
    unsafe {
        linker.func_new_unchecked(import.module(), import.name(), ty, call)
    }
}

/// Runs `call` with at least `count` slots.
fn with_slots<R>(count: usize, call: impl FnOnce(&mut [u64]) -> R) -> R {
    match count {
        0..=FEW => call(&mut [0; FEW]),
        _ if count <= MANY => call(&mut [0; MANY]),
        _ => call(&mut vec![0; count]),
    }
}

fn val_type(ty: &ValType) -> wasmtime::Result<wasmtime::ValType> {
    match ty {
        ValType::I32 => Ok(wasmtime::ValType::I32),
        ValType::I64 => Ok(wasmtime::ValType::I64),
        ValType::F32 => Ok(wasmtime::ValType::F32),
        ValType::F64 => Ok(wasmtime::ValType::F64),
        _ => Err(wasmtime::Error::msg(format!("no host function deals with the type {ty}"))),
    }
}
