"""Finding every place in source code that opens, writes or deletes files, or starts processes or code.

Names are followed through imports (`from os import open as o`), and a function that is handed over counts like one that
is called. Of modules that touch files, only what is known to be harmless is left out; a module of the standard library
that nobody has looked at is a finding too.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

HARMLESS: Mapping[str, frozenset[str]] = {
    "os": frozenset(
        [
            "O_APPEND",
            "O_CREAT",
            "O_EXCL",
            "O_RDONLY",
            "O_WRONLY",
            "PathLike",
            "_exit",
            "close",
            "cpu_count",
            "environ",
            "fsdecode",
            "fsencode",
            "fspath",
            "fstat",
            "fsync",
            "getpid",
            "name",
            "scandir",
            "sched_getaffinity",
            "sep",
            "stat_result",
            "walk",
            "environ.get",
            "environ.update",
            "path.lexists",
            "path.relpath",
        ]
    ),
    "shutil": frozenset({"which"}),
    "io": frozenset({"BytesIO", "StringIO", "TextIOWrapper"}),
    "subprocess": frozenset({"DEVNULL", "PIPE", "STDOUT", "TimeoutExpired"}),
    "multiprocessing": frozenset({"parent_process"}),
    "concurrent": frozenset(
        {"futures.ThreadPoolExecutor", "futures.process.BrokenProcessPool", "futures.process", "futures"}
    ),
    "pickle": frozenset({"UnpicklingError"}),
    "zipfile": frozenset({"BadZipFile"}),
    "logging": frozenset({"WARNING", "getLogger"}),
    "importlib": frozenset(
        {"metadata", "metadata.version", "resources", "resources.files", "util", "util.find_spec", "import_module"}
    ),
    "socket": frozenset({"create_connection"}),
    "urllib": frozenset({"parse", "parse.urlparse", "request", "request.getproxies"}),
    "xml": frozenset({"etree", "etree.ElementTree", "etree.ElementTree.fromstring", "etree.ElementTree.ParseError"}),
    "shlex": frozenset({"quote"}),
}
"""Modules of the standard library that touch files or start something, and what of them does not."""

QUIET = frozenset(
    [
        "__future__",
        "base64",
        "binascii",
        "collections",
        "contextlib",
        "copy",
        "csv",
        "dataclasses",
        "difflib",
        "enum",
        "errno",
        "functools",
        "hashlib",
        "hmac",
        "html",
        "inspect",
        "itertools",
        "json",
        "math",
        "pathlib",
        "platform",
        "random",
        "re",
        "reprlib",
        "resource",
        "secrets",
        "signal",
        "stat",
        "statistics",
        "struct",
        "sys",
        "threading",
        "time",
        "traceback",
        "types",
        "typing",
        "unicodedata",
        "uuid",
        "warnings",
        "zlib",
    ]
)
"""Modules of the standard library that touch no files by themselves; methods of paths are looked for everywhere."""

BUILTINS = frozenset({"open", "exec", "eval", "compile", "__import__", "input", "breakpoint"})

METHODS = frozenset(
    [
        "write_text",
        "write_bytes",
        "unlink",
        "rmdir",
        "mkdir",
        "touch",
        "rename",
        "symlink_to",
        "hardlink_to",
        "chmod",
        "lchmod",
        "read_text",
        "read_bytes",
        "tofile",
        "extractall",
        "extract",
        "to_csv",
        "to_pickle",
        "to_parquet",
        "open",
    ]
)
"""Methods of paths, arrays, archives and tables, whatever they are called on."""

LOADERS = frozenset(
    [
        "numpy.load",
        "numpy.fromfile",
        "numpy.memmap",
        "numpy.loadtxt",
        "numpy.genfromtxt",
        "numpy.lib",
        "torch.load",
        "torch.hub",
        "torch.jit.load",
        "torch.export.load",
        "torch.multiprocessing",
        "scipy.io.loadmat",
        "safetensors.safe_open",
        "safetensors.torch.load_file",
        "PIL.Image.open",
        "tifffile.imread",
        "tifffile.TiffFile",
        "onnx.load",
        "onnxruntime.InferenceSession",
        "yaml.load",
        "yaml.unsafe_load",
        "yaml.full_load",
        "pandas.read_csv",
        "json.load",
        "torchvision.io.read_image",
        "huggingface_hub.hf_hub_download",
    ]
)
"""Functions of libraries that open a file by its name."""

SAVERS = frozenset({"save", "savez", "savez_compressed", "savetxt", "save_checkpoint", "save_file", "imwrite", "dump"})
"""Functions and methods that write; what they are given tells where."""

TEMPORARY = frozenset({"temporary", "str(temporary)", "file", "buffer", "memory"})
"""What `whole_file` gives, or a file in memory: libraries may write there."""


def places(source: Path) -> Iterator[tuple[str, str, bool]]:
    """File, expression, and whether it goes through the gateway, for each place below a folder."""
    for path in sorted(source.rglob("*.py")):
        name = path.relative_to(source).as_posix()
        for expression, good in _Search(path.read_text(encoding="utf-8")).found():
            yield name, expression, good


class _Search:
    def __init__(self, text: str) -> None:
        self._tree, lines = ast.parse(text), text.splitlines()
        self._names = dict(_imported(self._tree))
        functions = [node for node in ast.walk(self._tree) if isinstance(node, ast.FunctionDef)]
        self._checked = [
            range(node.lineno, (node.end_lineno or node.lineno) + 1)
            for node in functions
            if any("check_file(" in line for line in lines[node.lineno - 1 : node.end_lineno])
        ]

    def found(self) -> Iterator[tuple[str, bool]]:
        for module in _modules(self._tree):
            top = module.split(".")[0]
            if top in sys.stdlib_module_names and top not in QUIET and top not in HARMLESS:
                yield f"import {module}", False
        called = {id(node.func): node for node in ast.walk(self._tree) if isinstance(node, ast.Call)}
        inner = {id(node.value) for node in ast.walk(self._tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(self._tree):
            if not isinstance(node, ast.Name | ast.Attribute):
                continue
            if isinstance(node.ctx, ast.Load) and id(node) not in inner:
                good = self._is_good(node, called.get(id(node)))
                if good is not None:
                    yield ast.unparse(node), good

    def _is_good(self, node: ast.Name | ast.Attribute, call: ast.Call | None) -> bool | None:
        """Whether an expression goes through the gateway; None if it touches no file."""
        full = self._resolve(node)
        top, _, rest = (full or "").partition(".")
        checked = any(node.lineno in lines for lines in self._checked)
        if full is None and isinstance(node, ast.Name):
            return False if node.id in BUILTINS else None
        if top in HARMLESS:
            if not rest or rest in HARMLESS[top]:
                # the module itself, handed to `getattr` or another function, may be used in any way
                return False if not rest and isinstance(node, ast.Name) and call is None else None
            return False
        if full and any(full == loader or full.startswith(f"{loader}.") for loader in LOADERS):
            return checked
        last = ast.unparse(node).rpartition(".")[2] if full is None else full.rpartition(".")[2]
        if call is not None and last in SAVERS and (full or isinstance(node, ast.Attribute)):
            given = [*call.args, *(word.value for word in call.keywords)]
            return bool({ast.unparse(argument) for argument in given} & TEMPORARY)
        if full is not None and top not in QUIET:
            # another function of a library
            return False if last in SAVERS and call is None else None
        return self._method(node, last, call, checked)

    def _method(self, node: ast.Name | ast.Attribute, last: str, call: ast.Call | None, checked: bool) -> bool | None:
        if not isinstance(node, ast.Attribute):
            return None
        owner = ast.unparse(node.value)
        replaces = last == "replace" and call is not None and len(call.args) == 1 and not call.keywords
        if last == "open" and owner in ("Run", "cls", "self"):
            return None
        if last in METHODS or replaces:
            return owner in TEMPORARY or (last == "open" and owner == "path" and checked)
        return None

    def _resolve(self, node: ast.expr) -> str | None:
        """The full name of what an expression names, if it comes from an import."""
        if isinstance(node, ast.Name):
            return self._names.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self._resolve(node.value)
            return f"{owner}.{node.attr}" if owner else None
        return None


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], alias.name if alias.asname else alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _modules(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
