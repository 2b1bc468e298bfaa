"""The documents say what the code does: the list of functions, README's examples, listings.

`python tests/test_docs.py` writes today's listings into docs/compile.md and README's section on it.
"""

import contextlib
import inspect
import io
import linecache
import re
from itertools import zip_longest
from pathlib import Path

import numpy as np

import tinygrad_lite as tg
from tinygrad_lite.compiler import passes
from tinygrad_lite.compiler.emit import source
from tinygrad_lite.compiler.trace import Tracer
from tinygrad_lite.dispatch import COMPOSITIONS, CONSTANT
from tinygrad_lite.functional import raw
from tinygrad_lite.mode import mode
from tinygrad_lite.primitives import PRIMITIVES
from tinygrad_lite.transforms import leaves

ROOT = Path(__file__).parent.parent


def name(function):
    module = getattr(function, "__module__", None) or "numpy"
    return ("linalg." if "linalg" in module else "") + function.__name__


def numpy_functions(table):
    return {
        name(f) for f in table if (getattr(f, "__module__", None) or "numpy").startswith("numpy")
    }


def listed(section):
    text = (ROOT / "docs/functions.md").read_text()
    body = text.split(f"## {section}\n")[1].split("\n## ")[0]
    return set(re.findall(r"`([\w.]+)`", body))


def test_the_list_of_functions_is_complete():
    assert listed("One node each") == numpy_functions(set(PRIMITIVES) - set(COMPOSITIONS)) | {
        "clip", "concatenate", "einsum", "stack", "where", "pad", "linalg.cholesky", "linalg.pinv",
        "linalg.eigh", "linalg.qr", "linalg.svd", "linalg.slogdet", "reshape",
    }  # fmt: skip
    one_node = listed("One node each")
    # NumPy 2.1, 2.2
    newer = {"matvec", "vecmat", "unstack", "cumulative_sum", "cumulative_prod", "astype"}
    assert listed("Written with others") - newer == numpy_functions(COMPOSITIONS) - one_node - newer
    assert listed("Constant by intent") == numpy_functions(CONSTANT)


def test_readme_example():
    readme = (ROOT / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    output = re.search(r"```\n(dloss.*?)```", readme, re.DOTALL)[1]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), np.printoptions():
        exec(code, {})
    assert printed.getvalue() == output


def test_readme_network(tmp_path, monkeypatch):
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert int(printed.getvalue().split("%")[0]) >= 95
    assert "1.weight" in np.load("digits.npz")


X = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
ARGUMENTS = {"x": X, "t": np.array([0, 2]), "w": np.ones(3)}


def watch(f, *names, only="", **given):
    """Print the source of a recording of f before and after the last of some passes."""
    listings = []
    given = {name: given.get(name, ARGUMENTS.get(name)) for name in inspect.signature(f).parameters}
    for changed in (False, True):
        tracer = Tracer()
        if not changed and names[-1] == "recognition":
            tracer.recognise = lambda *_: False
        symbols = [tracer.input(x, name) for name, x in given.items()]
        with mode(tracer=tracer, observers=(tracer,)):
            program = tracer.finish([raw(out) for out in leaves(f(*symbols))])
        for name in names if changed else names[:-1]:
            program = getattr(passes, name, lambda p: p)(program)
        top, body = source(program, "step").text.split("def step")
        lines = re.findall(r"^(?:c|window)\d* = .*", top, re.M)
        lines += body.split('"""')[-1].strip("\n").splitlines()
        lines = [line.removeprefix("    ") for line in lines]
        listings.append([x for x in lines if re.search(only, x) and not x.strip().startswith("#")])
    width = max(map(len, listings[0]), default=0)
    for left, right in zip_longest(*listings, fillvalue=""):
        print(f"{left:{width}}  |  {right}".rstrip())


def refused(f):
    try:
        tg.compile(f)(X)
    except TypeError as error:
        print(error)


def with_listings(text):
    """The text with what its examples print today: code in a block of its own, or after >>>."""
    world, printed = {"watch": watch, "refused": refused}, ""

    def run(code):
        linecache.cache["program.py"] = len(code), None, code.splitlines(True), "program.py"
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, "program.py", "exec"), world)
        return out.getvalue().rstrip("\n") + "\n" * bool(out.getvalue())

    def block(found):
        nonlocal printed
        if found[1]:
            printed = run(found[2])
            return found[0]
        given = [line for line in found[2].splitlines() if line.startswith(">>> ")]
        listing = "".join(f"{line}\n{run(line[4:])}" for line in given) or printed
        return f"```\n{listing}```\n"

    return re.sub(r"^```(python)?\n(.*?)^```\n", block, text, flags=re.DOTALL | re.MULTILINE)


def about_compile():
    """The page, and README's section."""
    page, readme = ROOT / "docs/compile.md", ROOT / "README.md"
    return (page, page.read_text()), (
        readme,
        readme.read_text().split("## Compile it\n")[1].split("\n## ")[0],
    )


def test_listings_of_compile():
    for _, text in about_compile():
        assert with_listings(text) == text


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md"), ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_each_picture_has_a_dark_twin():
    readme = (ROOT / "README.md").read_text()
    pictures = re.findall(
        r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="(docs/[^"]+)">\s*'
        r'<img alt="[^"]{40,}"\s+src="(docs/[^"]+)">\s*</picture>',
        readme,
    )
    assert len(pictures) == readme.count("<img") + readme.count("![") == 3
    for dark, light in pictures:
        assert dark == light.replace(".svg", "_dark.svg")
        words = [
            re.findall(r"<text.*?>(.*?)<", (ROOT / path).read_text()) for path in (light, dark)
        ]
        assert words[0] == words[1]  # the same graph
        assert 'fill="#0d1117"' in (ROOT / dark).read_text()


if __name__ == "__main__":
    for path, text in about_compile():
        path.write_text(path.read_text().replace(text, with_listings(text)))
