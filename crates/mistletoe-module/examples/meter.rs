//! Meters a module, and runs it on an engine unaware of the metering: `cargo run -p mistletoe-module --example meter`.

use mistletoe_module::{Config, MODULE, OVERFLOW, TICK, instrument};
use wasmi::{Caller, Engine, Error, Linker, Module, Store};

/// Adds up the numbers from 1 to `n`.
const SUM: &str = r#"(module
    (func (export "sum") (param $n i32) (result i32) (local $sum i32)
        (loop $more
            (local.set $sum (i32.add (local.get $sum) (local.get $n)))
            (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (local.get $sum)))"#;

/// The fuel limit of a guest, and the fuel granted so far.
struct Fuel {
    limit: i64,
    granted: i64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wasm = wat::parse_str(SUM)?;
    let metered = instrument(&wasm, &Config::default().fuel(true).stack(10_000))?;

    let engine = Engine::default();
    let module = Module::new(&engine, metered.bytes())?;
    let mut linker = Linker::<Fuel>::new(&engine);
    // The counter is spent. This grants the rest of the limit.
    linker.func_wrap(MODULE, TICK, |mut caller: Caller<'_, Fuel>, left: i64| {
        let fuel = caller.data_mut();
        let used = fuel.granted - left;
        let more = fuel.limit - used;
        if more < 0 {
            return Err(Error::new(format!("out of fuel: {used} units were used")));
        }
        fuel.granted = used + more;
        Ok(more)
    })?;
    linker.func_wrap(MODULE, OVERFLOW, |_: Caller<'_, Fuel>, _: i64| -> Result<(), Error> {
        Err(Error::new("the stack became too high"))
    })?;

    for n in [10, 1_000, 1_000_000] {
        let mut store = Store::new(&engine, Fuel { limit: 100_000, granted: 0 });
        let instance = linker.instantiate_and_start(&mut store, &module)?;
        let sum = instance.get_typed_func::<i32, i32>(&store, "sum")?.call(&mut store, n);
        // An injected function returns how much fuel is left.
        let left = metered.internal_exports().fuel.as_deref().ok_or("fuel is counted")?;
        let left = instance.get_typed_func::<(), i64>(&store, left)?.call(&mut store, ())?;
        let used = store.data().granted - left;
        match sum {
            Ok(sum) => println!("the sum to {n} is {sum}: {used} units of fuel"),
            Err(error) => println!("the sum to {n}: {error}"),
        }
    }
    Ok(())
}
