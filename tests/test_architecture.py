"""The house rules that a test can hold: directions of imports, sizes, what an import loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_lite

PACKAGE = Path(tinygrad_lite.__file__).parent
CORE = {"primitives", "tensor", "backward"}
BASE = {"primitives", "more_primitives", "array_methods", "conversion", "mode", "tensor"}
MAY_IMPORT = {  # module: what it may import of the package
    "primitives": set(),
    "more_primitives": {"primitives"},
    "conversion": set(),
    "mode": set(),
    "array_methods": {"primitives", "more_primitives"},
    "tensor": {"primitives", "more_primitives", "array_methods", "conversion", "mode"},
    "backward": {"tensor", "conversion", "mode"},
    "dispatch": BASE,
    "rng": {"mode"},
    "fused": BASE,
    "windows": BASE,
    "convolution": BASE | {"fused", "windows"},
    "pooling": BASE | {"fused", "windows"},
    "functional": BASE | {"fused", "rng", "convolution", "pooling"},
    "loss_table": BASE | {"fused"},
    "loss_checks": BASE | {"loss_table"},
    "losses": BASE | {"loss_table", "loss_checks"},
    "nn": BASE | {"fused", "functional", "losses", "rng"},
    "optim": BASE,
    "saving": BASE,
    "numpy_functions": BASE | {"dispatch"},
    "calculus": BASE | {"numpy_functions"},
    "products": BASE | {"numpy_functions"},
    "linear_algebra": BASE | {"numpy_functions"},
    "transforms": BASE | {"backward"},
    "pickling": BASE | {"backward"},
    "check": BASE | {"backward", "transforms"},
    "explain": BASE | {"backward"},
    "compiler": BASE | {"transforms", "windows", "fused", "loss_table", "draw"},
    "draw": BASE | {"backward", "explain", "fused"},
    "data": {"rng"},
}

EXTRAS = {"draw": ["graphviz", "pygraphviz"], "saving": ["safetensors"], "data": ["pooch"]}  # late


def modules():
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            yield path, parts


def imported(path, depth):
    """The modules of the package that a file imports, and the others."""
    tree = ast.parse(path.read_text())
    tree.body = [
        n
        for n in tree.body
        if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == depth + 1:
            names = [node.module.split(".")[0]] if node.module else [a.name for a in node.names]
            yield from (("own", name) for name in names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield "other", node.module.split(".")[0]
        elif isinstance(node, ast.Import):
            yield from (("other", a.name.split(".")[0]) for a in node.names)


@pytest.mark.parametrize(
    ("path", "parts"), list(modules()), ids=lambda x: x.name if isinstance(x, Path) else ""
)
def test_directions_of_imports(path, parts):
    allowed = MAY_IMPORT[parts[0]]
    for kind, name in imported(path, len(parts) - 1):
        if kind == "own":
            assert name in allowed, f"{'/'.join(parts)} must not import {name}"
        else:
            third = {"numpy", *EXTRAS.get(parts[0], ())}
            assert name in sys.stdlib_module_names or name in third, (
                f"{'/'.join(parts)} imports {name}"
            )


def test_the_package_stays_small():
    """Lines that are neither blank, comment nor docstring."""

    def code(path):
        tree = ast.parse(path.read_text())
        lines = {
            n.lineno + i
            for n in ast.walk(tree)
            if hasattr(n, "lineno")
            for i in range(n.end_lineno - n.lineno + 1)
        }
        for n in ast.walk(tree):
            if (
                isinstance(n, ast.Expr)
                and isinstance(n.value, ast.Constant)
                and isinstance(n.value.value, str)
            ):
                lines -= set(range(n.lineno, n.end_lineno + 1))
        text = path.read_text().splitlines()
        return sum(
            bool(text[i - 1].strip()) and not text[i - 1].strip().startswith("#") for i in lines
        )

    sizes = {name: code(PACKAGE / f"{name}.py") for name in CORE}
    assert sum(sizes.values()) <= 800, sizes
    compiler = sum(code(path) for path in (PACKAGE / "compiler").glob("*.py"))
    assert compiler <= 3800
    assert sum(code(path) for path in PACKAGE.rglob("*.py")) - compiler <= 7100


def test_importing_is_light():
    script = "import tinygrad_lite, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {
        "graphviz",
        "matplotlib",
        "torch",
        "scipy",
        "tinygrad_lite.draw.diagram",
        "multiprocessing",
        "asyncio",
    }
    assert not heavy & set(loaded)


def test_the_package_is_typed_and_its_public_names_exist():
    assert (PACKAGE / "py.typed").exists()
    names = """
        tensor Tensor Node primitive no_grad enable_grad GraphFreedError NonFiniteError grad
        value_and_grad vjp jvp jacobian hessian hvp elementwise_grad checkpoint gradcheck
        detect_anomaly explain backward_steps draw index_update index_add logsumexp data functional
        losses nn optim save load manual_seed get_rng_state set_rng_state convolution pooling scope explore
    """
    for name in names.split():
        value = getattr(tinygrad_lite, name)
        assert getattr(value, "__doc__", None), f"{name} has no docstring"
