"""The table of published checkpoints: every row is complete, consistent with its method, and light to read."""

import subprocess
import sys

import pytest

import ecg_transformers as ecg
from ecg_transformers.models.checkpoints import CHECKPOINTS

NAMES = """ecgfounder ecgfounder-1lead ecg-fm deepecg-ssl melp d-beta hubert-ecg-small hubert-ecg-base hubert-ecg-large
hubert-ecg-sft-small hubert-ecg-sft-base hubert-ecg-sft-large merl-resnet18 merl-vit-tiny ked xecg ecg-cpc ecg-s4-jepa
ecg-s4-data2vec ecg-s4-dinosr ecg-s4-sk-kmeans st-mem ecg-jepa weimann-jepa"""


def test_the_names_are_those_that_programs_rely_on():
    assert set(NAMES.split()) <= set(ecg.list_checkpoints())


@pytest.mark.parametrize("name", ecg.list_checkpoints())
def test_a_row_fits_its_method(name):
    row = ecg.get_checkpoint(name)
    assert row.name == name
    method = ecg.get_method(row.method)
    assert method.convert is not None
    fields = set(method.config_class().to_dict()) | {"num_labels"}
    assert set(row.overrides) <= fields
    assert set(row.sizes) <= fields
    assert method.extractor_class.for_method(row.method, **row.preprocessing).steps
    assert len(set(row.label_names)) == len(row.label_names)


@pytest.mark.parametrize("name", ecg.list_checkpoints())
def test_a_row_says_where_its_file_is_and_under_which_licence(name):
    row = ecg.get_checkpoint(name)
    assert row.licence
    assert row.source.page
    assert row.source.repository is None or row.source.file is not None
    assert all(note.endswith(".") for note in row.notes)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="did you mean 'ecgfounder'"):
        ecg.get_checkpoint("ecgfoundr")


def test_the_table_imports_nothing_heavy():
    code = (
        "import sys, types; package = types.ModuleType('ecg_transformers'); "
        "import importlib.util as u; spec = u.find_spec('ecg_transformers'); "
        "package.__path__ = spec.submodule_search_locations; sys.modules['ecg_transformers'] = package; "
        "import ecg_transformers.models.checkpoints as c; assert len(c.CHECKPOINTS) > 20; "
        "assert not {'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_labels_of_a_row_are_those_of_its_outputs():
    assert len(CHECKPOINTS["ecgfounder"].label_names) == 150
    assert len(CHECKPOINTS["hubert-ecg-sft-base"].label_names) == 164
