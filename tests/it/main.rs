//! The real binary over the wire: one file per promise.

mod browser;
mod eras;
mod isolation;
mod legacy;
mod life;
mod limits;
mod peers;
mod rest;
mod support;
mod tidy;
