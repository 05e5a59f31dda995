//! Modules that are as expensive to compile as possible, with one family for each expensive construct.

/// A module under construction. All values have the type `i32`.
#[derive(Default)]
pub(crate) struct Module {
    types: Vec<(usize, usize)>,
    functions: Vec<(usize, Vec<u8>)>,
    elements: Vec<Vec<u8>>,
    globals: Vec<Vec<u8>>,
    exports: usize,
    data: usize,
}

/// Opcodes (core 2.0, section 5.4).
mod op {
    pub(super) const UNREACHABLE: u8 = 0x00;
    pub(super) const BLOCK: u8 = 0x02;
    pub(super) const LOOP: u8 = 0x03;
    pub(super) const IF: u8 = 0x04;
    pub(super) const ELSE: u8 = 0x05;
    pub(super) const END: u8 = 0x0b;
    pub(super) const BR_IF: u8 = 0x0d;
    pub(super) const BR_TABLE: u8 = 0x0e;
    pub(super) const RETURN: u8 = 0x0f;
    pub(super) const CALL: u8 = 0x10;
    pub(super) const CALL_INDIRECT: u8 = 0x11;
    pub(super) const DROP: u8 = 0x1a;
    pub(super) const LOCAL_GET: u8 = 0x20;
    pub(super) const LOCAL_SET: u8 = 0x21;
    pub(super) const GLOBAL_GET: u8 = 0x23;
    pub(super) const I32_CONST: u8 = 0x41;
    pub(super) const I32_ADD: u8 = 0x6a;
    pub(super) const EMPTY: u8 = 0x40;
    pub(super) const I32: u8 = 0x7f;
    pub(super) const FUNCREF: u8 = 0x70;
}

/// Appends a number (core 2.0, section 5.2.2). As a type index or a constant, it is small enough to be positive.
fn number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn with(opcode: u8, index: usize) -> Vec<u8> {
    let mut out = vec![opcode];
    number(&mut out, index);
    out
}

fn section(out: &mut Vec<u8>, id: u8, count: usize, content: &[u8]) {
    if count != 0 {
        let mut head = Vec::new();
        number(&mut head, count);
        out.push(id);
        number(out, head.len() + content.len());
        out.extend(head);
        out.extend_from_slice(content);
    }
}

/// The exports of a package, with their types.
const INTERFACE: [(&str, (usize, usize)); 4] = [
    ("__mistletoe_info", (0, 1)),
    ("__mistletoe_alloc", (1, 1)),
    ("__mistletoe_dealloc", (2, 0)),
    ("__mistletoe_generate", (2, 1)),
];

impl Module {
    /// Returns a package that does nothing. Its function 4 can be called and has no effect.
    fn new() -> Self {
        let mut module = Self::default();
        for (_, (params, results)) in INTERFACE {
            let ty = module.ty(params, results);
            module.function(ty, 0, [op::I32_CONST, 8].repeat(results));
        }
        let ty = module.ty(0, 0);
        module.function(ty, 0, Vec::new());
        module
    }

    /// Returns the index of a function type.
    fn ty(&mut self, params: usize, results: usize) -> usize {
        self.types.iter().position(|ty| *ty == (params, results)).unwrap_or_else(|| {
            self.types.push((params, results));
            self.types.len() - 1
        })
    }

    /// Adds a function with this many locals, and returns its index.
    fn function(&mut self, ty: usize, locals: usize, code: Vec<u8>) -> usize {
        let mut body = Vec::with_capacity(code.len() + 8);
        number(&mut body, usize::from(locals != 0));
        if locals != 0 {
            number(&mut body, locals);
            body.push(op::I32);
        }
        body.extend(code);
        body.push(op::END);
        self.functions.push((ty, body));
        self.functions.len() - 1
    }

    /// Adds a function that returns this many values, none of which a compiler knows.
    fn source(&mut self, values: usize) -> usize {
        let ty = self.ty(0, values);
        self.globals.push(vec![op::I32, 1, op::I32_CONST, 0, op::END]);
        self.function(ty, 0, [op::GLOBAL_GET, 0].repeat(values))
    }

    /// Adds a function with this many parameters.
    fn sink(&mut self, values: usize) -> usize {
        let ty = self.ty(values, 0);
        self.function(ty, 0, Vec::new())
    }

    /// Returns the binary format, filled up to `length` with plain functions as closely as possible.
    pub(crate) fn finish(mut self, length: usize) -> Vec<u8> {
        let ty = self.ty(2, 1);
        let others = self.encode().len();
        let plain = [op::LOCAL_GET, 0, op::LOCAL_GET, 1, op::I32_ADD, op::LOCAL_SET, 0].repeat(40);
        let plain = [plain, vec![op::LOCAL_GET, 0]].concat();
        let missing = length.saturating_sub(others);
        for _ in 0..missing / (plain.len() + 5) {
            self.function(ty, 0, plain.clone());
        }
        self.encode()
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = b"\0asm\x01\0\0\0".to_vec();
        let mut content = Vec::new();
        for (params, results) in &self.types {
            content.push(0x60);
            for count in [params, results] {
                number(&mut content, *count);
                content.extend(vec![op::I32; *count]);
            }
        }
        section(&mut out, 1, self.types.len(), &content);
        content.clear();
        for (ty, _) in &self.functions {
            number(&mut content, *ty);
        }
        section(&mut out, 3, self.functions.len(), &content);
        section(&mut out, 4, 1, &[op::FUNCREF, 0, 0xc0, 0x84, 0x3d]);
        section(&mut out, 5, 1, &[0, 1]);
        section(&mut out, 6, self.globals.len(), &self.globals.concat());
        content.clear();
        let name = |content: &mut Vec<u8>, name: &str, kind: u8, index: usize| {
            number(content, name.len());
            content.extend(name.as_bytes());
            content.push(kind);
            number(content, index);
        };
        name(&mut content, "memory", 2, 0);
        for (index, (export, _)) in INTERFACE.iter().enumerate() {
            name(&mut content, export, 0, index);
        }
        for index in 0..self.exports {
            name(&mut content, &format!("{index:x}"), 0, INTERFACE.len() + index);
        }
        section(&mut out, 7, INTERFACE.len() + 1 + self.exports, &content);
        section(&mut out, 9, self.elements.len(), &self.elements.concat());
        content.clear();
        for (_, body) in &self.functions {
            number(&mut content, body.len());
            content.extend(body);
        }
        section(&mut out, 10, self.functions.len(), &content);
        section(&mut out, 11, self.data, &[0, op::I32_CONST, 0, op::END, 0].repeat(self.data));
        out
    }
}

/// A family of modules, each with a given number of bytes of the expensive construct.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) make: fn(usize) -> Module,
}

macro_rules! families {
    ($($name:literal: $make:expr,)*) => {
        /// All families.
        pub(crate) const FAMILIES: &[Family] = &[$(Family { name: $name, make: $make }),*];
    };
}

/// The maximum number of values of a type.
const MOST: usize = 1000;

families! {
    "blocks of 1000 values": |dose| structured(&[op::BLOCK], &[], dose),
    "loops of 1000 values": |dose| structured(&[op::LOOP], &[], dose),
    "ifs of 1000 values": |dose| structured(&[op::I32_CONST, 0, op::IF], &[], dose),
    "ifs and elses of 1000 values": |dose| structured(&[op::LOCAL_GET, 0, op::IF], &[op::ELSE], dose),
    "branches with 1000 values": |dose| {
        within_block([op::LOCAL_GET, 0, op::BR_IF, 0].repeat(dose / 4))
    },
    "tables of branches with 1000 values": |dose| {
        let mut code = vec![op::LOCAL_GET, 0];
        let labels = dose.min(65_000);
        code.push(op::BR_TABLE);
        number(&mut code, labels);
        code.extend(vec![0; labels + 1]);
        within_block(code)
    },
    "returns of 1000 values": |dose| {
        let mut module = Module::new();
        let source = module.source(MOST);
        let ty = module.ty(0, MOST);
        let again = [op::I32_CONST, 0, op::IF, op::EMPTY].to_vec();
        let again = [again, with(op::CALL, source), vec![op::RETURN, op::END]].concat();
        let code = [again.repeat(dose / again.len()), with(op::CALL, source)].concat();
        module.function(ty, 0, code);
        module
    },
    "calls with 1000 values": |dose| {
        let mut module = Module::new();
        let source = module.source(MOST);
        let sink = module.sink(MOST);
        let ty = module.ty(MOST, MOST);
        let callee = module.function(ty, 0, vec![op::UNREACHABLE]);
        let ty = module.ty(0, 0);
        let call = with(op::CALL, callee);
        let code = [with(op::CALL, source), call.repeat(dose / call.len()), with(op::CALL, sink)].concat();
        module.function(ty, 0, code);
        module
    },
    "calls of 1000 results": |dose| {
        let mut module = Module::new();
        let source = module.source(MOST);
        let sink = module.sink(MOST);
        let ty = module.ty(0, 0);
        let code = [with(op::CALL, source), with(op::CALL, sink)].concat();
        let code = code.repeat(dose / code.len());
        module.function(ty, 0, code);
        module
    },
    "indirect calls with 1000 values": |dose| {
        let mut module = Module::new();
        let source = module.source(MOST);
        let sink = module.sink(MOST);
        let callee = module.ty(MOST, MOST);
        let ty = module.ty(0, 0);
        let call = [vec![op::I32_CONST, 0], with(op::CALL_INDIRECT, callee), vec![0]].concat();
        let code = [with(op::CALL, source), call.repeat(dose / call.len()), with(op::CALL, sink)].concat();
        module.function(ty, 0, code);
        module
    },
    "functions of 1000 parameters and results": |dose| {
        let mut module = Module::new();
        let ty = module.ty(MOST, MOST);
        (0..dose / 4).for_each(|_| { let _ = module.function(ty, 0, vec![op::UNREACHABLE]); });
        module
    },
    "functions of 1000 parameters": |dose| {
        let mut module = Module::new();
        let ty = module.ty(MOST, 0);
        (0..dose / 4).for_each(|_| { let _ = module.function(ty, 0, Vec::new()); });
        module
    },
    "functions of 19000 locals": |dose| {
        let mut module = Module::new();
        let ty = module.ty(0, 0);
        (0..dose / 8).for_each(|_| { let _ = module.function(ty, 19_000, Vec::new()); });
        module
    },
    "a function of 19000 locals that calls": |dose| {
        let mut module = Module::new();
        let ty = module.ty(0, 0);
        (0..dose / 10).for_each(|_| { let _ = module.function(ty, 19_000, with(op::CALL, 4)); });
        module
    },
    "empty functions": |dose| {
        let mut module = Module::new();
        let ty = module.ty(0, 0);
        (0..dose / 4).for_each(|_| { let _ = module.function(ty, 0, Vec::new()); });
        module
    },
    "exported functions of 400 parameters": |dose| {
        let mut module = Module::new();
        let ty = module.ty(400, 0);
        (0..dose / 11).for_each(|_| { let _ = module.function(ty, 0, Vec::new()); });
        module.exports = (dose / 11).min(9_990);
        module
    },
    "functions in a table": |dose| {
        let mut module = Module::new();
        let ty = module.ty(0, 0);
        let count = dose / 7;
        let mut element = vec![0, op::I32_CONST, 0, op::END];
        number(&mut element, count);
        for _ in 0..count {
            let function = module.function(ty, 0, Vec::new());
            number(&mut element, function);
        }
        module.elements.push(element);
        module
    },
    "nested blocks": |dose| nested(&[op::BLOCK, op::EMPTY], dose),
    "nested loops": |dose| nested(&[op::LOOP, op::EMPTY], dose),
    "nested ifs": |dose| nested(&[op::LOCAL_GET, 0, op::IF, op::EMPTY], dose),
    "loops nested in 30": |dose| {
        let code = [[op::LOOP, op::EMPTY].repeat(30), vec![op::END; 30]].concat();
        plain(code.repeat(dose / code.len()))
    },
    "loops nested in 50": |dose| {
        let code = [[op::LOOP, op::EMPTY].repeat(50), vec![op::END; 50]].concat();
        plain(code.repeat(dose / code.len()))
    },
    "loops one after the other": |dose| plain([op::LOOP, op::EMPTY, op::END].repeat(dose / 3)),
    "loops that turn": |dose| {
        plain([op::LOOP, op::EMPTY, op::LOCAL_GET, 0, op::BR_IF, 0, op::END].repeat(dose / 7))
    },
    "loops with calls": |dose| plain([op::LOOP, op::EMPTY, op::CALL, 4, op::END].repeat(dose / 5)),
    "functions of 100 loops": |dose| {
        let mut module = Module::new();
        let ty = module.ty(1, 0);
        let code = [op::LOOP, op::EMPTY, op::END].repeat(100);
        (0..dose / 300).for_each(|_| { let _ = module.function(ty, 0, code.clone()); });
        module
    },
    "blocks one after the other": |dose| plain([op::BLOCK, op::EMPTY, op::END].repeat(dose / 3)),
    "ifs one after the other": |dose| plain([op::LOCAL_GET, 0, op::IF, op::EMPTY, op::END].repeat(dose / 5)),
    "ifs with calls": |dose| plain([op::LOCAL_GET, 0, op::IF, op::EMPTY, op::CALL, 4, op::END].repeat(dose / 7)),
    "branches one after the other": |dose| {
        let code = [op::LOCAL_GET, 0, op::BR_IF, 0].repeat(dose / 4);
        plain([vec![op::BLOCK, op::EMPTY], code, vec![op::END]].concat())
    },
    "branches to the loop": |dose| {
        let code = [op::LOCAL_GET, 0, op::BR_IF, 0].repeat(dose / 4);
        plain([vec![op::LOOP, op::EMPTY], code, vec![op::END]].concat())
    },
    "calls one after the other": |dose| plain([op::CALL, 4].repeat(dose / 2)),
    "tables of branches": |dose| {
        let mut table = vec![op::LOCAL_GET, 0, op::BR_TABLE];
        number(&mut table, 65_000.min(dose));
        table.extend(vec![0; 65_001.min(dose + 1)]);
        let table = [vec![op::BLOCK, op::EMPTY], table, vec![op::END]].concat();
        plain(table.repeat((dose / table.len()).max(1)))
    },
    "small tables of branches": |dose| {
        let table = [op::BLOCK, op::EMPTY, op::LOCAL_GET, 0, op::BR_TABLE, 0, 0, op::END];
        plain(table.repeat(dose / table.len()))
    },
    "a table of branches to each of 3000 blocks": |dose| {
        let blocks = 3000;
        let mut table = vec![op::LOCAL_GET, 0, op::BR_TABLE];
        number(&mut table, blocks);
        (0..=blocks).for_each(|label| number(&mut table, label.min(blocks - 1)));
        let table = [vec![op::BLOCK, op::EMPTY], table, vec![op::END]].concat();
        let tables = table.repeat((dose.saturating_sub(3 * blocks) / table.len()).max(1));
        plain([[op::BLOCK, op::EMPTY].repeat(blocks), tables, vec![op::END; blocks]].concat())
    },
    "locals held over ifs": |dose| held(dose, &[op::LOCAL_GET, 0, op::IF, op::EMPTY, op::END], &[]),
    "locals held over calls": |dose| held(dose, &[op::CALL, 4], &[]),
    "locals held over ifs with calls": |dose| held(dose, &[op::LOCAL_GET, 0, op::IF, op::EMPTY, op::CALL, 4, op::END], &[]),
    "locals held over loops": |dose| held(dose, &[op::LOOP, op::EMPTY, op::END], &[]),
    "locals held over turning loops": |dose| held(dose, &[op::LOOP, op::EMPTY, op::LOCAL_GET, 0, op::BR_IF, 0, op::END], &[]),
    "locals held over branches": |dose| {
        held(dose, &[op::BLOCK, op::EMPTY, op::LOCAL_GET, 0, op::BR_IF, 0, op::END], &[])
    },
    "locals used in nested blocks": |dose| held(dose, &[op::BLOCK, op::EMPTY, op::LOCAL_GET, 0, op::BR_IF, 0], &[op::END]),
    "locals used in nested ifs": |dose| held(dose, &[op::LOCAL_GET, 0, op::IF, op::EMPTY], &[op::END]),
    "locals changed in loops nested in 30": |dose| changed_in(30, dose),
    "locals changed in loops nested in 50": |dose| changed_in(50, dose),
    "locals changed in ifs and used behind": |dose| {
        let mut module = changed(dose - dose / 4, &[op::LOCAL_GET, 0, op::IF, op::EMPTY], &[op::END]);
        let sink = module.sink(MOST);
        if let Some((_, body)) = module.functions.iter_mut().rev().nth(1) {
            body.pop();
            let count = ((dose - dose / 4) / 18).clamp(1, 18_000);
            (0..MOST).for_each(|i| body.extend(with(op::LOCAL_GET, 1 + i % count)));
            body.extend(with(op::CALL, sink));
            body.push(op::END);
        }
        module
    },
    "locals changed in loops, and others held": |dose| {
        let mut module = Module::new();
        let (source, sink) = (module.source(MOST), module.sink(MOST));
        let (loops, count) = (30, (dose / 40).clamp(1, 9_000));
        let change: Vec<u8> = (0..count)
            .flat_map(|i| [with(op::LOCAL_GET, 1 + i), vec![op::LOCAL_GET, 0, op::I32_ADD], with(op::LOCAL_SET, 1 + i)].concat())
            .collect();
        let close = [op::LOCAL_GET, 0, op::BR_IF, 0, op::END].repeat(loops);
        let changing = [[op::LOOP, op::EMPTY].repeat(loops), change, close].concat();
        let blocks = [op::LOCAL_GET, 0, op::IF, op::EMPTY, op::END].repeat(dose.saturating_sub(changing.len()) / 5);
        let ty = module.ty(1, 0);
        let code = [changing, with(op::CALL, source), blocks, with(op::CALL, sink)].concat();
        module.function(ty, count, code);
        module
    },
    "locals used in loops nested in 50": |dose| used_in(50, dose),
    "locals changed in nested ifs": |dose| changed(dose, &[op::LOCAL_GET, 0, op::IF, op::EMPTY], &[op::END]),
    "operands held over ifs": |dose| {
        let blocks = [op::LOCAL_GET, 0, op::IF, op::EMPTY, op::END];
        operands(dose, &blocks)
    },
    "operands held over calls": |dose| operands(dose, &[op::CALL, 4]),
    "operands held over loops": |dose| operands(dose, &[op::LOOP, op::EMPTY, op::END]),
    "operands that are one local": |dose| {
        let count = (dose / 8).min(9_000);
        let sets = [op::BLOCK, op::EMPTY, op::I32_CONST, 0, op::LOCAL_SET, 0, op::END];
        plain([
            [op::LOCAL_GET, 0].repeat(count),
            sets.repeat((dose - 3 * count) / sets.len()),
            vec![op::DROP; count],
        ].concat())
    },
    "null elements": |dose| {
        let count = dose / 3;
        let mut element = vec![4, op::I32_CONST, 0, op::END];
        number(&mut element, count);
        element.extend([0xd0, op::FUNCREF, op::END].repeat(count));
        let mut module = Module::new();
        module.elements.push(element);
        module
    },
    "elements of functions as expressions": |dose| {
        let count = dose / 3;
        let mut element = vec![4, op::I32_CONST, 0, op::END];
        number(&mut element, count);
        element.extend([0xd2, 0, op::END].repeat(count));
        let mut module = Module::new();
        module.elements.push(element);
        module
    },
    "passive null elements": |dose| {
        let count = dose / 3;
        let mut element = vec![5, op::FUNCREF];
        number(&mut element, count);
        element.extend([0xd0, op::FUNCREF, op::END].repeat(count));
        let mut module = Module::new();
        module.elements.push(element);
        module
    },
    "element segments of one null": |dose| {
        let mut module = Module::new();
        module.elements = vec![vec![4, op::I32_CONST, 0, op::END, 1, 0xd0, op::FUNCREF, op::END]; (dose / 8).min(99_990)];
        module
    },
    "element segments of one function": |dose| {
        let mut module = Module::new();
        module.elements = vec![vec![0, op::I32_CONST, 0, op::END, 1, 0]; (dose / 6).min(99_990)];
        module
    },
    "data segments": |dose| {
        let mut module = Module::new();
        module.data = (dose / 5).min(99_990);
        module
    },
    "globals": |dose| {
        let mut module = Module::new();
        module.globals = vec![vec![op::I32, 1, op::I32_CONST, 0, op::END]; (dose / 5).min(499_990)];
        module
    },
    "a global of a long expression": |dose| {
        let sum = [op::I32_CONST, 1, op::I32_ADD].repeat(dose / 3);
        let mut module = Module::new();
        module.globals = vec![[vec![op::I32, 1, op::I32_CONST, 1], sum, vec![op::END]].concat()];
        module
    },
    "globals of long expressions": |dose| {
        let sum = [op::I32_CONST, 1, op::I32_ADD].repeat(100);
        let mut module = Module::new();
        module.globals = vec![[vec![op::I32, 1, op::I32_CONST, 1], sum, vec![op::END]].concat(); dose / 305];
        module
    },
    "types": |dose| {
        let mut module = Module::new();
        let mut left = dose;
        let mut results = 0;
        while left > 0 {
            let params = left.saturating_sub(4).min(MOST);
            module.types.push((params, results));
            left -= left.min(params + results + 4);
            results = (results + 1).min(MOST);
        }
        module
    },
    "empty types": |dose| {
        let mut module = Module::new();
        module.types.extend(vec![(0, 0); (dose / 3).min(499_990)]);
        module
    },
    "sums": |dose| plain([vec![op::LOCAL_GET, 0], [op::LOCAL_GET, 0, op::I32_ADD].repeat(dose / 3), vec![op::LOCAL_SET, 0]].concat()),
    "sums of many operands": |dose| {
        let sum = [[op::LOCAL_GET, 0].repeat(19_000), vec![op::I32_ADD; 18_999], vec![op::LOCAL_SET, 0]].concat();
        plain(sum.repeat((dose / sum.len()).max(1)))
    },
    "floats": |dose| {
        let pairs = [vec![0xb2], [op::LOCAL_GET, 0, 0xb2, 0x92].repeat(dose / 4), vec![0xa8]].concat();
        plain([vec![op::LOCAL_GET, 0], pairs, vec![op::LOCAL_SET, 0]].concat())
    },
    "roots": |dose| {
        plain([vec![op::LOCAL_GET, 0, 0xb2], vec![0x91; dose], vec![0xa8, op::LOCAL_SET, 0]].concat())
    },
    "divisions": |dose| plain([vec![op::LOCAL_GET, 0], [op::LOCAL_GET, 0, 0x6d].repeat(dose / 3), vec![op::LOCAL_SET, 0]].concat()),
    "conversions": |dose| {
        plain([vec![op::LOCAL_GET, 0], [0xb2, 0xa8].repeat(dose / 2), vec![op::LOCAL_SET, 0]].concat())
    },
    "loads": |dose| plain([vec![op::LOCAL_GET, 0], [0x28, 0, 0].repeat(dose / 3), vec![op::LOCAL_SET, 0]].concat()),
    "memory.grow": |dose| {
        plain([vec![op::LOCAL_GET, 0], [0x40, 0].repeat(dose / 2), vec![op::LOCAL_SET, 0]].concat())
    },
    "memory.size": |dose| plain([0x3f, 0, op::DROP].repeat(dose / 3)),
    "table.get": |dose| plain([op::LOCAL_GET, 0, 0x25, 0, op::DROP].repeat(dose / 5)),
    "table.set": |dose| plain([op::LOCAL_GET, 0, 0xd0, op::FUNCREF, 0x26, 0].repeat(dose / 6)),
    "memory.fill": |dose| plain([op::LOCAL_GET, 0, op::LOCAL_GET, 0, op::LOCAL_GET, 0, 0xfc, 11, 0].repeat(dose / 9)),
    "call_indirect": |dose| {
        let mut module = Module::new();
        let (ty, callee) = (module.ty(1, 0), module.ty(0, 0));
        let call = [vec![op::LOCAL_GET, 0], with(op::CALL_INDIRECT, callee), vec![0]].concat();
        module.function(ty, 0, call.repeat(dose / call.len()));
        module
    },
    "table.grow": |dose| plain([0xd0, op::FUNCREF, op::LOCAL_GET, 0, 0xfc, 15, 0, op::DROP].repeat(dose / 8)),
    "table.fill": |dose| {
        plain([op::LOCAL_GET, 0, 0xd0, op::FUNCREF, op::LOCAL_GET, 0, 0xfc, 17, 0].repeat(dose / 9))
    },
    "table.copy": |dose| plain([&[op::LOCAL_GET, 0].repeat(3)[..], &[0xfc, 14, 0, 0]].concat().repeat(dose / 10)),
    "table.init": |dose| {
        let mut module = plain([&[op::LOCAL_GET, 0].repeat(3)[..], &[0xfc, 12, 0, 0]].concat().repeat(dose / 10));
        module.elements.push(vec![1, 0, 1, 4]);
        module
    },
    "elem.drop": |dose| {
        let mut module = plain([0xfc, 13, 0].repeat(dose / 3));
        module.elements.push(vec![1, 0, 1, 4]);
        module
    },
    "memory.copy": |dose| plain([&[op::LOCAL_GET, 0].repeat(3)[..], &[0xfc, 10, 0, 0]].concat().repeat(dose / 10)),
    "globals changed": |dose| {
        let mut module = Module::new();
        let (_, ty) = (module.source(1), module.ty(1, 0));
        module.function(ty, 0, [op::LOCAL_GET, 0, 0x24, 0].repeat(dose / 4));
        module
    },
    "stores": |dose| plain([op::LOCAL_GET, 0, op::LOCAL_GET, 0, 0x36, 0, 0].repeat(dose / 7)),
    "numbers of bits": |dose| plain([vec![op::LOCAL_GET, 0], vec![0x69; dose], vec![op::LOCAL_SET, 0]].concat()),
    "integers divided": |dose| {
        plain([vec![op::LOCAL_GET, 0], [op::LOCAL_GET, 0, 0x6d].repeat(dose / 3), vec![op::LOCAL_SET, 0]].concat())
    },
    "f32.nearest": |dose| {
        plain([vec![op::LOCAL_GET, 0, 0xb2], vec![0x90; dose], vec![0xa8, op::LOCAL_SET, 0]].concat())
    },
    "f32.min": |dose| {
        let again = [op::LOCAL_GET, 0, 0xb2, 0x96].repeat(dose / 4);
        plain([vec![op::LOCAL_GET, 0, 0xb2], again, vec![0xa8, op::LOCAL_SET, 0]].concat())
    },
    "f64.convert_i64_u": |dose| {
        let again = [0xba, 0xb0].repeat(dose / 2);
        plain([vec![op::LOCAL_GET, 0, 0xad], again, vec![0xa7, op::LOCAL_SET, 0]].concat())
    },
    "i64.trunc_sat_f64_u": |dose| {
        let again = [0xba, 0xfc, 7].repeat(dose / 3);
        plain([vec![op::LOCAL_GET, 0, 0xad], again, vec![0xa7, op::LOCAL_SET, 0]].concat())
    },
    "f32x4.sqrt": |dose| vectors(&[0xfd, 0xe3, 0x01], dose),
    "f32x4.div": |dose| vectors(&[op::LOCAL_GET, 0, 0xfd, 17, 0xfd, 0xe7, 0x01], dose),
    "f64x2.nearest": |dose| vectors(&[0xfd, 0x94, 0x01], dose),
    "f32x4.min": |dose| vectors(&[op::LOCAL_GET, 0, 0xfd, 17, 0xfd, 0xe8, 0x01], dose),
    "i32x4.trunc_sat_f32x4_u": |dose| vectors(&[0xfd, 0xf9, 0x01], dose),
    "f32x4.convert_i32x4_u": |dose| vectors(&[0xfd, 0xfb, 0x01], dose),
    "i64x2.mul": |dose| vectors(&[op::LOCAL_GET, 0, 0xfd, 17, 0xfd, 0xd5, 0x01], dose),
    "i8x16.shl": |dose| vectors(&[op::LOCAL_GET, 0, 0xfd, 0x6b], dose),
    "i8x16.popcnt": |dose| vectors(&[0xfd, 0x62], dose),
    "i8x16.swizzle": |dose| vectors(&[op::LOCAL_GET, 0, 0xfd, 17, 0xfd, 14], dose),
    "i8x16.shuffle": |dose| {
        let lanes: Vec<u8> = (0..16).map(|lane| lane * 7 % 32).collect();
        vectors(&[vec![op::LOCAL_GET, 0, 0xfd, 17, 0xfd, 13], lanes].concat(), dose)
    },
    "v128.const": |dose| vectors(&[vec![0xfd, 12], vec![0xa5; 16], vec![0xfd, 0x4e]].concat(), dose),
    "ref.func": |dose| {
        let mut module = plain([0xd2, 4, op::DROP].repeat(dose / 3));
        module.elements.push(vec![3, 0, 1, 4]);
        module
    },
    "selects": |dose| {
        let select = [op::LOCAL_GET, 0, op::LOCAL_GET, 0, 0x1b];
        plain([vec![op::LOCAL_GET, 0], select.repeat(dose / 5), vec![op::LOCAL_SET, 0]].concat())
    },
    "traps": |dose| plain([op::LOCAL_GET, 0, op::IF, op::EMPTY, op::UNREACHABLE, op::END].repeat(dose / 6)),
    "code that is never reached": |dose| {
        plain([vec![op::UNREACHABLE], [op::LOOP, op::EMPTY, op::CALL, 4, op::END].repeat(dose / 5)].concat())
    },
    "blocks that are never reached": |dose| {
        let mut module = Module::new();
        let ty = module.ty(MOST, MOST);
        let plain = module.ty(0, 0);
        let block = [with(op::BLOCK, ty), vec![op::END]].concat();
        module.function(plain, 0, [vec![op::UNREACHABLE], block.repeat(dose / block.len()), vec![op::UNREACHABLE]].concat());
        module
    },
    "locals of 8000 in a loop": |dose| {
        let count = (dose / 9).min(8000);
        let code: Vec<u8> = (0..count).flat_map(|i| {
            [with(op::LOCAL_GET, 1 + i), vec![op::LOCAL_GET, 0, op::I32_ADD], with(op::LOCAL_SET, 1 + i)].concat()
        }).collect();
        let mut module = Module::new();
        let ty = module.ty(1, 0);
        module.function(ty, count + 1, [vec![op::LOOP, op::EMPTY], code, vec![op::LOCAL_GET, 0, op::BR_IF, 0, op::END]].concat());
        module
    },
}

/// Returns a module whose function passes a vector from instruction to instruction.
fn vectors(again: &[u8], dose: usize) -> Module {
    let (first, last) = ([op::LOCAL_GET, 0, 0xfd, 17], [0xfd, 27, 0, op::LOCAL_SET, 0]);
    plain([&first[..], &again.repeat(dose / again.len()), &last].concat())
}

fn plain(code: Vec<u8>) -> Module {
    let mut module = Module::new();
    let ty = module.ty(1, 0);
    module.function(ty, 0, code);
    module
}

/// Returns structured instructions that take and return as many values as a type can have.
fn structured(open: &[u8], inside: &[u8], dose: usize) -> Module {
    let mut module = Module::new();
    let (source, sink) = (module.source(MOST), module.sink(MOST));
    let values = module.ty(MOST, MOST);
    let ty = module.ty(1, 0);
    let mut block = open.to_vec();
    number(&mut block, values);
    block.extend(inside);
    block.push(op::END);
    let code = [with(op::CALL, source), block.repeat(dose / block.len()), with(op::CALL, sink)].concat();
    module.function(ty, 0, code);
    module
}

/// Returns code in a block that returns as many values as a type can have, with these values on the stack.
fn within_block(code: Vec<u8>) -> Module {
    let mut module = Module::new();
    let (source, sink) = (module.source(MOST), module.sink(MOST));
    let block = with(op::BLOCK, module.ty(0, MOST));
    let ty = module.ty(1, 0);
    let code = [block, with(op::CALL, source), code, vec![op::END], with(op::CALL, sink)].concat();
    module.function(ty, 0, code);
    module
}

fn nested(open: &[u8], dose: usize) -> Module {
    let depth = dose / (open.len() + 1);
    plain([open.repeat(depth), vec![op::END; depth]].concat())
}

/// Returns a function that sets locals, and uses them inside `open` and `close`.
///
/// It sets as many locals as fit into half of the dose, fills the other half with `open` and `close`, and uses all the
/// locals inside.
fn held(dose: usize, open: &[u8], close: &[u8]) -> Module {
    let mut module = Module::new();
    let (source, sink) = (module.source(MOST), module.sink(MOST));
    // Three bytes to set a local, three to use it.
    let rounds = (dose / 2 / (6 * MOST)).clamp(1, 18);
    let count = if dose / 2 < 6 * MOST { (dose / 12).max(1) } else { MOST };
    let mut set = Vec::new();
    let mut uses = Vec::new();
    for round in 0..rounds {
        set.extend(with(op::CALL, source));
        set.extend(vec![op::DROP; MOST - count]);
        (0..count).rev().for_each(|i| set.extend(with(op::LOCAL_SET, 1 + round * count + i)));
        (0..count).for_each(|i| uses.extend(with(op::LOCAL_GET, 1 + round * count + i)));
        uses.extend([op::LOCAL_GET, 0].repeat(MOST - count));
        uses.extend(with(op::CALL, sink));
    }
    let blocks = dose.saturating_sub(set.len() + uses.len()) / (open.len() + close.len());
    let ty = module.ty(1, 0);
    let code = [set, open.repeat(blocks), uses, close.repeat(blocks)].concat();
    module.function(ty, rounds * count, code);
    module
}

/// Returns a function that changes locals inside `open` and `close`.
///
/// It fills half of the dose with `open` and `close`, and changes as many locals inside as fit into the other half.
fn changed(dose: usize, open: &[u8], close: &[u8]) -> Module {
    let mut module = Module::new();
    let count = (dose / 2 / 9).clamp(1, 18_000);
    let code: Vec<u8> = (0..count)
        .flat_map(|i| {
            [with(op::LOCAL_GET, 1 + i), vec![op::LOCAL_GET, 0, op::I32_ADD], with(op::LOCAL_SET, 1 + i)].concat()
        })
        .collect();
    let blocks = dose.saturating_sub(code.len()) / (open.len() + close.len());
    let ty = module.ty(1, 0);
    module.function(ty, count, [open.repeat(blocks), code, close.repeat(blocks)].concat());
    module
}

/// Returns a function whose locals change in the innermost of `loops` loops.
fn changed_in(loops: usize, dose: usize) -> Module {
    let mut module = Module::new();
    let count = (dose / 9).saturating_sub(loops).clamp(1, 18_000);
    let code: Vec<u8> = (0..count)
        .flat_map(|i| {
            [with(op::LOCAL_GET, 1 + i), vec![op::LOCAL_GET, 0, op::I32_ADD], with(op::LOCAL_SET, 1 + i)].concat()
        })
        .collect();
    let (open, close) = ([op::LOOP, op::EMPTY].repeat(loops), [op::LOCAL_GET, 0, op::BR_IF, 0, op::END].repeat(loops));
    let ty = module.ty(1, 0);
    module.function(ty, count, [open, code, close].concat());
    module
}

/// Returns a function of a few locals that are used in the innermost of `loops` loops.
fn used_in(loops: usize, dose: usize) -> Module {
    let mut module = Module::new();
    let count = 20;
    let source = module.source(count);
    let sink = module.sink(count);
    let set: Vec<u8> = (0..count).rev().flat_map(|i| with(op::LOCAL_SET, 1 + i)).collect();
    let uses: Vec<u8> = (0..count).flat_map(|i| with(op::LOCAL_GET, 1 + i)).collect();
    let (open, close) = ([op::LOOP, op::EMPTY].repeat(loops), vec![op::END; loops]);
    let nest = [open, uses, with(op::CALL, sink), close].concat();
    let ty = module.ty(1, 0);
    let code = [with(op::CALL, source), set, nest.repeat(dose / nest.len())].concat();
    module.function(ty, count, code);
    module
}

/// Returns a function that keeps values on the stack across `blocks`.
fn operands(dose: usize, blocks: &[u8]) -> Module {
    let mut module = Module::new();
    let (source, sink) = (module.source(MOST), module.sink(MOST));
    let ty = module.ty(1, 0);
    let rounds = 18;
    let code = [
        with(op::CALL, source).repeat(rounds),
        blocks.repeat(dose / blocks.len()),
        with(op::CALL, sink).repeat(rounds),
    ];
    module.function(ty, 0, code.concat());
    module
}

/// Returns a package that does nothing.
pub(crate) fn smallest() -> Vec<u8> {
    Module::new().encode()
}
