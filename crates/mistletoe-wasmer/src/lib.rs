//! [wasmer](https://docs.rs/wasmer) as a backend: a compiler with small instances that start quickly.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

use std::env::consts::{ARCH, OS};
use std::ptr::NonNull;
use std::sync::Arc;

use mistletoe_abi::host::{HostFunc, StoreData, WasmResults as _, WasmTy as _};
use mistletoe_abi::protocol::MEMORY;
use mistletoe_abi::types::{FuncType, ValType};
use mistletoe_abi::{
    Artifact, Backend, ENGINE_STACK, Error, Instance, ModuleSource, Operation, Result, Trap, by_signature,
};
use wasmer::sys::vm::{TrapCode, VERSION, get_stack_size, set_stack_size};
use wasmer::sys::{CpuFeature, Cranelift, EngineBuilder, Features};
use wasmer::{
    AsStoreMut, Engine, Function, FunctionEnv, FunctionEnvMut, FunctionType, Imports, InstantiationError, LinkError,
    Memory, Module, RuntimeError, Store, Type, TypedFunction, Value,
};

/// wasmer with its optimising compiler, Cranelift.
///
/// Compiled code runs on stacks of wasmer's own, all of the process of the same size. Where that is less than
/// [`ENGINE_STACK`], making this engine makes it as much.
#[derive(Clone, Debug)]
pub struct Wasmer {
    engine: Engine,
}

/// A compiled module and the host functions it is linked with, which wasmer wants anew for each store.
#[derive(Clone, Debug)]
pub struct WasmerModule {
    module: Module,
    imports: Arc<[HostFunc]>,
}

/// A live instance, owned or seen from inside a call.
#[derive(Debug)]
pub struct WasmerInstance<S = Owned> {
    store: S,
}

/// A store of one instance's own.
#[derive(Debug)]
pub struct Owned {
    store: Sendable,
    host: FunctionEnv<Host>,
    exports: Exports,
}

/// A store that threads may hand on between calls.
#[derive(Debug)]
struct Sendable(Store);

// SAFETY: wasmer's own `Store` was `Send` up to 6.1, and is not since its 7.0 because one type in it has no such bound any
// more: the handler that `Store::on_called` sets, which is not called here. What else the compiler cannot see to be `Send`
// are the data of host functions, for which wasmer itself asks for closures that are `Send`; a trap handler, which is not
// set here; and pointers into the memory that the store owns. What a running call keeps in thread-local storage (the
// current store, its stack, whom to interrupt) it takes out of there before it returns, and `&mut self` says that no call
// is running. Other backends of wasmer's do stay on their thread (V8 is one); this engine is made for compiled code alone.
// All this was read in wasmer 7.3.0, which `Cargo.toml` asks for by its exact version.
#[allow(unsafe_code)]
unsafe impl Send for Sendable {}

/// What a store holds: the layer's data, and where host functions find the instance.
#[derive(Debug)]
pub struct Host {
    data: StoreData,
    exports: Option<Exports>,
}

/// An instance's handles.
#[derive(Clone, Debug)]
struct Exports {
    instance: Arc<wasmer::Instance>,
    memory: Memory,
}

/// A resolved function. Those that the protocols call most have a type that the engine knows, and are called more quickly.
// With its tag in a place of its own, which is read once for each call.
#[repr(u8)]
#[derive(Debug)]
pub enum WasmerFunc {
    /// `[] -> []`
    Unit0(TypedFunction<(), ()>),
    /// `[i32] -> []`
    Unit1(TypedFunction<u32, ()>),
    /// `[i32, i32] -> []`
    Unit2(TypedFunction<(u32, u32), ()>),
    /// `[] -> [i32]`
    Word0(TypedFunction<(), u32>),
    /// `[i32] -> [i32]`
    Word1(TypedFunction<u32, u32>),
    /// `[i32, i32] -> [i32]`
    Word2(TypedFunction<(u32, u32), u32>),
    /// Any other.
    Other(Function, FuncType),
}

impl Wasmer {
    /// The engine, set to run exactly the layer's feature set.
    pub fn new() -> Self {
        if get_stack_size() < ENGINE_STACK {
            set_stack_size(ENGINE_STACK);
        }
        let mut compiler = Cranelift::new();
        compiler.canonicalize_nans(true);
        let mut features = Features::none();
        features.simd(true).reference_types(true).bulk_memory(true).multi_value(true).extended_const(true);
        let engine = EngineBuilder::new(compiler).set_features(Some(features)).engine();
        Self { engine: engine.into() }
    }
}

/// The module from the artifact's file, mapped instead of copied: wasmer does so with what has a path, which an open file
/// has on Linux.
#[cfg(target_os = "linux")]
fn mapped(engine: &Engine, artifact: &Artifact) -> Option<Module> {
    use std::os::fd::AsRawFd as _;
    let file = artifact.file().ok()?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: an artifact is what `serialize` gave, byte for byte, in a file that nobody changes.
    #[allow(unsafe_code)]
    let module = unsafe { Module::deserialize_from_file(engine, path) };
    module.ok()
}

#[cfg(not(target_os = "linux"))]
fn mapped(_: &Engine, _: &Artifact) -> Option<Module> {
    None
}

impl Default for Wasmer {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Wasmer {
    type Module = WasmerModule;
    type Instance = WasmerInstance;

    fn name(&self) -> &'static str {
        "wasmer"
    }

    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<WasmerModule> {
        let module = Module::from_binary(&self.engine, source.validate(self)?.bytes())
            .map_err(|error| Error::engine(Operation::Compile, error))?;
        Ok(WasmerModule { module, imports: imports.into() })
    }

    /// The compiler's settings are in its identifier; it compiles for the processor that it runs on.
    fn compatibility_key(&self) -> Option<String> {
        let (compiler, processor) = (self.engine.deterministic_id(), CpuFeature::for_host());
        Some(format!("{VERSION} {compiler} {ARCH} {OS} {processor:?}"))
    }

    fn serialize(&self, module: &WasmerModule) -> Result<Vec<u8>> {
        let bytes = module.module.serialize().map_err(|error| Error::engine(Operation::Serialize, error))?;
        Ok(bytes.to_vec())
    }

    fn deserialize(&self, artifact: &Artifact, imports: &[HostFunc]) -> Result<WasmerModule> {
        let module = match mapped(&self.engine, artifact) {
            Some(module) => module,
            None => {
                let bytes = artifact.bytes().map_err(|error| Error::engine(Operation::Deserialize, error))?;
                // SAFETY: an artifact is what `serialize` gave, byte for byte.
                #[allow(unsafe_code)]
                let module = unsafe { Module::deserialize(&self.engine, bytes) };
                module.map_err(|error| Error::engine(Operation::Deserialize, error))?
            }
        };
        Ok(WasmerModule { module, imports: imports.into() })
    }

    fn instantiate(&self, module: &WasmerModule, data: StoreData) -> Result<WasmerInstance> {
        // A store keeps all that was ever made in it until it is dropped, so each instance has one of its own.
        let mut store = Store::new(self.engine.clone());
        let host = FunctionEnv::new(&mut store, Host { data, exports: None });
        let mut imports = Imports::new();
        for import in &*module.imports {
            imports.define(import.module(), import.name(), function(&mut store, &host, import));
        }
        let instance = wasmer::Instance::new(&mut store, &module.module, &imports).map_err(|error| match error {
            InstantiationError::Start(error) | InstantiationError::Link(LinkError::Trap(error)) => {
                failed(Operation::Instantiate, error)
            }
            error => Error::engine(Operation::Instantiate, error),
        })?;
        let memory =
            instance.exports.get_memory(MEMORY).map_err(|error| Error::engine(Operation::Instantiate, error))?.clone();
        let exports = Exports { instance: Arc::new(instance), memory };
        host.as_mut(&mut store).exports = Some(exports.clone());
        Ok(WasmerInstance { store: Owned { store: Sendable(store), host, exports } })
    }
}

/// Makes a host function for a store.
fn function(store: &mut Store, env: &FunctionEnv<Host>, import: &HostFunc) -> Function {
    let host = import.clone();
    macro_rules! typed {
        ([$($param:ident: $param_ty:ty,)*] $result:ty) => {
            Function::new_typed_with_env(
                store,
                env,
                move |mut env: FunctionEnvMut<'_, Host>, $($param: $param_ty),*| -> Result<$result, RuntimeError> {
                    let mut instance = WasmerInstance { store: &mut env };
                    let result = host.call_few_unwinding(&mut instance, [$($param.into_slot()),*]).map_err(carried)?;
                    Ok(<$result>::from_slots(&[result]))
                },
            )
        };
    }
    by_signature!(import.ty(), typed, {
        let types = |types: &[ValType]| types.iter().map(value_type).collect::<Vec<_>>();
        let ty = FunctionType::new(types(&import.ty().params), types(&import.ty().results));
        Function::new_with_env(store, env, ty, move |mut env, params| {
            let ty = host.ty();
            let mut slots = vec![0; ty.params.len().max(ty.results.len())];
            for (slot, param) in slots.iter_mut().zip(params) {
                *slot = into_slot(param);
            }
            host.call(&mut WasmerInstance { store: &mut env }, &mut slots).map_err(carried)?;
            Ok(slots.iter().zip(ty.results.iter()).map(|(slot, ty)| from_slot(*slot, ty)).collect())
        })
    })
}

#[cold]
fn carried(error: Error) -> RuntimeError {
    RuntimeError::user(Box::new(error))
}

/// A store and what the layer keeps in it, owned or lent to a host function.
trait Context {
    type Store: AsStoreMut;

    fn store(&self) -> &Self::Store;
    fn store_mut(&mut self) -> &mut Self::Store;
    /// `None` before the instance is there.
    fn exports(&self) -> Option<&Exports>;
    fn host(&self) -> &Host;
    fn host_mut(&mut self) -> &mut Host;

    /// Where the memory is and how large, which is all that wasmer says of it: true of this instant.
    #[inline]
    fn extent(&self) -> (*mut u8, usize) {
        let Some(Exports { memory, .. }) = self.exports() else { return (NonNull::dangling().as_ptr(), 0) };
        let view = memory.view(self.store());
        (view.data_ptr(), view.data_size() as usize)
    }
}

impl Context for Owned {
    type Store = Store;

    #[inline]
    fn store(&self) -> &Store {
        &self.store.0
    }

    #[inline]
    fn store_mut(&mut self) -> &mut Store {
        &mut self.store.0
    }

    #[inline]
    fn exports(&self) -> Option<&Exports> {
        Some(&self.exports)
    }

    fn host(&self) -> &Host {
        self.host.as_ref(&self.store.0)
    }

    fn host_mut(&mut self) -> &mut Host {
        self.host.as_mut(&mut self.store.0)
    }
}

impl<'a> Context for &mut FunctionEnvMut<'a, Host> {
    type Store = FunctionEnvMut<'a, Host>;

    fn store(&self) -> &Self::Store {
        self
    }

    fn store_mut(&mut self) -> &mut Self::Store {
        self
    }

    fn exports(&self) -> Option<&Exports> {
        self.data().exports.as_ref()
    }

    fn host(&self) -> &Host {
        self.data()
    }

    fn host_mut(&mut self) -> &mut Host {
        self.data_mut()
    }
}

impl<S: Context> Instance for WasmerInstance<S> {
    type Func = WasmerFunc;

    fn get_func(&mut self, name: &str, ty: &FuncType) -> Result<WasmerFunc> {
        let missing = || Error::engine(Operation::Resolve, "the instance is not there yet");
        let exports = &self.store.exports().ok_or_else(missing)?.instance.exports;
        let func = exports.get_function(name).map_err(|error| Error::engine(Operation::Resolve, error))?;
        let store = self.store.store();
        match (&*ty.params, &*ty.results) {
            ([], []) => func.typed(store).map(WasmerFunc::Unit0),
            ([ValType::I32], []) => func.typed(store).map(WasmerFunc::Unit1),
            ([ValType::I32, ValType::I32], []) => func.typed(store).map(WasmerFunc::Unit2),
            ([], [ValType::I32]) => func.typed(store).map(WasmerFunc::Word0),
            ([ValType::I32], [ValType::I32]) => func.typed(store).map(WasmerFunc::Word1),
            ([ValType::I32, ValType::I32], [ValType::I32]) => func.typed(store).map(WasmerFunc::Word2),
            _ => Ok(WasmerFunc::Other(func.clone(), ty.clone())),
        }
        .map_err(|error| Error::engine(Operation::Resolve, error))
    }

    #[inline(always)]
    fn call(&mut self, func: &WasmerFunc, slots: &mut [u64]) -> Result<()> {
        let store = self.store.store_mut();
        match (func, &mut *slots) {
            (WasmerFunc::Unit0(func), []) => func.call(store),
            (WasmerFunc::Unit1(func), &mut [a]) => func.call(store, a as u32),
            (WasmerFunc::Unit2(func), &mut [a, b]) => func.call(store, a as u32, b as u32),
            (WasmerFunc::Word0(func), [result]) => func.call(store).map(|word| *result = word.into()),
            (WasmerFunc::Word1(func), [a]) => func.call(store, *a as u32).map(|word| *a = word.into()),
            (WasmerFunc::Word2(func), [a, b]) => func.call(store, *a as u32, *b as u32).map(|word| *a = word.into()),
            (WasmerFunc::Other(func, ty), slots) => call_other(func, ty, store, slots),
            _ => return Err(Error::engine(Operation::Call, "a function was called with other slots than it has")),
        }
        .map_err(|error| failed(Operation::Call, error))
    }

    #[inline]
    fn memory(&self) -> &[u8] {
        let (start, size) = self.store.extent();
        // SAFETY: the memory is there now. That stays true as long as no guest code runs and nothing else
        // grows the memory: both need the store, which the instance has to itself, while the slice borrows `self`. No
        // other thread has the memory: shared memories are refused before compilation, and the instance is not `Sync`.
        // All its bytes are initialised (zeroed pages).
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(start, size)
        }
    }

    #[inline]
    fn memory_mut(&mut self) -> &mut [u8] {
        let (start, size) = self.store.extent();
        // SAFETY: as in `memory`; `&mut self` makes the slice the only one.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(start, size)
        }
    }

    fn data(&self) -> &StoreData {
        &self.store.host().data
    }

    #[inline]
    fn data_mut(&mut self) -> &mut StoreData {
        &mut self.store.host_mut().data
    }

    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData) {
        let (start, size) = self.store.extent();
        // SAFETY: as in `memory_mut`. The data lies elsewhere, in the host's own memory.
        #[allow(unsafe_code)]
        let memory = unsafe { std::slice::from_raw_parts_mut(start, size) };
        (memory, &mut self.store.host_mut().data)
    }
}

/// Calls a function whose type the engine is told only now.
#[cold]
fn call_other(
    func: &Function,
    ty: &FuncType,
    store: &mut impl AsStoreMut,
    slots: &mut [u64],
) -> Result<(), RuntimeError> {
    let params: Vec<Value> = slots.iter().zip(ty.params.iter()).map(|(slot, ty)| from_slot(*slot, ty)).collect();
    let results = func.call(store, &params)?;
    for (slot, result) in slots.iter_mut().zip(&results) {
        *slot = into_slot(result);
    }
    Ok(())
}

fn value_type(ty: &ValType) -> Type {
    match ty {
        ValType::I32 => Type::I32,
        ValType::I64 => Type::I64,
        ValType::F32 => Type::F32,
        ValType::F64 => Type::F64,
        // No host function has such a type.
        _ => Type::ExternRef,
    }
}

fn from_slot(slot: u64, ty: &ValType) -> Value {
    match ty {
        ValType::I64 => Value::I64(slot.cast_signed()),
        ValType::F32 => Value::F32(f32::from_bits(slot as u32)),
        ValType::F64 => Value::F64(f64::from_bits(slot)),
        _ => Value::I32(slot as i32),
    }
}

fn into_slot(value: &Value) -> u64 {
    match value {
        Value::I32(value) => value.cast_unsigned().into(),
        Value::I64(value) => value.cast_unsigned(),
        Value::F32(value) => value.to_bits().into(),
        Value::F64(value) => value.to_bits(),
        _ => 0,
    }
}

/// What a host function gave, a trap of the guest's, or else a failure of the engine's.
#[cold]
fn failed(operation: Operation, error: RuntimeError) -> Error {
    if let Some(error) = error.downcast_ref::<Error>() {
        return error.clone();
    }
    let Some(code) = error.clone().to_trap() else { return Error::engine(operation, error) };
    let trap = match code {
        TrapCode::UnreachableCodeReached => Trap::Unreachable,
        TrapCode::HeapAccessOutOfBounds => Trap::MemoryOutOfBounds,
        TrapCode::TableAccessOutOfBounds => Trap::TableOutOfBounds,
        TrapCode::IndirectCallToNull => Trap::IndirectCallToNull,
        TrapCode::BadSignature => Trap::BadSignature,
        TrapCode::IntegerOverflow => Trap::IntegerOverflow,
        TrapCode::IntegerDivisionByZero => Trap::IntegerDivisionByZero,
        TrapCode::BadConversionToInteger => Trap::BadConversionToInteger,
        TrapCode::StackOverflow => Trap::StackOverflow,
        _ => return Error::engine(operation, error),
    };
    // The code alone: the error's own words go on with a trace of frames.
    Error::trap(trap, code)
}
