//! The error codes of the functions.

use std::fmt;
use std::io;

macro_rules! errnos {
    ($($name:ident = $code:literal, $meaning:literal;)*) => {
        /// Error codes of the functions, as the specification numbers them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Errno {
            $(#[doc = $meaning] $name = $code,)*
        }

        impl fmt::Display for Errno {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $meaning,)*
                })
            }
        }
    };
}

errnos! {
    TooBig = 1, "argument list too long";
    Acces = 2, "permission denied";
    AddrInUse = 3, "address in use";
    AddrNotAvail = 4, "address not available";
    AfNoSupport = 5, "address family not supported";
    Again = 6, "resource unavailable for now";
    Already = 7, "connection already in progress";
    Badf = 8, "bad file descriptor";
    BadMsg = 9, "bad message";
    Busy = 10, "device or resource busy";
    Canceled = 11, "operation cancelled";
    Child = 12, "no child processes";
    ConnAborted = 13, "connection aborted";
    ConnRefused = 14, "connection refused";
    ConnReset = 15, "connection reset";
    Deadlk = 16, "resource deadlock would occur";
    DestAddrReq = 17, "destination address required";
    Dom = 18, "argument out of the function's domain";
    Dquot = 19, "disk quota exceeded";
    Exist = 20, "file exists";
    Fault = 21, "bad address";
    Fbig = 22, "file too large";
    HostUnreach = 23, "host is unreachable";
    Idrm = 24, "identifier removed";
    Ilseq = 25, "illegal byte sequence";
    InProgress = 26, "operation in progress";
    Intr = 27, "interrupted function";
    Inval = 28, "invalid argument";
    Io = 29, "input/output error";
    IsConn = 30, "socket is connected";
    IsDir = 31, "is a directory";
    Loop = 32, "too many levels of symbolic links";
    Mfile = 33, "too many open files";
    Mlink = 34, "too many links";
    MsgSize = 35, "message too large";
    Multihop = 36, "reserved";
    NameTooLong = 37, "file name too long";
    NetDown = 38, "network is down";
    NetReset = 39, "connection aborted by the network";
    NetUnreach = 40, "network unreachable";
    Nfile = 41, "too many files open in the system";
    NoBufs = 42, "no buffer space available";
    NoDev = 43, "no such device";
    NoEnt = 44, "no such file or directory";
    NoExec = 45, "executable file format error";
    NoLck = 46, "no locks available";
    NoLink = 47, "reserved";
    NoMem = 48, "not enough space";
    NoMsg = 49, "no message of the desired type";
    NoProtoOpt = 50, "protocol not available";
    NoSpc = 51, "no space left on device";
    NoSys = 52, "function not supported";
    NotConn = 53, "the socket is not connected";
    NotDir = 54, "not a directory";
    NotEmpty = 55, "directory not empty";
    NotRecoverable = 56, "state not recoverable";
    NotSock = 57, "not a socket";
    NotSup = 58, "not supported";
    NoTty = 59, "inappropriate I/O control operation";
    Nxio = 60, "no such device or address";
    Overflow = 61, "value too large for its type";
    OwnerDead = 62, "previous owner died";
    Perm = 63, "operation not permitted";
    Pipe = 64, "broken pipe";
    Proto = 65, "protocol error";
    ProtoNoSupport = 66, "protocol not supported";
    Prototype = 67, "protocol wrong type for socket";
    Range = 68, "result too large";
    Rofs = 69, "read-only file system";
    Spipe = 70, "invalid seek";
    Srch = 71, "no such process";
    Stale = 72, "reserved";
    TimedOut = 73, "connection timed out";
    TxtBsy = 74, "text file busy";
    Xdev = 75, "cross-device link";
    NotCapable = 76, "not granted";
}

/// Error number of a cycle of symbolic links, for which `std` has no kind yet.
const ELOOP: i32 = if cfg!(any(target_os = "linux", target_os = "android")) { 40 } else { 62 };

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.raw_os_error() {
            // The numbers are the same on every Unix, and error kinds do not distinguish them.
            Some(1) if cfg!(unix) => return Self::Perm,
            Some(6) if cfg!(unix) => return Self::Nxio,
            Some(23) if cfg!(unix) => return Self::Nfile,
            Some(24) if cfg!(unix) => return Self::Mfile,
            Some(ELOOP) if cfg!(unix) => return Self::Loop,
            // The confinement to a directory refused it, not the system.
            None if error.kind() == Kind::PermissionDenied => return Self::NotCapable,
            _ => {}
        }
        match error.kind() {
            Kind::NotFound => Self::NoEnt,
            Kind::PermissionDenied => Self::Acces,
            Kind::AlreadyExists => Self::Exist,
            Kind::WouldBlock => Self::Again,
            Kind::NotADirectory => Self::NotDir,
            Kind::IsADirectory => Self::IsDir,
            Kind::DirectoryNotEmpty => Self::NotEmpty,
            Kind::ReadOnlyFilesystem => Self::Rofs,
            Kind::InvalidInput => Self::Inval,
            Kind::StorageFull | Kind::WriteZero => Self::NoSpc,
            Kind::NotSeekable => Self::Spipe,
            Kind::QuotaExceeded => Self::Dquot,
            Kind::FileTooLarge => Self::Fbig,
            Kind::ResourceBusy => Self::Busy,
            Kind::ExecutableFileBusy => Self::TxtBsy,
            Kind::Deadlock => Self::Deadlk,
            Kind::CrossesDevices => Self::Xdev,
            Kind::TooManyLinks => Self::Mlink,
            Kind::InvalidFilename => Self::NameTooLong,
            Kind::BrokenPipe => Self::Pipe,
            Kind::Interrupted => Self::Intr,
            Kind::Unsupported => Self::NotSup,
            Kind::OutOfMemory => Self::NoMem,
            Kind::StaleNetworkFileHandle => Self::Stale,
            _ => Self::Io,
        }
    }
}

impl std::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_by_the_system_and_by_the_confinement_differ() {
        assert_eq!(Errno::from(io::Error::from_raw_os_error(1)), Errno::Perm);
        assert_eq!(Errno::from(io::Error::from_raw_os_error(13)), Errno::Acces);
        assert_eq!(Errno::from(io::Error::new(io::ErrorKind::PermissionDenied, "outside")), Errno::NotCapable);
    }

    #[test]
    fn codes_are_the_specifications() {
        let codes = [(Errno::Badf, 8), (Errno::Fault, 21), (Errno::Spipe, 70), (Errno::NotCapable, 76)];
        assert!(codes.iter().all(|&(errno, code)| errno as u16 == code));
    }
}
