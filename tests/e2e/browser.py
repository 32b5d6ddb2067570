"""A headless Chromium, driven through its WebDriver (W3C) without a library."""

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key that the standard gives references
KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Shift": "\ue008", "Control": "\ue009"}
PATIENCE_S = 60


def is_installed():
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


class Browser:
    """One window with a profile of its own. `close()` ends it."""

    def __init__(self):
        self.downloads = tempfile.mkdtemp(prefix="nereid-downloads-")
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        found = None
        for line in self.driver.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                break
        if not found:
            raise AssertionError("chromedriver did not start")
        self.url = f"http://127.0.0.1:{found[1]}"
        arguments = ["--headless=new", "--disable-gpu", "--hide-scrollbars"]
        arguments.append("--disable-dev-shm-usage")  # containers have little of it
        # As with a mouse, which a machine without a screen does not have.
        arguments.append(
            "--blink-settings=primaryHoverType=2,availableHoverTypes=2,"
            "primaryPointerType=4,availablePointerTypes=4"
        )
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {
                "args": arguments,
                "prefs": {"download.default_directory": self.downloads},
            },
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.url += "/session/" + session["sessionId"]

    def close(self):
        try:
            self._ask("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait()
            self.driver.stdout.close()
            shutil.rmtree(self.downloads, ignore_errors=True)

    def _ask(self, method, path, body=None):
        data = json.dumps(body if body is not None else {}).encode() if method == "POST" else None
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S + 30) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error)["value"]
            raise AssertionError(f"{path}: {value['error']}: {value['message']}") from None

    def open(self, url):
        self._ask("POST", "/url", {"url": url})

    def reload(self):
        self._ask("POST", "/refresh")

    def script(self, text, *arguments):
        """What the body of a function, `text`, returns; promises are waited for."""
        return self._ask("POST", "/execute/sync", {"script": text, "args": list(arguments)})

    def find(self, selector):
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        return found[ELEMENT]

    def click(self, selector):
        self._ask("POST", f"/element/{self.find(selector)}/click")

    def type(self, selector, text):
        """Real keys into an element; "\\n" is Enter."""
        text = text.replace("\n", KEYS["Enter"])
        self._ask("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def press(self, *keys):
        """One chord to whatever has the focus: press("Control", "k")."""
        values = [KEYS.get(key, key) for key in keys]
        actions = [{"type": "keyDown", "value": value} for value in values]
        actions += [{"type": "keyUp", "value": value} for value in reversed(values)]
        keyboard = {"type": "key", "id": "keys", "actions": actions}
        self._ask("POST", "/actions", {"actions": [keyboard]})

    def all(self, selector, name="textContent"):
        """A property of each element."""
        return self.script(
            "return [...document.querySelectorAll(arguments[0])].map((node) => node[arguments[1]])",
            selector,
            name,
        )

    def get(self, selector, name="textContent"):
        found = self.all(selector, name)
        if not found:
            raise AssertionError(f"the page has no {selector}")
        return found[0]

    def wait_for(self, selector, n=None, text=""):
        """Until there are `n` such elements (None: some), the first with `text` in it; its text."""
        self.wait(
            """((found) => (arguments[1] === null ? found.length : found.length === arguments[1]) &&
              (found[0]?.textContent ?? '').includes(arguments[2]))(
                document.querySelectorAll(arguments[0]))""",
            selector,
            n,
            text,
            what=f"{selector}, n={n}, text={text}",
        )
        return self.get(selector) if n != 0 else ""

    def wait(self, expression, *arguments, what=None):
        """Until the expression is true in the page; its value."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if value := self.script(f"return {expression}", *arguments):
                return value
            time.sleep(0.03)
        seen = self.script("return document.body.innerText")
        raise AssertionError(f"never: {what or expression}\nThe page shows:\n{seen}")

    def devtools(self, command, **parameters):
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def emulate(self, width, height, scheme="light", scale=1):
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        scheme_feature = {"name": "prefers-color-scheme", "value": scheme}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme_feature])

    def forget(self, origin=None):
        """All complaints, and what pages of that origin stored."""
        self.open("about:blank")
        if origin:
            self.devtools("Storage.clearDataForOrigin", origin=origin, storageTypes="all")
        for name in os.listdir(self.downloads):
            os.remove(os.path.join(self.downloads, name))
        self.complaints()

    def screenshot(self):
        return base64.b64decode(self.devtools("Page.captureScreenshot", format="png")["data"])

    def complaints(self):
        """Console messages since the last time, of warnings and worse."""
        log = self._ask("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in log if entry["level"] in ("WARNING", "SEVERE")]
