"""What the browser agent needs of the world, on the loopback alone: a language model and a page to visit.

The model is a stand-in with the OpenAI chat interface and two moves: it has the agent open the address that the task
names, and when it is told what the page shows, it reports the sentence that a script wrote there. So an answer proves
that a real browser loaded the page and ran its script, and that the agent read the result.

Usage: world.py      prints its own address, then serves until it is killed
"""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# The sum is in no byte of the page: only a browser that runs the script shows it.
PAGE = b"""<!doctype html><title>A page</title><button id="b">nothing yet</button>
<script>
const n = Number(new URLSearchParams(location.search).get("n"));
document.getElementById("b").textContent = `The sum is ${n + 1000}.`;
</script>"""


def text_of(message):
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def decide(messages):
    """The agent's next action."""
    texts = [text_of(message) for message in messages]
    task = next(found for text in texts if (found := re.search(r"Go to (http://\S+?/page\?n=\d+)", text)))[1]
    now = texts[-1]
    shown = re.search(r"The sum is \d+\.", now)
    if f"Current url: {task}" in now and shown:
        return {"done": {"text": shown[0], "success": True}}
    return {"go_to_url": {"url": task}}


class World(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        found = self.path.split("?")[0] == "/page"
        self.answer(200 if found else 404, "text/html", PAGE if found else b"")

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = {"role": "assistant", "content": None}
        if tools := request.get("tools"):
            state = {"evaluation_previous_goal": "-", "memory": "-", "next_goal": "-"}
            output = {"current_state": state, "action": [decide(request["messages"])]}
            call = {"name": tools[0]["function"]["name"], "arguments": json.dumps(output)}
            message["tool_calls"] = [{"id": "call-1", "type": "function", "function": call}]
        else:  # The agent first makes sure that there is a model.
            message["content"] = "Paris"
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if tools else "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer = {"id": "1", "object": "chat.completion", "created": 0, "model": request["model"]}
        self.answer(200, "application/json", json.dumps(answer | {"choices": [choice], "usage": usage}).encode())

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), World)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    sys.exit(0)
