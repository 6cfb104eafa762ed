//! Spawnling: a fresh MCP server process for every HTTP request.

mod call;
mod catalog;
mod child;
mod cli;
mod config;
mod deadline;
mod demo;
mod exchange;
mod http;
mod instance;
mod mcp;
mod rpc;
mod serve;
mod strategy;
mod telemetry;

pub use cli::run;
