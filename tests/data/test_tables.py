"""Tables: data only, with the column and row named."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_transformers.data.corpora.shared.columns import iterate_table, iterate_with_offsets
from ecg_transformers.data.errors import ECGDataError, LimitError, RecordNotFoundError, TableError
from ecg_transformers.data.readers import Limits
from ecg_transformers.data.tables import first_bytes, first_cells, integer, number, parse_table, read_table


def test_quoted_cells_marks_and_separators(tmp_path):
    (tmp_path / "t.csv").write_bytes('\ufeffid;text\r\n1;"a;b\nc, ""d"""\r\n\r\n2; =cmd()\r\n'.encode())
    assert read_table(tmp_path / "t.csv") == [{"id": "1", "text": 'a;b\nc, "d"'}, {"id": "2", "text": "=cmd()"}]


READERS = {
    "whole": lambda path: read_table(path),
    "row by row": lambda path: list(iterate_table(path, [], path.parent, Limits())),
    "with places": lambda path: [row for _, row in iterate_with_offsets(path, [], path.parent, Limits())],
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_table_that_ends_within_a_row_was_cut_off(tmp_path, read):
    """As a download that was interrupted; rows that are short for another reason have a line end."""
    (tmp_path / "t.csv").write_text("a,b,c\n1,2,3\n4,5")
    with pytest.raises(TableError, match=r"t\.csv.*last row has 2 cells for 3 columns.*cut off"):
        read(tmp_path / "t.csv")
    for text in ("a,b,c\n1,2,3\n4,5,6", "a,b,c\n1,2,3\n4,5\n"):
        (tmp_path / "t.csv").write_text(text)
        assert [row["b"] for row in read(tmp_path / "t.csv")] == ["2", "5"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("a,b\n", "no rows"),
        ("a,b\n1,2,3\n", "row 2 has 3 cells"),
        ("a,a\n1,2\n", r"\['a'\] occur more than once"),
        ("x,y\n1,2\n", r"\['a'\] are missing"),
        ("a,b\n1,\x00\n", "NUL"),
    ],
)
def test_broken_tables_say_what_is_wrong(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(TableError, match=message):
        read_table(tmp_path / "t.csv", ["a"] if text else [])


def test_limits_encodings_and_missing_files(tmp_path):
    with pytest.raises(RecordNotFoundError):
        read_table(tmp_path / "none.csv")
    (tmp_path / "t.csv").write_bytes("a\nü\n".encode("latin-1"))
    with pytest.raises(TableError, match=r"not UTF-8.*save it as UTF-8"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("a\n" + "x" * 2**21)
    with pytest.raises(LimitError):
        read_table(tmp_path / "t.csv")
    with pytest.raises(LimitError):
        read_table(tmp_path / "t.csv", limits=Limits(max_table_bytes=1000))


def test_a_first_look_at_a_file_does_not_leave_the_folder(tmp_path):
    (tmp_path / "outside.csv").write_text("\ufeffa; b\n1;2\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link.csv").symlink_to(tmp_path / "outside.csv")
    assert first_cells(tmp_path / "outside.csv", tmp_path) == ["a", "b"]
    assert first_cells(tmp_path / "data" / "link.csv", tmp_path / "data") == []
    assert first_bytes(tmp_path / "data" / "link.csv") == b""


def test_numbers_as_corpora_write_them(tmp_path):
    assert integer("15709.0", "p", tmp_path) == 15709
    assert integer("", "p", tmp_path) is None
    assert number("1e3", "p", tmp_path) == 1000
    for text in ("1.5", "x", "nan", "inf"):
        with pytest.raises(TableError, match="not an integer"):
            integer(text, "p", tmp_path)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.text(max_size=300))
def test_any_text_gives_rows_or_an_error_with_a_name(text):
    from pathlib import Path

    try:
        rows = parse_table(text, Path("t.csv"))
    except ECGDataError as error:
        if "t.csv" not in str(error):
            pytest.fail(f"the file is not named: {error}")
    else:
        assert all(isinstance(value, str) for row in rows for value in row.values())
