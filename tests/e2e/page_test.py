"""The server's page in a browser, over real models."""

import json
import re
import tempfile
import time
import urllib.request
from pathlib import Path

import browser as browsers
from page_case import PageTest, main
from served import serving

N_TOKENS = 24
N_ENDLESS = 1500
PROMPT = "def fibonacci(n):\n"
CHAT_TEMPLATE = (
    "{%- for m in messages %}{{ m.role + ': ' + (m.content or '') + '\n' }}{%- endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
CODE = """\
def fibonacci(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a"""
# Shown in a picture: what Markdown looks like. No model wrote it.
SHOWN_ANSWER = f"""\
Iterate from the first two; there is no need to recurse:

```python
{CODE}
```

1. It takes **n additions**, where the recursion takes about 1.6ⁿ.
2. Two numbers are all it keeps; `a` is the *n*-th.
"""
HOSTILE = """\
<img src=x onerror="window.hit=1"><script>window.hit=1</script> &lt;b&gt;

[click](javascript:window.hit=1) [data](data:text/html,x) [ok](https://example.org/?a="onclick=1) (https://example.org/b).
[[[[((((**_`*
| a | <svg onload=window.hit=1> |
|---|---|
| `</code><script>window.hit=1</script>` | x |

```html" onmouseover="window.hit=1
</pre><script>window.hit=1</script>
"""
# A careless pattern takes minutes for these.
SLOW = "> " * 3000 + "x\n\n" + "".join("  " * i + "- x\n" for i in range(200))
SLOW += "*a " * 20_000 + "[" * 50_000 + "`" * 5_000 + "\n\n# " + " " * 50_000 + "#x"


def ask(url, path, **body):
    request = urllib.request.Request(
        url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)["choices"][0]


def exported(*conversations):
    times = {"created": 1, "updated": 1}
    listed = [{"id": f"id{i}", "title": "", **times, **c} for i, c in enumerate(conversations)]
    return {"format": "nereid-conversations", "version": 1, "conversations": listed}


def chat(*messages):
    roles = ("user", "assistant")
    listed = [{"role": roles[i % 2], "content": content} for i, content in enumerate(messages)]
    return {"kind": "chat", "messages": listed}


class Text(PageTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.origin = cls.enterClassContext(serving("demo")).url

    def start(self, n_tokens=N_TOKENS):
        self.open(self.origin, "#text")
        self.set(temperature=0, max_tokens=n_tokens)

    def text(self):
        return self.browser.get("#text", "value")

    def marked(self):
        return self.browser.all("mark")

    def go_on(self):
        self.browser.click("#text")
        self.browser.press("Control", "Enter")
        return self.browser.wait_for(".bar .stats", text="token")

    def test_goes_on_as_the_api_does(self):
        self.start()
        self.browser.type("#text", PROMPT)
        stats = self.go_on()
        wanted = ask(
            self.origin, "/v1/completions", prompt=PROMPT, temperature=0, max_tokens=N_TOKENS
        )["text"]
        self.assertEqual(self.text(), PROMPT + wanted)
        self.assertEqual(self.marked(), [wanted])
        self.assertRegex(
            stats, rf"^{N_TOKENS} tokens · [\d.]+ tokens/s · prompt \d+ · limit reached"
        )
        self.check_complaints()

    def test_undo_takes_what_the_model_wrote_and_leaves_what_the_writer_did(self):
        self.start()
        self.browser.type("#text", PROMPT)
        self.go_on()
        first = self.text()
        middle = len(PROMPT) + 6  # a mark that is written into becomes two
        self.browser.script(
            """document.querySelector('#text').setSelectionRange(arguments[0], arguments[0]);
            document.execCommand('insertText', false, 'MINE');""",
            middle,
        )
        self.assertEqual(self.marked(), [first[len(PROMPT) : middle], first[middle:]])
        self.go_on()
        self.assertEqual(len(self.marked()), 3)
        self.browser.click("#undo")
        self.assertEqual(self.text(), first[:middle] + "MINE" + first[middle:])
        self.browser.click("#undo")
        self.assertEqual(self.text(), PROMPT + "MINE")
        self.assertEqual(self.marked(), [])
        self.assertTrue(self.browser.get("#undo", "disabled"))
        self.check_complaints()

    def test_an_example_is_streamed_and_stopped(self):
        self.start(N_ENDLESS)
        self.browser.script(
            """window.lengths = new Set();
            new MutationObserver(() => lengths.add(document.querySelector('#text').value.length))
              .observe(document.querySelector('.under'), { childList: true });"""
        )
        self.browser.click(".examples .button")
        self.browser.wait("lengths.size > 4", what="a text that grows")
        self.browser.press("Escape")
        self.browser.wait_for(".bar .stats", text="stopped")
        text = self.text()
        self.assertTrue(text.startswith(PROMPT))
        time.sleep(0.3)
        self.assertEqual(self.text(), text)
        self.browser.reload()
        self.browser.wait("document.querySelector('#text')?.value === arguments[0]", text)
        self.assertEqual("".join(self.marked()), text[len(PROMPT) :])
        self.check_complaints()

    def test_picture(self):
        self.start(110)
        self.browser.type("#text", PROMPT)
        self.go_on()
        self.save_screenshot("light", 1280)
        self.save_screenshot("light", 390)
        self.check_fits_a_phone()
        self.check_complaints()


class Chat(PageTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="nereid-e2e-"))
        cls.template = Path(folder) / "chat.jinja"
        cls.template.write_text(CHAT_TEMPLATE)
        cls.origin = cls.enterClassContext(serving("demo", "--chat-template", cls.template)).url

    def start(self, **settings):
        self.open(self.origin, "#message")
        self.set(**{"temperature": 0, "max_tokens": N_TOKENS, **settings})

    def wait_for_answer(self):
        """The counts below the last answer, once it is whole."""
        whole = "#log[aria-busy=false] .message.assistant:last-child .stats"
        return self.browser.wait_for(whole, text="token")

    def say(self, text):
        self.browser.type("#message", text + "\n")
        return self.wait_for_answer()

    def messages(self):
        return [(m["role"], m["content"]) for m in self.stored()[0]["messages"]]

    def in_history(self, place, label):
        """Clicks what a pointer over the conversation would uncover."""
        selector = f"#history li:{place} [aria-label={label}]"
        self.browser.script("document.querySelector(arguments[0]).click()", selector)

    def test_answers_as_the_api_does(self):
        self.start(system="Be brief.")
        self.browser.script(
            """window.shifted = 0;
            new PerformanceObserver((list) => {
              for (const { value } of list.getEntries()) shifted += value;
            }).observe({ type: 'layout-shift' });"""
        )
        stats = self.say("first")
        self.assertRegex(stats, r"\d+ tokens · [\d.]+ tokens/s · prompt \d+")
        self.browser.type("#message", "second")
        self.browser.press("Shift", "Enter")
        self.say("line")
        messages = [{"role": "system", "content": "Be brief."}]
        for said in ("first", "second\nline"):
            messages.append({"role": "user", "content": said})
            fields = {"messages": messages, "temperature": 0, "max_tokens": N_TOKENS}
            answer = ask(self.origin, "/v1/chat/completions", **fields)["message"]
            messages.append({"role": "assistant", "content": answer["content"]})
        self.assertEqual(self.messages(), [(m["role"], m["content"]) for m in messages[1:]])
        self.assertLess(
            self.browser.script("return shifted"), 0.02
        )  # below 0.1 pages count as calm
        self.check_complaints()

    def test_stream_is_stopped_retried_and_edited(self):
        self.start(max_tokens=N_ENDLESS)
        self.browser.type("#message", "count\n")
        self.browser.wait("document.querySelector('.body')?.textContent.length > 8")
        self.assertEqual(self.browser.get("#send", "ariaLabel"), "Stop")
        self.browser.click("#send")
        self.assertIn("stopped", self.wait_for_answer())
        self.browser.wait_for("#send[aria-label=Send]")
        self.set(max_tokens=5)
        self.browser.click("[aria-label='Answer again']")
        self.browser.wait_for(".stats", n=1, text="5 tokens")
        self.say("more")
        self.assertEqual(len(self.messages()), 4)
        self.browser.click(".message.user [aria-label=Edit]")
        self.browser.script("document.querySelector('.edit textarea').value = 'else'")
        self.browser.type(".edit textarea", "\n")
        self.browser.wait_for(".message", n=2)
        self.wait_for_answer()
        self.browser.wait_for(".said", n=1, text="else")
        self.assertEqual(self.messages()[0], ("user", "else"))
        self.assertEqual(len(self.messages()), 2)
        self.check_complaints()

    def test_history_is_kept_renamed_deleted_and_moved(self):
        self.start()
        self.say("one")
        self.browser.press("Control", "k")
        self.browser.wait_for(".welcome")
        self.say("two")
        before = self.messages()
        self.browser.reload()
        self.browser.wait_for(".message", n=2)
        self.assertEqual(self.browser.all("#history .title"), ["two", "one"])
        self.assertEqual(self.messages(), before)

        self.in_history("last-child", "Rename")
        self.browser.type("#history input", "Uno\n")
        self.browser.wait_for("#history li:last-child .title", text="Uno")
        self.in_history("first-child", "Delete")
        self.browser.wait_for("#history .title", n=1)
        self.browser.click("#toast .button")
        self.browser.wait_for("#history .title", n=2)

        self.browser.click("#export")
        end = time.monotonic() + browsers.PATIENCE_S
        while not (files := list(Path(self.browser.downloads).glob("*.json"))):
            self.assertLess(time.monotonic(), end, "no file was downloaded")
            time.sleep(0.05)
        export = json.loads(files[0].read_text())
        titles = [c["title"] or c["messages"][0]["content"] for c in export["conversations"]]
        self.assertEqual(titles, ["two", "Uno"])

        stored = self.stored()
        for n_left in (1, 0):
            self.in_history("first-child", "Delete")
            self.browser.wait_for("#history .title", n=n_left)
        self.browser.reload()
        self.browser.wait_for(".welcome")
        self.assertEqual(self.stored(), [])
        self.assertIn("2 conversations", self.import_file(export))
        self.assertEqual(self.stored(), stored)
        self.check_complaints()

    def test_bad_imports_are_told(self):
        self.start()
        bad_role = {"kind": "chat", "messages": [{"role": "root", "content": ""}]}
        for content, told in (
            ("{", "cannot be read"),
            ({"format": "other"}, "no export of this page"),
            (exported(bad_role), '"role"'),
            (exported({"kind": "text", "text": 3}), '"text"'),
        ):
            self.assertIn(told, self.import_file(content))
            self.assertEqual(self.stored(), [])
        self.check_complaints()

    def test_hostile_texts_stay_texts(self):
        self.start()
        self.import_file(exported(chat("<b>hi</b>", HOSTILE), chat("slow", SLOW)))
        links = []
        for i in (1, 2):
            self.browser.click(f"#history li:nth-child({i}) .title")
            self.browser.wait_for(".body > *")
            self.assertEqual(self.browser.all("#log :is(img, script, b, svg:not(.icon))"), [])
            self.assertEqual(set(self.browser.all(".body a", "protocol")) - {"https:"}, set())
            self.assertEqual(set(self.browser.all(".body a", "onclick")) - {None}, set())
            links += self.browser.all(".body a[rel='noopener noreferrer']", "href")
        self.assertEqual(links, ["https://example.org/?a=%22onclick=1", "https://example.org/b"])
        self.assertIsNone(self.browser.script("return window.hit ?? null"))
        self.check_complaints()

    def test_policy(self):
        replies = []
        for _ in range(2):
            with urllib.request.urlopen(self.origin + "/") as reply:
                replies.append((reply.headers["Content-Security-Policy"], reply.read().decode()))
        (policy, page), (other_policy, _) = replies
        self.assertNotEqual(policy, other_policy, "each reply has a nonce of its own")
        self.assertNotIn("unsafe", policy)
        self.assertNotIn("{{", page)
        forms = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|<\w[^>]* (on\w+|style)="
        self.assertIsNone(re.search(forms, page))
        self.start()
        with self.assertRaisesRegex(AssertionError, "TrustedHTML"):
            self.browser.script("document.body.innerHTML = '<p>x'")
        self.browser.script("return fetch('http://192.0.2.1/').catch(() => 0)")
        self.assertTrue(any("192.0.2.1" in message for message in self.browser.complaints()))

    def test_theme_and_width(self):
        self.start()
        self.browser.emulate(1280, 800, "dark")
        background = "getComputedStyle(document.body).backgroundColor"
        dark = self.browser.script(f"return {background}")
        self.browser.click("#theme")
        light = self.browser.wait(f"{background} !== arguments[0] && {background}", dark)
        self.browser.reload()
        self.browser.wait_for("#message")
        self.assertEqual(self.browser.script(f"return {background}"), light)
        self.browser.click("#theme")
        answered = chat("How do I compute Fibonacci numbers?", SHOWN_ANSWER)
        others = [chat(x) for x in ("Why are ring buffers fast?", "A walk along the coast")]
        self.import_file(exported(answered, *others))
        self.browser.script("history.replaceState(null, '', '#id0')")
        self.browser.reload()
        self.browser.wait_for(".code", n=1)
        self.assertEqual(self.browser.all(".code code"), [CODE])
        self.assertEqual(len(self.browser.all(".body > ol > li")), 2)
        self.assertEqual(self.browser.all(".body li strong"), ["n additions"])
        self.save_screenshot("dark", 1280)
        self.save_screenshot("dark", 390)
        self.check_fits_a_phone()
        is_shown = "getComputedStyle(document.querySelector('#side')).visibility === 'visible'"
        self.browser.wait(f"!({is_shown})")
        self.browser.click("#menu")
        self.browser.wait(is_shown)
        self.browser.press("Escape")
        self.browser.wait(f"!({is_shown})")
        self.check_complaints()


if __name__ == "__main__":
    main()
