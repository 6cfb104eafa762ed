//! Spawnling: a fresh MCP server process for every HTTP request.

mod call;
mod catalog;
mod child;
mod cli;
mod config;
mod deadline;
mod exchange;
mod instance;
mod mcp;
mod rpc;
mod strategy;
