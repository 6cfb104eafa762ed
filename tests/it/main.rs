//! The real binary over the wire: one file per promise.

mod eras;
mod life;
mod limits;
mod support;
mod tidy;
