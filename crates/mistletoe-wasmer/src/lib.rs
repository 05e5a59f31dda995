//! [wasmer](https://docs.rs/wasmer) as a backend: a compiler with small instances that start quickly.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

mod instance;

use std::env::consts::{ARCH, OS};
use std::sync::Arc;

use mistletoe_abi::backend::{
    Artifact, Backend, ENGINE_STACK, HostFunc, ModuleSource, Operation, StoreData, Values as _, by_signature, values,
};
use mistletoe_abi::host::{WasmResults as _, WasmTy as _};
use mistletoe_abi::protocol::MEMORY;
use mistletoe_abi::{Error, Result};
use wasmer::sys::vm::{VERSION, get_stack_size, set_stack_size};
use wasmer::sys::{CpuFeature, Cranelift, EngineBuilder, Features};
use wasmer::{
    Engine, Function, FunctionEnv, FunctionEnvMut, FunctionType, Imports, InstantiationError, LinkError, Module,
    RuntimeError, Store, Type, Value,
};

pub use crate::instance::{Exports, Owned, WasmerFunc, WasmerInstance};
use crate::instance::{Host, carried, failed};

/// wasmer with its optimising compiler, Cranelift.
///
/// Compiled code runs on wasmer's own stacks, which all have the same size within a process. If that size is less than
/// [`ENGINE_STACK`], creating this engine raises it to [`ENGINE_STACK`].
#[derive(Clone, Debug)]
pub struct Wasmer {
    engine: Engine,
}

/// A compiled module, and the host functions it is linked with, which wasmer needs anew for each store.
#[derive(Clone, Debug)]
pub struct WasmerModule {
    module: Module,
    imports: Arc<[HostFunc]>,
}

values!(Wasmer: Value, Type::ExternRef, f32, f64);

impl Wasmer {
    /// Creates the engine, configured to run exactly the layer's feature set.
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

/// Loads the module from the artifact's file, mapped instead of copied.
///
/// wasmer maps a module that has a path. On Linux, an open file has one.
#[cfg(target_os = "linux")]
fn mapped(engine: &Engine, artifact: &Artifact) -> Option<Module> {
    use std::os::fd::AsRawFd as _;
    let file = artifact.file().ok()?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: an artifact is what `serialize` returned, byte for byte, in a file that nobody changes.
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

    /// The compiler's identifier includes its settings. The compiler targets the processor that it runs on.
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
                // SAFETY: an artifact is what `serialize` returned, byte for byte.
                #[allow(unsafe_code)]
                let module = unsafe { Module::deserialize(&self.engine, bytes) };
                module.map_err(|error| Error::engine(Operation::Deserialize, error))?
            }
        };
        Ok(WasmerModule { module, imports: imports.into() })
    }

    fn instantiate(&self, module: &WasmerModule, data: StoreData) -> Result<WasmerInstance> {
        // A store keeps everything made in it until it is dropped, so each instance has a store of its own.
        let mut store = Store::new(self.engine.clone());
        let host = FunctionEnv::new(&mut store, Host::new(data));
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
        Ok(WasmerInstance { store: Owned::new(store, host, exports) })
    }
}

/// Creates a host function in a store.
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
        let ty = FunctionType::new(Wasmer::types(&import.ty().params), Wasmer::types(&import.ty().results));
        Function::new_with_env(store, env, ty, move |mut env, params| {
            let mut results = Wasmer::zeros(&host.ty().results);
            Wasmer::call_host(&host, &mut WasmerInstance { store: &mut env }, params, &mut results).map_err(carried)?;
            Ok(results)
        })
    })
}
