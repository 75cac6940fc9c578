"""The adapter as the folder that PEFT, and all that reads PEFT, loads; written without torch."""

import json
from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from typing import Any

import yaml
from safetensors.numpy import save_file

from llmagentos.adapter import Adapter
from llmagentos.folders import whole_folder


def write_peft_folder(folder: Path, adapter: Adapter, config: Mapping[str, Any], card: str) -> None:
    """``folder`` holds the adapter's tensors bit for bit, its ``adapter_config.json`` and a card.

    Whoever reads meanwhile, or is killed, finds each file old or new and never half of one.
    """
    with whole_folder(folder) as part:
        save_file(adapter.tensors, part / "adapter_model.safetensors", metadata={"format": "pt"})
        text = json.dumps(config, indent=2, sort_keys=True) + "\n"
        (part / "adapter_config.json").write_text(text, encoding="utf-8")
        (part / "README.md").write_text(card, encoding="utf-8")


def at_rank(config: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """The ``adapter_config.json`` of an adapter of another rank and the same scale."""
    growth = rank / config["r"]
    alpha = config["lora_alpha"] * (sqrt(growth) if config["use_rslora"] else growth)
    return {**config, "r": rank, "lora_alpha": alpha}


def model_card(facts: Mapping[str, Any]) -> str:
    """A model card in Markdown with the front matter that model hubs read.

    ``facts``: ``name``, ``base`` (as ``model.source`` says it), ``folder``, ``rounds``, ``silos``
    (rows with ``agent``, ``train`` and ``held_out``), ``before`` and ``after`` (by agent, each with
    ``loss``; may be empty) and ``settings`` (the run's, nested names and values). Of the silos
    nothing is told but names and counts, so no settings that hold their paths or prompts.
    """
    front = {
        "base_model": facts["base"],
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "federated-learning", "llmagentos"],
    }
    return CARD.format(
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip(),
        name=_cell(facts["name"]),
        base=str(facts["base"]).replace("`", ""),
        rounds=f"{facts['rounds']} round{'s' * (facts['rounds'] != 1)}",
        silos="\n".join(_silo_row(silo, facts) for silo in facts["silos"]),
        lines=loading_lines(str(facts["base"]), str(facts["folder"]), facts["settings"]["seed"]),
        settings=yaml.safe_dump(_told(facts["settings"]), sort_keys=False).strip(),
    )


def own_card(agent: str, what: str, base: str, folder: str, seed: int) -> str:
    """A model card of an adapter that one agent has; ``what`` it is as in ``WHAT_IT_IS``."""
    lines = loading_lines(base, folder, seed)
    return OWN_CARD.format(agent=_cell(agent), what=WHAT_IT_IS[what].strip(), lines=lines)


def loading_lines(base: str, folder: str, seed: int) -> str:
    """The lines of Python that load the adapter on its base; ``seed`` is the run's."""
    if base == "tiny":
        return TINY_LINES.format(folder=folder, seed=seed)
    return LINES.format(folder=folder)


LINES = """\
from peft import AutoPeftModelForCausalLM
model = AutoPeftModelForCausalLM.from_pretrained({folder!r})"""

TINY_LINES = """\
from peft import PeftModel
from llmagentos.lm.models import load_base
from llmagentos.settings import ModelSettings
base = load_base(ModelSettings(source="tiny"), seed={seed})
model = PeftModel.from_pretrained(base.model, {folder!r})"""

OWN_CARD = """\
# The adapter of {agent}

{what}

```python
{lines}
```
"""

KEEP_IT = """
What is its own was trained on this agent's text and sent to nobody: keep the folder where that text
is. On text of other kinds the shared adapter of the run may do better.
"""

WHAT_IT_IS = {
    "adapter": "It is the one that all agents of the run share.",
    "none": "Its first factors are shared by all agents, its second ones are its own." + KEEP_IT,
    "ditto": "It is this agent's own, and was pulled towards the one that all share." + KEEP_IT,
    "dual": "It is the sum of the one that all agents share and one of its own." + KEEP_IT,
}
"""By ``personal.method``, without which it is its second factors that an agent keeps; ``adapter``
is nobody's own."""

CARD = """\
---
{front}
---
# {name}

A LoRA adapter for `{base}`, tuned together by the agents below in {rounds} of federated averaging.
Every agent trained on its own text, and only changes of the adapter left its site.

| agent | training rows | held-out rows | loss before | loss after |
|---|---:|---:|---:|---:|
{silos}

Loss is the mean cross-entropy, in nats per target token, on the agent's held-out rows.

## Loading it

```python
{lines}
```

`adapter_config.json` names the base as it lies where the adapter was trained. Elsewhere, load that
same base first and pass it to `PeftModel.from_pretrained`.

## What this does not promise

"Only adapters left the sites" is not privacy. Published attacks rebuild training text from LoRA
updates, and a tuned model can repeat what it has read. Share the adapter as carefully as the text
that it was trained on.

## Settings

```yaml
{settings}
```
"""


def _silo_row(silo: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    agent = silo["agent"]
    losses = [_loss(facts[when].get(agent)) for when in ("before", "after")]
    return f"| {_cell(agent)} | {silo['train']} | {silo['held_out']} | {' | '.join(losses)} |"


def _loss(measured: Mapping[str, Any] | None) -> str:
    return "" if measured is None or measured["loss"] is None else f"{measured['loss']:.3f}"


def _cell(text: Any) -> str:
    """Text on one line that neither ends a table cell nor opens markup."""
    escaped = "".join(f"\\{letter}" if letter in "\\|`<>[]*" else letter for letter in str(text))
    return " ".join(escaped.split())


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the training, as plain names and values."""
    named = ("seed", "lora", "local", "codec", "aggregation", "server")
    quantize = settings["model"]["quantize"]
    return {"model": {"quantize": quantize}, **{name: settings[name] for name in named}}
