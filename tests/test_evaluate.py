"""Held-out loss and accuracy, and the loss at target positions behind them."""

import logging

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy, log_softmax
from transformers import Gemma2Config, Gemma2ForCausalLM

from llmagentos.lm import head
from llmagentos.lm.batches import Batch, collate, target_tokens
from llmagentos.lm.head import TargetScore
from tests.lm_world import CPU, SILOS, evaluate_task, rows, tiny_peft, trainer


def full_logits_nll(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """The same sum by the ordinary way: all logits, labels, -100 where nothing is learnt."""
    labels = torch.full_like(batch.ids, -100).flatten()
    labels[batch.places] = batch.targets
    logits = model(input_ids=batch.ids, attention_mask=batch.mask).logits
    return cross_entropy(logits.flatten(0, 1), labels, reduction="sum")


def softcapped() -> torch.nn.Module:
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        attn_implementation="eager",
    )
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    return get_peft_model(Gemma2ForCausalLM(config), lora).eval()


def test_a_batch_is_padded_on_the_right_and_predicts_from_the_token_before() -> None:
    short, long = rows(2, 1)[0], rows(6, 1)[3]
    batch = collate([short, long], CPU)
    longest = max(len(short.ids), len(long.ids))
    assert batch.ids.shape == batch.mask.shape == (2, longest)
    assert batch.mask.sum(dim=1).tolist() == [len(short.ids), len(long.ids)]
    assert len(batch.targets) == target_tokens([short, long])
    after = batch.ids.flatten()[batch.places + 1]
    assert torch.equal(after, batch.targets)
    assert (
        batch.targets[: len(short.ids) // 2].tolist()
        == short.ids[short.learn][: len(short.ids) // 2].tolist()
    )


def test_a_target_may_share_its_id_with_the_padding() -> None:
    row = rows(1, 1)[0]
    ended = type(row)(np.append(row.ids, 0).astype(np.int32), np.append(row.learn, True))
    batch = collate([ended, rows(9, 2)[4]], CPU)
    assert 0 in batch.targets.tolist()


@pytest.mark.parametrize("make", [tiny_peft, softcapped])
def test_the_loss_at_targets_equals_the_loss_of_all_logits(make, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        model = make()
        score = TargetScore(model)
    assert score.split == (make is tiny_peft)
    assert ("logits are computed at every position" in caplog.text) == (make is softcapped)
    batch = collate(rows(5, 1), CPU)
    torch.testing.assert_close(score(batch).sum(), full_logits_nll(model, batch))


def test_chunks_change_neither_loss_nor_gradient(monkeypatch) -> None:
    model = tiny_peft()
    batch = collate(rows(8, 1), CPU)
    results = []
    for logits in (2**25, 300 * 7):
        monkeypatch.setattr(head, "LARGEST_CHUNK", logits)
        score = TargetScore(model)
        model.zero_grad()
        nll = score(batch)
        nll.sum().backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.requires_grad]
        results.append((nll.detach(), score.with_hits(batch), *gradients))
    assert score.chunk < len(batch.targets)
    torch.testing.assert_close(results[0], results[1])


def test_training_never_holds_the_logits_of_more_than_a_chunk(monkeypatch) -> None:
    monkeypatch.setattr(head, "LARGEST_CHUNK", 300 * 7)
    model = tiny_peft()
    score = TargetScore(model)
    saved: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.numel() if tensor.shape[-1] == model.config.vocab_size else 0)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        score(collate(rows(8, 1), CPU))
    assert max(saved) == 0


def test_evaluation_reports_nats_per_target_token_and_the_share_of_hits() -> None:
    answering = trainer()
    update = answering.evaluate(evaluate_task(answering.layout))
    nll, hits, tokens = 0.0, 0, 0
    for row in SILOS["north"].held_out:
        ids = torch.from_numpy(row.ids.astype(np.int64))
        with torch.no_grad():
            logits = answering.bench.model(input_ids=ids[None]).logits[0]
        at = torch.from_numpy(np.flatnonzero(row.learn))
        chosen = log_softmax(logits[at - 1], dim=-1)
        nll -= chosen[torch.arange(len(at)), ids[at]].sum().item()
        hits += int((chosen.argmax(dim=-1) == ids[at]).sum())
        tokens += len(at)
    assert update.metrics["tokens"] == tokens
    assert update.metrics["loss"] == pytest.approx(nll / tokens, rel=1e-5)
    assert update.metrics["accuracy"] == pytest.approx(hits / tokens)
    assert not update.vectors


def test_the_batch_size_of_an_evaluation_does_not_change_its_result() -> None:
    answering = trainer()
    alone, together = (
        answering.evaluate(evaluate_task(answering.layout, batch=batch)).metrics for batch in (1, 9)
    )
    assert alone["loss"] == pytest.approx(together["loss"], rel=1e-5)


def test_an_evaluation_reads_as_many_rows_as_it_is_asked_to() -> None:
    answering = trainer()
    update = answering.evaluate(evaluate_task(answering.layout, count=2))
    assert update.metrics["tokens"] == target_tokens(SILOS["north"].held_out[:2])
