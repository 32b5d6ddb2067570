"""`nereid serve` against clients that break the rules, by mistake or not. Every case ends with a
server that still answers."""

import contextlib
import json
import random
import socket
import time
import unittest
import urllib.request

import nereid_cli
from served import serving

BODY = json.dumps({"prompt": "a", "max_tokens": 2}).encode()
LONG = json.dumps({"prompt": "a", "max_tokens": 1500, "ignore_eos": True}).encode()


def post(body, *headers, path="/v1/completions", length=True, host="127.0.0.1"):
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def get(path, *headers, host="127.0.0.1", method="GET"):
    return (
        "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]) + "\r\n\r\n"
    ).encode()


class AttacksTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.context = serving("demo", "--no-access-log")
        cls.server = cls.context.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def tearDown(self):
        with urllib.request.urlopen(self.server.url + "/health", timeout=10) as reply:
            self.assertEqual(reply.status, 200)
        self.assertIsNone(self.server.process.poll())

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=30)

    def talk(self, sent):
        """All that the server says until it closes, or nothing comes for a second."""
        with self.connect() as client:
            client.sendall(sent)
            client.settimeout(2)
            said = b""
            try:
                while chunk := client.recv(65536):
                    said += chunk
                    if b"\r\n\r\n" in said:
                        client.settimeout(0.5)
            except (TimeoutError, ConnectionResetError):
                pass
            return said

    def statuses(self, said):
        return [
            int(part.split(b" ")[0]) for part in said.split(b"HTTP/1.1 ")[1:] if part[:1].isdigit()
        ]

    def assert_status(self, sent, *expected):
        got = self.statuses(self.talk(sent))
        self.assertEqual(len(got), 1, (sent[:200], got))
        self.assertIn(got[0], expected, sent[:200])

    def test_heads(self):
        self.assert_status(get("/" + "a" * 20_000), 431)
        self.assert_status(get("/", *[f"X-{i}: {'v' * 100}" for i in range(300)]), 431)
        self.assert_status(b"GET / HTTP/1.1\r\n\r\n", 400)  # no Host
        self.assert_status(get("/", "Host: other"), 400)
        self.assert_status(b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 400, 505)
        self.assert_status(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100, 400
        )  # TLS
        self.assert_status(b"nonsense\r\n\r\n", 400)
        self.assert_status(get("/", "Bad\0Name: x"), 400)
        self.assert_status(get("/", "Upgrade: websocket", "Connection: Upgrade"), 400)
        self.assert_status(get("/v1/models", method="CONNECT"), 400)
        self.assert_status(get("/v1/models", method="DELETE"), 405)
        self.assert_status(post(BODY, "Expect: the-unexpected"), 417)

    def test_smuggling(self):
        hidden = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        chunked = b"0\r\n\r\n" + hidden
        for headers in (
            ("Transfer-Encoding: chunked", f"Content-Length: {len(chunked)}"),
            (f"Content-Length: {len(chunked)}", "Transfer-Encoding: chunked"),
            ("Transfer-Encoding: xchunked",),
            ("Transfer-Encoding: chunked, identity",),
            ("Transfer-Encoding: identity, chunked",),
            ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
            ("Transfer-Encoding : chunked",),
            ("Content-Length: 5", "Content-Length: 6"),
            ("Content-Length: +5",),
            ("Content-Length: -5",),
            ("Content-Length: 0x5",),
            ("Content-Length: 99999999999999999999999",),
            ("Content-Length: 5, 6",),
        ):
            said = self.talk(post(chunked, *headers, length=False))
            got = self.statuses(said)
            self.assertEqual(len(got), 1, headers)
            self.assertIn(got[0], (400, 413, 501), headers)

    def test_pipelining_is_refused(self):
        said = self.talk(post(BODY) + post(BODY))
        self.assertEqual(self.statuses(said), [200])
        self.assertIn(b"Connection: close", said)

    def test_one_after_another_is_not_pipelining(self):
        with self.connect() as client:
            for _ in range(3):
                client.sendall(post(BODY))
                said = b""
                while b"}}}" not in said:
                    said += client.recv(65536)
                self.assertEqual(self.statuses(said), [200])

    def test_chunked_bodies_and_continue(self):
        pieces = b"".join(
            b"%x\r\n%s\r\n" % (len(BODY[i : i + 7]), BODY[i : i + 7])
            for i in range(0, len(BODY), 7)
        )
        self.assert_status(
            post(pieces + b"0\r\n\r\n", "Transfer-Encoding: chunked", length=False), 200
        )
        with self.connect() as client:
            client.sendall(post(BODY, "Expect: 100-continue")[: -len(BODY)])
            self.assertIn(b"100 Continue", client.recv(1000))
            client.sendall(BODY)
            self.assertIn(b"200 OK", client.recv(65536))

    def test_large_bodies(self):
        head = post(b"", "Content-Length: 1000000000", length=False)
        self.assert_status(head, 413)
        for body in (
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"prompt":' + b"[" * 70 + b"]" * 70 + b"}",
        ):
            self.assert_status(post(body), 400)
        self.assert_status(post(b'{"prompt": "\xff\xfe"}'), 400)
        self.assert_status(
            post(b'{"prompt": "a", "stop": ' + json.dumps(["x"] * 10_000).encode() + b"}"), 400
        )

    def test_names_and_origins(self):
        self.assert_status(get("/v1/models", host="evil.example"), 403)  # DNS rebinding
        self.assert_status(get("/v1/models", host="127.0.0.1.evil.example"), 403)
        self.assert_status(post(BODY, "Origin: https://evil.example"), 403)
        self.assert_status(post(BODY, "Origin: null"), 403)
        self.assert_status(get("/v1/models", "Origin: http://localhost:3000"), 200)
        said = self.talk(
            get(
                "/v1/completions",
                "Origin: http://localhost:3000",
                "Access-Control-Request-Method: POST",
                method="OPTIONS",
            )
        )
        self.assertIn(b"Access-Control-Allow-Origin: http://localhost:3000", said)
        self.assertNotIn(b"Access-Control-Allow-Origin", self.talk(get("/v1/models")))

    def test_paths(self):
        for path in (
            "/../etc/passwd",
            "/v1/../v1/models",
            "//v1/models",
            "/v1/models/",
            "/%2e%2e/x",
            "/v1/models%00",
        ):
            self.assert_status(get(path), 404)
        self.assert_status(get("/v1/models/../../etc/passwd"), 404)
        self.assert_status(get("/v1/models?x=y"), 200)

    def test_templates_and_schemas(self):
        def chat(**fields):
            return post(
                json.dumps(
                    {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1, **fields}
                ).encode(),
                path="/v1/chat/completions",
            )

        self.assert_status(chat(chat_template="{% for i in range(10**9) %}x{% endfor %}"), 400)
        self.assert_status(
            chat(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), 400
        )
        bomb = {
            "$defs": {str(i): {"anyOf": [{"$ref": f"#/$defs/{i + 1}"}] * 20} for i in range(40)}
        }
        bomb["$defs"]["40"] = {"type": "null"}
        bomb["$ref"] = "#/$defs/0"
        loop = {"$ref": "#"}
        for schema in (bomb, loop, {"pattern": "(a{1,1000}){1,1000}", "type": "string"}):
            began = time.monotonic()
            said = self.talk(
                post(json.dumps({"prompt": "a", "max_tokens": 1, "guided_json": schema}).encode())
            )
            self.assertIn(self.statuses(said), ([400], [200]), schema)
            self.assertLess(time.monotonic() - began, 25)

    def test_slow_and_half_closed_clients(self):
        slow = self.connect()  # a head that never ends
        slow.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
        with self.connect() as half:  # asks, and closes its sending half: gone
            half.sendall(post(LONG))
            time.sleep(0.2)
            half.shutdown(socket.SHUT_WR)
            self.assertEqual(half.recv(1000), b"")
        slow.settimeout(20)
        self.assertIn(b" 408 ", slow.recv(1000))
        slow.close()

    def test_random_bytes(self):
        seed = random.randrange(1 << 30)
        rng = random.Random(seed)
        parts = [
            BODY,
            post(BODY),
            get("/health"),
            b"\r\n",
            b"\r\n\r\n",
            b"HTTP/1.1",
            b":",
            b"\0",
            b"Content-Length: 9",
        ]
        for _ in range(300):
            sent = bytearray(b"".join(rng.choice(parts) for _ in range(rng.randrange(1, 6))))
            for _ in range(rng.randrange(6)):
                sent[rng.randrange(len(sent))] = rng.randrange(256)
            with self.subTest(seed=seed), self.connect() as client:
                client.sendall(sent)
                if rng.random() < 0.5:
                    client.settimeout(0.05)
                    with contextlib.suppress(TimeoutError, ConnectionResetError):
                        client.recv(65536)


if __name__ == "__main__":
    nereid_cli.main()
