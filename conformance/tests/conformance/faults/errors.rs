//! Faults in what errors report about a region of memory.

use mistletoe::ErrorKind;
use mistletoe::protocol::Region;

use super::other_region;
use crate::faulty::{Fault, SOUND};

pub(super) static FAULTS: &[Fault] = &[
    // Contents of errors.
    Fault {
        name: "takes-info-for-an-output",
        error: |error| other_region(error, |region| if region == Region::Info { Region::Output } else { region }),
        ..SOUND
    },
    Fault {
        name: "takes-the-fat-pointer-for-the-output",
        error: |error| other_region(error, |region| if region == Region::FatPointer { Region::Output } else { region }),
        ..SOUND
    },
    Fault {
        name: "takes-the-input-for-the-output",
        error: |error| other_region(error, |region| if region == Region::Input { Region::Output } else { region }),
        ..SOUND
    },
    Fault {
        name: "takes-an-input-outside-for-a-failed-allocation",
        error: |error| match error {
            ErrorKind::OutOfBounds { region: Region::Input, length, .. } => ErrorKind::Allocation { length },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "takes-a-failed-allocation-for-an-input-outside",
        error: |error| match error {
            ErrorKind::Allocation { length } => {
                ErrorKind::OutOfBounds { region: Region::Input, address: 0, length, memory: 0 }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "tells-the-memory-size-in-pages",
        error: |error| match error {
            ErrorKind::OutOfBounds { region, address, length, memory } => {
                ErrorKind::OutOfBounds { region, address, length, memory: memory >> 16 }
            }
            other => other,
        },
        ..SOUND
    },
];
