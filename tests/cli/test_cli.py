"""The command line: every verb answers people and programs, wrong input is one sentence and exit code 2."""

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from ecg_transformers.cli import build_parser, main, output, training
from ecg_transformers.data.corpora import CORPORA
from ecg_transformers.data.sheets import corpus_sheet
from ecg_transformers.models.checkpoints import list_checkpoints
from ecg_transformers.models.registry import get_method, list_methods
from ecg_transformers.models.tables import method_table
from ecg_transformers.signal.units import MILLIVOLTS_PER_UNIT

LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
VERBS = build_parser().get_default("verbs")


def look_at_the_output(monkeypatch):
    """Standard output is a terminal from here on."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def record(tmp_path):
    signal = np.random.default_rng(0).standard_normal((1000, 12)) * 0.2
    path = tmp_path / "ein EKG.npz"
    np.savez(path, signal=signal, sampling_rate=100, lead_names=LEADS)
    return str(path)


@pytest.mark.parametrize("columns", ["80", "100", "110", "200"])
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_at_any_width(verb, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert not re.search(r"default:\s*(\[\]|None|\))", printed)
    told = [printed.partition("\n\n")[2].partition("\n\n")[0], printed.partition("example:")[2]]
    assert max(map(len, "\n".join(told).splitlines())) <= int(columns)
    words = printed.partition("example:")[2].partition("what a file must hold")[0].replace("\\\n", "").split()
    assert words[:2] == ["ecg-transformers", verb]
    options, unknown = build_parser().parse_known_args(words[1:])
    assert options.verb == verb
    assert verb in training.VERBS or not unknown  # their options are parsed by dataclasses


@pytest.mark.parametrize("verb", sorted(training.VERBS))
def test_an_option_that_switches_off_says_so(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    told = capsys.readouterr().out
    opposites = re.findall(r"^  --no_(\w+), --no-\S+\s+(.*)$", told, re.MULTILINE)
    assert opposites
    assert all(text == f"The same as --{name} false." for name, text in opposites)


@pytest.mark.parametrize("verb", ["info", "plot", "check", "convert-record", "predict", "embed"])
def test_verbs_that_read_files_tell_what_a_file_must_hold(verb, capsys):
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    told = capsys.readouterr().out.partition("must hold")[2]
    assert all(f"\n  {ending}" in told for ending in (".hea", ".npz", ".mat", ".csv", ".edf", "labels.csv"))


def test_methods_lists_the_registry(capsys):
    assert main(["methods"]) == 0
    assert [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()] == list_methods()
    assert main(["methods", "--markdown"]) == 0
    assert capsys.readouterr().out.strip() == method_table()


@pytest.mark.parametrize(
    ("verb", "names"), [("datasets", sorted(CORPORA)), ("methods", list_methods()), ("checkpoints", list_checkpoints())]
)
def test_the_name_of_a_row_is_whole_on_a_narrow_terminal(verb, names, capsys, monkeypatch):
    look_at_the_output(monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    assert main([verb]) == 0
    lines = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out).splitlines()
    assert {name for name in names if not any(line.split()[:1] == [name] for line in lines)} == set()
    assert max(map(len, lines)) <= 80


def test_datasets_prints_a_fact_sheet_a_line(capsys):
    assert main(["datasets"]) == 0
    sheets = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"synthetic", "folder", "ptb_xl"} <= {sheet["name"] for sheet in sheets}


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_a_fact_sheet_tells_people_what_to_download_and_which_folder_is_expected(name, capsys, monkeypatch):
    look_at_the_output(monkeypatch)
    assert main(["datasets", name]) == 0
    text = capsys.readouterr().out
    sheet = corpus_sheet(name)
    assert text.startswith(f"{name}: {sheet['title']}\n{sheet['summary']}")
    for title, key in (("Records", "records"), ("Licence", "licence"), ("Download", "download"), ("Folder", "layout")):
        assert not sheet[key] or f"{title:9} {sheet[key]}" in text
    assert all(note in text for note in sheet["notes"])
    assert all(option in text for option in sheet["options"])


@pytest.mark.parametrize("words", [["methods"], ["checkpoints"], ["datasets"], ["doctor"]])
def test_people_get_text_and_programs_json(words, capsys, monkeypatch):
    look_at_the_output(monkeypatch)
    assert main(words) == 0
    with pytest.raises(json.JSONDecodeError):
        json.loads(capsys.readouterr().out.splitlines()[0])
    assert main([*words, "--json"]) == 0
    assert all(json.loads(line) for line in capsys.readouterr().out.splitlines())


def test_info_describes_a_record(record, capsys):
    assert main(["info", record]) == 0
    assert json.loads(capsys.readouterr().out)["sampling_rate"] == 100


def test_info_tells_people_every_lead(record, capsys, monkeypatch):
    look_at_the_output(monkeypatch)
    assert main(["info", record]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{lead} " in shown for lead in LEADS)
    assert "10 s at 100 Hz" in shown


@pytest.mark.parametrize("unit", MILLIVOLTS_PER_UNIT)
def test_every_unit_that_a_sentence_may_advise_can_be_given(tmp_path, capsys, unit):
    np.save(tmp_path / "bare.npy", np.full((500, 1), 0.5 / MILLIVOLTS_PER_UNIT[unit]))
    hints = ["--sampling_rate", "250", "--leads", "II", "--units", unit]
    assert main(["info", str(tmp_path / "bare.npy"), *hints]) == 0
    assert json.loads(capsys.readouterr().out)["leads"][0]["max_mv"] == pytest.approx(0.5, rel=1e-4)


def test_info_and_plot_take_what_a_file_does_not_say(tmp_path, capsys):
    np.save(tmp_path / "bare.npy", np.random.default_rng(0).standard_normal((500, 2)) * 200)
    hints = ["--sampling_rate", "250", "--leads", "II,V1", "--units", "uV"]
    assert main(["info", str(tmp_path / "bare.npy"), *hints]) == 0
    sheet = json.loads(capsys.readouterr().out)
    assert (sheet["sampling_rate"], sheet["lead_names"]) == (250, ["II", "V1"])
    assert sheet["leads"][0]["max_mv"] < 1
    assert main(["plot", str(tmp_path / "bare.npy"), "-o", str(tmp_path / "bare.png"), *hints]) == 0


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["info", "bare.npy"], "pass --sampling_rate HZ, --leads I,II"),
        (["plot", "bare.npy", "-o", "a.png"], "pass --sampling_rate HZ, --leads I,II"),
        (["check", "bare.npy"], "pass --sampling_rate HZ, --leads I,II"),
        (["check", "."], "pass --sampling_rate HZ, --leads I,II"),
        (["convert-record", "bare.npy", "-o", "out"], "pass --sampling_rate HZ, --leads I,II"),
        (["build", "folder", "--data_dir", ".", "--output_dir", "out"], "--option sampling_rate=HZ"),
        (["info", "damaged.hea"], "is an argument of the Python functions"),
        (["check", "damaged"], "--option checksum=ignore"),
    ],
)
def test_advice_is_in_the_words_of_the_verb(words, advice, tmp_path, monkeypatch, capsys):
    import wfdb

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path / "cache"))
    np.save("bare.npy", np.random.default_rng(0).standard_normal((1000, 12)))
    (tmp_path / "damaged").mkdir()
    for folder in (".", "damaged"):
        wfdb.wrsamp("damaged", 100, ["mV"], ["II"], np.sin(np.arange(900.0))[:, None], fmt=["16"], write_dir=folder)
        with open(f"{folder}/damaged.dat", "r+b") as stream:
            stream.write(b"other")
    assert main(words) > 0
    printed = "".join(capsys.readouterr())
    assert advice in printed
    assert "sampling_rate=…" not in printed


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_plot_writes_a_picture(record, tmp_path, capsys, suffix, start):
    assert main(["plot", record, "-o", str(tmp_path / f"a picture.{suffix}")]) == 0
    assert (tmp_path / f"a picture.{suffix}").read_bytes().startswith(start)


def test_build_writes_shards(tmp_path, capsys):
    out = tmp_path / "shards"
    assert main(["build", "synthetic", "--output_dir", str(out), "--option", "num_records=6"]) == 0
    assert list(out.rglob("*.parquet"))
    assert json.loads(capsys.readouterr().out)["read"] == 6


def test_doctor_names_versions_cache_and_threads(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path))
    (tmp_path / "a file").write_bytes(b"0" * 1_500_000)
    assert main(["doctor"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["torch"]
    assert (facts["cache"], facts["cache_megabytes"]) == (str(tmp_path), 1.5)


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "no such file.hea"],
        ["plot", "no such file.hea", "-o", "x.png"],
        ["convert", "st_men", "file.pth", "out"],
        ["convert", "st_mem", "no such file.pth", "out"],
        ["build", "ptb_x", "--output_dir", "out"],
        ["build", "ptb_xl", "--data_dir", "no such folder", "--output_dir", "out"],
        ["predict", "a.hea", "--model", "no such model folder"],
        ["predict", "a.hea"],
        ["predict", "a.hea", "--model", "ecg-fm"],
        ["checkpoints", "ecg_founder"],
        ["predict", "a.hea", "--model", "m", "-o", "table.xlsx"],
        ["predict", "a.hea", "--model", "m", "-o", "no folder/table.csv"],
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert printed.startswith(f"ecg-transformers {arguments[0]}:")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["predict", "a.hea", "--model"], ["export", "tunned", "out.pt2"]])
def test_a_mistyped_model_is_told_from_a_network(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "config.json").write_text("{}")
    assert main(words if words[0] == "export" else [*words, "tunned"]) == 2
    printed = capsys.readouterr().err
    assert "There is no model folder tunned; did you mean tuned?" in printed
    assert not any(word in printed for word in ("connect", "internet", "huggingface.co"))


def test_doctor_says_how_big_converted_checkpoints_are_and_how_to_clear_them(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path))
    (tmp_path / "checkpoints" / "xecg" / "0").mkdir(parents=True)
    (tmp_path / "checkpoints" / "xecg" / "0" / "model.safetensors").write_bytes(b"0" * 2_500_000)
    assert main(["doctor"]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoints_megabytes"] == 2.5
    look_at_the_output(monkeypatch)
    assert main(["doctor"]) == 0
    assert f"rm -r {tmp_path / 'checkpoints'}" in capsys.readouterr().out


def test_the_way_to_clear_the_cache_leaves_what_nothing_brings_back(capsys, monkeypatch, tmp_path):
    cache = tmp_path / "it's my cache"
    monkeypatch.setenv("ECG_CACHE_DIR", str(cache))
    own = [cache / "official" / "ked" / "ked.pt", cache / "identity.key"]
    made = [cache / "checkpoints" / "ked" / "0" / "config.json", cache / "ptb_xl" / "data.arrow", cache / "a file"]
    for path in (*own, *made):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    look_at_the_output(monkeypatch)
    assert main(["doctor"]) == 0
    (command,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  find ")]
    subprocess.run(command, shell=True, check=True)
    assert sorted(path for path in cache.rglob("*") if path.is_file()) == sorted(own)


def test_predict_without_a_model_says_what_it_needs(capsys):
    assert main(["predict", "a.hea"]) == 2
    assert "--model" in capsys.readouterr().err


def test_the_module_form_is_the_command():
    words = [sys.executable, "-m", "ecg_transformers", "--version"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0
    assert result.stdout.strip().count(".") == 2


@pytest.mark.parametrize("words", [["datasets"], ["methods"], ["checkpoints"], ["info"], ["plot"]])
def test_light_verbs_load_neither_torch_nor_transformers(words, record, tmp_path):
    given = {"info": [record], "plot": [record, "-o", str(tmp_path / "a.png")]}.get(words[0], [])
    script = (
        "import sys\nfrom ecg_transformers.cli import main\n"
        f"code = main({[*words, *given]!r})\n"
        "print(code, sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=280)
    assert result.stdout.splitlines()[-1] == "0 []", result.stderr[-1000:]


def test_help_loads_nothing_heavy():
    script = (
        "import sys\nfrom ecg_transformers.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'scipy', 'pandas', 'pyarrow', 'matplotlib', 'wfdb'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=280)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr[-1000:]


def test_training_answers_help_and_typos_before_torch_is_loaded():
    script = (
        "import sys\nfrom ecg_transformers.cli import main\n"
        "code = main(['pretrain', '--methd', 'st_mem'])\n"
        "try:\n    main(['finetune', '--help'])\nexcept SystemExit as end:\n"
        "    print(code, end.code, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=280)
    assert result.stdout.splitlines()[-1] == "2 0 False", result.stderr[-1000:]
    assert "did you mean '--method'?" in result.stderr


@pytest.mark.parametrize(
    ("words", "ask"),
    [
        (["finetune", "--help"], "from transformers import AutoModel; AutoModel.from_pretrained(sys.argv[1])"),
        (["finetune", "--seeds"], "from transformers import pipeline; pipeline('ecg-feature-extraction', sys.argv[1])"),
    ],
)
def test_a_program_that_goes_on_after_help_or_a_wrong_option_knows_the_classes(tmp_path, words, ask):
    method = get_method("st_mem")
    method.model_classes["base"](method.config_class(**method.tiny_config)).save_pretrained(tmp_path / "model")
    code = f"import sys\nfrom ecg_transformers.cli import main\ntry:\n    main({words})\nexcept SystemExit:\n    pass\n{ask}"
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "model"], capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr[-1500:]


def test_pretrain_and_finetune_are_verbs(own_cache, tmp_path, capsys):
    common = ["--recipe", "tiny", "--dataset", "synthetic", "--dataset_options", "num_records=40", "--max_steps", "2"]
    common += ["--per_device_batch_size", "4", "--recipe_overrides", "batch_size=4", "--no_tensorboard"]
    small = ",".join(f"{name}={value}" for name, value in get_method("st_mem").tiny_config.items())
    pretrained, tuned = str(tmp_path / "pre trained"), str(tmp_path / "tuned")
    words = ["pretrain", "--method", "st_mem", *common, "--config_overrides", small, "--output_dir", pretrained]
    assert not main(words)
    words = ["finetune", "--model_name_or_path", pretrained, *common, "--output_dir", tuned, "--n_boot", "10"]
    assert not main(words)
    assert "test macro AUROC" in capsys.readouterr().out
    assert main(["pretrain", "--metod", "st_mem", "--output_dir", "x"]) == 2
    assert "--method" in capsys.readouterr().err


def test_a_folder_stands_for_its_records_and_what_else_lies_there_is_named(record, tmp_path, caplog):
    (tmp_path / "labels.csv").write_text("file,labels\n")
    named = output.record_files([str(tmp_path), record])
    assert named == [record, record]
    assert "left alone" in caplog.text
    assert "labels.csv" in caplog.text
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty.*holds no records"):
        output.record_files([str(tmp_path / "empty")])


@pytest.mark.parametrize("verb", ["pretrain", "doctor"])
def test_an_interruption_at_any_moment_is_one_word(monkeypatch, capsys, verb):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ecg_transformers.cli.training.run", interrupt)
    monkeypatch.setattr("ecg_transformers.cli.doctor.collect", interrupt)
    assert main([verb]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["chek", "x"], "did you mean 'check'?"),
        (["predict", "x", "--modle", "y"], "did you mean --model?"),
        (["info", "x", "--sampling_rte", "5"], "did you mean --sampling_rate?"),
    ],
)
def test_the_nearest_verb_or_option_is_named(capsys, words, meant):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert meant in capsys.readouterr().err


def test_predict_writes_a_table(record, tmp_path, capsys):
    import torch

    from ecg_transformers.models.registry import get_method

    method = get_method("st_mem")
    torch.manual_seed(0)
    config = method.config_class(
        **method.tiny_config,
        id2label={0: "AF", 1: "sinus", 2: "other"},
        problem_type="multi_label_classification",
        decision_thresholds=[0.0, 1.0, 1.0],
    )
    method.model_classes["classification"](config).save_pretrained(tmp_path / "model")
    np.save(tmp_path / "bare.npy", np.zeros((1000, 12)))
    bad = [str(tmp_path / "missing.npz"), str(tmp_path / "bare.npy")]
    for name in ("scores.csv", "scores.parquet"):
        words = ["predict", record, *bad, "--model", str(tmp_path / "model")]
        assert main([*words, "-o", str(tmp_path / name)]) == 1
        read = pd.read_csv if name.endswith("csv") else pd.read_parquet
        table = read(tmp_path / name)
        assert list(table["file"]) == [record]
        assert list(table["answer"]) == ["AF"]
        assert {"AF", "sinus", "other"} <= set(table)
    printed = capsys.readouterr().err
    assert "missing.npz" in printed
    assert "pass --sampling_rate HZ, --leads I,II" in printed
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("rows", [[], [{"file": "a", "QT_ms": None, "refused": "QT"}]])
def test_columns_of_a_table_have_a_type_without_any_value(rows, tmp_path):
    """Tables of several runs are read together: a column may have its first value in the next one."""
    parquet = pytest.importorskip("pyarrow.parquet")
    output.write_table(rows, tmp_path / "t.parquet", ["file", "QT_ms", "refused"])
    types = {field.name: str(field.type) for field in parquet.read_schema(tmp_path / "t.parquet")}
    assert types["QT_ms"] == "double"
    assert {types["file"], types["refused"]} <= {"string", "large_string"}
    assert parquet.read_table(tmp_path / "t.parquet").to_pylist() == rows
