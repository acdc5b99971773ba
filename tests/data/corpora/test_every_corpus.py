"""What holds of every corpus in each of its layouts."""

import shutil

import pytest

from ecg_transformers.data.building.build import plan_of
from ecg_transformers.data.corpora import CORPORA, make_corpus
from ecg_transformers.data.errors import ECGDataError

LAYOUTS = (
    *("folder", "ptb_xl", "mitdb", "apnea_ecg", "ludb", "cpsc2018", "cpsc2018 of the Challenges", "cinc2017"),
    *("cinc2020", "cinc2021", "chapman", "chapman of the Challenges", "ningbo", "georgia", "ptb"),
    *("ptb of the Challenges", "incart", "incart of the Challenges", "cpsc_extra", "code15"),
    *("code15 of the Challenge 2025", "sph", "mimic_iv_ecg", "brugada_huca", "echonext"),
)


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


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_that_was_not_fetched_is_named_as_a_pointer(layout, smallest, tmp_path, layouts):
    name, source = smallest(layout)
    folder = tmp_path / "copy"
    shutil.copytree(source, folder)
    kinds = {path.suffix: path for path in sorted(folder.rglob("*")) if path.is_file()}
    for path in kinds.values():
        content = path.read_bytes()
        path.write_text(layouts.LFS_POINTER)
        said = [sentence for sentence in sentences_of(name, folder) if "Git LFS pointer" in sentence]
        assert any(path.stem in sentence for sentence in said), path.name
        path.write_bytes(content)
    assert not [sentence for sentence in sentences_of(name, folder) if "pointer" in sentence]


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
