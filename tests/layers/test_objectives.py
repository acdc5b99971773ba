"""Contrastive objectives: reference tensors, and the properties that make them what they are."""

import math

import pytest
import torch

from ecg_transformers.layers.distributed import gather_rows, gather_rows_with_gradient
from ecg_transformers.layers.objectives import (
    OnePatientError,
    clocs_loss,
    cpc_loss,
    moco_v3_loss,
    momentum_contrast,
    negative_scores,
    patient_contrastive_loss,
    resolve_negative_draws,
    same_sequence_negative_indices,
)


def close(actual, expected, atol=1e-5):
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0)


@pytest.mark.parametrize(("case", "temperature"), [("t0p2", 0.2), ("t1", 1.0)])
def test_moco_loss_and_gradients_equal_the_reference(parity, case, temperature):
    reference = parity("st_mem", "moco_v3_loss")
    q1, q2, k1, k2 = (reference[f"{case}.{name}"].clone().requires_grad_() for name in ("q1", "q2", "k1", "k2"))
    loss = moco_v3_loss(q1, q2, k1, k2, temperature)
    loss.backward()
    close(loss, reference[f"{case}.loss"])
    close(q1.grad, reference[f"{case}.grad_q1"])
    close(q2.grad, reference[f"{case}.grad_q2"])
    assert k1.grad is None
    assert k2.grad is None


@pytest.mark.parametrize(("case", "temperature"), [("t0p2", 0.2), ("t1", 1.0)])
def test_moco_term_with_gathered_keys_equals_the_reference(parity, case, temperature):
    r = {key.removeprefix(f"{case}."): value for key, value in parity("st_mem", "moco_v3_loss").items()}
    close(momentum_contrast(r["q1"], r["k2"], temperature), r["loss_q1k2"])
    close(momentum_contrast(r["q2"], r["k1"], temperature), r["loss_q2k1"])
    count = len(r["q1"])
    first = momentum_contrast(r["q1"], torch.cat([r["k2"], r["k2_other_rank"]]), temperature, 0)
    close(first, r["loss_q1k2_rank0_of_2"])
    second = momentum_contrast(r["q1"], torch.cat([r["k2_other_rank"], r["k2"]]), temperature, count)
    close(second, r["loss_q1k2_rank1_of_2"])


def test_moco_loss_is_symmetric_in_the_views_and_ignores_the_order_of_records():
    q1, q2, k1, k2 = torch.randn(4, 7, 5, generator=torch.Generator().manual_seed(0))
    loss = moco_v3_loss(q1, q2, k1, k2, 0.2)
    close(moco_v3_loss(q2, q1, k2, k1, 0.2), loss)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    close(moco_v3_loss(q1[order], q2[order], k1[order], k2[order], 0.2), loss)


def test_moco_loss_is_lower_for_matching_views_than_for_foreign_ones():
    q = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    assert moco_v3_loss(q, q, q, q, 0.2) < moco_v3_loss(q, q, q.roll(1, 0), q.roll(1, 0), 0.2)


def test_moco_loss_of_equal_embeddings_is_the_log_of_the_batch():
    q = torch.ones(8, 4)
    assert moco_v3_loss(q, q, q, q, 0.2).item() == pytest.approx(2 * 2 * 0.2 * math.log(8), abs=1e-5)
    assert moco_v3_loss(q, q, q, q, 0.2, loss_scale="none").item() == pytest.approx(2 * math.log(8), abs=1e-5)


@pytest.mark.parametrize("case", ["distinct", "repeated"])
def test_clocs_loss_and_gradient_equal_the_reference(parity, case):
    r = {key.removeprefix(f"clocs.{case}."): value for key, value in parity("st_mem", "cmsc_loss").items()}
    h = r["h"].clone().requires_grad_()
    loss = clocs_loss(h, r["patient"], 0.1)
    loss.backward()
    close(loss, r["loss"])
    close(h.grad, r["grad"])


@pytest.mark.parametrize("case", ["distinct", "repeated"])
def test_patient_loss_and_gradient_equal_the_reference(parity, case):
    r = {key.removeprefix(f"fairseq.{case}."): value for key, value in parity("st_mem", "cmsc_loss").items()}
    h = r["logits"].clone().requires_grad_()
    loss = patient_contrastive_loss(h, r["patient"], r["segment"], 0.1)
    loss.backward()
    close(loss, r["loss"])
    close(h.grad, r["grad"])


def interleaved(h: torch.Tensor, patients: torch.Tensor) -> tuple[torch.Tensor, ...]:
    rows = h.permute(0, 2, 1).reshape(-1, h.shape[1])
    return rows, patients.repeat_interleave(2), torch.tensor([0, 1] * len(h))


def test_both_cmsc_losses_agree_when_every_record_has_its_own_patient():
    h, patients = torch.randn(5, 8, 2, generator=torch.Generator().manual_seed(0)), torch.arange(5)
    close(patient_contrastive_loss(*interleaved(h, patients)), clocs_loss(h, patients))


def test_both_cmsc_losses_are_symmetric_in_the_segments():
    h = torch.randn(6, 8, 2, generator=torch.Generator().manual_seed(0))
    patients = torch.tensor([0, 1, 0, 2, 3, 0])
    close(clocs_loss(h.flip(2), patients), clocs_loss(h, patients))
    close(
        patient_contrastive_loss(*interleaved(h.flip(2), patients)),
        patient_contrastive_loss(*interleaved(h, patients)),
    )


@pytest.mark.parametrize("name", ["clocs", "patient"])
def test_cmsc_pulls_segments_of_one_patient_together_and_never_those_of_two(name):
    patients, temperature = torch.tensor([0, 0, 1, 2]), 0.1
    cosines = (torch.rand(4, 4, generator=torch.Generator().manual_seed(0)) / 4).requires_grad_()
    # first segments are the axes, and each second segment has an axis of its own to make up its length of 1
    first = torch.eye(8)[:4]
    second = torch.cat([cosines.T, torch.diag((1 - cosines.square().sum(dim=0)).sqrt())], dim=1)
    h = torch.stack([first, second], dim=2)
    loss = (
        clocs_loss(h, patients, temperature)
        if name == "clocs"
        else patient_contrastive_loss(*interleaved(h, patients), temperature)
    )
    (gradient,) = torch.autograd.grad(loss, cosines)  # d loss / d cos(first segment i, second segment j)
    same_patient = patients[:, None] == patients[None, :]
    assert (gradient[~same_patient] > 0).all()
    for patient in range(3):
        own = patients == patient
        assert gradient[own][:, own].sum() < 0


def test_a_batch_of_one_patient_is_an_error_of_its_own():
    assert issubclass(OnePatientError, ValueError)
    h = torch.randn(3, 4, 2)
    with pytest.raises(OnePatientError, match="one patient"):
        clocs_loss(h, torch.zeros(3, dtype=torch.long))
    with pytest.raises(OnePatientError, match="one patient"):
        patient_contrastive_loss(*interleaved(h, torch.zeros(3, dtype=torch.long)))


def contrasts():
    """Every objective on tensors whose scores half precision would change."""
    generator = torch.Generator().manual_seed(0)
    k1, k2, noise = torch.randn(3, 32, 64, generator=generator)
    h = torch.stack([k1, k1 + 0.3 * noise], dim=2)
    patients = torch.arange(32) // 2
    encoded = torch.randn(2, 20, 64, generator=generator)
    predicted = 0.2 * encoded.roll(-3, dims=1)
    own = same_sequence_negative_indices(2, 20, 3, 9, generator)
    everywhere = torch.randint(40, (17, 2, 9), generator=generator)
    return {
        "moco": (lambda x: moco_v3_loss(x + 0.3 * noise, x, k1, k2, 0.2), k1),
        "clocs": (lambda x: clocs_loss(torch.stack([x, h[..., 1]], dim=2), patients), k1),
        "patient": (lambda x: patient_contrastive_loss(torch.cat([x, h[..., 1]]), *labels_of_halves(patients)), k1),
        "cpc": (lambda x: cpc_loss(x, encoded, own, 3)[0], predicted),
        "cpc everywhere": (lambda x: cpc_loss(x, encoded, everywhere, 3)[0], predicted),
    }


def labels_of_halves(patients):
    return patients.repeat(2), torch.arange(2).repeat_interleave(len(patients))


@pytest.mark.parametrize("name", contrasts())
def test_losses_and_gradients_are_the_same_under_autocast(name):
    loss_of, values = contrasts()[name]
    results = []
    for enabled in (False, True):
        x = values.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = loss_of(x)
        loss.backward()
        results.append((loss.detach(), x.grad))
    close(results[1][0], results[0][0], atol=1e-6)
    close(results[1][1], results[0][1], atol=1e-6)


def _on_rank(rank, folder, tensors):
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    q1, q2, k1, k2, h, patients = (value.chunk(2)[rank] for value in tensors)
    q1, h = q1.clone().requires_grad_(), h.clone().requires_grad_()
    moco = moco_v3_loss(q1, q2, k1, k2, 0.2)
    gathered = gather_rows_with_gradient(h)
    clocs = clocs_loss(gathered, gather_rows(patients))
    (moco + clocs).backward()
    torch.save([moco.detach(), clocs.detach(), q1.grad, h.grad], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_give_the_losses_and_gradients_of_one(tmp_path):
    import torch.multiprocessing as mp

    generator = torch.Generator().manual_seed(0)
    tensors = [*torch.randn(4, 6, 8, generator=generator), torch.randn(6, 8, 2, generator=generator)]
    tensors.append(torch.tensor([0, 1, 2, 3, 1, 5]))  # patient 1 has records on both processes
    mp.start_processes(_on_rank, (str(tmp_path), tensors), nprocs=2, start_method="fork")
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    q1, q2, k1, k2, h, patients = tensors
    q1, h = q1.requires_grad_(), h.requires_grad_()
    moco, clocs = moco_v3_loss(q1, q2, k1, k2, 0.2), clocs_loss(h, patients)
    (moco + clocs).backward()
    close((ranks[0][0] + ranks[1][0]) / 2, moco.detach(), atol=1e-6)
    for rank in ranks:
        close(rank[1], clocs.detach(), atol=1e-6)
    # training averages gradients over the processes
    close(torch.cat([rank[2] for rank in ranks]) / 2, q1.grad, atol=1e-6)
    close(torch.cat([rank[3] for rank in ranks]) / 2, h.grad, atol=1e-6)


@pytest.mark.parametrize("case", ["a", "b"])
def test_cpc_loss_and_gradient_equal_the_reference(parity, case):
    r, config = parity("st_mem", f"cpc_loss_{case}"), parity.config("st_mem", f"cpc_loss_{case}")
    batch, length, _ = r["encoded"].shape
    draws = r["draws.seq"]
    own = torch.arange(batch).repeat_interleave(config["n_false_negatives"]).expand(len(draws), -1)
    sequences = own if config["negatives_from_same_seq_only"] else r["draws.batch"]
    indices = resolve_negative_draws(draws, sequences, length, config["steps_predicted"], batch)
    predicted = r["predicted"].clone().requires_grad_()
    loss, accuracy = cpc_loss(
        predicted,
        r["encoded"],
        indices,
        config["steps_predicted"],
        normalize=config["normalize"],
        temperature=config["temperature"],
    )
    loss.backward()
    close(loss, r["loss"], atol=1e-4)
    close(accuracy, r["acc"])
    close(predicted.grad, r["grad.predicted"], atol=2e-5)


@pytest.mark.parametrize("name", ["cpc_fc_io", "cpc_conv_io"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_resolved_negatives_equal_the_reference(parity, name, mode):
    r, config = parity("st_mem", name), parity.config("st_mem", name)
    draws, expected = r[f"{mode}.randint_draws"], r[f"{mode}.negative_flat_index"]
    steps, batch, count = expected.shape
    length = steps + config["steps_predicted"]
    if config["negatives_from_same_seq_only"]:
        sequences, times = torch.arange(batch).repeat_interleave(count).expand(steps, -1), draws
    else:
        sequences, times = draws // (length - 1), draws % (length - 1)
    assert torch.equal(resolve_negative_draws(times, sequences, length, config["steps_predicted"], batch), expected)


@pytest.mark.parametrize("name", ["cpc_fc_io", "cpc_conv_io"])
def test_cpc_loss_on_model_outputs_equals_the_reference(parity, name):
    r, config = parity("st_mem", name), parity.config("st_mem", name)
    loss, accuracy = cpc_loss(
        r["eval.predicted"], r["eval.encoded"], r["eval.negative_flat_index"], config["steps_predicted"]
    )
    assert loss.item() == pytest.approx(r["eval.loss"].item(), abs=1e-4)
    close(accuracy, r["eval.acc"])


@pytest.mark.parametrize("window", [0, 4])
def test_the_positive_is_never_a_negative_and_every_other_time_can_be_one(window):
    batch, length, ahead, count = 3, 12, 4, 50
    generator = torch.Generator().manual_seed(0)
    indices = same_sequence_negative_indices(batch, length, ahead, count, generator, window)
    assert (indices // length == torch.arange(batch)[None, :, None]).all()
    assert indices.shape == (length - ahead, batch, count)
    times = indices % length
    steps = torch.arange(length - ahead)[:, None, None]
    assert (times != steps + ahead).all()
    distances = {*range(-window, window + 2)} if window else {*range(1 - length, length)}
    drawn = [set((times[step] - step).flatten().tolist()) for step in range(length - ahead)]
    assert set.union(*drawn) == {d for d in distances if d != ahead and 1 - (length - ahead) <= d < length}


def test_negatives_repeat_with_their_seed():
    draws = [same_sequence_negative_indices(2, 9, 3, 5, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_scores_do_not_depend_on_how_negatives_are_fetched():
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(2, 6, 4, generator=generator)
    encoded = torch.randn(2, 9, 4, generator=generator, requires_grad=True)
    indices = torch.randint(18, (2, 6, 5), generator=generator)
    whole = negative_scores(queries, encoded, indices)
    chunked = negative_scores(queries, encoded, indices, max_floats=1)
    close(whole, chunked)
    expected = torch.einsum("bsd,bskd->bsk", queries, encoded.reshape(18, 4)[indices])
    close(chunked, expected)
    same = same_sequence_negative_indices(2, 9, 3, 5, generator).transpose(0, 1)
    close(negative_scores(queries, encoded, same), torch.einsum("bsd,bskd->bsk", queries, encoded.reshape(18, 4)[same]))


def test_cpc_loss_of_uninformed_predictions_is_the_log_of_the_candidates_at_every_step():
    batch, length, ahead, count = 4, 20, 3, 16
    indices = same_sequence_negative_indices(batch, length, ahead, count, torch.Generator().manual_seed(0))
    loss, _ = cpc_loss(torch.zeros(batch, length, 8), torch.randn(batch, length, 8), indices, ahead)
    assert loss.item() == pytest.approx((length - ahead) * math.log(count + 1), rel=1e-5)


def test_cpc_accuracy_is_one_for_perfect_predictions():
    generator = torch.Generator().manual_seed(0)
    encoded = torch.nn.functional.normalize(torch.randn(3, 15, 32, generator=generator), dim=2)
    predicted = 20 * encoded.roll(-2, dims=1)
    indices = same_sequence_negative_indices(3, 15, 2, 8, generator)
    loss, accuracy = cpc_loss(predicted, encoded, indices, 2)
    assert accuracy == 1.0
    assert loss < 0.5


def test_sequences_that_are_too_short_are_refused():
    with pytest.raises(ValueError, match="5 steps cannot be predicted 5 steps ahead"):
        same_sequence_negative_indices(2, 5, 5, 3)
    with pytest.raises(ValueError, match="negative_indices must have shape"):
        cpc_loss(torch.zeros(2, 6, 3), torch.zeros(2, 6, 3), torch.zeros(4, 2, 3, dtype=torch.long), 3)
