"""Files of arrays: what goes in comes out; half a file, or one with code in it, never does."""

import builtins
import json
import math
import os
import pickle
import random
import resource
import signal
import stat
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite import optim, rng
from tinygrad_lite.saving import load, save

pytest.importorskip("safetensors")
both = pytest.mark.parametrize("suffix", ["npz", "safetensors"])


def same(a, b):
    """Equal values of equal types; NumPy scalars and Tensors are stored as arrays."""
    if isinstance(a, (np.ndarray, np.generic, tg.Tensor)):
        a = np.asarray(a.data if isinstance(a, tg.Tensor) else a)
        return (
            type(b) is np.ndarray
            and (a.shape, a.tobytes()) == (b.shape, b.tobytes())
            and (a.dtype == b.dtype)
        )
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


TREES = [
    {},
    [],
    (),
    None,
    True,
    -7,
    2**127 + 1,
    0.1,
    "text",
    {"w": np.arange(6.0).reshape(2, 3), "b": np.zeros(3, np.float32)},
    np.arange(3),
    np.float32(2.5),
    tg.tensor([[1.0, 2.0]], requires_grad=True),
    {"a": math.nan, "b": [math.inf, -math.inf, -0.0, 5e-324, 1 / 3]},
    {0: "int", "0": "str", -1: [0, (0, [0, ()])], "": {"": {}}, 2**80: None},
    {"a/b": {"c": np.ones(1)}, "a": {"b/c": np.zeros(2), "b": {"c": np.full(3, 2.0)}}},
    {0: np.ones(1), "0": np.zeros(2), "1": {"": np.ones(3)}, "1/": np.ones(4)},
    {"array": "w", "tuple": [1], "dict": [["a", 1]], "list": {"array": np.ones(2)}},
    {"__metadata__": np.ones(2)},
    {"tinygrad_lite": np.ones(2)},
    {"tinygrad_lite": np.ones(2, np.uint8), "crc32": np.ones(1), "tinygrad_lite'": np.ones(2)},
    {"file": np.ones(1), "allow_pickle": np.ones(2), "arr_0": np.ones(3), "self": np.ones(4)},
    {"a.npy": np.ones(1), "a": np.zeros(1), "a.npy.npy": np.ones(2)},
    {"nul\0": np.ones(1), "nul": np.zeros(1), "line\n": np.ones(2), "back\\slash": np.ones(3)},
    {"../../etc/passwd": np.ones(1), "/root": np.ones(2), "C:\\x": np.ones(3), "é😀": np.ones(4)},
    {"\ud800": np.ones(1), "x" * 70_000: np.ones(2), "y": "\ud800"},
    {"empty": np.zeros((0, 3)), "none": np.zeros(0, bool), "scalar": np.array(1.0)},
    {"strided": np.arange(24.0).reshape(4, 6)[::2, ::-3], "f": np.asfortranarray(np.eye(3)[:2])},
    {"broadcast": np.broadcast_to(np.float32(1), (3, 4)), "t": np.arange(6).reshape(2, 3).T},
    [{"nested": ({"deep": [np.ones(1), [np.zeros(2)]]},)}, "é\0\n😀", [[[]]]],
]


@both
@pytest.mark.parametrize("tree", TREES, ids=range(len(TREES)))
def test_what_goes_in_comes_out(tmp_path, tree, suffix):
    path = tmp_path / f"x.{suffix}"
    save(path, tree)
    assert same(tree, load(path))
    assert os.listdir(tmp_path) == [path.name]
    first = path.read_bytes()
    save(str(path), load(os.fsencode(path)))
    assert path.read_bytes() == first


DTYPES = """
    bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64
    complex128 longdouble clongdouble
"""


@both
@pytest.mark.parametrize("dtype", DTYPES.split())
@pytest.mark.parametrize("order", ["<", ">"])
def test_dtypes(tmp_path, dtype, order, suffix):
    path = tmp_path / f"x.{suffix}"
    array = np.array([[0, 1, 2], [3, 250, 1]]).astype(dtype)
    array = array.astype(array.dtype.newbyteorder(order))
    if suffix == "safetensors" and dtype in ("complex128", "longdouble", "clongdouble"):
        for tree, place in (({"x": array}, r'\["x"\]'), ([array], r"\[0\]")):
            with pytest.raises(TypeError, match=rf"^{place} is of type array of [\w<>]+,"):
                save(path, tree)
        assert not path.exists()
        return
    for tree in (array, array[0, 1]):
        save(path, tree)
        back = load(path)
        assert np.array_equal(back, tree)
        assert back.dtype == (tree.dtype if suffix == "npz" else tree.dtype.newbyteorder("="))
        assert back.flags.writeable


class Pair(tuple):
    __slots__ = ()


class Loud:
    """Runs code when it is unpickled."""

    ran = False

    def __reduce__(self):
        return (setattr, (Loud, "ran", True))


@both
@pytest.mark.parametrize(
    ("tree", "place", "says"),
    [
        ({"a": {1, 2}}, '["a"]', "set"),
        ({"optimizer": {"state": [print]}}, '["optimizer"]["state"][0]', "builtin_function"),
        ([0, (1, {3: Loud()})], "[1][1][3]", "Loud"),
        ({"a": np.array([None, 1])}, '["a"]', "object"),
        ({"a": np.array(["x"])}, '["a"]', "<U1"),
        ({"a": np.array([1], "M8[s]")}, '["a"]', "datetime64"),
        ({"a": np.zeros(2, [("x", "f4")])}, '["a"]', "x"),
        ({"a": np.ma.ones(2)}, '["a"]', "MaskedArray"),
        ({"a": np.str_("x")}, '["a"]', "<U1"),
        ({"a": b"bytes"}, '["a"]', "bytes"),
        ({"a": 1j}, '["a"]', "complex"),
        ({"a": Pair((1, 2))}, '["a"]', "Pair"),
        ({"a": {(0, 1): 2}}, '["a"]', r"key \(0, 1\)"),
        ({"a": {True: 2}}, '["a"]', "key True"),
        ({1.5: 2}, "the tree", "key 1.5"),
        ({None: 2}, "the tree", "key None"),
        ({np.int64(1): 2}, "the tree", "key .*1"),
        (Loud(), "the tree", "Loud"),
    ],
)
def test_what_a_file_cannot_hold(tmp_path, tree, place, says, suffix):
    path = tmp_path / f"x.{suffix}"
    save(path, {"old": np.ones(2)})
    with pytest.raises(TypeError, match=says) as caught:
        save(path, tree)
    assert str(caught.value).startswith(f"{place} is ")
    assert same({"old": np.ones(2)}, load(path))
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "name", ["x", "x.pt", "x.npy", "x.npz.gz", "npz", ".npz", "x.NPZ", "x.npz/"]
)
def test_other_suffixes(tmp_path, name):
    for run in (lambda p: save(p, {}), load):
        with pytest.raises(ValueError, match=r"\.npz or \.safetensors"):
            run(f"{tmp_path}/{name}")
    assert os.listdir(tmp_path) == []


def test_safetensors_is_loaded_when_used(tmp_path, monkeypatch):
    code = "import tinygrad_lite.saving, sys; assert 'safetensors' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    find = builtins.__import__

    def missing(name, *args):
        if name.startswith("safetensors"):
            raise ImportError(name)
        return find(name, *args)

    monkeypatch.setattr(builtins, "__import__", missing)
    for run in (lambda p: save(p, {}), load):
        with pytest.raises(ImportError, match=r"pip install 'tinygrad-lite\[safetensors\]'"):
            run(tmp_path / "x.safetensors")
    save(tmp_path / "x.npz", {})


# Other programs


FLAT = {
    "a/weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array(3),
    "file": np.ones(2),
}


def test_others_read_a_flat_dict(tmp_path):
    save(tmp_path / "x.npz", FLAT)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as archive:
        assert same(FLAT, dict(archive))
    torch = pytest.importorskip("torch")
    read = pytest.importorskip("safetensors.torch").load_file
    save(tmp_path / "x.safetensors", FLAT)
    back = read(tmp_path / "x.safetensors")
    assert back.keys() == FLAT.keys()
    for name, array in FLAT.items():
        assert torch.equal(back[name], torch.tensor(array))
    tree = {"model": {"0.weight": np.ones(2)}, "step": 3}
    save(tmp_path / "y.npz", tree)
    with np.load(tmp_path / "y.npz", allow_pickle=False) as archive:
        assert np.array_equal(archive["model/0.weight"], np.ones(2))
    save(tmp_path / "y.safetensors", tree)
    assert list(read(tmp_path / "y.safetensors")) == ["model/0.weight"]


def test_files_of_others(tmp_path):
    np.savez(tmp_path / "a.npz", np.ones(2), named=np.zeros((2, 2), ">f4"))
    assert same({"named": np.zeros((2, 2), ">f4"), "arr_0": np.ones(2)}, load(tmp_path / "a.npz"))
    np.savez_compressed(tmp_path / "b.npz", x=np.zeros(100_000), s=np.array("text"))
    assert same({"x": np.zeros(100_000), "s": np.array("text")}, load(tmp_path / "b.npz"))
    torch = pytest.importorskip("torch")
    write = pytest.importorskip("safetensors.torch").save_file
    tensors = {
        "f": torch.arange(4.0),
        "bf": torch.tensor([1.5, -2.0, math.inf, 1e-30, 3.14159]).to(torch.bfloat16),
        "i": torch.tensor([[1, 2]], dtype=torch.int16),
        "scalar": torch.tensor(True),
    }
    write(tensors, tmp_path / "c.safetensors", metadata={"format": "pt"})
    back = load(tmp_path / "c.safetensors")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        expected = (tensor.float() if name == "bf" else tensor).numpy()
        assert same(expected, back[name])
        assert back[name].flags.writeable
    write({"f8": torch.zeros(2).to(torch.float8_e4m3fn)}, tmp_path / "d.safetensors")
    with pytest.raises(ValueError, match="f8 is of type F8_E4M3"):
        load(tmp_path / "d.safetensors")


# Written whole or not at all


@both
def test_permissions_and_links(tmp_path, suffix):
    path, link = tmp_path / "sub" / f"x.{suffix}", tmp_path / f"link.{suffix}"
    path.parent.mkdir()
    link.symlink_to(f"sub/x.{suffix}")
    before = os.umask(0o027)
    try:
        save(link, {"a": 1})  # a link to nowhere yet
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        os.umask(0o077)
        save(path, {"a": 2})
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert load(link) == {"a": 2}
    assert sorted(os.listdir(tmp_path)) == [link.name, "sub"]
    assert os.listdir(path.parent) == [path.name]
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "nowhere" / path.name, {})
    folder = tmp_path / f"folder.{suffix}"
    folder.mkdir()
    with pytest.raises(OSError, match="directory"):
        save(folder, {})
    assert os.listdir(folder) == []
    assert sorted(os.listdir(tmp_path)) == sorted([link.name, "sub", folder.name])


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("x.npz", {"a": 1})
    assert load("x.npz") == {"a": 1}


@both
@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError("no"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, suffix, function, error):
    path = tmp_path / f"x.{suffix}"
    save(path, {"a": 1})

    def fail(*args):
        raise error

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(error)):
        save(path, {"a": 2})
    monkeypatch.undo()
    assert load(path) == {"a": 1}
    assert os.listdir(tmp_path) == [path.name]


@both
@pytest.mark.parametrize("limit", [0, 100, 50_000, 799_000])
def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path, suffix, limit):
    path = tmp_path / f"x.{suffix}"
    save(path, {"a": 1})
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            save(path, {"a": np.ones(100_000), "b": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert load(path) == {"a": 1}
    assert os.listdir(tmp_path) == [path.name]


WRITER = """
import sys, itertools, numpy as np
from tinygrad_lite.saving import save
print("ready", flush=True)
for n in itertools.count():
    save(sys.argv[1], {"n": n, "x": np.full(30_000, n), "y": [np.full(1000, -n)]})
    print(n, flush=True)
"""


@both
def test_killed_at_any_moment_there_is_a_whole_file(tmp_path, suffix):
    path, rand = tmp_path / f"x.{suffix}", random.Random(suffix)
    save(path, {"n": -1, "x": np.full(30_000, -1), "y": [np.full(1000, 1)]})
    for _ in range(15):
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(rand.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
            told = process.stdout.read().splitlines()
        tree = load(path)
        n = tree["n"]
        assert n >= max(map(int, told), default=-1)
        assert (tree["x"] == n).all()
        assert (tree["y"][0] == -n).all()


# Bad files


def write_npz(path, entries, compress=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin1")


def npy(shape, descr="<f8", data=b""):
    return header(repr({"descr": descr, "fortran_order": False, "shape": shape}) + "\n") + data


def tree_entry(text):
    return npy((len(text),), "|u1", text.encode())


ONE = npy((1,), "<f8", bytes(8))
BAD_NPZ = {  # name: entries of the archive, what the error says
    "pickle": ({"a.npy": npy((1,), "|O", pickle.dumps([Loud()]))}, "allow_pickle=False"),
    "not npy": ({"a.txt": b"hello"}, "magic string"),
    "absurd size": ({"a.npy": npy((10**15,))}, "allocate|more than|EOF"),
    "overflowing size": ({"a.npy": npy((2**40, 2**40, 2**40))}, None),
    "wrapping size": ({"a.npy": npy((2**62, 4))}, None),
    "negative size": ({"a.npy": npy((-1,))}, None),
    "short": ({"a.npy": npy((4,), "<f8", bytes(31))}, "EOF"),
    "long": ({"a.npy": ONE + b"x"}, "more than an array"),
    "header runs code": ({"a.npy": header("__import__('os').abort()\n")}, "header"),
    "deep header": ({"a.npy": header("[" * 5000 + "\n")}, None),
    "version": ({"a.npy": ONE.replace(b"Y\x01", b"Y\x09")}, "version"),
    "missing array": (
        {"tinygrad_lite.npy": tree_entry('[{"array": "w"}]')},
        "'w', which is missing",
    ),
    "array used twice": (
        {"a.npy": ONE, "tinygrad_lite.npy": tree_entry('[{"array": "a"}, {"array": "a"}]')},
        "'a', which is missing",
    ),
    "array not used": ({"a.npy": ONE, "tinygrad_lite.npy": tree_entry("[1]")}, "no place.*'a'"),
    "no JSON": ({"tinygrad_lite.npy": tree_entry("[1")}, "JSONDecodeError"),
    "no UTF-8": ({"tinygrad_lite.npy": npy((1,), "|u1", b"\xff")}, "decode"),
    "unknown kind": ({"tinygrad_lite.npy": tree_entry('{"set": [1]}')}, "'set'"),
    "two kinds": ({"tinygrad_lite.npy": tree_entry('{"tuple": [], "dict": []}')}, "unpack"),
    "no pairs": ({"tinygrad_lite.npy": tree_entry('{"dict": [1]}')}, None),
    "bad key": ({"tinygrad_lite.npy": tree_entry('{"dict": [[[1], 2]]}')}, "unhashable"),
    "deep tree": ({"tinygrad_lite.npy": tree_entry("[" * 100_000)}, "ecursion"),
}


@pytest.mark.parametrize("name", list(BAD_NPZ))
def test_bad_npz(tmp_path, name):
    path = tmp_path / "bad.npz"
    entries, says = BAD_NPZ[name]
    for compress in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        write_npz(path, entries, compress)
        with pytest.raises(ValueError, match=says) as caught:
            load(path)
        assert str(caught.value).startswith(f"{path} is damaged")
    assert not Loud.ran


def test_an_object_array_of_numpy_is_not_unpickled(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([Loud()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        load(tmp_path / "x.npz")
    assert not Loud.ran


def safe_bytes(entries, data=b"", length=None):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


F8 = {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}
BAD_SAFE = {
    "header too long": safe_bytes({"a": F8}, bytes(8), length=2**40),
    "header negative": safe_bytes({"a": F8}, bytes(8), length=2**63),
    "no JSON": safe_bytes(b"{{{{"),
    "deep JSON": safe_bytes(b"[" * 100_000),
    "no dict": safe_bytes(b"[1, 2]"),
    "short": safe_bytes({"a": F8}, bytes(7)),
    "long": safe_bytes({"a": F8}, bytes(9)),
    "absurd size": safe_bytes({"a": F8 | {"shape": [10**15], "data_offsets": [0, 8 * 10**15]}}),
    "overflow": safe_bytes({"a": F8 | {"shape": [2**60, 2**60]}}, bytes(8)),
    "negative": safe_bytes({"a": F8 | {"shape": [-1]}}, bytes(8)),
    "type": safe_bytes({"a": F8 | {"dtype": "O"}}, bytes(8)),
    "overlap": safe_bytes({"a": F8, "b": F8}, bytes(8)),
    "tree": safe_bytes({"__metadata__": {"tinygrad_lite": "tinygrad_lite"}, "a": F8}, bytes(8)),
    "sum": safe_bytes({"__metadata__": {"tinygrad_lite": "tinygrad_lite 1 []"}, "a": F8}, bytes(8)),
}


@pytest.mark.parametrize("name", list(BAD_SAFE))
def test_bad_safetensors(tmp_path, name):
    pytest.importorskip("safetensors")
    path = tmp_path / "bad.safetensors"
    path.write_bytes(BAD_SAFE[name])
    with pytest.raises(ValueError, match="is damaged"):
        load(path)


@both
def test_missing_and_other_files(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    with pytest.raises(FileNotFoundError, match=path.name):
        load(path)
    path.mkdir()
    with pytest.raises(ValueError, match=rf"{path.name} is not a file"):
        load(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=rf"{path.name} is not a file"):
        load(path)
    path.unlink()
    for content in (b"", b"x", b"PK\x05\x06", pickle.dumps(Loud()), b"\x93NUMPY", bytes(5000)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{path.name} is damaged"):
            load(path)
    assert not Loud.ran


FUZZED = [
    {"model": {"w": np.arange(20.0), "b": np.ones(3, np.float32)}, "step": 17, "t": (1, [2.5])},
    {"w": np.arange(20.0), "b": np.ones(3, np.float32), "c": np.zeros((2, 0))},
]


@both
@pytest.mark.parametrize("tree", FUZZED, ids=["tree", "flat"])
def test_damage_is_noticed(tmp_path, tree, suffix):
    """Flipped bits, random bytes and cuts: the same tree, or ValueError; nothing else, no hanging."""
    path, rand = tmp_path / f"x.{suffix}", random.Random(0)
    save(path, tree)
    whole = path.read_bytes()
    noticed = 0
    variants = [whole[:n] for n in range(0, len(whole), 7)]
    variants += [whole[:n] + b"\0" + whole[n + 1 :] for n in range(len(whole) - 22, len(whole))]
    for i in range(1500):
        content = bytearray(whole)
        for _ in range(1 + (i % 3 == 0) * rand.randrange(5)):
            at = rand.randrange(len(content))
            content[at] = rand.randrange(256) if i % 2 else content[at] ^ (1 << rand.randrange(8))
        variants.append(bytes(content))
    for content in variants:
        path.write_bytes(content)
        try:
            assert same(tree, load(path)), content
        except ValueError:
            noticed += 1
    assert noticed > len(variants) / 3


# A run that goes on as if it had never stopped


@both
def test_a_resumed_run_is_bit_identical(tmp_path, suffix):
    """Batches and dropout draw from the package's generator, whose state is part of the file."""
    state = rng.get_rng_state()
    data = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)

    def fresh(seed):
        start = np.random.default_rng(seed)
        shapes = {"0.weight": (5, 8), "0.bias": (8,), "1.weight": (8, 1), "scale": ()}
        model = {
            name: tg.tensor(start.normal(size=shape) / 2, requires_grad=True, dtype=np.float32)
            for name, shape in shapes.items()
        }
        optimizer = optim.AdamW(model.values(), lr=0.1, amsgrad=True)
        return model, optimizer, optim.OneCycleLR(optimizer, 0.05, total_steps=40)

    def run(model, optimizer, schedule, start, stop):
        for _ in range(start, stop):
            draw = rng.generator()
            x = data[draw.integers(0, len(data), 16)]
            hidden = np.tanh(x @ model["0.weight"] + model["0.bias"])
            hidden = hidden * (draw.random(hidden.shape) < 0.8).astype(np.float32)
            loss = ((hidden @ model["1.weight"] * model["scale"] - x[:, :1]) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optim.clip_grad_norm_(model.values(), 0.5)
            optimizer.step()
            schedule.step()
        return loss.item()

    try:
        tg_run = fresh(1)
        rng.manual_seed(5)
        run(*tg_run, 0, 17)
        model, optimizer, schedule = tg_run
        path = tmp_path / f"run.{suffix}"
        save(path, {
            "model": model, "optimizer": optimizer.state_dict(), "scheduler": schedule.state_dict(),
            "rng": rng.get_rng_state(), "step": 17,
        })  # fmt: skip
        last = run(*tg_run, 17, 40)
        rng.manual_seed(99)
        model2, optimizer2, schedule2 = fresh(2)
        back = load(path)
        for name, p in model2.items():
            p.data = back["model"][name]
        optimizer2.load_state_dict(back["optimizer"])
        schedule2.load_state_dict(back["scheduler"])
        rng.set_rng_state(back["rng"])
        assert back["step"] == 17
        assert run(model2, optimizer2, schedule2, back["step"], 40) == last
        for name, p in model.items():
            assert p.dtype == np.float32
            assert p.data.tobytes() == model2[name].data.tobytes()
        assert same(optimizer.state_dict(), optimizer2.state_dict())
        assert schedule.state_dict() == schedule2.state_dict()
    finally:
        rng.set_rng_state(state)


def test_errors_name_the_file_that_was_asked_for(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    for path, kind in (("none/a.npz", FileNotFoundError), ("folder.npz", OSError)):
        with pytest.raises(kind) as caught:
            save(tmp_path / path, {"a": 1})
        assert str(caught.value).endswith(f": {str(tmp_path / path)!r}")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.npz"]
