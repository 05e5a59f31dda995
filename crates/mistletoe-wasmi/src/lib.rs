//! [wasmi](https://docs.rs/wasmi) as a backend: an interpreter without `unsafe` code generation, small, quick to build
//! and to start.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

mod dispatch;
mod workarounds;

use std::fmt;
use std::sync::Arc;

use mistletoe_abi::host::{HostFunc, StoreData, WasmResults as _, WasmTy as _};
use mistletoe_abi::protocol::MEMORY;
use mistletoe_abi::types::{FuncType, ValType};
use mistletoe_abi::{Backend, ENGINE_STACK, Error, Instance, ModuleSource, Operation, Result, Trap, by_signature};
use wasmi::errors::{ErrorKind, HostError, InstantiationError, LinkerError};
use wasmi::{
    AsContext as _, AsContextMut, Caller, CompilationMode, Config, Engine, F32, F64, Func, Linker, Memory, Module, Ref,
    Store, TrapCode, TypedFunc, Val,
};

use crate::workarounds::{Growth, Patched, patch};

/// wasmi in one of its ways to translate a module.
#[derive(Clone, Debug)]
pub struct Wasmi {
    engine: Engine,
    name: &'static str,
}

/// A translated module and the host functions it is linked with.
#[derive(Clone, Debug)]
pub struct WasmiModule {
    module: Module,
    linker: Arc<Linker<Host>>,
    growth: Option<Arc<Growth>>,
}

/// A live instance, owned or seen from inside a call.
// In a box: a store of this engine's is so large that moving it about takes a twentieth of the time of a short session.
#[derive(Debug)]
pub struct WasmiInstance<S = Box<Store<Host>>> {
    store: S,
}

/// What a store holds: the layer's data, and where host functions find the instance.
#[derive(Debug)]
pub struct Host {
    data: StoreData,
    exports: Option<Exports>,
}

/// An instance's handles.
#[derive(Clone, Copy, Debug)]
struct Exports {
    instance: wasmi::Instance,
    memory: Memory,
}

/// A resolved function. Those that the protocols call most have a type that the engine knows, and are called more quickly.
// With its tag in a place of its own, which is read once for each call.
#[repr(u8)]
#[derive(Debug)]
pub enum WasmiFunc {
    /// `[] -> []`
    Unit0(TypedFunc<(), ()>),
    /// `[i32] -> []`
    Unit1(TypedFunc<u32, ()>),
    /// `[i32, i32] -> []`
    Unit2(TypedFunc<(u32, u32), ()>),
    /// `[] -> [i32]`
    Word0(TypedFunc<(), u32>),
    /// `[i32] -> [i32]`
    Word1(TypedFunc<u32, u32>),
    /// `[i32, i32] -> [i32]`
    Word2(TypedFunc<(u32, u32), u32>),
    /// Any other.
    Other(Func, FuncType),
}

impl Wasmi {
    /// The engine, translating a whole module before its first call.
    pub fn new() -> Self {
        Self::with_mode("wasmi", CompilationMode::Eager)
    }

    /// The engine, translating each function when it is first called: a quicker start, and a slower first call.
    pub fn lazy() -> Self {
        Self::with_mode("wasmi-lazy", CompilationMode::LazyTranslation)
    }

    /// Set to run exactly the layer's feature set.
    fn with_mode(name: &'static str, mode: CompilationMode) -> Self {
        let mut config = Config::default();
        config
            .compilation_mode(mode)
            // More than the layer's own limit on the stack lets a guest have, so that it is not these that end it. They are
            // on the heap.
            .set_max_recursion_depth(270_000)
            .set_max_stack_height(ENGINE_STACK)
            .wasm_multi_memory(false)
            .wasm_tail_call(false)
            .wasm_custom_page_sizes(false)
            .wasm_wide_arithmetic(false);
        Self { engine: Engine::new(&config), name }
    }
}

impl Default for Wasmi {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Wasmi {
    type Module = WasmiModule;
    type Instance = WasmiInstance;

    fn name(&self) -> &'static str {
        self.name
    }

    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<WasmiModule> {
        dispatch::is_sound()?;
        let Patched { bytes, growth } = patch(source.validate(self)?.bytes());
        // Checking it a second time takes wasmi a seventh of what it takes to load a module. With debug assertions, as all
        // tests are built, it does, so that a mistake in what is put into modules is seen there.
        let module = if cfg!(debug_assertions) {
            Module::new(&self.engine, bytes)
        } else {
            // SAFETY: a validated module is valid within `FEATURES`, which are what `config` allows, by the validator that
            // wasmi itself uses. What the layer puts into one, and `patch`, keep to instructions of the same types at
            // places where the operand stack allows them; the tests hold them to it on every fixture, on every package, and
            // on modules that are generated.
            #[allow(unsafe_code)]
            unsafe {
                Module::new_unchecked(&self.engine, &bytes)
            }
        };
        let module = module.map_err(|error| Error::engine(Operation::Compile, error))?;
        let mut linker = Linker::new(&self.engine);
        for import in imports {
            define(&mut linker, import).map_err(|error| Error::engine(Operation::Compile, error))?;
        }
        Ok(WasmiModule { module, linker: Arc::new(linker), growth: growth.map(Arc::new) })
    }

    fn instantiate(&self, module: &WasmiModule, data: StoreData) -> Result<WasmiInstance> {
        let mut store = Box::new(Store::new(&self.engine, Host { data, exports: None }));
        let instance = module
            .linker
            .instantiate_and_start(&mut *store, &module.module)
            .map_err(|error| failed(Operation::Instantiate, error))?;
        let memory = instance
            .get_memory(&*store, MEMORY)
            .ok_or_else(|| Error::engine(Operation::Instantiate, "the exported memory was not found"))?;
        store.data_mut().exports = Some(Exports { instance, memory });
        if let Some(growth) = &module.growth {
            grow_by_calls(&mut store, instance, memory, growth)
                .ok_or_else(|| Error::engine(Operation::Instantiate, "an exported table was not found"))?;
        }
        Ok(WasmiInstance { store })
    }
}

/// Puts the host functions that grow the memory and the tables where the module calls them.
fn grow_by_calls(store: &mut Store<Host>, instance: wasmi::Instance, memory: Memory, growth: &Growth) -> Option<()> {
    let calls = instance.get_table(&*store, &growth.calls)?;
    let grow = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>, pages: u32| {
        memory.grow(&mut caller, pages.into()).map_or(u32::MAX, |before| before as u32)
    });
    calls.set(&mut *store, 0, Ref::Func(grow.into())).ok()?;
    for (name, at) in growth.tables.iter().zip(1..) {
        let table = instance.get_table(&*store, name)?;
        let ty = wasmi::FuncType::new([table.ty(&*store).element().into(), wasmi::ValType::I32], [wasmi::ValType::I32]);
        let grow = Func::new(&mut *store, ty, move |mut caller, params, results| {
            let (init, more) = match params {
                [Val::FuncRef(func), Val::I32(more)] => (Ref::Func(*func), *more),
                [Val::ExternRef(value), Val::I32(more)] => (Ref::Extern(*value), *more),
                _ => return Err(wasmi::Error::new("a table grows by a reference and a number")),
            };
            let before = table.grow(&mut caller, u64::from(more.cast_unsigned()), init);
            if let [result] = results {
                *result = Val::I32(before.map_or(-1, |before| before as i32));
            }
            Ok(())
        });
        calls.set(&mut *store, at, Ref::Func(grow.into())).ok()?;
    }
    Some(())
}

/// Links a host function.
fn define(linker: &mut Linker<Host>, import: &HostFunc) -> Result<(), LinkerError> {
    let (module, name, host) = (import.module(), import.name(), import.clone());
    macro_rules! typed {
        ([$($param:ident: $param_ty:ty,)*] $result:ty) => {
            linker.func_wrap(
                module,
                name,
                move |mut caller: Caller<'_, Host>, $($param: $param_ty),*| -> Result<$result, wasmi::Error> {
                    let mut instance = WasmiInstance { store: &mut caller };
                    let result = host.call_few(&mut instance, [$($param.into_slot()),*]).map_err(carried)?;
                    Ok(<$result>::from_slots(&[result]))
                },
            )
        };
    }
    by_signature!(import.ty(), typed, {
        let types = |types: &[ValType]| types.iter().map(val_type).collect::<Vec<_>>();
        let ty = wasmi::FuncType::new(types(&import.ty().params), types(&import.ty().results));
        linker.func_new(module, name, ty, move |mut caller, params, results| {
            let mut slots = vec![0; params.len().max(results.len())];
            for (slot, param) in slots.iter_mut().zip(params) {
                *slot = into_slot(param);
            }
            host.call(&mut WasmiInstance { store: &mut caller }, &mut slots).map_err(carried)?;
            for ((slot, result), ty) in slots.iter().zip(results).zip(host.ty().results.iter()) {
                *result = from_slot(*slot, ty);
            }
            Ok(())
        })
    })
    .map(drop)
}

#[cold]
fn carried(error: Error) -> wasmi::Error {
    wasmi::Error::host(Failure(error))
}

/// A store, owned or lent to a host function.
trait Context {
    type Store: AsContextMut<Data = Host>;

    fn store(&self) -> &Self::Store;
    fn store_mut(&mut self) -> &mut Self::Store;
    fn host(&self) -> &Host;
    fn host_mut(&mut self) -> &mut Host;
}

impl Context for Box<Store<Host>> {
    type Store = Store<Host>;

    #[inline]
    fn store(&self) -> &Store<Host> {
        self
    }

    #[inline]
    fn store_mut(&mut self) -> &mut Store<Host> {
        self
    }

    #[inline]
    fn host(&self) -> &Host {
        self.data()
    }

    #[inline]
    fn host_mut(&mut self) -> &mut Host {
        self.data_mut()
    }
}

impl<'a> Context for &mut Caller<'a, Host> {
    type Store = Caller<'a, Host>;

    #[inline]
    fn store(&self) -> &Self::Store {
        self
    }

    #[inline]
    fn store_mut(&mut self) -> &mut Self::Store {
        self
    }

    #[inline]
    fn host(&self) -> &Host {
        self.data()
    }

    #[inline]
    fn host_mut(&mut self) -> &mut Host {
        self.data_mut()
    }
}

impl<S: Context> Instance for WasmiInstance<S> {
    type Func = WasmiFunc;

    fn get_func(&mut self, name: &str, ty: &FuncType) -> Result<WasmiFunc> {
        let func = (self.store.host().exports)
            .and_then(|exports| exports.instance.get_func(self.store.store(), name))
            .ok_or_else(|| Error::engine(Operation::Resolve, "the exported function was not found"))?;
        let store = self.store.store();
        match (&*ty.params, &*ty.results) {
            ([], []) => func.typed(store).map(WasmiFunc::Unit0),
            ([ValType::I32], []) => func.typed(store).map(WasmiFunc::Unit1),
            ([ValType::I32, ValType::I32], []) => func.typed(store).map(WasmiFunc::Unit2),
            ([], [ValType::I32]) => func.typed(store).map(WasmiFunc::Word0),
            ([ValType::I32], [ValType::I32]) => func.typed(store).map(WasmiFunc::Word1),
            ([ValType::I32, ValType::I32], [ValType::I32]) => func.typed(store).map(WasmiFunc::Word2),
            _ => Ok(WasmiFunc::Other(func, ty.clone())),
        }
        .map_err(|error| Error::engine(Operation::Resolve, error))
    }

    #[inline(always)]
    fn call(&mut self, func: &WasmiFunc, slots: &mut [u64]) -> Result<()> {
        let store = self.store.store_mut();
        match (func, &mut *slots) {
            (WasmiFunc::Unit0(func), []) => func.call(store, ()),
            (WasmiFunc::Unit1(func), &mut [a]) => func.call(store, a as u32),
            (WasmiFunc::Unit2(func), &mut [a, b]) => func.call(store, (a as u32, b as u32)),
            (WasmiFunc::Word0(func), [result]) => func.call(store, ()).map(|word| *result = word.into()),
            (WasmiFunc::Word1(func), [a]) => func.call(store, *a as u32).map(|word| *a = word.into()),
            (WasmiFunc::Word2(func), [a, b]) => func.call(store, (*a as u32, *b as u32)).map(|word| *a = word.into()),
            (WasmiFunc::Other(func, ty), slots) => call_other(func, ty, store, slots),
            _ => return Err(Error::engine(Operation::Call, "a function was called with other slots than it has")),
        }
        .map_err(|error| failed(Operation::Call, error))
    }

    #[inline]
    fn memory(&self) -> &[u8] {
        match self.store.host().exports {
            Some(exports) => exports.memory.data(self.store.store().as_context()),
            None => &[],
        }
    }

    fn data(&self) -> &StoreData {
        &self.store.host().data
    }

    #[inline]
    fn data_mut(&mut self) -> &mut StoreData {
        &mut self.store.host_mut().data
    }

    #[inline]
    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData) {
        match self.store.host().exports {
            Some(exports) => {
                let (memory, host) = exports.memory.data_and_store_mut(self.store.store_mut().as_context_mut());
                (memory, &mut host.data)
            }
            None => (&mut [], &mut self.store.host_mut().data),
        }
    }
}

/// Calls a function whose type the engine is told only now.
#[cold]
fn call_other(
    func: &Func,
    ty: &FuncType,
    store: impl AsContextMut<Data = Host>,
    slots: &mut [u64],
) -> Result<(), wasmi::Error> {
    let params: Vec<Val> = slots.iter().zip(ty.params.iter()).map(|(slot, ty)| from_slot(*slot, ty)).collect();
    let mut results: Vec<Val> = ty.results.iter().map(|ty| from_slot(0, ty)).collect();
    func.call(store, &params, &mut results)?;
    for (slot, result) in slots.iter_mut().zip(&results) {
        *slot = into_slot(result);
    }
    Ok(())
}

fn val_type(ty: &ValType) -> wasmi::ValType {
    match ty {
        ValType::I32 => wasmi::ValType::I32,
        ValType::I64 => wasmi::ValType::I64,
        ValType::F32 => wasmi::ValType::F32,
        ValType::F64 => wasmi::ValType::F64,
        // No host function has such a type.
        _ => wasmi::ValType::ExternRef,
    }
}

fn from_slot(slot: u64, ty: &ValType) -> Val {
    match ty {
        ValType::I64 => Val::I64(slot.cast_signed()),
        ValType::F32 => Val::F32(F32::from_bits(slot as u32)),
        ValType::F64 => Val::F64(F64::from_bits(slot)),
        _ => Val::I32(slot as i32),
    }
}

fn into_slot(value: &Val) -> u64 {
    match value {
        Val::I32(value) => value.cast_unsigned().into(),
        Val::I64(value) => value.cast_unsigned(),
        Val::F32(value) => value.to_bits().into(),
        Val::F64(value) => value.to_bits(),
        _ => 0,
    }
}

/// What a host function gave, on its way through the engine.
#[derive(Debug)]
struct Failure(Error);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl HostError for Failure {}

/// What a host function gave, a trap of the guest's, or else a failure of the engine's.
#[cold]
fn failed(operation: Operation, error: wasmi::Error) -> Error {
    if let Some(Failure(error)) = error.downcast_ref() {
        return error.clone();
    }
    let trap = match error.as_trap_code() {
        Some(TrapCode::UnreachableCodeReached) => Trap::Unreachable,
        Some(TrapCode::MemoryOutOfBounds) => Trap::MemoryOutOfBounds,
        Some(TrapCode::TableOutOfBounds) => Trap::TableOutOfBounds,
        Some(TrapCode::IndirectCallToNull) => Trap::IndirectCallToNull,
        Some(TrapCode::BadSignature) => Trap::BadSignature,
        Some(TrapCode::IntegerOverflow) => Trap::IntegerOverflow,
        Some(TrapCode::IntegerDivisionByZero) => Trap::IntegerDivisionByZero,
        Some(TrapCode::BadConversionToInteger) => Trap::BadConversionToInteger,
        Some(TrapCode::StackOverflow) => Trap::StackOverflow,
        // An active element segment that does not fit is a trap by the specification (core 2.0, section 4.5.4); wasmi
        // has a kind of its own for it.
        None if matches!(
            error.kind(),
            ErrorKind::Instantiation(InstantiationError::ElementSegmentDoesNotFit { .. })
        ) =>
        {
            Trap::TableOutOfBounds
        }
        _ => return Error::engine(operation, error),
    };
    Error::trap(trap, error)
}
