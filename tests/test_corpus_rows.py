"""Examples become rows: what is learnt is read back by decoding."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from llmagentos.corpus import Example, heterogeneity, prompt_ids, tokenize_silos
from llmagentos.corpus.heterogeneity import jensen_shannon
from llmagentos.corpus.rows import pack, to_row
from llmagentos.corpus.silos import split
from llmagentos.errors import CorpusError
from llmagentos.settings import CorpusSettings

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INST = (
    "<s>{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)
BARE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
FORGETFUL = (
    "{% for m in messages %}{% if loop.last or m['role'] == 'user' %}{{ m['content'] }}|{% endif %}"
    "{% endfor %}"
)

PAIR = Example("How is the lung?", "The lung is clear.")
TEXT = Example("", "The bank lends money to the factory.")
CHAT = Example(
    "And the heart?",
    "It beats.",
    (
        ("user", "How is the lung?"),
        ("assistant", "Clear."),
        ("user", "And the heart?"),
        ("assistant", "It beats."),
    ),
)


def _tokenizer(template=None, **special):
    """A byte-level BPE trained on three sentences; padding and end of text share a token."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    specials = ["<|im_start|>", "<|im_end|>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([PAIR.prompt, PAIR.response, TEXT.response], trainer)
    special = {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>"} | special
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, **special)
    tokenizer.chat_template = template
    return tokenizer


CHATTY = _tokenizer(CHATML)
PLAIN = _tokenizer()


def _settings(**chosen):
    return CorpusSettings(**{"max_tokens": 200} | chosen)


def _row(example, tokenizer, **chosen):
    row, _ = to_row(example, tokenizer, _settings(**chosen))
    return row


def _learnt(example, tokenizer):
    row = _row(example, tokenizer)
    return tokenizer.decode(row.ids[row.learn])


def test_only_the_response_and_its_end_of_turn_are_learnt():
    row = _row(PAIR, CHATTY)
    assert CHATTY.decode(row.ids) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHow is the lung?<|im_end|>\n"
        "<|im_start|>assistant\nThe lung is clear.<|im_end|>"
    )
    assert CHATTY.decode(row.ids[row.learn]) == "The lung is clear.<|im_end|>"
    assert CHATTY.decode(row.ids[~row.learn]).endswith("<|im_start|>assistant\n")


def test_plain_rows_end_with_the_end_of_text_though_padding_has_its_id():
    assert PLAIN.pad_token_id == PLAIN.eos_token_id
    assert _learnt(PAIR, PLAIN) == "The lung is clear.<|im_end|>"
    assert PLAIN.decode(_row(PAIR, PLAIN).ids) == "How is the lung?\nThe lung is clear.<|im_end|>"


def test_a_template_can_be_left_aside():
    assert np.array_equal(_row(PAIR, CHATTY, template="plain").ids, _row(PAIR, PLAIN).ids)


def test_plain_text_is_learnt_but_for_its_first_token():
    row = _row(TEXT, CHATTY)
    assert CHATTY.decode(row.ids) == TEXT.response + "<|im_end|>"
    assert row.learn.tolist() == [False] + [True] * (len(row.ids) - 1)


def test_every_answer_of_a_chat_is_learnt():
    row = _row(CHAT, CHATTY)
    assert CHATTY.decode(row.ids[row.learn]) == "Clear.<|im_end|>It beats.<|im_end|>"
    assert _learnt(CHAT, PLAIN) == "Clear.<|im_end|>It beats.<|im_end|>"


def test_other_templates_keep_their_end_of_turn_and_a_bare_one_gets_one():
    inst = _tokenizer(INST, eos_token="</s>", pad_token="</s>", bos_token="<s>")
    assert _learnt(CHAT, inst) == " Clear.</s> It beats.</s>"
    assert _learnt(PAIR, _tokenizer(BARE)) == "The lung is clear.\n<|im_end|>"


def test_a_template_that_rewrites_turns_is_refused():
    with pytest.raises(CorpusError, match=r"use corpus.template=plain"):
        _row(CHAT, _tokenizer(FORGETFUL))


@pytest.mark.parametrize("template", [CHATML, INST, BARE], ids=["chatml", "inst", "bare"])
def test_a_greeting_is_read_but_not_learnt(template):
    tokenizer = _tokenizer(template, eos_token="</s>", pad_token="</s>", bos_token="<s>")
    greeted = replace(CHAT, turns=(("assistant", "Welcome."), *CHAT.turns))
    assert _learnt(greeted, tokenizer) == _learnt(CHAT, tokenizer)
    row = _row(greeted, tokenizer)
    assert "Welcome." in tokenizer.decode(row.ids)
    asked = prompt_ids(greeted, tokenizer, _settings())
    assert np.array_equal(row.ids[: len(asked)], asked)


def test_a_chat_of_a_greeting_alone_is_dropped():
    alone = [Example("", f"Welcome {i}.", (("assistant", f"Welcome {i}."),)) for i in range(9)]
    (silo,) = tokenize_silos({"ward": SILOS["ward"] + alone}, CHATTY, _settings(), 0)
    assert silo.dropped == 9
    assert len(silo.train) + len(silo.held_out) == 30


def test_a_chat_that_the_template_refuses_is_told_with_its_place():
    picky = _tokenizer(
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role') }}{% endif %}"
        + BARE
    )
    kind = replace(CHAT, turns=(("system", "Be kind."), *CHAT.turns), where="x.jsonl, line 3")
    message = (
        r"^x.jsonl, line 3: the tokenizer's chat template refuses the chat that asks 'And the "
        r"heart\?' \(No system role\); change its turns, or use corpus.template=plain$"
    )
    with pytest.raises(CorpusError, match=message):
        _row(kind, picky)
    with pytest.raises(CorpusError, match=r"^corpus.template: the tokenizer's .* refuses"):
        prompt_ids(replace(kind, where=""), picky, _settings())
    assert _learnt(CHAT, picky)


def test_all_tokens_are_learnt_where_asked():
    row = _row(PAIR, CHATTY, loss_on="all")
    assert row.learn[1:].all()
    assert not row.learn[0]


@pytest.mark.parametrize("tokenizer", [CHATTY, PLAIN], ids=["chat", "plain"])
@pytest.mark.parametrize("example", [PAIR, CHAT], ids=["pair", "chat"])
@settings(deadline=None, max_examples=50)
@given(prompt=st.text(min_size=1, max_size=20), response=st.text(min_size=1, max_size=20))
def test_a_training_row_begins_with_what_generate_is_given(tokenizer, example, prompt, response):
    turns = (*example.turns[:-2], ("user", prompt), ("assistant", response))
    example = Example(prompt, response, turns if example.turns else ())
    row, asked = _row(example, tokenizer), prompt_ids(example, tokenizer, _settings())
    assert np.array_equal(row.ids[: len(asked)], asked)
    assert row.learn[len(asked) :].all()
    assert row.ids[-1] == tokenizer.eos_token_id


def test_a_prompt_of_a_user_reads_as_in_training():
    def read(example):
        return CHATTY.decode(prompt_ids(example, CHATTY, _settings()))

    assert read(PAIR.prompt) == read(PAIR)
    assert read(PAIR).endswith("How is the lung?<|im_end|>\n<|im_start|>assistant\n")
    assert read(TEXT) == "The bank lends money"


def test_a_model_that_opens_texts_gets_its_opening_once():
    from tokenizers.processors import TemplateProcessing

    tokenizer = _tokenizer(INST, bos_token="<s>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    for template in ("chat", "plain"):
        ids = _row(PAIR, tokenizer, template=template).ids
        assert ids[0] == tokenizer.bos_token_id
        assert np.count_nonzero(ids == tokenizer.bos_token_id) == 1
        asked = prompt_ids(PAIR, tokenizer, _settings(template=template))
        assert np.array_equal(ids[: len(asked)], asked)


def test_a_long_row_is_cut_at_its_end_and_dropped_with_its_answer():
    prompt = len(prompt_ids(PAIR, CHATTY, _settings()))
    row, cut = to_row(PAIR, CHATTY, _settings(max_tokens=prompt + 1))
    assert cut
    assert row.learn.tolist() == [False] * prompt + [True]
    assert to_row(PAIR, CHATTY, _settings(max_tokens=prompt)) == (None, True)


def test_packing_loses_no_token_and_leaves_no_gap():
    examples = [Example("", f"Line {i} of the bank.") for i in range(20)]
    rows = pack(examples, PLAIN, _settings(max_tokens=16))
    assert {len(row.ids) for row in rows[:-1]} == {16}
    joined = PLAIN.decode(np.concatenate([row.ids for row in rows]))
    assert joined == "".join(f"{example.response}<|im_end|>" for example in examples)


@pytest.mark.parametrize(
    ("example", "tokenizer", "chosen", "message"),
    [
        (PAIR, PLAIN, {"template": "chat"}, "has no chat template; use plain"),
        (TEXT, CHATTY, {"template": "chat"}, "plain text has no turns"),
        (PAIR, _tokenizer(eos_token=None), {}, "names no end of text"),
    ],
)
def test_a_template_that_cannot_be_is_told(example, tokenizer, chosen, message):
    with pytest.raises(CorpusError, match=message):
        _row(example, tokenizer, **chosen)


SILOS = {
    name: [Example(f"{name} {i}?", f"{name} answers {i}.") for i in range(30)]
    for name in ("ward", "branch")
}


def test_packing_prompts_and_responses_is_refused():
    with pytest.raises(CorpusError, match=r"corpus.packing=True"):
        tokenize_silos(SILOS, PLAIN, _settings(packing=True), 0)


def _contents(rows):
    return {row.content for row in rows}


def test_silos_are_split_without_overlap_and_the_same_every_time():
    silos = tokenize_silos(SILOS, CHATTY, _settings(held_out=0.2), 7)
    assert [(silo.name, len(silo.train), len(silo.held_out)) for silo in silos] == [
        ("ward", 24, 6),
        ("branch", 24, 6),
    ]
    for name, examples in SILOS.items():
        train, held_out = split(examples, name, _settings(held_out=0.2), 7)
        assert set(train) | set(held_out) == set(examples)
        assert split(examples, name, _settings(held_out=0.2), 7) == (train, held_out)
        assert split(examples, name, _settings(held_out=0.2), 8) != (train, held_out)
        assert split(examples, "other", _settings(held_out=0.2), 7) != (train, held_out)


def test_a_repeated_example_is_never_both_learnt_and_held_out():
    examples = [Example("same?", "same."), Example("other?", "other.")] * 10
    train, held_out = split(examples, "ward", _settings(), 0)
    assert len(train) == len(held_out) == 1
    assert train != held_out


def test_rows_that_are_the_same_once_cut_are_never_both_learnt_and_held_out():
    long = [Example("", f"{'The bank lends money. ' * 9}{i}") for i in range(20)]
    short = [Example("", f"{i} euros") for i in range(20)]
    chosen = _settings(max_tokens=16, held_out=0.5)
    train, held_out = split(long + short, "bank", chosen, 0)
    (silo,) = tokenize_silos({"bank": long + short}, PLAIN, chosen, 0)
    assert not _contents(silo.train) & _contents(silo.held_out)
    assert silo.dropped == len(set(train) & set(long)) > 0
    assert silo.cut == len(set(held_out) & set(long)) > 0
    assert len(silo.train) == len(set(train) & set(short))
    assert len(silo.held_out) == 20


def test_packed_rows_that_are_the_same_are_never_both_learnt_and_held_out():
    examples = [Example("", f"{i}{'1' * 100}") for i in range(20)]
    (silo,) = tokenize_silos({"bank": examples}, PLAIN, _settings(packing=True, max_tokens=8), 0)
    assert not _contents(silo.train) & _contents(silo.held_out)
    assert silo.dropped > 0


@pytest.mark.parametrize("packing", [False, True])
def test_an_agent_whose_rows_are_all_the_same_once_cut_is_named(packing):
    examples = [Example("", "1" * (8 * pieces - 1)) for pieces in range(2, 9)]
    chosen = _settings(max_tokens=8, packing=packing)
    with pytest.raises(CorpusError, match=r"'bank' has 1 usable rows.*raise corpus.max_tokens=8"):
        tokenize_silos({"bank": examples}, PLAIN, chosen, 0)


def test_the_sample_is_the_first_held_out_row():
    (silo,) = tokenize_silos({"ward": SILOS["ward"]}, CHATTY, _settings(), 0)
    assert np.array_equal(_row(silo.sample, CHATTY).ids, silo.held_out[0].ids)


def test_max_rows_limits_a_silo():
    (silo,) = tokenize_silos({"ward": SILOS["ward"]}, PLAIN, _settings(max_rows=10), 0)
    assert (len(silo.train), len(silo.held_out)) == (9, 1)


def test_an_agent_with_too_little_text_is_named():
    with pytest.raises(CorpusError, match="agent 'ward' has 1 usable rows"):
        tokenize_silos({"ward": [PAIR]}, PLAIN, _settings(), 0)
    with pytest.raises(CorpusError, match=r"agent 'ward' has 0 usable rows.*max_tokens=8"):
        tokenize_silos({"ward": SILOS["ward"]}, CHATTY, _settings(max_tokens=8), 0)


def test_rows_are_read_only():
    row = _row(PAIR, PLAIN)
    with pytest.raises(ValueError, match="read-only"):
        row.ids[0] = 1


def test_the_divergence_is_0_for_equal_counts_and_1_for_disjoint_ones():
    assert jensen_shannon(np.array([1, 3]), np.array([2, 6])) == 0
    assert jensen_shannon(np.array([4, 0]), np.array([0, 1])) == 1


def test_the_table_counts_rows_and_target_tokens():
    silos = tokenize_silos(SILOS, PLAIN, _settings(), 0)
    ward, branch = heterogeneity(silos)
    assert (ward["agent"], ward["train"], ward["held_out"]) == ("ward", 27, 3)
    assert ward["tokens"] == sum(int(row.learn.sum()) for row in silos[0].train)
    assert 0 < branch["divergence"] < 1
    assert (ward["dropped"], ward["cut"]) == (0, 0)
