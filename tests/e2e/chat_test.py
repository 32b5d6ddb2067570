"""nereid chat: through a pipe, and as a person at a terminal."""

import json
import os
import pty
import re
import select
import subprocess
import time

import nereid_cli as cli

# The demo model goes on with code; the last message's text is the prompt as it is.
TEMPLATE = "{{ messages[-1].content }}"
QUESTION = "def fibonacci(n):"


class Chat(cli.TestCase):
    def setUp(self):
        super().setUp()
        self.template = self.folder / "template.jinja"
        self.template.write_text(TEMPLATE)
        self.environment = dict(os.environ, XDG_STATE_HOME=str(self.folder), TERM="xterm")

    def arguments(self, *options):
        length = () if "-n" in options else ("-n", 12)
        return ("chat", "demo", "--chat-template", self.template, *length, *options)

    def chat(self, text, *options):
        return cli.run(*self.arguments(*options), input=text, env=self.environment)


class Pipe(Chat):
    def test_answers_as_generate_does(self):
        result = self.chat(QUESTION + "\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        expected = cli.run("generate", "demo", "-p", QUESTION, "-n", 12)
        self.assertEqual(result.stdout, expected.stdout)
        self.assertNotIn("\033", result.stdout)

    def test_lines_that_go_on(self):
        one = self.chat("def f(x):\\\n    return\n")
        block = self.chat('"""\ndef f(x):\n    return\n"""\n')
        expected = cli.run("generate", "demo", "-p", "def f(x):\n    return", "-n", 12)
        self.assertEqual(one.stdout, expected.stdout)
        self.assertEqual(block.stdout, expected.stdout)

    def test_conversation_is_saved_and_loaded(self):
        file = self.folder / "messages.json"
        result = self.chat(f"/system Be brief.\n{QUESTION}\nx = 1\n/save {file}\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        messages = json.loads(file.read_text())
        roles = ["system", "user", "assistant", "user", "assistant"]
        self.assertEqual([message["role"] for message in messages], roles)
        self.assertEqual(messages[1]["content"], QUESTION)
        again = self.folder / "again.json"
        result = self.chat(f"/load {file}\n/retry\n/save {again}\n/clear\n/save {file}\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(json.loads(again.read_text()), messages)
        self.assertEqual(json.loads(file.read_text()), messages[:1])
        self.assertEqual(result.stdout.rstrip("\n"), messages[4]["content"].rstrip("\n"))

    def test_set_and_stats(self):
        result = self.chat(f"/set max_tokens 3\n{QUESTION}\n/stats\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("max_tokens 3", result.stderr)
        self.assertRegex(result.stderr, r"prompt tokens .* \+ 3 new .* ended by length")

    def test_what_is_wrong_is_said_and_the_chat_goes_on(self):
        for line, mentions in (
            ("/fly", ("/fly", "/help", "/exit")),
            ("/set top_p 2", ("top_p", "2")),
            ("/set speed 2", ("speed", "temperature")),
            ("/save", ("FILE",)),
            ("/load none.json", ("none.json",)),
            ("/retry", ("ask",)),
        ):
            with self.subTest(line=line):
                result = self.chat(f"{line}\n{QUESTION}\n")
                self.assertEqual(result.returncode, 1, result.stderr)
                for mention in mentions:
                    self.assertIn(mention, result.stderr)
                self.assertGreater(len(result.stdout), 3)

    def test_a_model_without_a_template(self):
        result = cli.run("chat", "demo", "-n", 3, input="x\ny\n", env=self.environment)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr.count("no chat template"), 1)

    def test_reasoning_is_no_part_of_the_answer(self):
        self.template.write_text("x = '</think>'\n{{ messages[-1].content }}<think>\n")
        result = self.chat(QUESTION + "\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout.strip(), "")


class Terminal(Chat):
    def setUp(self):
        super().setUp()
        self.main, other = pty.openpty()
        self.addCleanup(os.close, self.main)
        self.process = None
        self.other = other

    def start(self, *options):
        self.process = subprocess.Popen(
            cli.command(*self.arguments(*options)),
            stdin=self.other,
            stdout=self.other,
            stderr=self.other,
            env=self.environment,
            start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
        )
        os.close(self.other)
        self.addCleanup(self.process.kill)
        self.read_until(r"> ")

    def read_until(self, pattern):
        """What is shown up to and with `pattern`."""
        shown = ""
        end = time.monotonic() + cli.TIMEOUT_S
        while not re.search(pattern, shown):
            self.assertLess(time.monotonic(), end, shown)
            if select.select([self.main], [], [], 1)[0]:
                try:
                    shown += os.read(self.main, 4096).decode(errors="replace")
                except OSError:
                    self.fail(f"the program ended; shown: {shown!r}")
        return shown

    def type(self, text):
        os.write(self.main, text.encode())

    def ends(self):
        return self.process.wait(timeout=60)

    def test_ctrl_c_stops_the_answer_only(self):
        self.start("-n", 1900)
        self.type("x = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10,\n")  # the model has no end of numbers
        self.read_until(r"y = ")
        self.type("\x03")
        self.read_until(r"cancelled[^>]*> ")
        self.type("/stats\n")
        self.read_until(r"ended by cancelled")
        self.type("\x04")
        self.assertEqual(self.ends(), 0)

    def test_ctrl_c_at_the_prompt(self):
        self.start()
        self.type("half a line\x03")
        self.read_until(r"once more")
        self.type("/set max_tokens 5\n")
        self.read_until(r"max_tokens 5,[^>]*> ")  # before it, Ctrl-C stops nothing
        self.type("\x03")
        self.read_until(r"once more")
        self.type("\x03")
        self.assertEqual(self.ends(), 0)

    def test_lines_that_go_on_and_the_history(self):
        self.start()
        self.type("x = [\\\n")
        self.read_until(r"\. ")
        self.type("1, 2\n")
        self.read_until(r"length\)[^>]*> ")
        self.type("/exit\n")
        self.assertEqual(self.ends(), 0)
        history = (self.folder / "nereid" / "history").read_text()
        self.assertIn("2", history)


if __name__ == "__main__":
    cli.main()
