"""The room of analysis shows what it holds, and loads it when it is used."""

import subprocess
import sys

import ecg_transformers.analysis as analysis


def test_every_tool_is_listed_and_can_be_imported():
    wanted = {"compute_attentions", "plot_attention_map", "explain_record", "plot_saliency", "plot_embedding"}
    assert wanted | {"extract_features", "compare_models", "plot_ecg", "save_figure"} <= set(dir(analysis))
    assert [name for name in analysis.__all__ if not callable(getattr(analysis, name))] == []


def test_listing_the_tools_loads_nothing_heavy():
    code = (
        "import sys\nimport ecg_transformers.analysis as analysis\n"
        "assert 'plot_saliency' in dir(analysis)\n"
        "print(sorted({'torch', 'transformers', 'matplotlib', 'sklearn', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=280)
    assert result.stdout.strip() == "[]"
