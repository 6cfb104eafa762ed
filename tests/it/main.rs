//! The real binary over the wire: one file per promise.
#![expect(clippy::unwrap_used, reason = "in a test, and in what helps it, an unwrap is an assertion")]

mod eras;
mod isolation;
mod life;
mod limits;
mod rest;
mod support;
mod tidy;
