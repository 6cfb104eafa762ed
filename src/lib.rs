//! Spawnling: a fresh MCP server process for every HTTP request.

mod catalog;
mod child {
    pub(crate) mod spec;
}
mod cli;
mod config;
mod deadline;
mod exchange;
mod mcp {
    pub(crate) mod era;
}
