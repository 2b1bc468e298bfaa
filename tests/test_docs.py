"""The documents say what the code does: the list of functions, and README's example."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np

from tinygrad_lite.dispatch import COMPOSITIONS, CONSTANT
from tinygrad_lite.primitives import PRIMITIVES

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
