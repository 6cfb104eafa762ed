//! The real binary over the wire, against the demo server: one file per promise.

mod isolation;
mod life;
mod limits;
mod rest;
mod support;
