"""Run a notebook from top to bottom in an empty folder, and fail where a cell fails.

`run_notebook.py FILE [NAME=VALUE ...] [PLACE:FOLDER ...]`: a value replaces that of a line `NAME = ...`; a folder is
copied to its place before the first cell runs. What the cells print is printed, without pictures.
"""

import os
import re
import shutil
import sys
import tempfile

import nbformat
from nbclient import NotebookClient


def main(path: str, *changes: str) -> None:
    """Run the notebook with the changes, and print what its cells say."""
    notebook = nbformat.read(path, as_version=4)
    copies = [change.partition(":")[::2] for change in changes if "=" not in change]
    for change in changes:
        if "=" not in change:
            continue
        name, _, value = change.partition("=")
        found = 0
        for cell in notebook.cells:
            cell.source, here = re.subn(rf"^{name} = .*$", f"{name} = {value}", cell.source, flags=re.MULTILINE)
            found += here
        if found != 1:
            sys.exit(f"{path}: expected one line `{name} = ...`, found {found}")
    with tempfile.TemporaryDirectory() as folder:
        for place, source in copies:
            shutil.copytree(source, os.path.join(folder, place))
        os.environ["PATH"] = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            print(output.get("text") or output["data"].get("text/plain", ""), end="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
