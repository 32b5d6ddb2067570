"""/v1/responses and /v1/messages as their clients see them: openai-python and anthropic."""

import contextlib
import json
import os
import re
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import anthropic
import nereid_cli
import openai
import pydantic
from openai.types.responses import Response

# As Qwen's: it knows tools and writes Hermes' calls.
TEMPLATE = (
    "{%- if tools %}{{ '<tools>' + (tools | tojson) + '</tools><tool_call>' }}{% endif %}"
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content }}"
    "{%- for call in m.tool_calls or [] %}{{ '<tool_call>' + (call | tojson) + '</tool_call>' }}"
    "{%- endfor %}{{ '<|im_end|>\\n' }}{%- endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
QUESTION = "def fibonacci(n):"
SCHEMA = {
    "type": "object",
    "properties": {"unit": {"enum": ["celsius", "kelvin"]}, "is_precise": {"type": "boolean"}},
    "required": ["unit", "is_precise"],
    "additionalProperties": False,
}
FUNCTION = {"type": "function", "name": "set_unit", "parameters": SCHEMA, "strict": True}
TOOL = {"name": "set_unit", "description": "Sets it.", "input_schema": SCHEMA}


@contextlib.contextmanager
def serving(*options):
    """The URL of a server of the demo model."""
    with tempfile.TemporaryDirectory(prefix="nereid-e2e-") as folder:
        template = Path(folder) / "template.jinja"
        template.write_text(TEMPLATE)
        environment = {k: v for k, v in os.environ.items() if k != "NEREID_API_KEY"}
        command = [nereid_cli.nereid_path, "serve", "demo", "--port", "0", "--no-access-log"]
        command += ["--chat-template", template, *options, *nereid_cli.MODEL_OPTIONS]
        process = subprocess.Popen(
            list(map(str, command)), stderr=subprocess.PIPE, text=True, env=environment
        )
        lines = []
        try:
            for line in process.stderr:
                lines.append(line)
                if found := re.search(r"http://\S+?:(\d+)/", line):
                    break
            else:
                raise AssertionError("no address:\n" + "".join(lines))
            threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True).start()
            url = f"http://127.0.0.1:{found[1]}"
            wait_until_ready(process, url, lines)
            yield url
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


def wait_until_ready(process, url, lines):
    end = time.monotonic() + nereid_cli.TIMEOUT_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError("the server ended:\n" + "".join(lines))
        try:
            with urllib.request.urlopen(url + "/health", timeout=10):
                return
        except (urllib.error.HTTPError, ConnectionError):
            time.sleep(0.05)
    raise AssertionError("not ready in time")


def fetch(url, body=None, method=None):
    """Status and JSON, whatever the status."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


class ServerCase(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.url = cls.enterClassContext(serving())


class ResponsesTest(ServerCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.client = openai.OpenAI(base_url=cls.url + "/v1", api_key="none", max_retries=0)
        cls.enterClassContext(cls.client)

    def create(self, **fields):
        fields = {"model": "demo", "input": QUESTION, "temperature": 0, **fields}
        fields.setdefault("max_output_tokens", 24)
        return self.client.responses.create(**fields)

    def streamed(self, **fields):
        """The events, and the response of the last."""
        events = list(self.create(stream=True, **fields))
        self.assertEqual([e.sequence_number for e in events], list(range(len(events))))
        self.assertEqual([e.type for e in events[:2]], ["response.created", "response.in_progress"])
        return events, events[-1].response

    def said(self, response):
        """What of a response two of the same request share."""
        shown = response.to_dict()
        for name in ("id", "created_at", "completed_at"):
            shown.pop(name)
        for item in shown["output"]:
            item.pop("id")
            item.pop("call_id", None)  # of a seed that each request draws
        # Of the prompt more may be found in the cache.
        shown["usage"].pop("input_tokens_details")
        return shown

    def test_is_a_response(self):
        response = self.create()
        Response.model_validate(response.to_dict())
        self.assertEqual(response.model, "demo")
        self.assertEqual(response.status, "incomplete")
        self.assertEqual(response.incomplete_details.reason, "max_output_tokens")
        self.assertEqual(response.usage.output_tokens, 24)
        chat = self.client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": QUESTION}],
            temperature=0,
            max_tokens=24,
        )
        self.assertEqual(response.output_text, chat.choices[0].message.content)
        self.assertEqual(response.usage.input_tokens, chat.usage.prompt_tokens)

    def test_streamed_equals_unstreamed(self):
        calls = {"tools": [FUNCTION], "tool_choice": "required", "parallel_tool_calls": False}
        form = {"text": {"format": {"type": "json_schema", "name": "f", "schema": SCHEMA}}}
        for fields in ({}, calls, form):
            fields = {"max_output_tokens": 200, **fields}
            whole = self.create(**fields)
            events, last = self.streamed(**fields)
            self.assertEqual(self.said(last), self.said(whole))
            text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
            self.assertEqual(text, whole.output_text)
            kind = "completed" if whole.status == "completed" else "incomplete"
            self.assertEqual(events[-1].type, "response." + kind)

    def test_the_clients_own_stream(self):
        # It puts the response together itself, and says where events contradict each other.
        with self.client.responses.stream(
            model="demo",
            input=QUESTION,
            temperature=0,
            tools=[FUNCTION],
            tool_choice="required",
            parallel_tool_calls=False,
            max_output_tokens=200,
        ) as stream:
            arguments = ""
            for event in stream:
                if event.type == "response.function_call_arguments.delta":
                    arguments += event.delta
                    self.assertTrue(event.snapshot.endswith(event.delta))
            response = stream.get_final_response()
        called = "".join(item.arguments for item in response.output)
        self.assertEqual(arguments, called)

    def test_parses_what_has_a_form(self):
        class Setting(pydantic.BaseModel):
            is_precise: bool

        response = self.client.responses.parse(
            model="demo", input=QUESTION, temperature=0, text_format=Setting
        )
        self.assertIsInstance(response.output_parsed, Setting)
        self.assertEqual(response.text.format.name, "Setting")

    def test_calls_go_round(self):
        first = self.create(tools=[FUNCTION], tool_choice="required", max_output_tokens=200)
        calls = [item for item in first.output if item.type == "function_call"]
        self.assertTrue(calls)
        for call in calls:
            self.assertEqual(call.name, "set_unit")
            if call.status == "completed":
                self.assertIn(json.loads(call.arguments)["unit"], ("celsius", "kelvin"))
        history = [{"role": "user", "content": QUESTION}]
        history += [item.to_dict() for item in first.output if item.status == "completed"]
        history += [
            {"type": "function_call_output", "call_id": item["call_id"], "output": "done"}
            for item in history[1:]
        ]
        second = self.create(input=history, tools=[FUNCTION])
        self.assertGreater(second.usage.input_tokens, first.usage.input_tokens)

    def test_tools_of_a_namespace_and_custom_ones(self):
        tools = [
            {"type": "web_search"},
            {
                "type": "namespace",
                "name": "files",
                "description": "Files",
                "tools": [{"type": "custom", "name": "patch"}],
            },
        ]
        response = self.create(tools=tools, tool_choice="required", max_output_tokens=64)
        self.assertEqual(response.output[0].type, "custom_tool_call")
        self.assertEqual(response.output[0].name, "patch")
        self.assertEqual(response.output[0].namespace, "files")
        _, last = self.streamed(tools=tools, tool_choice="required", max_output_tokens=64)
        self.assertEqual(last.output[0].input, response.output[0].input)

    def test_nothing_is_stored(self):
        with self.assertRaisesRegex(openai.BadRequestError, "not stored"):
            self.create(previous_response_id="resp_1")
        with self.assertRaisesRegex(openai.NotFoundError, "not stored"):
            self.client.responses.retrieve("resp_1")

    def test_says_what_is_wrong(self):
        with self.assertRaisesRegex(openai.BadRequestError, "input_image"):
            self.create(
                input=[
                    {"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}
                ]
            )
        with self.assertRaisesRegex(openai.NotFoundError, 'this server has "demo"'):
            self.create(model="gpt-5")
        with self.assertRaisesRegex(openai.BadRequestError, "context"):
            self.create(input=QUESTION * 4000)


class MessagesTest(ServerCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.client = anthropic.Anthropic(base_url=cls.url, api_key="none", max_retries=0)
        cls.enterClassContext(cls.client)

    def fields(self, **fields):
        fields = {
            "model": "demo",
            "max_tokens": 24,
            "messages": [{"role": "user", "content": QUESTION}],
            **fields,
        }
        fields["extra_body"] = {"temperature": 0, **fields.get("extra_body", {})}
        return fields

    def create(self, **fields):
        return self.client.messages.create(**self.fields(**fields))

    def said(self, message):
        shown = message.to_dict()
        shown.pop("id")
        shown.pop("stop_details", None)  # which the client adds to streams
        for block in shown["content"]:
            block.pop("id", None)
        usage = shown.pop("usage")
        n_prompt = usage["input_tokens"] + usage["cache_read_input_tokens"]
        return shown, n_prompt, usage["output_tokens"]

    def test_is_a_message(self):
        message = self.create(system="Be brief.")
        anthropic.types.Message.model_validate(message.to_dict())
        self.assertEqual(message.stop_reason, "max_tokens")
        self.assertEqual(message.usage.output_tokens, 24)
        self.assertEqual([block.type for block in message.content], ["text"])

    def test_streamed_equals_unstreamed(self):
        calls = {
            "tools": [TOOL],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        }
        for fields in ({}, calls):
            fields = {"max_tokens": 200, **fields}
            whole = self.create(**fields)
            with self.client.messages.stream(**self.fields(**fields)) as stream:
                names = [event.type for event in stream]
                last = stream.get_final_message()
            self.assertEqual(names[0], "message_start")
            self.assertEqual(names[-1], "message_stop")
            self.assertEqual(self.said(last), self.said(whole))

    def test_calls_go_round(self):
        for choice in ({"type": "any"}, {"type": "tool", "name": "set_unit"}):
            choice["disable_parallel_tool_use"] = True
            first = self.create(tools=[TOOL], tool_choice=choice, max_tokens=200)
            self.assertEqual(first.stop_reason, "tool_use")
            self.assertEqual([block.type for block in first.content], ["tool_use"])
            self.assertIn(first.content[0].input["unit"], ("celsius", "kelvin"))
        second = self.create(
            tools=[TOOL],
            messages=[
                {"role": "user", "content": QUESTION},
                {"role": "assistant", "content": [block.to_dict() for block in first.content]},
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": first.content[0].id,
                            "content": [{"type": "text", "text": "done"}],
                        }
                    ],
                },
            ],
        )
        self.assertEqual(second.role, "assistant")

    def test_names_the_stop_sequence(self):
        text = self.create().content[0].text
        word = text[len(text) // 2 :][:3]
        stops = ["never in it", word]
        message = self.create(stop_sequences=stops)
        self.assertEqual((message.stop_reason, message.stop_sequence), ("stop_sequence", word))
        self.assertEqual(message.content[0].text, text[: text.index(word)])
        with self.client.messages.stream(**self.fields(stop_sequences=stops)) as stream:
            self.assertEqual(self.said(stream.get_final_message()), self.said(message))

    def test_goes_on_with_the_assistants_text(self):
        begun = "    return"
        messages = [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": begun},
        ]
        count = self.client.messages.count_tokens
        shorter = count(model="demo", messages=messages[:1]).input_tokens
        n_begun = count(model="demo", messages=messages).input_tokens - shorter
        self.assertGreater(n_begun, 0)
        self.assertLess(n_begun, 6)  # the text alone: no turn is closed, and none begun
        self.assertEqual(self.create(messages=messages).stop_reason, "max_tokens")

    def test_counts_as_it_uses(self):
        fields = {"system": "Be brief.", "tools": [TOOL]}
        messages = self.fields()["messages"]
        counted = self.client.messages.count_tokens(model="demo", messages=messages, **fields)
        usage = self.create(**fields).usage
        self.assertEqual(counted.input_tokens, usage.input_tokens + usage.cache_read_input_tokens)

    def test_errors_are_in_its_form(self):
        image = {"type": "base64", "media_type": "image/png", "data": ""}
        with self.assertRaisesRegex(anthropic.BadRequestError, "image"):
            self.create(
                messages=[{"role": "user", "content": [{"type": "image", "source": image}]}]
            )
        with self.assertRaisesRegex(anthropic.NotFoundError, "this server has"):
            self.create(model="claude-5")
        for body, method, status, kind in (
            ({"messages": []}, "POST", 400, "invalid_request_error"),
            ({"model": "x", "max_tokens": 1, "messages": 0}, "POST", 400, "invalid_request_error"),
            (None, "GET", 405, "invalid_request_error"),
        ):
            got, error = fetch(self.url + "/v1/messages", body, method)
            self.assertEqual(got, status)
            self.assertEqual((error["type"], error["error"]["type"]), ("error", kind))

    def test_asks_for_a_key(self):
        with serving("--api-key", "open") as url:
            for key, is_right in (("open", True), ("wrong", False)):
                client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)
                with client:
                    if is_right:
                        client.messages.create(**self.fields())
                        continue
                    with self.assertRaises(anthropic.AuthenticationError) as caught:
                        client.messages.create(**self.fields())
                    self.assertEqual(caught.exception.body["error"]["type"], "authentication_error")


if __name__ == "__main__":
    nereid_cli.main()
