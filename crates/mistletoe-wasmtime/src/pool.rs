//! Engines and modules in two copies: one with a pool for instances, and one without.
//!
//! The copy without is for instances that the pool has no place for.
//!
//! An instance from the pool needs no system call if its place was used before. The cost is address space, reserved for
//! as many instances as the pool has places. Compiled code is the same in both copies.

use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;

use mistletoe_abi::backend::HostFunc;
use mistletoe_abi::module::declared::{MAX_TABLE_ELEMENTS, MAX_TABLES};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, InstancePre, Module, PoolConcurrencyLimitError,
    PoolingAllocationConfig,
};

use crate::instance::Host;
use crate::link::link;

/// Places of the pool, for one instance each: for each processor, at least, and at most.
///
/// A place takes 4 GiB of address space, of which x86-64 has 128 TiB.
const PLACES: [usize; 3] = [32, 64, 1024];
/// Bytes of written memory that a place keeps from its last instance.
///
/// The next instance has them cleared instead of faulted in.
const KEPT: usize = 1 << 20;

/// An engine with a pool, if the machine allows one, and an engine without for what has no place in the pool.
#[derive(Clone)]
pub(crate) struct Engines {
    first: Engine,
    without_pool: Option<Arc<str>>,
    config: Config,
    /// Created when it is needed, which is never in most programs.
    second: Arc<OnceLock<Engine>>,
}

/// A compiled module, linked for the first engine, and for the second once it is needed.
#[derive(Clone)]
pub(crate) struct Pooled {
    pub(crate) first: InstancePre<Host>,
    second: Arc<Second>,
}

struct Second {
    imports: Box<[HostFunc]>,
    linked: OnceLock<InstancePre<Host>>,
}

impl Engines {
    pub(crate) fn new(config: &Config) -> wasmtime::Result<Self> {
        let places = available_parallelism().map_or(1, usize::from).saturating_mul(PLACES[0]);
        let places = places.clamp(PLACES[1], PLACES[2]) as u32;
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(places)
            .total_memories(places)
            .total_gc_heaps(places)
            .total_tables(2 * places)
            // Every module that the layer accepts fits in a place.
            .max_tables_per_module(MAX_TABLES as u32)
            .table_elements(MAX_TABLE_ELEMENTS as usize)
            // Allocated as needed.
            .max_core_instance_size(1 << 32)
            .linear_memory_keep_resident(KEPT)
            .table_keep_resident(KEPT)
            .pagemap_scan(Enabled::Auto);
        let mut pooling = config.clone();
        pooling.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let (first, without_pool) = match Engine::new(&pooling) {
            Ok(engine) => (engine, None),
            Err(error) => (Engine::new(config)?, Some(format!("{error:#}").into())),
        };
        Ok(Self { first, without_pool, config: config.clone(), second: Arc::default() })
    }

    /// Returns the engine that compiles modules.
    pub(crate) fn first(&self) -> &Engine {
        &self.first
    }

    /// Returns why there is no pool, if there is none.
    pub(crate) fn without_pool(&self) -> Option<&str> {
        self.without_pool.as_deref()
    }

    /// Returns the engines' configuration, without the pool.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the module for instances that the pool has no place for.
    pub(crate) fn second<'a>(&self, module: &'a Pooled) -> wasmtime::Result<&'a InstancePre<Host>> {
        let Second { imports, linked } = &*module.second;
        if let Some(linked) = linked.get() {
            return Ok(linked);
        }
        let engine = match self.second.get() {
            Some(engine) => engine,
            None => {
                let engine = Engine::new(&self.config)?;
                self.second.get_or_init(|| engine)
            }
        };
        let code = module.first.module().serialize()?;
        // SAFETY: the first engine has just returned this code, and the other engine differs in how it allocates.
        #[allow(unsafe_code)]
        let made = link(&unsafe { Module::deserialize(engine, code) }?, imports)?;
        Ok(linked.get_or_init(|| made))
    }
}

impl Pooled {
    /// Links a module of the first engine.
    pub(crate) fn new(module: &Module, imports: &[HostFunc]) -> wasmtime::Result<Self> {
        let second = Second { imports: imports.into(), linked: OnceLock::new() };
        Ok(Self { first: link(module, imports)?, second: second.into() })
    }
}

/// Returns whether the pool had no place left.
pub(crate) fn is_exhausted(error: &wasmtime::Error) -> bool {
    error.is::<PoolConcurrencyLimitError>()
}
