//! Every integration test, in one binary: one file per promise.

mod cli;
mod docs;
mod tidy;
