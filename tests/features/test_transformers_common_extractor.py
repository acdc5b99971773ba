"""transformers' own feature-extractor tests (hf_tests/, see tests/common/fetch_common_tests.py) on our extractor."""

import unittest
from typing import Any

import numpy as np

from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor

try:
    from hf_tests.test_sequence_feature_extraction_common import SequenceFeatureExtractionTestMixin as CommonTests
except ModuleNotFoundError as error:
    raise RuntimeError(
        "hf_tests/ is missing: run `python tests/common/fetch_common_tests.py` (make test does)."
    ) from error


class Tester:
    """What the common tests ask for: settings, and records of one lead whose lengths differ."""

    batch_size, min_seq_length, max_seq_length, feature_size, padding_value = 7, 400, 2000, 1, 0.0
    seq_length_diff = (max_seq_length - min_seq_length) // (batch_size - 1)

    def prepare_feat_extract_dict(self) -> dict[str, Any]:
        return {
            "feature_size": self.feature_size,
            "sampling_rate": 250,
            "padding_value": self.padding_value,
            "lead_names": ["II"],
            "seq_len": 300,
            "highpass": 0.67,
            "normalize": "joint",
        }

    def prepare_inputs_for_common(self, equal_length: bool = False, numpify: bool = False) -> list[Any]:
        generator = np.random.default_rng(0)
        lengths = range(self.min_seq_length, self.max_seq_length, self.seq_length_diff)
        records = [generator.standard_normal(self.max_seq_length if equal_length else length) for length in lengths]
        return records if numpify else [record.tolist() for record in records]


class ExtractorCommonTest(CommonTests, unittest.TestCase):
    feature_extraction_class = ECGFeatureExtractor

    def setUp(self) -> None:
        self.feat_extract_tester = Tester()
