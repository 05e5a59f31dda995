//! Parts of the binary format (core 2.0, chapter 5): numbers, lengths and opcodes.

/// The opcodes used in this crate (core 2.0, section 5.4).
pub(crate) mod op {
    pub(crate) const UNREACHABLE: u8 = 0x00;
    pub(crate) const NOP: u8 = 0x01;
    pub(crate) const BLOCK: u8 = 0x02;
    pub(crate) const LOOP: u8 = 0x03;
    pub(crate) const IF: u8 = 0x04;
    pub(crate) const ELSE: u8 = 0x05;
    pub(crate) const END: u8 = 0x0b;
    pub(crate) const BR: u8 = 0x0c;
    pub(crate) const BR_IF: u8 = 0x0d;
    pub(crate) const BR_TABLE: u8 = 0x0e;
    pub(crate) const RETURN: u8 = 0x0f;
    pub(crate) const CALL: u8 = 0x10;
    pub(crate) const CALL_INDIRECT: u8 = 0x11;
    pub(crate) const SELECT: u8 = 0x1b;
    pub(crate) const SELECT_T: u8 = 0x1c;
    pub(crate) const LOCAL_GET: u8 = 0x20;
    pub(crate) const LOCAL_SET: u8 = 0x21;
    pub(crate) const LOCAL_TEE: u8 = 0x22;
    pub(crate) const GLOBAL_GET: u8 = 0x23;
    pub(crate) const GLOBAL_SET: u8 = 0x24;
    pub(crate) const TABLE_GET: u8 = 0x25;
    pub(crate) const TABLE_SET: u8 = 0x26;
    pub(crate) const MEMORY_SIZE: u8 = 0x3f;
    pub(crate) const MEMORY_GROW: u8 = 0x40;
    pub(crate) const I32_CONST: u8 = 0x41;
    pub(crate) const I64_CONST: u8 = 0x42;
    pub(crate) const I32_NE: u8 = 0x47;
    pub(crate) const I32_LT_S: u8 = 0x48;
    pub(crate) const I64_LT_S: u8 = 0x53;
    pub(crate) const I32_ADD: u8 = 0x6a;
    pub(crate) const I32_MUL: u8 = 0x6c;
    pub(crate) const I64_ADD: u8 = 0x7c;
    pub(crate) const I64_SUB: u8 = 0x7d;
    pub(crate) const I64_OR: u8 = 0x84;
    pub(crate) const I64_SHL: u8 = 0x86;
    pub(crate) const I64_SHR_U: u8 = 0x88;
    pub(crate) const I64_EXTEND_I32_U: u8 = 0xad;
    pub(crate) const REF_IS_NULL: u8 = 0xd1;
    pub(crate) const REF_FUNC: u8 = 0xd2;
    pub(crate) const PREFIX: u8 = 0xfc;
    pub(crate) const VECTOR: u8 = 0xfd;
    pub(crate) const EMPTY: u8 = 0x40;
    pub(crate) const I32: u8 = 0x7f;
    pub(crate) const I64: u8 = 0x7e;
}

/// Appends a signed number in the binary format (core 2.0, section 5.2.2).
pub(crate) fn signed(out: &mut Vec<u8>, mut number: i64) {
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 && byte & 0x40 == 0 || number == -1 && byte & 0x40 != 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

/// Reads an unsigned number of up to 32 bits, which must be valid. Returns it and its length in bytes.
pub(crate) fn number(bytes: &[u8]) -> (u32, usize) {
    let mut number = 0_u32;
    for (i, byte) in bytes.iter().take(5).enumerate() {
        number |= u32::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return (number, i + 1);
        }
    }
    (number, bytes.len().min(5))
}

/// Appends bytes prefixed with their length: a section's content, or a function's body.
pub(crate) fn body(out: &mut Vec<u8>, content: &[u8]) {
    leb128(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Placeholder for a number below 2^32 that is known only after what follows it.
pub(crate) const ROOM: [u8; 5] = [0; 5];

/// Fills a [`ROOM`] with a number, padded to the length of the room.
pub(crate) fn fill(out: &mut [u8], number: usize) {
    for (i, byte) in out.iter_mut().take(ROOM.len()).enumerate() {
        let more = if i + 1 < ROOM.len() { 0x80 } else { 0 };
        *byte = (number >> (7 * i)) as u8 & 0x7f | more;
    }
}

/// Appends an unsigned number in the binary format (core 2.0, section 5.2.2).
pub(crate) fn leb128(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
