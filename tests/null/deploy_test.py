"""deploy/ against the program: its options, endpoints and times, and forms that others give.

What of it runs is tested by tests/e2e/router_test.py and tests/e2e/ray_serve_test.py."""

import ast
import re
import shlex
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import jsonschema
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
# To end, after draining.
MARGIN_S = 10
# Of ./dev's packages for building, what only tests and developers use.
NOT_IN_IMAGE = {"ccache", "git", "libgmock-dev", "libgtest-dev"}


def known_options(*sources):
    """{option: whether a value follows it} of those that these files of apps/ define."""
    options = {}
    for source in sources:
        text = (ROOT / "apps" / source).read_text()
        for kind, names in re.findall(r'add_(option|flag)\(\s*"(--[^"]*)"', text):
            for name in names.split(","):
                options[name.split("{")[0]] = kind == "option"
    return options


SERVE_OPTIONS = known_options("serve.cc", "model_options.cc")
COMPILE_OPTIONS = known_options("compile.cc", "model_options.cc")
# {path: whether it needs a key} of the server's GET routes.
ROUTES = {
    path: "needs_key = false" not in rest
    for path, rest in re.findall(
        r'Route\{\.method = "GET",\s*\.path = "([^"]*)",(.*?)\.reply',
        (ROOT / "src" / "server" / "routes.cc").read_text(),
        re.DOTALL,
    )
}


def options_of(words, known):
    """{option: value or None} of a command line; an AssertionError for what it does not know."""
    options, words = {}, list(words)
    while words:
        name, equals, value = words.pop(0).partition("=")
        if not name.startswith("--"):
            continue
        if name not in known:
            raise AssertionError(f"{name} is no option; there are {sorted(known)}")
        if known[name] and not equals:
            value = words.pop(0)
        options[name] = value or None
    return options


def fields(required=(), **known):
    """An object that has these fields, and of others none: a misspelt one is an error here too."""
    return {
        "type": "object",
        "properties": known,
        "required": list(required or known),
        "additionalProperties": False,
    }


def list_of(items):
    return {"type": "array", "items": items, "minItems": 1}


# What apps/v1 and v1 of Kubernetes 1.30 say of the fields that are used.
TEXT, WHOLE, TRUTH = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
META = fields(("labels",), name=TEXT, labels=TEXTS)
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
PROBE = fields(
    httpGet=fields(path={"type": "string", "pattern": "^/"}, port=TEXT),
    periodSeconds=WHOLE,
    timeoutSeconds=WHOLE,
    failureThreshold=WHOLE,
)
CONTAINER = fields(
    name=TEXT,
    image=TEXT,
    imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
    args=list_of(TEXT),
    ports=list_of(fields(name=TEXT, containerPort=PORT)),
    startupProbe=PROBE,
    readinessProbe=PROBE,
    livenessProbe=PROBE,
    lifecycle=fields(preStop=fields(exec=fields(command=list_of(TEXT)))),
    resources=fields(requests=TEXTS, limits=TEXTS),
    securityContext=fields(
        allowPrivilegeEscalation=TRUTH,
        readOnlyRootFilesystem=TRUTH,
        capabilities=fields(drop=list_of(TEXT)),
    ),
    volumeMounts=list_of(fields(name=TEXT, mountPath=TEXT)),
)
POD = fields(
    terminationGracePeriodSeconds=WHOLE,
    securityContext=fields(
        runAsNonRoot=TRUTH,
        runAsUser=WHOLE,
        seccompProfile=fields(type={"enum": ["RuntimeDefault", "Localhost", "Unconfined"]}),
    ),
    containers=list_of(CONTAINER),
    volumes=list_of(fields(name=TEXT, emptyDir=fields())),
)
DEPLOYMENT = fields(
    apiVersion={"const": "apps/v1"},
    kind={"const": "Deployment"},
    metadata=META,
    spec=fields(
        replicas=WHOLE,
        selector=fields(matchLabels=TEXTS),
        strategy=fields(rollingUpdate=fields(maxUnavailable=WHOLE, maxSurge=WHOLE)),
        template=fields(metadata=META, spec=POD),
    ),
)
SERVICE = fields(
    apiVersion={"const": "v1"},
    kind={"const": "Service"},
    metadata=META,
    spec=fields(
        selector=TEXTS, ports=list_of(fields(name=TEXT, port=PORT, targetPort={"type": "string"}))
    ),
)


def unit(name):
    """{key: [values]} of a unit's lines, continued ones joined, of all sections."""
    text = (DEPLOY / name).read_text().replace("\\\n", " ")
    entries = {}
    for key, value in re.findall(r"^([A-Za-z]+)=(.*)$", text, re.MULTILINE):
        entries.setdefault(key, []).append(value)
    return entries


def constants(path):
    """The module's own numbers, worked out in order."""
    values = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id.endswith("_S"):
            code = compile(ast.Expression(node.value), path, "eval")
            values[node.targets[0].id] = eval(code, {}, dict(values))
    return values


class SourcesTest(unittest.TestCase):
    def test_the_sources_are_read(self):
        self.assertTrue(SERVE_OPTIONS["--drain-timeout"])
        self.assertFalse(SERVE_OPTIONS["--log-json"])
        self.assertIn("--isa", COMPILE_OPTIONS)
        self.assertNotIn("--isa", SERVE_OPTIONS)
        self.assertEqual((ROUTES["/health"], ROUTES["/metrics"]), (False, True))
        with self.assertRaises(AssertionError):
            options_of(["serve", "demo", "--drain-time", "3"], SERVE_OPTIONS)


class KubernetesTest(unittest.TestCase):
    def setUp(self):
        objects = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
        for each, schema in zip(objects, (DEPLOYMENT, SERVICE), strict=True):
            jsonschema.validate(each, schema)
        self.deployment, self.service = objects
        self.pod = self.deployment["spec"]["template"]
        (self.container,) = self.pod["spec"]["containers"]
        self.options = options_of(self.container["args"], SERVE_OPTIONS)

    def test_probes_ask_what_needs_no_key(self):
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        self.assertEqual(ports["http"], int(self.options["--port"]))
        for kind, path in (
            ("startupProbe", "/health"),
            ("readinessProbe", "/health"),
            # While it drains /health is 503, and what drains must live.
            ("livenessProbe", "/version"),
        ):
            get = self.container[kind]["httpGet"]
            self.assertEqual((get["path"], get["port"]), (path, "http"))
            self.assertFalse(ROUTES[path], "a probe has no key")
        # A name that it does not know it would refuse, and so every probe.
        self.assertEqual(self.options["--host"], "0.0.0.0")
        self.assertNotIn("--allowed-host", self.options)

    def test_there_is_time_to_drain(self):
        word, seconds = self.container["lifecycle"]["preStop"]["exec"]["command"]
        self.assertEqual(word, "sleep")
        # By then readiness has been asked and the cluster told.
        self.assertGreater(int(seconds), self.container["readinessProbe"]["periodSeconds"])
        needed = int(seconds) + int(self.options["--drain-timeout"]) + MARGIN_S
        self.assertGreaterEqual(self.pod["spec"]["terminationGracePeriodSeconds"], needed)

    def test_the_service_finds_the_pods(self):
        labels = self.pod["metadata"]["labels"]
        self.assertLessEqual(self.service["spec"]["selector"].items(), labels.items())
        self.assertEqual(self.deployment["spec"]["selector"]["matchLabels"], labels)
        self.assertEqual(self.service["spec"]["ports"][0]["targetPort"], "http")


class UnitsTest(unittest.TestCase):
    def test_a_replica(self):
        entries = unit("nereid@.service")
        program, command, _, *words = shlex.split(entries["ExecStart"][0])
        self.assertEqual((Path(program).name, command), ("nereid", "serve"))
        options = options_of(words, SERVE_OPTIONS)
        drain_s = int(options["--drain-timeout"])
        self.assertGreaterEqual(int(entries["TimeoutStopSec"][0]), drain_s + MARGIN_S)
        asked = re.search(r"http://127\.0\.0\.1:%i(/\S*)$", entries["ExecStartPost"][0])[1]
        self.assertFalse(ROUTES[asked])
        tries = int(re.search(r"--retry (\d+)", entries["ExecStartPost"][0])[1])
        self.assertLess(tries, int(entries["TimeoutStartSec"][0]))

    def test_what_the_units_read_is_in_the_example(self):
        example = (DEPLOY / "nereid.env").read_text()
        for name in ("nereid@.service", "nereid-router.service"):
            variables = re.findall(r"\$\{?([A-Z_]+)", unit(name)["ExecStart"][0])
            self.assertTrue(variables)
            for variable in variables:
                self.assertRegex(example, rf"(?m)^{variable}=")

    @unittest.skipUnless(shutil.which("systemd-analyze"), "there is no systemd here")
    def test_systemd_reads_them(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("nereid@.service", "nereid-router.service"):
                # Programs that need not be installed here.
                text = re.sub(
                    r"^(Exec\w+=)\S+", r"\1/bin/true", (DEPLOY / name).read_text(), flags=re.M
                )
                path = Path(folder) / name
                path.write_text(text)
                done = subprocess.run(
                    ["systemd-analyze", "verify", "--man=no", path],
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
                ours = [line for line in done.stderr.splitlines() if "nereid" in line]
                self.assertEqual((done.returncode, ours), (0, []), done.stderr)


class DockerfileTest(unittest.TestCase):
    def setUp(self):
        text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        self.steps = [tuple(line.split(maxsplit=1)) for line in lines]
        begins = [i for i, (word, _) in enumerate(self.steps) if word == "FROM"]
        self.build, self.run = (
            self.steps[begins[0] : begins[1]],
            self.steps[begins[1] :],
        )

    def packages(self, steps):
        (installed,) = (
            re.search(r"apt-get install -y --no-install-recommends ([^&]*)", rest)[1].split()
            for word, rest in steps
            if "apt-get install" in rest
        )
        return set(installed)

    def test_it_installs_what_dev_does(self):
        wanted = re.search(r'^readonly BUILD_PACKAGES="([^"]*)"', (ROOT / "dev").read_text(), re.M)
        self.assertEqual(self.packages(self.build), set(wanted[1].split()) - NOT_IN_IMAGE)
        # No compiler, no Python.
        self.assertEqual(self.packages(self.run), {"libfmt9", "libstdc++6"})

    def test_what_is_copied_is_there(self):
        for word, rest in self.build:
            if word == "COPY":
                for name in rest.split()[:-1]:
                    self.assertTrue((ROOT / name).exists(), name)

    def test_its_commands_are_the_programs(self):
        (compiled,) = (rest for _, rest in self.build if "nereid compile" in rest)
        words = compiled.split("nereid compile ")[1].replace("$isa", "--isa $ISA").split()
        bundle = options_of(words, COMPILE_OPTIONS)["--out"]
        (command,) = (yaml.safe_load(rest) for word, rest in self.run if word == "CMD")
        options = options_of(command, SERVE_OPTIONS)
        self.assertEqual(options["--bundle"], bundle)
        (port,) = (rest for word, rest in self.run if word == "EXPOSE")
        serve = (ROOT / "apps" / "serve.cc").read_text()
        self.assertEqual(re.search(r"std::int64_t port = (\d+);", serve)[1], port)
        self.assertIn(("STOPSIGNAL", "SIGTERM"), self.run)

    def test_kubernetes_runs_its_user_and_bundle(self):
        deployment = next(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
        pod = deployment["spec"]["template"]["spec"]
        (user,) = (rest for word, rest in self.run if word == "USER")
        self.assertEqual(pod["securityContext"]["runAsUser"], int(user))
        (command,) = (yaml.safe_load(rest) for word, rest in self.run if word == "CMD")
        args = options_of(pod["containers"][0]["args"], SERVE_OPTIONS)
        self.assertEqual(args["--bundle"], options_of(command, SERVE_OPTIONS)["--bundle"])


class RayServeTest(unittest.TestCase):
    def test_options_endpoints_and_times(self):
        path = DEPLOY / "ray_serve.py"
        text = path.read_text()
        command = re.search(r"command = \[program, (.*?)\]\n\s*command \+= \[(.*?), \*", text)
        words = re.findall(r'"([^"]*)"', ",".join(command.groups()))
        options_of([*words, "60"], SERVE_OPTIONS)
        for asked in re.findall(r'session\.get\("([^"]*)"\)', text):
            self.assertFalse(ROUTES[asked])
        seconds = constants(path)
        self.assertGreaterEqual(seconds["SHUTDOWN_S"], seconds["DRAIN_S"] + MARGIN_S)


if __name__ == "__main__":
    unittest.main(verbosity=2)
