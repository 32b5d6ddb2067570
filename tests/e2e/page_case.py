"""What the tests of the server's page share. Without a browser they are skipped.

NEREID_SCREENSHOTS=1 in the environment makes the pictures of docs/images anew.
"""

import json
import os
import sys
import time

import browser as browsers
import nereid_cli as cli

IMAGES = cli.ROOT / "docs" / "images"
SKIPPED = 77  # SKIP_RETURN_CODE in CMakeLists.txt


class PageTest(cli.TestCase):
    """One browser for all tests; each begins with nothing stored."""

    origin = None  # where the page is; None: each test has a server of its own

    @classmethod
    def setUpClass(cls):
        cls.browser = browsers.Browser()
        cls.addClassCleanup(cls.browser.close)

    def setUp(self):
        super().setUp()
        self.browser.forget(self.origin)
        self.browser.emulate(1280, 800)

    def check_complaints(self):
        self.assertEqual(self.browser.complaints(), [])

    def open(self, url, selector):
        self.browser.open(url + "/")
        self.browser.wait_for(selector)

    def set(self, **settings):
        self.browser.click("#settings")
        for name, value in settings.items():
            self.browser.script("document.querySelector(arguments[0]).value = ''", f"#s-{name}")
            self.browser.type(f"#s-{name}", str(value))
        self.browser.click("#drawer-close")

    def stored(self):
        """The conversations as the browser keeps them, the one changed last first."""
        return self.browser.script(
            """const done = (request) => new Promise((resolve) => {
              request.onsuccess = () => resolve(request.result);
            });
            return done(indexedDB.open('nereid', 1))
              .then((db) => db.transaction('conversations').objectStore('conversations'))
              .then((all) => done(all.getAll()))
              .then((all) => all.sort((a, b) => b.updated - a.updated));"""
        )

    def import_file(self, content):
        """What the page says of it."""
        path = self.folder / "import.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        self.browser.script("document.querySelector('#toast').hidden = true")
        self.browser.type("#import-file", str(path))
        return self.browser.wait_for("#toast:not([hidden])")

    def save_screenshot(self, theme, width):
        if not os.environ.get("NEREID_SCREENSHOTS"):
            return
        self.browser.emulate(width, 800, theme)
        time.sleep(0.5)  # transitions
        IMAGES.mkdir(exist_ok=True)
        (IMAGES / f"page_{theme}_{width}.png").write_bytes(self.browser.screenshot())

    def check_fits_a_phone(self):
        self.browser.emulate(390, 844)
        self.assertEqual(self.browser.get("html", "scrollWidth"), 390)


def main():
    if not browsers.is_installed():
        print(
            "SKIPPED: the page is tested in a browser, and there is none;"
            " apt-get install --no-install-recommends chromium chromium-driver",
            file=sys.stderr,
        )
        sys.exit(SKIPPED)
    cli.main()
