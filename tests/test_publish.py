"""The folder that is published, and what its card says, without a model."""

import json

import pytest
from safetensors import safe_open

from llmagentos.adapter import Adapter, initial_vector
from llmagentos.publish import (
    WHAT_IT_IS,
    at_rank,
    loading_lines,
    model_card,
    own_card,
    write_peft_folder,
)
from tests.lora_world import LAYOUT


def test_the_folder_holds_the_tensors_as_peft_reads_them(tmp_path):
    adapter = Adapter(LAYOUT, initial_vector(LAYOUT, 0))
    write_peft_folder(tmp_path / "adapter", adapter, {"r": 3, "lora_alpha": 6}, "# A card")
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
        found = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
    assert found == {name: tensor.tobytes() for name, tensor in adapter.tensors.items()}
    config = (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert json.loads(config) == {"r": 3, "lora_alpha": 6}
    assert config == '{\n  "lora_alpha": 6,\n  "r": 3\n}\n'
    assert (tmp_path / "adapter" / "README.md").read_text() == "# A card"


@pytest.mark.parametrize(("rank_stabilised", "alpha"), [(False, 64.0), (True, 32.0)])
def test_an_adapter_of_another_rank_keeps_its_scale(rank_stabilised, alpha):
    """PEFT's scale is alpha / r, here 4, and rank-stabilised alpha / sqrt(r), here 8."""
    config = {"r": 4, "lora_alpha": 16, "use_rslora": rank_stabilised, "target_modules": ["q_proj"]}
    grown = at_rank(config, 16)
    assert grown == {**config, "r": 16, "lora_alpha": alpha}


def test_a_loss_that_nobody_could_measure_leaves_its_cell_empty():
    names = ("lora", "local", "codec", "aggregation", "server")
    facts = {
        "name": "run",
        "base": "modelle/für-alle",
        "folder": "adapter",
        "rounds": 1,
        "silos": [{"agent": "north", "train": 90, "held_out": 10}],
        "before": {"north": {"loss": None}},
        "after": {"north": {"loss": 2.25}},
        "settings": {"seed": 0, "model": {"quantize": None}, **{name: {} for name in names}},
    }
    card = model_card(facts)
    assert "| north | 90 | 10 |  | 2.250 |" in card
    assert card.startswith("---\nbase_model: modelle/für-alle\nlibrary_name: peft\n")


@pytest.mark.parametrize("what", WHAT_IT_IS)
def test_an_agents_own_card_says_what_it_is_and_how_to_load_it(what):
    card = own_card("Klinik | Süd", what, "tiny", "here/adapter", 7)
    assert card.startswith("# The adapter of Klinik \\| Süd\n\n")
    assert WHAT_IT_IS[what].strip() + "\n\n```python\n" in card
    assert loading_lines("tiny", "here/adapter", 7) in card
    assert "seed=7" in card
