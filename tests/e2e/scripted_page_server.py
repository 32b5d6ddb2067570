"""The server's page over an engine that says what a test wrote: stages, thoughts, calls, errors."""

import http.server
import json
import threading


class ScriptedPageServer:
    """Serves `page` (its text and policy, as the real server gave them).

    `health`: what /health answers, a (status, object) each; the last one stays.
    `answers`: a list of events for each request to chat; an event is what stands in `delta`, or an
    error. `requests`: the bodies that came.
    """

    def __init__(self, page, policy, health=(), answers=()):
        self.health, self.answers, self.requests = list(health), list(answers), []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def send(self, status, kind, text, **headers):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(text.encode())

            def do_GET(self):
                if self.path == "/":
                    self.send(200, "text/html; charset=utf-8", page, Content_Security_Policy=policy)
                elif self.path == "/health":
                    status, content = (
                        outer.health.pop(0) if len(outer.health) > 1 else outer.health[0]
                    )
                    self.send(status, "application/json", json.dumps(content))
                else:
                    entry = {"id": "scripted", "max_model_len": 4096, "has_chat_template": True}
                    self.send(200, "application/json", json.dumps({"data": [entry]}))

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append(json.loads(body))
                text = ""
                for event in outer.answers.pop(0):
                    if "error" not in event:
                        event = {"choices": [{"index": 0, "delta": event, "finish_reason": None}]}
                    text += f"data: {json.dumps(event)}\n\n"
                usage = {"prompt_tokens": 7, "completion_tokens": 3}
                text += f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"
                self.send(200, "text/event-stream", text)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
