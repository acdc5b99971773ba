"""wav2vec 2.0's masks and negatives: from given draws, and from noise."""

import pytest
import torch

from ecg_transformers.layers.masking import (
    num_mask_spans,
    wav2vec2_mask,
    wav2vec2_mask_from_draws,
    wav2vec2_negatives_from_draws,
)


def test_the_published_masks_and_negatives_follow_from_their_draws(parity):
    io, config = parity("zoo/ecg_fm", "pretrain_io"), parity.config("zoo/ecg_fm", "pretrain_io")
    batch, tokens = io["mask_time_indices"].shape
    starts = [io[f"mask_draws.starts.{row}"] for row in range(batch)]
    kept = [io[f"mask_draws.kept.{row}"] for row in range(sum(name.startswith("mask_draws.kept") for name in io))]
    settings = (config["mask_prob"], config["mask_length"], config["min_masks"])
    mask = wav2vec2_mask_from_draws(batch, tokens, io["mask_draws.rand"].tolist(), starts, kept, *settings)
    assert torch.equal(mask, io["mask_time_indices"].bool())
    negatives = wav2vec2_negatives_from_draws(io["negative_draws"], config["num_negatives"])
    assert torch.equal(negatives, io["negative_indices"])


def test_rows_are_trimmed_to_the_row_with_the_fewest_masked_tokens():
    starts, kept = [[0, 2], [0, 8]], [[0, 1, 8, 9, 10, 11]]
    mask = wav2vec2_mask_from_draws(2, 20, [0.0], starts, kept, 0.4, 4, 2)
    assert mask[0].nonzero().flatten().tolist() == list(range(6))
    assert mask[1].nonzero().flatten().tolist() == kept[0]


def test_draws_of_another_number_are_refused():
    with pytest.raises(ValueError, match="span starts"):
        wav2vec2_mask_from_draws(2, 20, [0.0], [[0], [1]], [], 0.4, 4, 2)
    with pytest.raises(ValueError, match="to keep"):
        wav2vec2_mask_from_draws(2, 20, [0.0], [[0, 2], [0, 8]], [], 0.4, 4, 2)


@pytest.mark.parametrize("tokens", [14, 20, 156])
def test_masks_from_noise_are_equally_long_spans_that_never_hold_the_last_token(tokens):
    generator = torch.Generator().manual_seed(0)
    length, rows = 5, 40
    noise = [torch.rand(rows, tokens + extra, generator=generator) for extra in (1, 0)]
    for draw in (0.0, 0.99):
        mask = wav2vec2_mask(*noise, draw, 0.65, length, 2)
        counts = mask.sum(dim=1)
        spans = num_mask_spans(tokens, draw, 0.65, length, 2)
        assert len(set(counts.tolist())) == 1
        assert length <= int(counts[0]) <= spans * length
        assert not mask[:, -1].any()
        assert mask[:, : tokens - 1].any(dim=0).float().mean() > 0.95


def test_a_sequence_too_short_for_its_spans_is_refused():
    with pytest.raises(ValueError, match="too few"):
        wav2vec2_mask(torch.rand(1, 3), torch.rand(1, 2), 0.0, 0.65, 5, 2)


def test_negatives_are_other_masked_tokens_of_the_same_row():
    tokens, number, batch = 7, 4, 3
    draws = torch.randint(0, tokens - 1, (batch, tokens * number), generator=torch.Generator().manual_seed(0))
    rows = wav2vec2_negatives_from_draws(draws, number).view(batch, tokens, number)
    own = torch.arange(batch * tokens).view(batch, tokens, 1)
    assert not (rows == own).any()
    assert torch.equal(rows // tokens, (own // tokens).expand_as(rows))
    assert set(rows[0].flatten().tolist()) == set(range(tokens))
