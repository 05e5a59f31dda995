//! The functions of the interface. A module imports those that it calls.

/// Declares them as imports; on targets without a host, as functions that find nothing and do nothing.
macro_rules! imports {
    ($module:literal $($link_name:literal fn $name:ident($($parameter:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        #[cfg(target_family = "wasm")]
        #[link(wasm_import_module = $module)]
        unsafe extern "C" {
            $(
                #[link_name = $link_name]
                pub(super) fn $name($($parameter: $type),*) $(-> $result)?;
            )*
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
    "k8s.io/api"
    "node" fn node(name: *const u8, length: usize, buffer: *mut u8, limit: usize) -> usize;
    "nodeList" fn node_list(buffer: *mut u8, limit: usize) -> usize;
}

imports! {
    "k8s.io/klog"
    "severity" fn severity() -> i32;
    "log" fn log(severity: i32, message: *const u8, length: usize);
    "logs" fn logs(severity: i32, message: *const u8, length: usize, pairs: *const u8, pairs_length: usize);
}

imports! {
    "k8s.io/scheduler"
    "currentPod" fn current_pod(buffer: *mut u8, limit: usize) -> usize;
    "targetPod" fn target_pod(buffer: *mut u8, limit: usize) -> usize;
    "currentNodeName" fn current_node_name(buffer: *mut u8, limit: usize) -> usize;
    "filteredNodeList" fn filtered_node_list(buffer: *mut u8, limit: usize) -> usize;
    "nodeImageStates" fn node_image_states(name: *const u8, length: usize, buffer: *mut u8, limit: usize) -> usize;
    "nodeToStatusMap" fn node_to_status_map(buffer: *mut u8, limit: usize) -> usize;
    "nodeScoreList" fn node_score_list(buffer: *mut u8, limit: usize) -> usize;
    "result.cluster_events" fn cluster_events(bytes: *const u8, length: usize);
    "result.node_names" fn node_names(bytes: *const u8, length: usize);
    "result.nominated_node_name" fn nominated_node_name(bytes: *const u8, length: usize);
    "result.normalized_score_list" fn normalized_score_list(bytes: *const u8, length: usize);
    "result.status_reason" fn status_reason(bytes: *const u8, length: usize);
    "handle.eventrecorder.eventf" fn event(bytes: *const u8, length: usize);
}

#[cfg(target_family = "wasm")]
#[link(wasm_import_module = "k8s.io/scheduler")]
unsafe extern "C" {
    pub(super) fn get_config(buffer: *mut u8, limit: usize) -> usize;
}

/// A function that hands bytes over to the host.
type Pass = unsafe extern "C" fn(*const u8, usize);

/// Hands bytes over to the host.
pub(super) fn pass(function: Pass, bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    // SAFETY: the host reads the bytes during the call.
    unsafe { function(bytes.as_ptr(), bytes.len()) }
}

/// Returns the bytes that the host has.
pub(super) fn get(function: unsafe extern "C" fn(*mut u8, usize) -> usize) -> alloc::vec::Vec<u8> {
    // SAFETY: the host writes at most as many bytes as the buffer has.
    crate::memory::fill(|buffer, limit| unsafe { function(buffer, limit) })
}

/// Returns the bytes that the host has under a name.
pub(super) fn get_by_name(
    function: unsafe extern "C" fn(*const u8, usize, *mut u8, usize) -> usize,
    name: &str,
) -> alloc::vec::Vec<u8> {
    // SAFETY: the host reads the name, and writes at most as many bytes as the buffer has.
    crate::memory::fill(|buffer, limit| unsafe { function(name.as_ptr(), name.len(), buffer, limit) })
}
