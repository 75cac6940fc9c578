"""Clients that train with transformers' `Trainer`, as most federated examples do.

Imports nothing of ours. Runs rounds in one process and ends with a line of JSON:

    python benchmarks/trainer_clients.py WORK rebuilt | shared ROUNDS THREADS

`rebuilt`: every client of every round loads the model and its adapter; `shared`: one model.
WORK is a folder that `round.py` has written.
"""

import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from transformers.utils import logging

State = dict[str, torch.Tensor]


def quieten() -> None:
    """No progress bars and warnings of transformers."""
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def build(work: Path) -> PeftModel:
    """The base model with the adapter that all begin with."""
    base = AutoModelForCausalLM.from_pretrained(work / "base", dtype=torch.float32)
    return PeftModel.from_pretrained(base, work / "adapter", is_trainable=True)


def first_adapter(work: Path) -> State:
    """The adapter before the first round."""
    return load_file(work / "adapter" / "adapter_model.safetensors")


def fit(model: PeftModel, adapter: State, rows: np.ndarray, lr: float) -> tuple[State, float]:
    """The adapter after the steps of a round, ``(steps, batch, tokens)``, and their mean loss."""
    set_peft_model_state_dict(model, adapter)
    steps, batch, tokens = rows.shape
    ids = torch.from_numpy(rows.astype(np.int64)).view(steps * batch, tokens)
    examples: Any = [{"input_ids": row, "labels": row} for row in ids]
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=batch,
            learning_rate=lr,
            lr_scheduler_type="constant",
            train_sampling_strategy="sequential",
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        done = Trainer(model, arguments, train_dataset=examples).train()
    after = get_peft_model_state_dict(model)
    return {name: tensor.detach().clone() for name, tensor in after.items()}, done.training_loss


def main() -> None:
    """Run the rounds."""
    work, way, rounds, threads = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
    torch.set_num_threads(threads)
    quieten()
    rows = np.load(work / "rows.npy")
    lr = json.loads((work / "work.json").read_text())["lr"]
    adapter, ends, losses = first_adapter(work), [], []
    model = build(work) if way == "shared" else None
    for round_ in range(rounds):
        found = [fit(model or build(work), adapter, own[round_], lr) for own in rows]
        adapter = {n: torch.stack([each[n] for each, _ in found]).mean(dim=0) for n in adapter}
        losses.append(float(np.mean([loss for _, loss in found])))
        ends.append(time.time())
    save_file(adapter, work / f"{way}.safetensors")
    print(json.dumps({"ends": ends, "losses": losses}))


if __name__ == "__main__":
    main()
