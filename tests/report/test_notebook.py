"""The notebook of the month end runs from its first to its last cell."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from paths import ROOT


@pytest.mark.filterwarnings("default")
def test_the_month_end_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell of examples/month_end.ipynb runs, with its checks: report = bills, sales = cost + margin."""
    nbclient = pytest.importorskip("nbclient")
    for module in ("ipykernel", "matplotlib", "duckdb", "xlsxwriter"):
        pytest.importorskip(module)
    nbformat = pytest.importorskip("nbformat")
    # The results go to a temporary folder, and a kernel does not write into the home folder.
    for name in ("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(ROOT / "examples" / "month_end.ipynb", as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = nbclient.NotebookClient(
            notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
        )
        client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert not [output for output in outputs if output.output_type == "error"]
