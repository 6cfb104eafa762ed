"""The original browser-agent API as a synchronous Flask service, with Spawnling doing what asyncio could not.

No event loop, no MCP client, no connection that outlives a request: each call is one plain HTTP request to the gateway,
which starts a fresh MCP server for it and ends it afterwards. So any worker may take any request.

SPAWNLING_URL     where the gateway is (default http://127.0.0.1:5001)
SPAWNLING_TOKEN   sent as a bearer token when set
BROWSER_TIMEOUT   seconds that a task may take (default 600)
"""

import os

import requests
from flask import Flask, jsonify, request

GATEWAY = os.environ.get("SPAWNLING_URL", "http://127.0.0.1:5001").rstrip("/")
TOKEN = os.environ.get("SPAWNLING_TOKEN")
HEADERS = {"Authorization": f"Bearer {TOKEN}"} if TOKEN else {}
TIMEOUT = int(os.environ.get("BROWSER_TIMEOUT", "600"))

app = Flask(__name__)


def call_tool(server, tool, arguments):
    """Calls an MCP tool in a process of its own; returns its text, or raises CallFailed."""
    try:
        answer = requests.post(
            f"{GATEWAY}/v1/servers/{server}/tools/{tool}",
            json=arguments,
            headers=HEADERS | {"Spawnling-Timeout": f"{TIMEOUT}s"},
            # A little longer than the gateway's own limit, so that its explanation arrives before we give up.
            timeout=(5, TIMEOUT + 20),
        )
        body = answer.json()
    except requests.RequestException as error:
        raise CallFailed(502, f"the gateway at {GATEWAY} did not answer: {error}") from error
    if not answer.ok:
        raise CallFailed(answer.status_code, explanation(body))
    return texts(body)


class CallFailed(Exception):
    """Why a call failed, and with which status to say so."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status


def texts(result):
    return "\n".join(item["text"] for item in result.get("content", []) if item.get("type") == "text")


def explanation(problem):
    """What the tool itself complained about, if it ran; else what the gateway says (RFC 9457)."""
    return texts(problem.get("result") or {}) or problem.get("detail") or problem.get("title") or "unknown error"


@app.post("/api/browser-agent")
def browser_agent():
    body = request.get_json(silent=True)
    task = body.get("task") if isinstance(body, dict) else None
    if not isinstance(task, str) or not task.strip():
        return jsonify(success=False, error="No task provided"), 400
    try:
        return jsonify(success=True, result=call_tool("browser", "run_browser_agent", {"task": task}))
    except CallFailed as failure:
        return jsonify(success=False, error=str(failure)), failure.status


@app.get("/api/health")
def health():
    try:
        answer = requests.get(f"{GATEWAY}/api/health", headers=HEADERS, timeout=5)
        available = answer.ok and answer.json().get("mcp_available") is True
    except requests.RequestException:
        available = False
    return jsonify(status="healthy", mcp_available=available)


@app.post("/api/disconnect")
def disconnect():
    return jsonify(
        success=True, message="No persistent connection maintained. Each request uses a fresh connection."
    )
