//! The real binary over the wire: one file per promise.
#![expect(clippy::unwrap_used, reason = "in a test, and in what helps it, an unwrap is an assertion")]

mod auth;
mod bench;
mod browser;
mod cli;
mod config;
mod credentials;
mod docs;
mod edge;
mod eras;
mod isolation;
mod legacy;
mod life;
mod limits;
mod observe;
mod peers;
mod reload;
mod rest;
mod routes;
mod sandbox;
mod scripts;
mod support;
mod threats;
mod tidy;
mod torture;
mod traces;
