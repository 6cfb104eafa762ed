"""The Flask way that Spawnling replaces: a sync worker, and for each request a fresh connection of the Python SDK.

Usage: gunicorn --chdir scripts/bench.d --workers 5 --bind 127.0.0.1:PORT 'flask_way:app("SERVER ARG...","TOOL")'

POST / takes the tool's arguments as JSON, and answers with its result. Every request starts the server, opens the
session, calls the tool, and ends the server before it is answered, as `stdio_client` does when its block is left.
"""

import asyncio
import os
import shlex

from flask import Flask, request
from mcp import ClientSession, StdioServerParameters, stdio_client


def app(server, tool):
    command, *args = shlex.split(server)
    parameters = StdioServerParameters(command=command, args=args, env=dict(os.environ))
    flask = Flask(__name__)

    async def call(arguments):
        async with stdio_client(parameters) as (reader, writer), ClientSession(reader, writer) as session:
            await session.initialize()
            return await session.call_tool(tool, arguments)

    @flask.post("/")
    def answer():
        result = asyncio.run(call(request.get_json()))
        return flask.response_class(result.model_dump_json(by_alias=True, exclude_none=True), mimetype="application/json")

    return flask
