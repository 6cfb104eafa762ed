//! Spawnling: a fresh MCP server process for every HTTP request.
