//! What only the kernel's own interface can do, behind a safe function.
//!
//! Everything else about processes goes through the standard library, rustix and nix, which are safe to call. The one
//! function here needs a promise that no library can make for us, so the only unsafe code of the crate lies in the file
//! below, with its argument ([decision](../../docs/decisions/unsafe-code.md)).

mod linux;

pub(super) use linux::{Born, fork};
