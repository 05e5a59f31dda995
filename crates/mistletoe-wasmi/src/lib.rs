//! [wasmi](https://docs.rs/wasmi) as a backend.
//!
//! wasmi is a small interpreter without `unsafe` code generation. It builds and starts quickly.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

mod dispatch;
mod instance;
mod workarounds;

use std::sync::Arc;

use mistletoe_abi::backend::{
    Backend, ENGINE_STACK, HostFunc, ModuleSource, Operation, StoreData, Values as _, by_signature, values,
};
use mistletoe_abi::host::{WasmResults as _, WasmTy as _};
use mistletoe_abi::protocol::MEMORY;
use mistletoe_abi::{Error, Result};
use wasmi::errors::LinkerError;
use wasmi::{Caller, CompilationMode, Config, Engine, F32, F64, Linker, Module, Store, Val, ValType};

pub use crate::instance::{Exports, Owned, WasmiFunc, WasmiInstance};
use crate::instance::{Host, carried, failed};
use crate::workarounds::{Growth, Patched, patch};

/// wasmi, in one of its translation modes.
#[derive(Clone, Debug)]
pub struct Wasmi {
    engine: Engine,
    name: &'static str,
}

/// A translated module, and the host functions it is linked with.
#[derive(Clone, Debug)]
pub struct WasmiModule {
    module: Module,
    linker: Arc<Linker<Host>>,
    growth: Option<Arc<Growth>>,
}

values!(Wasmi: Val, ValType::ExternRef, F32, F64);

impl Wasmi {
    /// Creates the engine. It translates a whole module before the module's first call.
    pub fn new() -> Self {
        Self::with_mode("wasmi", CompilationMode::Eager)
    }

    /// Creates the engine. It translates each function at its first call: a faster start, and a slower first call.
    pub fn lazy() -> Self {
        Self::with_mode("wasmi-lazy", CompilationMode::LazyTranslation)
    }

    /// Configures the engine to run exactly the layer's feature set.
    fn with_mode(name: &'static str, mode: CompilationMode) -> Self {
        let mut config = Config::default();
        config
            .compilation_mode(mode)
            // More than the layer's own stack limit lets a guest have, so that the guest reaches the layer's limit
            // first. Both stacks are on the heap.
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
        // Validating the module a second time takes wasmi a seventh of the time to load it. It does so with debug
        // assertions, as in all tests, which shows mistakes in the instrumentation.
        let module = if cfg!(debug_assertions) {
            Module::new(&self.engine, bytes)
        } else {
            // SAFETY: a validated module is valid within `FEATURES`, which are what `config` allows, by the validator
            // that wasmi itself uses. The layer's instrumentation and `patch` insert only instructions of the same
            // types, at places where the operand stack allows them. The tests check this on every fixture, on every
            // package, and on generated modules.
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
        let mut store = Owned(Box::new(Store::new(&self.engine, Host::new(data))));
        let instance = module
            .linker
            .instantiate_and_start(&mut store, &module.module)
            .map_err(|error| failed(Operation::Instantiate, error))?;
        let memory = instance
            .get_memory(&store, MEMORY)
            .ok_or_else(|| Error::engine(Operation::Instantiate, "the exported memory was not found"))?;
        store.0.data_mut().exports = Some(Exports { instance, memory });
        if let Some(growth) = &module.growth {
            growth
                .install(&mut store.0, instance, memory)
                .ok_or_else(|| Error::engine(Operation::Instantiate, "an exported table was not found"))?;
        }
        Ok(WasmiInstance { store })
    }
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
        let ty = wasmi::FuncType::new(Wasmi::types(&import.ty().params), Wasmi::types(&import.ty().results));
        linker.func_new(module, name, ty, move |mut caller, params, results| {
            Wasmi::call_host(&host, &mut WasmiInstance { store: &mut caller }, params, results).map_err(carried)
        })
    })
    .map(drop)
}
