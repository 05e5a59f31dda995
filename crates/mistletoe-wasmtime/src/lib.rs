//! [wasmtime](https://docs.rs/wasmtime) as a backend: the fastest at its peak, and the one with a security process and
//! long-term support.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

mod pool;
mod stack;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::mem::MaybeUninit;

use mistletoe_abi::host::{HostFunc, StoreData, WasmResults as _, WasmTy as _};
use mistletoe_abi::protocol::MEMORY;
use mistletoe_abi::types::{FuncType, ValType};
use mistletoe_abi::{
    Artifact, Backend, ENGINE_STACK, Error, Feature, Instance, ModuleSource, Operation, Result, Trap, by_signature,
};
use wasmtime::{
    AsContextMut, Caller, Collector, Config, Func, InstancePre, Linker, Memory, Module, Store, Strategy, ValRaw,
};

use pool::{Engines, Pooled};

/// wasmtime with one of its compilers.
///
/// Guests run on a stack of their own, one for each thread that calls guests, so that a thread may have as little as it
/// likes. It takes 40 MiB of address space, and memory as far down as a guest ever came.
///
/// Instances come from a pool with 32 places for each processor, 64 to 1,024, each of which takes 4 GiB of address space.
/// An instance that it has no place for is made without it, only more slowly. Where the machine lets no program have so
/// much address space, there is no pool, and [`warning`](Backend::warning) says so.
#[derive(Clone)]
pub struct Wasmtime {
    engines: Engines,
    name: &'static str,
    is_winch: bool,
}

/// A compiled module, linked with its imports.
#[derive(Clone)]
pub struct WasmtimeModule(Pooled);

/// A live instance, owned or seen from inside a call.
#[derive(Debug)]
pub struct WasmtimeInstance<S = Store<Host>> {
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
    instance: wasmtime::Instance,
    memory: Memory,
}

/// A resolved function, and how many slots a call of it reads or writes.
#[derive(Clone, Copy, Debug)]
pub struct WasmtimeFunc {
    func: Func,
    slots: usize,
}

impl Wasmtime {
    /// wasmtime with its optimising compiler, Cranelift.
    ///
    /// # Errors
    ///
    /// [`Operation::Configure`] where wasmtime cannot generate code for this machine.
    pub fn new() -> Result<Self> {
        Self::with_config("wasmtime", Config::new().strategy(Strategy::Cranelift))
    }

    /// wasmtime with Winch: code that is made quickly and runs less so.
    ///
    /// # Errors
    ///
    /// [`Operation::Configure`] where Winch cannot generate code for this machine.
    #[cfg(feature = "winch")]
    pub fn winch() -> Result<Self> {
        let winch = Self::with_config("wasmtime-winch", Config::new().strategy(Strategy::Winch))?;
        Ok(Self { is_winch: true, ..winch })
    }

    /// wasmtime with Pulley, its interpreter, which runs where no code can be generated.
    ///
    /// # Errors
    ///
    /// [`Operation::Configure`] where wasmtime cannot be set up.
    #[cfg(feature = "pulley")]
    pub fn pulley() -> Result<Self> {
        let mut config = Config::new();
        let config = config.target("pulley64").map_err(|error| Error::engine(Operation::Configure, error))?;
        Self::with_config("wasmtime-pulley", config)
    }

    /// Set to run exactly the layer's feature set.
    fn with_config(name: &'static str, config: &mut Config) -> Result<Self> {
        config
            .collector(Collector::Null)
            .cranelift_nan_canonicalization(true)
            // A trace of frames is dear to gather, and no part of what a trap is.
            .wasm_backtrace_max_frames(None)
            // Host functions that call back into the guest take their room from it, too.
            .max_wasm_stack(ENGINE_STACK)
            // Nothing here is asynchronous, but the engine wants it no smaller.
            .async_stack_size(ENGINE_STACK)
            .wasm_relaxed_simd(false)
            .wasm_tail_call(false)
            .wasm_multi_memory(false)
            .wasm_memory64(false)
            .wasm_function_references(false)
            .wasm_gc(false)
            .wasm_exceptions(false)
            .wasm_extended_const(true);
        let engines = Engines::new(config).map_err(|error| Error::engine(Operation::Configure, error))?;
        Ok(Self { engines, name, is_winch: false })
    }
}

/// Links a module with what it imports.
fn link(module: &Module, imports: &[HostFunc]) -> wasmtime::Result<InstancePre<Host>> {
    let mut linker = Linker::new(module.engine());
    for import in imports {
        define(&mut linker, import)?;
    }
    linker.instantiate_pre(module)
}

/// Makes the instance of a store.
fn instantiate(module: &InstancePre<Host>, store: &mut Store<Host>) -> wasmtime::Result<()> {
    let instance = module.instantiate(&mut *store)?;
    let memory = instance.get_memory(&mut *store, MEMORY);
    let memory = memory.ok_or_else(|| wasmtime::Error::msg("the exported memory was not found"))?;
    store.data_mut().exports = Some(Exports { instance, memory });
    Ok(())
}

impl Backend for Wasmtime {
    type Module = WasmtimeModule;
    type Instance = WasmtimeInstance;

    fn name(&self) -> &'static str {
        self.name
    }

    fn warning(&self) -> Option<String> {
        let reason = self.engines.without_pool()?;
        Some(format!("{} has no pool for instances, which makes new ones slower: {reason}", self.name))
    }

    /// Winch compiles no `externref`.
    fn supports(&self, feature: Feature) -> bool {
        feature != Feature::Externref || !self.is_winch
    }

    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<WasmtimeModule> {
        let module = Module::from_binary(self.engines.first(), source.validate(self)?.bytes());
        let module = module.and_then(|module| Pooled::new(&module, imports));
        module.map(WasmtimeModule).map_err(|error| Error::engine(Operation::Compile, error))
    }

    fn instantiate(&self, WasmtimeModule(module): &WasmtimeModule, data: StoreData) -> Result<WasmtimeInstance> {
        let failed = |error| failed(Operation::Instantiate, error);
        let mut store = Store::new(self.engines.first(), Host { data, exports: None });
        match instantiate(&module.first, &mut store) {
            Err(error) if pool::is_exhausted(&error) => {
                let module = self.engines.second(module).map_err(failed)?;
                store = Store::new(module.module().engine(), store.into_data());
                instantiate(module, &mut store)
            }
            made => made,
        }
        .map_err(failed)?;
        Ok(WasmtimeInstance { store })
    }

    /// The engine's own digest has its version, its features and the target in it, but not every setting of its compiler.
    fn compatibility_key(&self) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        self.engines.first().precompile_compatibility_hash().hash(&mut hasher);
        format!("{:?}", self.engines.config()).hash(&mut hasher);
        Some(format!("{:016x}", hasher.finish()))
    }

    fn serialize(&self, WasmtimeModule(module): &WasmtimeModule) -> Result<Vec<u8>> {
        module.first.module().serialize().map_err(|error| Error::engine(Operation::Serialize, error))
    }

    fn deserialize(&self, artifact: &Artifact, imports: &[HostFunc]) -> Result<WasmtimeModule> {
        let engine = self.engines.first();
        let mapped = || {
            // SAFETY: an artifact is what `serialize` gave, byte for byte, in a file that nobody changes.
            #[allow(unsafe_code)]
            unsafe {
                Module::deserialize_open_file(engine, artifact.file()?)
            }
        };
        let copied = || {
            // SAFETY: the same.
            #[allow(unsafe_code)]
            unsafe {
                Module::deserialize(engine, artifact.bytes()?)
            }
        };
        // Some file systems do not let code in their files be executed.
        let module = mapped().or_else(|_| copied()).and_then(|module| Pooled::new(&module, imports));
        module.map(WasmtimeModule).map_err(|error| Error::engine(Operation::Deserialize, error))
    }
}

/// How many slots a call has room for without asking the allocator.
const FEW: usize = 4;
const MANY: usize = 16;

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

/// The same for a signature that the engine is not told of when this is compiled.
fn define_untyped<'a>(linker: &'a mut Linker<Host>, import: &HostFunc) -> wasmtime::Result<&'a mut Linker<Host>> {
    let ty = import.ty();
    let types = |types: &[ValType]| types.iter().map(val_type).collect::<wasmtime::Result<Vec<_>>>();
    let (params, results) = (ty.params.len(), ty.results.len());
    let ty = wasmtime::FuncType::new(linker.engine(), types(&ty.params)?, types(&ty.results)?);
    let host = import.clone();
    let call = move |mut caller: Caller<'_, Host>, values: &mut [MaybeUninit<ValRaw>]| {
        with_slots(values.len(), |slots| {
            for (slot, value) in slots.iter_mut().zip(values.iter()).take(params) {
                // SAFETY: the engine has initialised the parameters. Any bits are a number, and numbers alone are in
                // the function's type.
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
    // SAFETY: a host function answers `Ok` once its results are in the slots, and each of them is a number, any bits of
    // which are valid.
    #[allow(unsafe_code)]
    unsafe {
        linker.func_new_unchecked(import.module(), import.name(), ty, call)
    }
}

#[cold]
fn carried(error: Error) -> wasmtime::Error {
    wasmtime::Error::new(error)
}

/// Runs `call` with so many slots, or a few more.
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

/// A store, owned or lent to a host function.
trait Context: AsContextMut<Data = Host> {
    /// It is lent to a host function.
    const IS_LENT: bool;

    fn host(&self) -> &Host;
    fn host_mut(&mut self) -> &mut Host;
}

impl Context for Store<Host> {
    const IS_LENT: bool = false;

    fn host(&self) -> &Host {
        self.data()
    }

    fn host_mut(&mut self) -> &mut Host {
        self.data_mut()
    }
}

impl Context for &mut Caller<'_, Host> {
    const IS_LENT: bool = true;

    fn host(&self) -> &Host {
        self.data()
    }

    fn host_mut(&mut self) -> &mut Host {
        self.data_mut()
    }
}

/// Makes a call on another stack.
#[cold]
#[inline(never)]
fn call_elsewhere(
    instance: &mut impl Instance<Func = WasmtimeFunc>,
    func: &WasmtimeFunc,
    slots: &mut [u64],
) -> Result<()> {
    stack::with_room(|| instance.call(func, slots))?
}

impl<S: Context> Instance for WasmtimeInstance<S> {
    type Func = WasmtimeFunc;

    fn get_func(&mut self, name: &str, _: &FuncType) -> Result<WasmtimeFunc> {
        let exports = self.store.host().exports;
        let func = exports.and_then(|exports| exports.instance.get_func(&mut self.store, name));
        let func = func.ok_or_else(|| Error::engine(Operation::Resolve, "the exported function was not found"))?;
        // The type is asked of the engine, since memory safety hangs on it.
        let ty = func.ty(&self.store);
        if ty.params().chain(ty.results()).any(|ty| ty.is_ref() || ty.is_v128()) {
            return Err(Error::engine(Operation::Resolve, format!("no call is made with the type {ty}")));
        }
        Ok(WasmtimeFunc { func, slots: ty.params().len().max(ty.results().len()) })
    }

    #[inline(always)]
    fn call(&mut self, func: &WasmtimeFunc, slots: &mut [u64]) -> Result<()> {
        // The slots are counted when this is compiled, since it is part of its caller by then; the function's only now.
        if func.slots != slots.len() {
            return Err(Error::engine(Operation::Call, "a function was called with other slots than it has"));
        }
        // From inside of a call there is the stack of that call.
        if !S::IS_LENT && !stack::has_room() {
            return call_elsewhere(self, func, slots);
        }
        let (store, func) = (&mut self.store, &func.func);
        match slots.len() {
            // What protocols call.
            0..=2 => call_with(store, func, slots, &mut [ValRaw::u64(0); 2]),
            _ => call_with_more(store, func, slots),
        }
        .map_err(|error| failed(Operation::Call, error))
    }

    #[inline(always)]
    fn with_room<R>(call: impl FnOnce() -> R) -> Result<R> {
        stack::with_room(call)
    }

    #[inline]
    fn memory(&self) -> &[u8] {
        match self.store.host().exports {
            Some(exports) => exports.memory.data(&self.store),
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
                let (memory, host) = exports.memory.data_and_store_mut(&mut self.store);
                (memory, &mut host.data)
            }
            None => (&mut [], &mut self.store.host_mut().data),
        }
    }
}

/// Calls a function with more slots than most have. Apart, so that what calls with few has no room for many on its stack.
#[inline(never)]
fn call_with_more(store: impl AsContextMut, func: &Func, slots: &mut [u64]) -> wasmtime::Result<()> {
    match slots.len() {
        0..=FEW => call_with(store, func, slots, &mut [ValRaw::u64(0); FEW]),
        count if count <= MANY => call_with(store, func, slots, &mut [ValRaw::u64(0); MANY]),
        count => call_with(store, func, slots, &mut vec![ValRaw::u64(0); count]),
    }
}

/// Calls a function that takes and gives numbers, as many as there are slots at most. There are no fewer `values`.
#[inline(always)]
fn call_with(store: impl AsContextMut, func: &Func, slots: &mut [u64], values: &mut [ValRaw]) -> wasmtime::Result<()> {
    for (value, slot) in values.iter_mut().zip(slots.iter()) {
        *value = ValRaw::u64(*slot);
    }
    // SAFETY: the function was resolved with its type: numbers, any bits of which are valid, and no more of them than
    // there are values. A function of another store makes the engine panic.
    #[allow(unsafe_code)]
    unsafe {
        func.call_unchecked(store, values)?;
    }
    for (value, slot) in values.iter().zip(slots) {
        *slot = value.get_u64();
    }
    Ok(())
}

/// What a host function gave, a trap of the guest's, or else a failure of the engine's.
#[cold]
fn failed(operation: Operation, error: wasmtime::Error) -> Error {
    let error = match error.downcast() {
        Ok(error) => return error,
        Err(error) => error,
    };
    let trap = match error.downcast_ref() {
        Some(wasmtime::Trap::UnreachableCodeReached) => Trap::Unreachable,
        Some(wasmtime::Trap::MemoryOutOfBounds) => Trap::MemoryOutOfBounds,
        Some(wasmtime::Trap::TableOutOfBounds) => Trap::TableOutOfBounds,
        Some(wasmtime::Trap::IndirectCallToNull) => Trap::IndirectCallToNull,
        Some(wasmtime::Trap::BadSignature) => Trap::BadSignature,
        Some(wasmtime::Trap::IntegerOverflow) => Trap::IntegerOverflow,
        Some(wasmtime::Trap::IntegerDivisionByZero) => Trap::IntegerDivisionByZero,
        Some(wasmtime::Trap::BadConversionToInteger) => Trap::BadConversionToInteger,
        Some(wasmtime::Trap::StackOverflow) => Trap::StackOverflow,
        _ => return Error::engine(operation, error),
    };
    Error::trap(trap, error)
}
