"""What holds of every corpus in each of its layouts."""

import csv
import shutil

import pytest

from ecg_transformers.data.building.plan import plan_of
from ecg_transformers.data.corpora import CORPORA, make_corpus
from ecg_transformers.data.corpora.base import CorpusPlan
from ecg_transformers.data.corpora.folder.corpus import FolderOptions
from ecg_transformers.data.corpora.shared.finishing import compare_counts
from ecg_transformers.data.errors import DuplicateRecordError, ECGDataError, RecordNotFoundError
from ecg_transformers.data.options import fitting_advice

LAYOUTS = (
    *("folder", "ptb_xl", "mitdb", "apnea_ecg", "ludb", "cpsc2018", "cpsc2018 of the Challenges", "cinc2017"),
    *("cinc2020", "cinc2021", "chapman", "chapman of the Challenges", "ningbo", "georgia", "ptb"),
    *("ptb of the Challenges", "incart", "incart of the Challenges", "cpsc_extra", "code15"),
    *("code15 of the Challenge 2025", "sph", "mimic_iv_ecg", "brugada_huca", "echonext"),
)

HALF_READ = {("an odd number of bytes", suffix) for suffix in (".hea", ".csv", ".atr", ".apn")}
"""A text that ends early may be whole lines; what it promises and does not hold is told elsewhere."""

SIDE_BY_SIDE = sorted({name for name in LAYOUTS if " of the " not in name} - {"folder", "cinc2020", "cinc2021"})
"""Corpora none of which holds records of another."""

IN_ONE_PLACE = {"folder", "ptb_xl", "mitdb", "apnea_ecg", "ludb", "cinc2017", "mimic_iv_ecg", "echonext"}
"""Corpora that read a record from the one place that a table, or the other records, tell, or under its path."""


def sentences_of(name, folder, **options):
    """All that is said when a corpus is planned and each of its records read; empty where all is well."""
    corpus = make_corpus(name, folder, options)
    try:
        plan = plan_of(corpus)
    except ECGDataError as error:
        return [str(error)]
    said = [*(f"{record}: {reason}" for record, reason in plan.skipped), *plan.notes, *plan.warnings]
    for item in plan.each_item():
        try:
            list(corpus.rows(item, plan))
        except ECGDataError as error:
            said.append(str(error))
    return said


def test_every_corpus_has_a_smallest_copy(smallest):
    assert {smallest(layout)[0] for layout in LAYOUTS} == set(CORPORA) - {"synthetic"}


PAGE = b"<!DOCTYPE html>\n<html><head><title>Log in</title></head></html>\n" * 20
DAMAGES = {
    "a pointer": lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 120024\n",
    "a web page": lambda content: PAGE,
    "zeros": lambda content: b"\0" * len(content),
    "an odd number of bytes": lambda content: content[: len(content) // 4 * 2 + 1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_that_is_not_what_was_to_be_fetched_is_named(layout, smallest, tmp_path):
    """Each kind of file of each corpus, and nothing but an `ECGDataError`; a pointer is called one."""
    name, source = smallest(layout)
    folder = tmp_path / "copy"
    shutil.copytree(source, folder)
    sound = sentences_of(name, folder)
    for path in {path.suffix: path for path in sorted(folder.rglob("*")) if path.is_file()}.values():
        content = path.read_bytes()
        for damage, damaged in DAMAGES.items():
            path.write_bytes(damaged(content))
            said = [text for text in sentences_of(name, folder) if text not in sound and path.stem in text]
            assert said or (damage, path.suffix) in HALF_READ, (path.name, damage)
            assert damage != "a pointer" or any("Git LFS pointer" in text for text in said), path.name
        path.write_bytes(content)
    assert sentences_of(name, folder) == sound


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "folder"])
def test_what_downloads_put_above_and_beside_changes_nothing(layout, smallest, tmp_path):
    """Folders of `wget -r`, their pages, and the shadows that a Mac leaves of every file."""
    name, source = smallest(layout)
    folder = tmp_path / "physionet.org" / "files" / "corpus" / "1.0.0"
    shutil.copytree(source, folder)
    for place in [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]:
        (place / "index.html").write_bytes(PAGE)
        (place / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    for path in [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".html"]:
        if not path.name.startswith("."):
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    plan, alone = plan_of(make_corpus(name, tmp_path)), plan_of(make_corpus(name, source))
    assert [(item.record_id, item.patient_id, item.labels, item.fold) for item in plan.each_item()] == [
        (item.record_id, item.patient_id, item.labels, item.fold) for item in alone.each_item()
    ]
    assert sentences_of(name, tmp_path) == sentences_of(name, source)


def _saved_anew(change):
    """A table whose cells are what `change` makes of them, in another dialect."""

    def write(path, **dialect):
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        with path.open("w", newline="", encoding=dialect.pop("encoding", "utf-8")) as file:
            csv.writer(file, **dialect).writerows(change(rows, not path.name.startswith("REFERENCE-")))

    return write


_as_it_is = _saved_anew(lambda rows, has_head: rows)
TABLES = {
    "semicolons": lambda path: _as_it_is(path, delimiter=";"),
    "tabs": lambda path: _as_it_is(path, delimiter="\t"),
    "quotes": lambda path: _as_it_is(path, quoting=csv.QUOTE_ALL),
    "a mark of UTF-8": lambda path: _as_it_is(path, encoding="utf-8-sig", lineterminator="\r\n"),
    "another order": _saved_anew(lambda rows, has_head: [row[::-1] for row in rows] if has_head else rows),
    "another column": _saved_anew(
        lambda rows, head: [[*row, "a, b" if i or not head else "note"] for i, row in enumerate(rows)]
    ),
    "empty rows": _saved_anew(lambda rows, has_head: [*rows, [], [""] * len(rows[0])]),
    "a name in capitals": lambda path: path.rename(path.with_name(path.name.upper())),
}


@pytest.mark.parametrize("how", TABLES)
@pytest.mark.parametrize(
    "layout", [*("ptb_xl", "ludb", "cpsc2018", "cinc2017", "sph", "brugada_huca"), "code15", "mimic_iv_ecg", "echonext"]
)
def test_a_table_that_was_saved_anew_says_the_same(layout, how, smallest, tmp_path):
    name, source = smallest(layout)
    shutil.copytree(source, tmp_path / "copy")

    def read():
        return [(item.record_id, item.patient_id, item.labels) for item in plan_of(corpus()).each_item()]

    def corpus():
        return make_corpus(name, tmp_path / "copy")

    before, said = read(), sentences_of(name, tmp_path / "copy")
    for path in sorted((tmp_path / "copy").rglob("*.csv")):
        if not path.name.startswith("MUSE_"):
            TABLES[how](path)
    assert read() == before
    assert [text.lower() for text in sentences_of(name, tmp_path / "copy")] == [text.lower() for text in said]


@pytest.mark.parametrize("layout", ["code15", "mimic_iv_ecg", "echonext"])
@pytest.mark.parametrize(
    ("save", "sentence"),
    [
        (lambda content: content.decode().encode("utf-16"), "not UTF-8"),
        (lambda content: content.replace(b"\r\n", b"\r"), "carriage return alone"),
        (lambda content: b"patient_key,study_id,exam_id," + content, "occur more than once"),
    ],
)
def test_a_large_table_that_cannot_be_read_line_by_line_is_told(layout, save, sentence, smallest, tmp_path):
    name, source = smallest(layout)
    shutil.copytree(source, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*.csv"):
        path.write_bytes(save(path.read_bytes()))
    with pytest.raises(ECGDataError, match=sentence):
        plan_of(make_corpus(name, tmp_path / "copy"))


def test_content_that_git_annex_has_not_fetched_is_named_too(smallest, tmp_path):
    name, source = smallest("georgia")
    folder = tmp_path / "copy"
    shutil.copytree(source, folder)
    signals = sorted(folder.rglob("*.mat"))
    signals[0].write_text("/annex/objects/MD5E-s24024--00.mat\n")
    signals[1].unlink()
    signals[1].symlink_to(".git/annex/objects/xx/yy/MD5E-s24024--01.mat")
    said = [sentence for sentence in sentences_of(name, folder) if "git-annex pointer" in sentence]
    assert [path.name in sentence for path, sentence in zip(signals, said)] == [True, True]


FORMS = {"chapman": "JS00001", "cpsc2018": "A0001", "ptb": "S0001", "incart": "I0001", "code15": "10"}


@pytest.mark.parametrize("name", FORMS)
def test_two_forms_of_one_corpus_in_a_folder_are_never_mixed_or_dropped(name, smallest, tmp_path):
    other = "code15 of the Challenge 2025" if name == "code15" else f"{name} of the Challenges"
    shutil.copytree(smallest(name)[1], tmp_path / "one")
    shutil.copytree(smallest(other)[1], tmp_path / "two")
    with pytest.raises(DuplicateRecordError, match=r"form='original'\) and .*form='challenge'\).*data_dir"):
        make_corpus(name, tmp_path).plan()
    for form, folder in (("original", "one"), ("challenge", "two")):
        plan = make_corpus(name, tmp_path, {"form": form}).plan()
        assert {item.path.relative_to(tmp_path).parts[0] for item in plan.each_item()} == {folder}
        assert plan.num_items == 3
    with pytest.raises(RecordNotFoundError, match="no file of form='challenge' here"):
        make_corpus(name, tmp_path / "one", {"form": "challenge"}).plan()


@pytest.fixture(scope="module")
def folder_of_all(smallest, tmp_path_factory):
    """A folder with a folder for each corpus, as a disk of data sets looks."""
    root = tmp_path_factory.mktemp("all")
    for layout in SIDE_BY_SIDE:  # MIT-BIH as deep as the records of LUDB, of which one is called as one of its own
        shutil.copytree(smallest(layout)[1], root / layout / ("1.0.0" if layout == "mitdb" else ""))
    return root


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_a_corpus_is_found_among_others(name, folder_of_all, smallest):
    """Several have a REFERENCE.csv, a metadata.csv, or headers with a number for a name."""
    alone, among = (plan_of(make_corpus(name, folder)) for folder in (smallest(name)[1], folder_of_all))
    assert [(item.record_id, item.labels) for item in among.each_item()] == [
        (item.record_id, item.labels) for item in alone.each_item()
    ]
    assert (among.skipped, among.label_names) == ([], alone.label_names)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("chapman", "*.csv"), ("sph", "*.h5"), ("cpsc2018", "*.mat"), ("cinc2017", "*.mat"), ("brugada_huca", "*.hea")],
)
def test_a_partial_download_loads_and_says_how_much_is_absent(name, pattern, smallest, tmp_path):
    shutil.copytree(smallest(name)[1], tmp_path / "copy")
    signals = [path for path in sorted((tmp_path / "copy").rglob(pattern)) if "REFERENCE" not in path.name]
    signals[0].unlink()
    plan = plan_of(make_corpus(name, tmp_path / "copy"))
    assert (plan.num_items, plan.skipped, list(plan.excluded.values())) == (2, [], [1])
    assert any("1 records of" in text and signals[0].stem in text for text in plan.warnings)
    for path in signals[1:]:
        path.unlink()
    with pytest.raises(ECGDataError, match=str(tmp_path / "copy")):
        plan_of(make_corpus(name, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("chapman", "Diagnostics.xlsx"),
        ("cpsc2018", "REFERENCE.csv"),
        ("cinc2017", "REFERENCE-v3.csv"),
        ("code15", "exams.csv"),
    ],
)
def test_records_without_their_table_are_for_pretraining(name, table, smallest, tmp_path):
    shutil.copytree(smallest(name)[1], tmp_path / "copy")
    (tmp_path / "copy" / table).unlink()
    with pytest.raises(RecordNotFoundError, match=rf"no {table}.*task=None reads"):
        plan_of(make_corpus(name, tmp_path / "copy"))
    corpus = make_corpus(name, tmp_path / "copy", {"task": None})
    plan = plan_of(corpus)
    assert [len(list(corpus.rows(item, plan))) for item in plan.each_item()] == [1, 1, 1]
    assert (plan.task_kind, {len(items) for items in plan.splits.values()}) == ("unlabelled", {1})
    assert any("no labels" in text for text in plan.warnings)


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout not in IN_ONE_PLACE])
def test_a_record_that_lies_here_twice_is_an_error_that_names_both_places(layout, smallest, tmp_path):
    name, source = smallest(layout)
    folder = tmp_path / "copy"
    shutil.copytree(source, folder / "a")
    signals = ("*.hea", "MUSE_*.csv", "*.mat", "*.h5", "*.hdf5")
    path = next(path for pattern in signals for path in sorted((folder / "a").rglob(pattern)))
    (folder / "b").mkdir()
    for file in path.parent.glob(f"{path.stem}.*"):
        shutil.copy(file, folder / "b")
    with pytest.raises(DuplicateRecordError) as caught:
        plan_of(make_corpus(name, folder))
    assert str(folder / "a") in str(caught.value)
    assert str(folder / "b") in str(caught.value)


@pytest.mark.parametrize(
    ("name", "constant"),
    [
        ("chapman", "chapman.ROWS"),
        ("ptb", "ptb.RECORDS"),
        ("incart", "incart.RECORDS"),
        ("sph", "sph.RECORDS"),
        ("code15", "code15.RECORDS"),
        ("brugada_huca", "brugada_huca.RECORDS"),
        ("ptb_xl", "ptb_xl.RECORDS"),
        ("mimic_iv_ecg", "mimic_iv_ecg.corpus.RECORDS"),
    ],
)
def test_a_complete_copy_is_compared_with_what_is_published(name, constant, smallest, monkeypatch):
    folder = smallest(name)[1]
    assert not [text for text in make_corpus(name, folder).plan().warnings if "published" in text]
    monkeypatch.setattr(f"ecg_transformers.data.corpora.{constant}", 3)
    wrong = [text for text in make_corpus(name, folder).plan().warnings if "not those published" in text]
    assert len(wrong) == 1
    assert " instead of " in wrong[0]


def test_counts_that_are_as_published_are_told_too():
    plan = CorpusPlan({})
    compare_counts(plan, {"AF": 2, "N": 1}, {"AF": 2, "N": 1}, "mine")
    assert (plan.notes, plan.warnings) == (["mine: every label occurs as often as published"], [])


def test_a_folder_without_records_says_what_may_hold_them(smallest, tmp_path):
    name, source = smallest("georgia")
    (tmp_path / "linked").symlink_to(source)
    with pytest.raises(RecordNotFoundError, match="the link linked is not followed"):
        plan_of(make_corpus(name, tmp_path))
    (tmp_path / "x.zip").write_bytes(b"PK")
    with pytest.raises(RecordNotFoundError, match=r"unpack x\.zip"):
        plan_of(make_corpus(name, tmp_path))


@pytest.mark.parametrize("name", ["incart", "mitdb", "apnea_ecg"])
def test_pretraining_goes_without_marks(name, smallest, tmp_path):
    shutil.copytree(smallest(name)[1], tmp_path / "copy")
    for path in [*(tmp_path / "copy").glob("*.atr"), *(tmp_path / "copy").glob("*.apn")]:
        path.unlink()
    assert any("01.a" in text for text in sentences_of(name, tmp_path / "copy"))
    corpus = make_corpus(name, tmp_path / "copy", {"task": None})
    plan = plan_of(corpus)
    assert [len(list(corpus.rows(item, plan))) for item in plan.each_item()] == [1, 1, 1]


def test_advice_is_what_the_corpus_can_take():
    cut = "the file holds 17 samples; pass allow_truncated=True to read what is there."
    damaged = "the file is damaged (checksum='ignore' reads it all the same)."
    synthetic, own = make_corpus("synthetic").options, FolderOptions()
    assert fitting_advice(cut, synthetic) == fitting_advice(cut, own) == "the file holds 17 samples."
    assert (fitting_advice(damaged, synthetic), fitting_advice(damaged, own)) == ("the file is damaged.", damaged)
