//! The functions of the interface. A module imports those that it calls.

/// Declares them as imports; on targets without a host, as functions that find nothing and do nothing.
macro_rules! imports {
    ($(fn $name:ident($($parameter:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        #[cfg(target_family = "wasm")]
        #[link(wasm_import_module = "http_handler")]
        unsafe extern "C" {
            $(pub(super) fn $name($($parameter: $type),*) $(-> $result)?;)*
        }

        $(
            #[cfg(not(target_family = "wasm"))]
            pub(super) unsafe extern "C" fn $name($(_: $type),*) $(-> $result)? {
                Default::default()
            }
        )*
    };
}

imports! {
    fn enable_features(features: u32) -> u32;
    fn log_enabled(level: i32) -> u32;
    fn log(level: i32, message: *const u8, length: usize);
    fn get_method(buffer: *mut u8, limit: usize) -> usize;
    fn set_method(method: *const u8, length: usize);
    fn get_uri(buffer: *mut u8, limit: usize) -> usize;
    fn set_uri(uri: *const u8, length: usize);
    fn get_protocol_version(buffer: *mut u8, limit: usize) -> usize;
    fn get_source_addr(buffer: *mut u8, limit: usize) -> usize;
    fn get_header_names(kind: u32, buffer: *mut u8, limit: usize) -> u64;
    fn get_header_values(kind: u32, name: *const u8, length: usize, buffer: *mut u8, limit: usize) -> u64;
    fn set_header_value(kind: u32, name: *const u8, name_length: usize, value: *const u8, length: usize);
    fn add_header_value(kind: u32, name: *const u8, name_length: usize, value: *const u8, length: usize);
    fn remove_header(kind: u32, name: *const u8, length: usize);
    fn read_body(kind: u32, buffer: *mut u8, limit: usize) -> u64;
    fn write_body(kind: u32, bytes: *const u8, length: usize);
    fn get_status_code() -> u32;
    fn set_status_code(status: u32);
}

#[cfg(target_family = "wasm")]
#[link(wasm_import_module = "http_handler")]
unsafe extern "C" {
    pub(super) fn get_config(buffer: *mut u8, limit: usize) -> usize;
}
