"""The server's page in a browser: what models do at times, and a scripted server when asked."""

import json
import urllib.request

from page_case import PageTest, main
from scripted_page_server import ScriptedPageServer
from served import serving

READY = (200, {"status": "ok", "stage": "", "done": 0, "of": 0, "error": None})


def opening(status, stage="", done=0, of=0, error=None):
    return 503, {"status": status, "stage": stage, "done": done, "of": of, "error": error}


class Events(PageTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with serving("demo", is_ready=False) as server, urllib.request.urlopen(server.url) as reply:
            cls.page = (reply.read().decode(), reply.headers["Content-Security-Policy"])

    def serve(self, **options):
        server = ScriptedPageServer(*self.page, **{"health": [READY], **options})
        self.addCleanup(server.close)
        return server

    def test_opening_is_shown(self):
        stages = [opening("opening", "compiling kernels", done, 40) for done in (3, 12)]
        server = self.serve(health=[*stages, READY])
        self.browser.open(server.url + "/")
        self.browser.wait_for("#banner", text="compiling kernels (12 of 40)")
        self.assertEqual(self.browser.get("progress", "value"), 12)
        self.assertEqual(self.browser.get("progress", "max"), 40)
        self.browser.wait_for("#message")
        self.browser.wait_for("#banner[hidden]")

    def test_a_failed_opening_is_told(self):
        failed = opening("failed", error="no such file")
        self.open(self.serve(health=[failed]).url, ".banner.bad")
        self.assertIn("no such file", self.browser.get("#banner"))

    def test_thoughts_calls_and_their_results(self):
        function = {"name": "weather", "arguments": ""}
        call = {"index": 0, "id": "call_1", "type": "function", "function": function}
        parts = ('{"city":', '"Paris"}')
        first = [{"role": "assistant", "content": ""}, {"reasoning_content": "Look <b>it</b> up."}]
        first += [{"tool_calls": [call]}]
        first += [{"tool_calls": [{"index": 0, "function": {"arguments": x}}]} for x in parts]
        server = self.serve(answers=[first, [{"content": "It is **sunny**."}]])
        self.open(server.url, "#message")
        tool = {"type": "function", "function": {"name": "weather"}}
        self.set(tools=json.dumps([tool]))
        self.browser.type("#message", "Paris?\n")
        self.browser.wait_for("#message[aria-label='Result of weather']")
        self.assertEqual(self.browser.get(".thinking div"), "Look <b>it</b> up.")
        self.assertEqual(json.loads(self.browser.get(".calls code")), {"city": "Paris"})
        self.browser.type("#message", "sunny\n")
        self.browser.wait_for(".body strong", text="sunny")
        self.assertEqual(server.requests[0]["tools"], [tool])
        told = {
            "id": "call_1",
            "type": "function",
            "function": {"name": "weather", "arguments": "".join(parts)},
        }
        self.assertEqual(
            server.requests[1]["messages"],
            [
                {"role": "user", "content": "Paris?"},
                {"role": "assistant", "content": "", "tool_calls": [told]},
                {"role": "tool", "content": "sunny", "tool_call_id": "call_1"},
            ],
        )
        self.check_complaints()

    def test_an_error_is_told_and_tried_again(self):
        error = {"error": {"message": "the device is <gone>"}}
        server = self.serve(answers=[[{"content": "half"}, error], [{"content": "whole"}]])
        self.open(server.url, "#message")
        self.browser.type("#message", "hello\n")
        self.browser.wait_for(".failure span", text="the device is <gone>")
        self.assertEqual(self.browser.get(".body"), "half")
        self.browser.click(".failure .button")
        self.browser.wait_for(".body", n=1, text="whole")
        self.browser.wait_for(".failure", n=0)
        self.assertEqual(server.requests[0]["messages"], server.requests[1]["messages"])
        self.check_complaints()

    def test_key_is_asked_for_and_kept_for_the_session_only(self):
        with serving("demo", "--api-key", "sesame") as server:
            self.open(server.url, ".banner.bad .button")
            self.browser.click(".banner .button")
            self.browser.type("#s-key", "sesame")
            self.browser.click("#drawer-close")
            self.browser.wait_for("#text")
            self.browser.wait_for("#banner[hidden]")
            kept = self.browser.script(
                "return [JSON.stringify(localStorage), sessionStorage['nereid-key']]"
            )
            self.assertNotIn("sesame", kept[0])
            self.assertEqual(kept[1], "sesame")
            complaints = self.browser.complaints()
            self.assertEqual([x for x in complaints if "401" not in x], [])
            server.kill()
            self.browser.click(".examples .button")
            self.browser.wait_for(".failure", text="cannot be reached")
            self.assertEqual(self.browser.all(".failure button"), ["Try again"])


if __name__ == "__main__":
    main()
