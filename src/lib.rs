//! Spawnling: a fresh MCP server process for every HTTP request.

mod catalog;
mod child {
    pub(crate) mod spec;
}
mod deadline;
mod exchange;
mod mcp {
    pub(crate) mod era;
}
mod rpc;
